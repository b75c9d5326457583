"""An answer that was cut off is found, and one that merely ends without a full stop is kept."""

import pytest

from nemo_plugins.data.chat.truncation import LONG_LINE, truncated

WHOLE = [
    # translations of what had no full stop either
    "The cat sits on the roof and watches the birds that fly over the neighbours' house every single morning",
    "Kot siedzi na dachu i patrzy na ptaki, które każdego ranka przelatują nad domem naszych sąsiadów z miasta",
    "Oczywiście! Oto tłumaczenie:\n\nThe quick brown fox jumps over the lazy dog while the farmer sleeps under a big tree",
    "Oto tłumaczenie zdania.\n\nDie schnelle braune Katze springt über den faulen Hund, der im Garten des Hauses liegt",
    "Ustawa z dnia 26 czerwca 1974 r. Kodeks pracy oraz rozporządzenia wydane na jej podstawie przez właściwego ministra",
    "Prof. Jan Kowalski z Uniwersytetu im. Adama Mickiewicza mieszka przy ul. Długiej w pobliżu starego rynku miasta",
    # lists
    "sport, polityka, kultura, nauka, technologia, zdrowie, podróże, kuchnia, muzyka, film, literatura, historia",
    "Kategorie: sport, polityka międzynarodowa, kultura, nauka, technologia, zdrowie, podróże, kuchnia, muzyka i film",
    "Tekst mówi o wielu rzeczach. Kategorie: sport, polityka, kultura, nauka, technologia, zdrowie, podróże, muzyka oraz film",
    "Przeczytałem artykuł. Dotyczy kilku spraw. Oto one:\nsport; polityka; kultura; nauka; technologia; zdrowie; podróże; film",
    "czerwony | zielony | niebieski | żółty | pomarańczowy | fioletowy | czarny | biały | szary | brązowy | różowy",
    # sentences that end as they ought to
    "Stolicą Polski jest Warszawa. Leży nad Wisłą i jest największym miastem kraju, w którym mieszka prawie dwa miliony osób.",
    "Stolicą Polski jest Warszawa. Więcej informacji znajdziesz na stronie, którą prowadzi miasto: https://example.org/warszawa",
    "Krótka. Odpowiedź bez kropki",
]
CUT = [
    "Stolicą Polski jest Warszawa. Leży nad Wisłą i jest największym miastem kraju, w którym mieszkają prawie dwa miliony os",
    "Najpierw zagotuj wodę w dużym garnku.\n\nPotem dodaj sól i makaron.\n\nNa końcu odcedź makaron, polej oliwą z oliwek,"
    " posyp świeżo startym serem i podaj od razu z liśćmi bazyl",
    "Stolicą Polski jest Warszawa, która leży nad Wisłą i jest największym miastem całego kraju, a jej mieszkańcy żyją w",
    "The capital of Poland is Warsaw, which lies on the Vistula river and has almost two million inhabitants because of the",
    "Stolicą Polski jest Warszawa, która leży nad Wisłą i jest największym miastem całego kraju, w którym są muzea, teatry,",
    "Stolicą Polski jest Warszawa (największe miasto kraju, które leży nad Wisłą i w którym mieszkają prawie dwa miliony osób",
    "Na pytanie o stolicę odpowiedział wtedy bez wahania: „Stolicą Polski jest Warszawa, największe miasto naszego kraju",
    "tak jest i tak było " * 12,
    "słowo " * 40,
    "```python\nprint(1)",
    "<think>Policzmy to",
]


@pytest.mark.parametrize("answer", WHOLE)
def test_a_whole_answer_is_kept(answer):
    assert truncated({"content": answer}) is None


@pytest.mark.parametrize("answer", CUT)
def test_a_cut_answer_is_found(answer):
    assert truncated({"content": answer})


def test_the_reason_of_the_api_decides():
    assert truncated({"content": "Cztery.", "finish_reason": "length"}) == "has finish_reason length"


PROSE = (
    "Wisła jest najdłuższą rzeką Polski i ma ponad tysiąc kilometrów długości. Wypływa z gór na południu kraju, płynie przez"
    " Kraków i Warszawę i wpada do morza w pobliżu Gdańska. Od wieków była najważniejszą drogą handlu, którą spławiano"
    " zboże, drewno i sól."
    " Dziś jej brzegi są w wielu miejscach dzikie, a w miastach chętnie spędza się nad nią letnie wieczory ze znajomymi."
)


@pytest.mark.parametrize("place", range(PROSE.index("Od wieków") + 40, len(PROSE), 7))
def test_prose_is_found_wherever_it_is_cut_within_a_word(place):
    cut = PROSE[:place].rstrip()
    assert len(cut) > LONG_LINE
    assert bool(truncated({"content": cut})) == (cut[-1] != ".")
