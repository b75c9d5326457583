"""Where the countries of `nemo_plugins/data/capitals.py` lie, so that the wrong answers to a capital are its neighbours'."""

REGIONS = {
    "Europa": """Albania, Andora, Austria, Belgia, Białoruś, Bośnia i Hercegowina, Bułgaria, Chorwacja, Cypr, Czarnogóra,
        Czechy, Dania, Estonia, Finlandia, Francja, Grecja, Hiszpania, Holandia, Irlandia, Islandia, Kosowo, Liechtenstein,
        Litwa, Luksemburg, Łotwa, Macedonia Północna, Malta, Mołdawia, Monako, Niemcy, Norwegia, Polska, Portugalia,
        Rosja, Rumunia, San Marino, Serbia, Słowacja, Słowenia, Szwajcaria, Szwecja, Ukraina, Węgry, Wielka Brytania,
        Włochy""",
    "Azja": """Afganistan, Arabia Saudyjska, Armenia, Azerbejdżan, Bahrajn, Bangladesz, Bhutan, Brunei, Chiny, Filipiny,
        Gruzja, Indie, Irak, Iran, Japonia, Jordania, Kambodża, Katar, Kazachstan, Kirgistan, Korea Południowa, Korea
        Północna, Kuwejt, Laos, Liban, Malediwy, Malezja, Mjanma, Mongolia, Nepal, Oman, Pakistan, Syria, Tadżykistan,
        Tajlandia, Tajwan, Timor Wschodni, Turcja, Turkmenistan, Uzbekistan, Wietnam, Zjednoczone Emiraty Arabskie""",
    "Afryka": """Algieria, Angola, Benin, Botswana, Burkina Faso, Burundi, Czad, Demokratyczna Republika Konga, Dżibuti, Egipt,
        Erytrea, Eswatini, Etiopia, Gabon, Gambia, Ghana, Gwinea, Gwinea Bissau, Kamerun, Kenia, Komory, Kongo, Lesotho,
        Liberia, Libia, Madagaskar, Malawi, Mali, Maroko, Mauretania, Mozambik, Namibia, Niger, Nigeria, Republika
        Środkowoafrykańska, Republika Zielonego Przylądka, Rwanda, Senegal, Seszele, Sierra Leone, Somalia, Sudan, Sudan
        Południowy, Tanzania, Togo, Tunezja, Uganda, Wybrzeże Kości Słoniowej, Wyspy Świętego Tomasza i Książęca,
        Zambia, Zimbabwe""",
    "Ameryka": """Antigua i Barbuda, Argentyna, Bahamy, Barbados, Belize, Brazylia, Chile, Dominika, Dominikana, Ekwador,
        Grenada, Gujana, Gwatemala, Haiti, Honduras, Jamajka, Kanada, Kolumbia, Kostaryka, Kuba, Meksyk, Nikaragua, Panama,
        Paragwaj, Peru, Saint Kitts i Nevis, Saint Lucia, Saint Vincent i Grenadyny, Salwador, Stany Zjednoczone,
        Surinam, Trynidad i Tobago, Urugwaj, Wenezuela""",
    "Oceania": """Australia, Fidżi, Mikronezja, Nowa Zelandia, Palau, Papua-Nowa Gwinea, Samoa, Tonga, Tuvalu, Vanuatu, Wyspy
        Marshalla, Wyspy Salomona""",
}
REGION = {" ".join(name.split()): region for region, names in REGIONS.items() for name in names.split(",")}
