"""Polish words and their forms, written by hand, and the sentences with a gap that ask for one of them.

Four kinds of agreement: a verb with its subject, an adjective with its noun, a noun with its numeral, and a noun with the
word that asks for its case.
"""

from dataclasses import dataclass
from functools import cache

GAP = "…"

PLACES = ("masculine", "feminine", "neuter", "masculine-personal plural", "other plural")  # of a verb's forms
SUBJECTS = {
    "masculine": ("Chłopiec", "Nauczyciel", "Mężczyzna", "Pies", "Kot", "Sąsiad", "Student", "Lekarz", "Dziadek", "Brat",
                  "Kierowca", "Turysta", "Koń", "Uczeń", "Ojciec", "Wujek"),
    "feminine": ("Dziewczynka", "Nauczycielka", "Kobieta", "Kotka", "Babcia", "Sąsiadka", "Studentka", "Lekarka", "Siostra",
                 "Matka", "Ciocia", "Uczennica", "Owca", "Krowa", "Sarna", "Wiewiórka"),
    "neuter": ("Dziecko", "Niemowlę", "Zwierzę", "Kocię", "Szczenię", "Cielę", "Jagnię", "Źrebię", "Pisklę", "Prosię",
               "Rodzeństwo", "Małżeństwo"),
    "masculine-personal plural": ("Chłopcy", "Nauczyciele", "Mężczyźni", "Studenci", "Sąsiedzi", "Lekarze", "Kierowcy",
                                  "Turyści", "Uczniowie", "Bracia", "Rodzice", "Dziadkowie", "Goście", "Policjanci",
                                  "Strażacy"),
    "other plural": ("Dziewczynki", "Nauczycielki", "Kobiety", "Psy", "Dzieci", "Koty", "Sąsiadki", "Studentki", "Lekarki",
                     "Siostry", "Krowy", "Owce", "Konie", "Sarny", "Uczennice"),
}  # fmt: skip
# infinitive, past tense of the third person, what follows
VERBS = (
    ("spać", ("spał", "spała", "spało", "spali", "spały"), "w ogrodzie"),
    ("biegać", ("biegał", "biegała", "biegało", "biegali", "biegały"), "po podwórku"),
    ("siedzieć", ("siedział", "siedziała", "siedziało", "siedzieli", "siedziały"), "na ławce"),
    ("czekać", ("czekał", "czekała", "czekało", "czekali", "czekały"), "przed domem"),
    ("wrócić", ("wrócił", "wróciła", "wróciło", "wrócili", "wróciły"), "do domu"),
    ("leżeć", ("leżał", "leżała", "leżało", "leżeli", "leżały"), "na trawie"),
    ("wyjść", ("wyszedł", "wyszła", "wyszło", "wyszli", "wyszły"), "na ulicę"),
    ("jeść", ("jadł", "jadła", "jadło", "jedli", "jadły"), "w kuchni"),
    ("stać", ("stał", "stała", "stało", "stali", "stały"), "pod drzewem"),
    ("iść", ("szedł", "szła", "szło", "szli", "szły"), "przez las"),
    ("przyjść", ("przyszedł", "przyszła", "przyszło", "przyszli", "przyszły"), "nad rzekę"),
    ("odpoczywać", ("odpoczywał", "odpoczywała", "odpoczywało", "odpoczywali", "odpoczywały"), "w cieniu"),
    ("pić", ("pił", "piła", "piło", "pili", "piły"), "wodę"),
    ("wejść", ("wszedł", "weszła", "weszło", "weszli", "weszły"), "na schody"),
    ("uciec", ("uciekł", "uciekła", "uciekło", "uciekli", "uciekły"), "przed deszczem"),
    ("zasnąć", ("zasnął", "zasnęła", "zasnęło", "zasnęli", "zasnęły"), "przy piecu"),
    ("zniknąć", ("zniknął", "zniknęła", "zniknęło", "zniknęli", "zniknęły"), "za rogiem"),
    ("widzieć", ("widział", "widziała", "widziało", "widzieli", "widziały"), "światło"),
    ("słyszeć", ("słyszał", "słyszała", "słyszało", "słyszeli", "słyszały"), "hałas"),
    ("usiąść", ("usiadł", "usiadła", "usiadło", "usiedli", "usiadły"), "przy drzwiach"),
    ("znaleźć", ("znalazł", "znalazła", "znalazło", "znaleźli", "znalazły"), "drogę"),
    ("skakać", ("skakał", "skakała", "skakało", "skakali", "skakały"), "z radości"),
    ("chodzić", ("chodził", "chodziła", "chodziło", "chodzili", "chodziły"), "po pokoju"),
    ("wstać", ("wstał", "wstała", "wstało", "wstali", "wstały"), "o świcie"),
    ("upaść", ("upadł", "upadła", "upadło", "upadli", "upadły"), "na ziemię"),
    ("pobiec", ("pobiegł", "pobiegła", "pobiegło", "pobiegli", "pobiegły"), "do parku"),
)
# nominative: masculine, feminine, neuter (and other plural), masculine-personal plural
ADJECTIVES = (
    ("nowy", "nowa", "nowe", "nowi"), ("stary", "stara", "stare", "starzy"), ("duży", "duża", "duże", "duzi"),
    ("mały", "mała", "małe", "mali"), ("ładny", "ładna", "ładne", "ładni"), ("dobry", "dobra", "dobre", "dobrzy"),
    ("czysty", "czysta", "czyste", "czyści"), ("drogi", "droga", "drogie", "drodzy"), ("czarny", "czarna", "czarne", "czarni"),
    ("biały", "biała", "białe", "biali"), ("zielony", "zielona", "zielone", "zieloni"),
    ("szeroki", "szeroka", "szerokie", "szerocy"), ("wysoki", "wysoka", "wysokie", "wysocy"),
    ("piękny", "piękna", "piękne", "piękni"), ("brudny", "brudna", "brudne", "brudni"), ("mokry", "mokra", "mokre", "mokrzy"),
    ("suchy", "sucha", "suche", "susi"), ("ciężki", "ciężka", "ciężkie", "ciężcy"), ("lekki", "lekka", "lekkie", "lekcy"),
    ("miękki", "miękka", "miękkie", "miękcy"), ("twardy", "twarda", "twarde", "twardzi"), ("szary", "szara", "szare", "szarzy"),
    ("zimny", "zimna", "zimne", "zimni"), ("ciepły", "ciepła", "ciepłe", "ciepli"),
    ("kolorowy", "kolorowa", "kolorowe", "kolorowi"), ("ciekawy", "ciekawa", "ciekawe", "ciekawi"),
)  # fmt: skip
DESCRIBED = {  # nouns by the place of the adjective's form
    0: ("dom", "zeszyt", "telefon", "rower", "stół", "samochód", "obraz", "zegar", "płaszcz", "ołówek", "ogród", "kamień",
        "talerz", "most", "pociąg", "kubek"),
    1: ("książka", "lampa", "ulica", "rzecz", "łódź", "kurtka", "szafa", "torba", "droga", "rzeka", "noc", "sól", "piłka",
        "zupa", "sukienka", "podróż"),
    2: ("okno", "krzesło", "miasto", "zdjęcie", "pudełko", "jabłko", "drzewo", "lustro", "biurko", "światło", "pole", "morze",
        "zadanie", "pismo", "ciasto"),
}  # fmt: skip
PLURAL_ONLY = ("drzwi", "spodnie", "nożyczki", "okulary", "skrzypce", "sanie", "schody", "rajstopy", "wrota", "meble")
# nominative singular and plural, genitive plural, instrumental plural
COUNTED = (
    ("kot", "koty", "kotów", "kotami"), ("rower", "rowery", "rowerów", "rowerami"),
    ("zeszyt", "zeszyty", "zeszytów", "zeszytami"), ("pies", "psy", "psów", "psami"), ("dom", "domy", "domów", "domami"),
    ("most", "mosty", "mostów", "mostami"), ("obraz", "obrazy", "obrazów", "obrazami"),
    ("zegar", "zegary", "zegarów", "zegarami"), ("samolot", "samoloty", "samolotów", "samolotami"),
    ("namiot", "namioty", "namiotów", "namiotami"), ("koń", "konie", "koni", "końmi"),
    ("statek", "statki", "statków", "statkami"), ("ptak", "ptaki", "ptaków", "ptakami"),
    ("talerz", "talerze", "talerzy", "talerzami"), ("kubek", "kubki", "kubków", "kubkami"),
    ("okno", "okna", "okien", "oknami"), ("jabłko", "jabłka", "jabłek", "jabłkami"),
    ("krzesło", "krzesła", "krzeseł", "krzesłami"), ("drzewo", "drzewa", "drzew", "drzewami"),
    ("miasto", "miasta", "miast", "miastami"), ("pudełko", "pudełka", "pudełek", "pudełkami"),
    ("jezioro", "jeziora", "jezior", "jeziorami"), ("łóżko", "łóżka", "łóżek", "łóżkami"), ("koło", "koła", "kół", "kołami"),
    ("ciastko", "ciastka", "ciastek", "ciastkami"), ("biurko", "biurka", "biurek", "biurkami"),
    ("pole", "pola", "pól", "polami"),
    ("jajko", "jajka", "jajek", "jajkami"), ("lustro", "lustra", "luster", "lustrami"),
    ("skrzydło", "skrzydła", "skrzydeł", "skrzydłami"),
)  # fmt: skip
COUNTED_FEMININE = (  # „dwie” counts them
    ("książka", "książki", "książek", "książkami"), ("lampa", "lampy", "lamp", "lampami"), ("ryba", "ryby", "ryb", "rybami"),
    ("kobieta", "kobiety", "kobiet", "kobietami"), ("szafa", "szafy", "szaf", "szafami"), ("krowa", "krowy", "krów", "krowami"),
    ("owca", "owce", "owiec", "owcami"), ("gazeta", "gazety", "gazet", "gazetami"), ("łódka", "łódki", "łódek", "łódkami"),
    ("piłka", "piłki", "piłek", "piłkami"), ("mapa", "mapy", "map", "mapami"), ("róża", "róże", "róż", "różami"),
    ("gwiazda", "gwiazdy", "gwiazd", "gwiazdami"), ("torba", "torby", "toreb", "torbami"),
    ("świeca", "świece", "świec", "świecami"), ("chmura", "chmury", "chmur", "chmurami"),
    ("dziewczynka", "dziewczynki", "dziewczynek", "dziewczynkami"),
)  # fmt: skip
FEW = ("trzy", "cztery", "dwadzieścia trzy", "trzydzieści cztery")  # and „dwa”, „dwie”
MANY = ("pięć", "sześć", "siedem", "osiem", "dziewięć", "dziesięć", "jedenaście", "dwanaście", "piętnaście", "dwadzieścia",
        "trzydzieści")  # fmt: skip
CASES = ("nominative", "genitive", "dative", "accusative", "instrumental", "locative")
DECLINED = (  # singular, in the order of CASES
    ("szkoła", "szkoły", "szkole", "szkołę", "szkołą", "szkole"), ("rzeka", "rzeki", "rzece", "rzekę", "rzeką", "rzece"),
    ("góra", "góry", "górze", "górę", "górą", "górze"), ("wieża", "wieży", "wieży", "wieżę", "wieżą", "wieży"),
    ("ulica", "ulicy", "ulicy", "ulicę", "ulicą", "ulicy"), ("droga", "drogi", "drodze", "drogę", "drogą", "drodze"),
    ("brama", "bramy", "bramie", "bramę", "bramą", "bramie"),
    ("fabryka", "fabryki", "fabryce", "fabrykę", "fabryką", "fabryce"),
    ("wyspa", "wyspy", "wyspie", "wyspę", "wyspą", "wyspie"), ("plaża", "plaży", "plaży", "plażę", "plażą", "plaży"),
    ("łąka", "łąki", "łące", "łąkę", "łąką", "łące"), ("chata", "chaty", "chacie", "chatę", "chatą", "chacie"),
    ("studnia", "studni", "studni", "studnię", "studnią", "studni"),
    ("fontanna", "fontanny", "fontannie", "fontannę", "fontanną", "fontannie"),
    ("kapliczka", "kapliczki", "kapliczce", "kapliczkę", "kapliczką", "kapliczce"),
    ("dom", "domu", "domowi", "dom", "domem", "domu"), ("las", "lasu", "lasowi", "las", "lasem", "lesie"),
    ("ogród", "ogrodu", "ogrodowi", "ogród", "ogrodem", "ogrodzie"), ("most", "mostu", "mostowi", "most", "mostem", "moście"),
    ("zamek", "zamku", "zamkowi", "zamek", "zamkiem", "zamku"),
    ("kościół", "kościoła", "kościołowi", "kościół", "kościołem", "kościele"),
    ("pałac", "pałacu", "pałacowi", "pałac", "pałacem", "pałacu"),
    ("teatr", "teatru", "teatrowi", "teatr", "teatrem", "teatrze"),
    ("park", "parku", "parkowi", "park", "parkiem", "parku"),
    ("pomnik", "pomnika", "pomnikowi", "pomnik", "pomnikiem", "pomniku"),
    ("dworzec", "dworca", "dworcowi", "dworzec", "dworcem", "dworcu"), ("młyn", "młyna", "młynowi", "młyn", "młynem", "młynie"),
    ("klasztor", "klasztoru", "klasztorowi", "klasztor", "klasztorem", "klasztorze"),
    ("statek", "statku", "statkowi", "statek", "statkiem", "statku"),
    ("wodospad", "wodospadu", "wodospadowi", "wodospad", "wodospadem", "wodospadzie"),
    ("ratusz", "ratusza", "ratuszowi", "ratusz", "ratuszem", "ratuszu"),
    ("budynek", "budynku", "budynkowi", "budynek", "budynkiem", "budynku"),
    ("miasto", "miasta", "miastu", "miasto", "miastem", "mieście"),
    ("jezioro", "jeziora", "jezioru", "jezioro", "jeziorem", "jeziorze"),
    ("morze", "morza", "morzu", "morze", "morzem", "morzu"),
    ("drzewo", "drzewa", "drzewu", "drzewo", "drzewem", "drzewie"), ("pole", "pola", "polu", "pole", "polem", "polu"),
    ("wzgórze", "wzgórza", "wzgórzu", "wzgórze", "wzgórzem", "wzgórzu"),
    ("osiedle", "osiedla", "osiedlu", "osiedle", "osiedlem", "osiedlu"),
    ("lotnisko", "lotniska", "lotnisku", "lotnisko", "lotniskiem", "lotnisku"),
    ("schronisko", "schroniska", "schronisku", "schronisko", "schroniskiem", "schronisku"),
    ("boisko", "boiska", "boisku", "boisko", "boiskiem", "boisku"),
    ("gospodarstwo", "gospodarstwa", "gospodarstwu", "gospodarstwo", "gospodarstwem", "gospodarstwie"),
)  # fmt: skip
FRAMES = {  # sentences by the case that they ask for
    "genitive": ("Stoimy obok {}.", "Idziemy do {}.", "Mieszkamy niedaleko {}.", "Szukamy {}."),
    "dative": ("Długo przyglądaliśmy się {}.", "Dziwimy się {}.", "Dzięki {} trafiliśmy do celu."),
    "accusative": ("Z daleka widać {}.", "Narysowaliśmy {}.", "Mijamy właśnie {}."),
    "instrumental": ("Turyści zachwycają się {}.", "Stoimy przed {}.", "Samolot leci nad {}."),
    "locative": ("Rozmawialiśmy o {}.", "Opowiedz nam o {}.", "Spotkamy się przy {}."),
}


@dataclass(frozen=True)
class Gap:
    """A sentence with a gap for a form of `word`, the right form, and the forms that the word has."""

    word: str
    sentence: str
    right: str
    forms: tuple[str, ...]


@cache
def gaps() -> dict[str, tuple[Gap, ...]]:
    """Every sentence that the words above give, by the kind of agreement."""
    return {"verb": _verbs(), "adjective": _adjectives(), "numeral": _numerals(), "case": _cases()}


def _verbs() -> tuple[Gap, ...]:
    return tuple(
        Gap(word, f"{subject} {GAP} {rest}.", forms[PLACES.index(place)], forms)
        for place, subjects in SUBJECTS.items()
        for subject in subjects
        for word, forms, rest in VERBS
    )


def _adjectives() -> tuple[Gap, ...]:
    singular = [(f"To jest {GAP} {noun}.", place) for place, nouns in DESCRIBED.items() for noun in nouns]
    plural = [(f"To są {GAP} {noun}.", 2) for noun in PLURAL_ONLY]
    return tuple(Gap(forms[0], sentence, forms[place], forms) for sentence, place in singular + plural for forms in ADJECTIVES)


def _numerals() -> tuple[Gap, ...]:
    return tuple(
        Gap(forms[0], f"Na zdjęciu widać {number} {GAP}.", forms[2 if number in MANY else 1], forms)
        for two, nouns in (("dwa", COUNTED), ("dwie", COUNTED_FEMININE))
        for forms in nouns
        for number in (two, *FEW, *MANY)
    )


def _cases() -> tuple[Gap, ...]:
    return tuple(
        Gap(forms[0], sentence.format(GAP), forms[CASES.index(case)], forms)
        for case, sentences in FRAMES.items()
        for sentence in sentences
        for forms in DECLINED
    )
