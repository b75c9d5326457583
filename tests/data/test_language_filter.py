"""Which language a text is in, and what is asked of one that the identifier does not know."""

import gzip
import json
from pathlib import Path

import pytest

from nemo_plugins.configs import language
from nemo_plugins.configs.schema import LanguageConfig
from nemo_plugins.configs.store import REPOSITORY, options
from nemo_plugins.data.corpus.languages import LanguageFilter

SENTENCES = {
    "pl": "Nie wiem, czy jutro będzie padać, ale na wszelki wypadek wezmę ze sobą parasol i kalosze.",
    "cs": "Nevím, jestli bude zítra pršet, ale pro jistotu si s sebou vezmu deštník a holínky.",
    "hu": "Nem tudom, hogy holnap esni fog-e az eső, de a biztonság kedvéért viszek magammal esernyőt.",
    "sw": "Sijui kama mvua itanyesha kesho, lakini nitachukua mwavuli wangu pamoja nami ili niwe salama.",
    "en": "I do not know whether it will rain tomorrow, but I will take an umbrella with me just in case.",
}


@pytest.mark.parametrize("code", [code for code in SENTENCES if code in options("language")])
def test_a_sentence_is_in_its_language(code):
    filter = LanguageFilter(language.load(code))
    for own, sentence in SENTENCES.items():
        probability, likeliest = filter.look(sentence)
        assert (probability >= 0.5) is (own == code), (own, probability)
        assert likeliest == own
    assert filter.look(SENTENCES[code].upper())[0] >= 0.5


def test_nearly_all_of_the_bundled_text_is_polish():
    filter = LanguageFilter(language.load("pl"))
    with gzip.open(Path(REPOSITORY, "assets", "polish_text", "heldout.jsonl.gz"), "rt", encoding="utf-8") as lines:
        looked = [filter.look(json.loads(line)["text"])[0] for line in lines]
    assert sum(probability >= 0.5 for probability in looked) >= 0.98 * len(looked)


def test_an_invented_language_is_known_by_its_alphabet_and_stop_words():
    invented = LanguageConfig("xx", "Examplish", "abcdeėghiklmnoprstuvž", ["ir", "ne", "tai", "kad"])
    filter = LanguageFilter(invented)
    assert filter.look("Tai ne buvo ilga, ir ne labai sunku, kad mes ėjom.") == (1.0, "xx")
    assert filter.look("Zażółć gęślą jaźń, a potem odpocznij.") == (0.0, "other")
    assert filter.look("123 456") == (0.0, "other")
