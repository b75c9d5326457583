"""Polish words and their forms, written by hand: what agrees with what. Sentences are made of them by `items.py`."""

# gender and number of a subject: masculine, feminine, neuter, masculine-personal plural, other plural
SUBJECTS = {
    "m": ("Chłopiec", "Nauczyciel", "Mężczyzna", "Pies", "Kot"),
    "f": ("Dziewczynka", "Nauczycielka", "Kobieta", "Kotka", "Babcia"),
    "n": ("Dziecko", "Niemowlę", "Zwierzę", "Kocię", "Szczenię"),
    "mp": ("Chłopcy", "Nauczyciele", "Mężczyźni", "Studenci", "Sąsiedzi"),
    "op": ("Dziewczynki", "Nauczycielki", "Kobiety", "Psy", "Dzieci"),
}
PLACES = ("m", "f", "n", "mp", "op")  # of the forms below
# infinitive, past tense of the third person, what may follow
VERBS = (
    ("spać", ("spał", "spała", "spało", "spali", "spały"), "w ogrodzie"),
    ("biegać", ("biegał", "biegała", "biegało", "biegali", "biegały"), "po podwórku"),
    ("siedzieć", ("siedział", "siedziała", "siedziało", "siedzieli", "siedziały"), "na ławce"),
    ("czekać", ("czekał", "czekała", "czekało", "czekali", "czekały"), "przed domem"),
    ("wrócić", ("wrócił", "wróciła", "wróciło", "wrócili", "wróciły"), "do domu"),
    ("leżeć", ("leżał", "leżała", "leżało", "leżeli", "leżały"), "na trawie"),
    ("wyjść", ("wyszedł", "wyszła", "wyszło", "wyszli", "wyszły"), "na ulicę"),
    ("jeść", ("jadł", "jadła", "jadło", "jedli", "jadły"), "w kuchni"),
)
# nominative: masculine, feminine, neuter (and other plural), masculine-personal plural
ADJECTIVES = (
    ("nowy", "nowa", "nowe", "nowi"),
    ("stary", "stara", "stare", "starzy"),
    ("duży", "duża", "duże", "duzi"),
    ("mały", "mała", "małe", "mali"),
    ("ładny", "ładna", "ładne", "ładni"),
    ("dobry", "dobra", "dobre", "dobrzy"),
)
NOUNS = (  # noun, place of the adjective's form, whether it is plural only
    ("dom", 0, False), ("zeszyt", 0, False), ("telefon", 0, False), ("rower", 0, False), ("stół", 0, False),
    ("książka", 1, False), ("lampa", 1, False), ("ulica", 1, False), ("rzecz", 1, False), ("łódź", 1, False),
    ("okno", 2, False), ("krzesło", 2, False), ("miasto", 2, False), ("zdjęcie", 2, False), ("pudełko", 2, False),
    ("drzwi", 2, True), ("spodnie", 2, True), ("nożyczki", 2, True), ("okulary", 2, True), ("skrzypce", 2, True),
)  # fmt: skip
# nominative singular and plural, genitive plural, instrumental plural, whether „dwie” counts them
COUNTED = (
    ("kot", "koty", "kotów", "kotami", False),
    ("rower", "rowery", "rowerów", "rowerami", False),
    ("zeszyt", "zeszyty", "zeszytów", "zeszytami", False),
    ("książka", "książki", "książek", "książkami", True),
    ("lampa", "lampy", "lamp", "lampami", True),
    ("ryba", "ryby", "ryb", "rybami", True),
    ("kobieta", "kobiety", "kobiet", "kobietami", True),
    ("okno", "okna", "okien", "oknami", False),
    ("jabłko", "jabłka", "jabłek", "jabłkami", False),
    ("krzesło", "krzesła", "krzeseł", "krzesłami", False),
    ("drzewo", "drzewa", "drzew", "drzewami", False),
)
FEW, MANY = ("trzy", "cztery"), ("pięć", "sześć", "siedem", "dziesięć", "dwanaście", "dwadzieścia")
CASES = ("nominative", "genitive", "dative", "accusative", "instrumental", "locative")
DECLINED = (  # singular, in the order of CASES
    ("szkoła", "szkoły", "szkole", "szkołę", "szkołą", "szkole"),
    ("rzeka", "rzeki", "rzece", "rzekę", "rzeką", "rzece"),
    ("góra", "góry", "górze", "górę", "górą", "górze"),
    ("wieża", "wieży", "wieży", "wieżę", "wieżą", "wieży"),
    ("dom", "domu", "domowi", "dom", "domem", "domu"),
    ("las", "lasu", "lasowi", "las", "lasem", "lesie"),
    ("ogród", "ogrodu", "ogrodowi", "ogród", "ogrodem", "ogrodzie"),
    ("most", "mostu", "mostowi", "most", "mostem", "moście"),
    ("zamek", "zamku", "zamkowi", "zamek", "zamkiem", "zamku"),
    ("miasto", "miasta", "miastu", "miasto", "miastem", "mieście"),
    ("jezioro", "jeziora", "jezioru", "jezioro", "jeziorem", "jeziorze"),
    ("morze", "morza", "morzu", "morze", "morzem", "morzu"),
)
FRAMES = (  # sentence, the case that it asks for
    ("Stoimy obok {}.", "genitive"),
    ("Długo przyglądaliśmy się {}.", "dative"),
    ("Z daleka widać {}.", "accusative"),
    ("Turyści zachwycają się {}.", "instrumental"),
    ("Rozmawialiśmy o {}.", "locative"),
)
