"""Countries and their capitals in Polish: name in the nominative and genitive, capital in the nominative.

Written by hand. Left out: countries whose capital is disputed, shared by several cities or being moved (Bolivia,
Indonesia, Israel, Equatorial Guinea, Palestine, South Africa, Sri Lanka, Yemen), and those
without one (Singapore, the Vatican).
"""

from typing import NamedTuple


class Country(NamedTuple):
    nominative: str
    genitive: str
    capital: str


TABLE = """
Afganistan|Afganistanu|Kabul
Albania|Albanii|Tirana
Algieria|Algierii|Algier
Andora|Andory|Andora
Angola|Angoli|Luanda
Antigua i Barbuda|Antigui i Barbudy|Saint John's
Arabia Saudyjska|Arabii Saudyjskiej|Rijad
Argentyna|Argentyny|Buenos Aires
Armenia|Armenii|Erywań
Australia|Australii|Canberra
Austria|Austrii|Wiedeń
Azerbejdżan|Azerbejdżanu|Baku
Bahamy|Bahamów|Nassau
Bahrajn|Bahrajnu|Manama
Bangladesz|Bangladeszu|Dhaka
Barbados|Barbadosu|Bridgetown
Belgia|Belgii|Bruksela
Belize|Belize|Belmopan
Benin|Beninu|Porto-Novo
Bhutan|Bhutanu|Thimphu
Białoruś|Białorusi|Mińsk
Bośnia i Hercegowina|Bośni i Hercegowiny|Sarajewo
Botswana|Botswany|Gaborone
Brazylia|Brazylii|Brasília
Brunei|Brunei|Bandar Seri Begawan
Bułgaria|Bułgarii|Sofia
Burkina Faso|Burkiny Faso|Wagadugu
Burundi|Burundi|Gitega
Chile|Chile|Santiago
Chiny|Chin|Pekin
Chorwacja|Chorwacji|Zagrzeb
Cypr|Cypru|Nikozja
Czad|Czadu|Ndżamena
Czarnogóra|Czarnogóry|Podgorica
Czechy|Czech|Praga
Dania|Danii|Kopenhaga
Demokratyczna Republika Konga|Demokratycznej Republiki Konga|Kinszasa
Dominika|Dominiki|Roseau
Dominikana|Dominikany|Santo Domingo
Dżibuti|Dżibuti|Dżibuti
Egipt|Egiptu|Kair
Ekwador|Ekwadoru|Quito
Erytrea|Erytrei|Asmara
Estonia|Estonii|Tallinn
Eswatini|Eswatini|Mbabane
Etiopia|Etiopii|Addis Abeba
Fidżi|Fidżi|Suva
Filipiny|Filipin|Manila
Finlandia|Finlandii|Helsinki
Francja|Francji|Paryż
Gabon|Gabonu|Libreville
Gambia|Gambii|Bandżul
Ghana|Ghany|Akra
Grecja|Grecji|Ateny
Grenada|Grenady|Saint George's
Gruzja|Gruzji|Tbilisi
Gujana|Gujany|Georgetown
Gwatemala|Gwatemali|Gwatemala
Gwinea|Gwinei|Konakry
Gwinea Bissau|Gwinei Bissau|Bissau
Haiti|Haiti|Port-au-Prince
Hiszpania|Hiszpanii|Madryt
Holandia|Holandii|Amsterdam
Honduras|Hondurasu|Tegucigalpa
Indie|Indii|Nowe Delhi
Irak|Iraku|Bagdad
Iran|Iranu|Teheran
Irlandia|Irlandii|Dublin
Islandia|Islandii|Reykjavík
Jamajka|Jamajki|Kingston
Japonia|Japonii|Tokio
Jordania|Jordanii|Amman
Kambodża|Kambodży|Phnom Penh
Kamerun|Kamerunu|Jaunde
Kanada|Kanady|Ottawa
Katar|Kataru|Doha
Kazachstan|Kazachstanu|Astana
Kenia|Kenii|Nairobi
Kirgistan|Kirgistanu|Biszkek
Kolumbia|Kolumbii|Bogota
Komory|Komorów|Moroni
Kongo|Konga|Brazzaville
Korea Południowa|Korei Południowej|Seul
Korea Północna|Korei Północnej|Pjongjang
Kosowo|Kosowa|Prisztina
Kostaryka|Kostaryki|San José
Kuba|Kuby|Hawana
Kuwejt|Kuwejtu|Kuwejt
Laos|Laosu|Wientian
Lesotho|Lesotho|Maseru
Liban|Libanu|Bejrut
Liberia|Liberii|Monrovia
Libia|Libii|Trypolis
Liechtenstein|Liechtensteinu|Vaduz
Litwa|Litwy|Wilno
Luksemburg|Luksemburga|Luksemburg
Łotwa|Łotwy|Ryga
Macedonia Północna|Macedonii Północnej|Skopje
Madagaskar|Madagaskaru|Antananarywa
Malawi|Malawi|Lilongwe
Malediwy|Malediwów|Male
Malezja|Malezji|Kuala Lumpur
Mali|Mali|Bamako
Malta|Malty|Valletta
Maroko|Maroka|Rabat
Mauretania|Mauretanii|Nawakszut
Meksyk|Meksyku|Meksyk
Mikronezja|Mikronezji|Palikir
Mjanma|Mjanmy|Naypyidaw
Mołdawia|Mołdawii|Kiszyniów
Monako|Monako|Monako
Mongolia|Mongolii|Ułan Bator
Mozambik|Mozambiku|Maputo
Namibia|Namibii|Windhuk
Nepal|Nepalu|Katmandu
Niemcy|Niemiec|Berlin
Niger|Nigru|Niamey
Nigeria|Nigerii|Abudża
Nikaragua|Nikaragui|Managua
Norwegia|Norwegii|Oslo
Nowa Zelandia|Nowej Zelandii|Wellington
Oman|Omanu|Maskat
Pakistan|Pakistanu|Islamabad
Palau|Palau|Ngerulmud
Panama|Panamy|Panama
Papua-Nowa Gwinea|Papui-Nowej Gwinei|Port Moresby
Paragwaj|Paragwaju|Asunción
Peru|Peru|Lima
Polska|Polski|Warszawa
Portugalia|Portugalii|Lizbona
Republika Środkowoafrykańska|Republiki Środkowoafrykańskiej|Bangi
Republika Zielonego Przylądka|Republiki Zielonego Przylądka|Praia
Rosja|Rosji|Moskwa
Rumunia|Rumunii|Bukareszt
Rwanda|Rwandy|Kigali
Saint Kitts i Nevis|Saint Kitts i Nevis|Basseterre
Saint Lucia|Saint Lucia|Castries
Saint Vincent i Grenadyny|Saint Vincent i Grenadyn|Kingstown
Salwador|Salwadoru|San Salvador
Samoa|Samoa|Apia
San Marino|San Marino|San Marino
Senegal|Senegalu|Dakar
Serbia|Serbii|Belgrad
Seszele|Seszeli|Victoria
Sierra Leone|Sierra Leone|Freetown
Słowacja|Słowacji|Bratysława
Słowenia|Słowenii|Lublana
Somalia|Somalii|Mogadiszu
Stany Zjednoczone|Stanów Zjednoczonych|Waszyngton
Sudan|Sudanu|Chartum
Sudan Południowy|Sudanu Południowego|Dżuba
Surinam|Surinamu|Paramaribo
Syria|Syrii|Damaszek
Szwajcaria|Szwajcarii|Berno
Szwecja|Szwecji|Sztokholm
Tadżykistan|Tadżykistanu|Duszanbe
Tajlandia|Tajlandii|Bangkok
Tajwan|Tajwanu|Tajpej
Tanzania|Tanzanii|Dodoma
Timor Wschodni|Timoru Wschodniego|Dili
Togo|Togo|Lomé
Tonga|Tonga|Nukualofa
Trynidad i Tobago|Trynidadu i Tobago|Port-of-Spain
Tunezja|Tunezji|Tunis
Turcja|Turcji|Ankara
Turkmenistan|Turkmenistanu|Aszchabad
Tuvalu|Tuvalu|Funafuti
Uganda|Ugandy|Kampala
Ukraina|Ukrainy|Kijów
Urugwaj|Urugwaju|Montevideo
Uzbekistan|Uzbekistanu|Taszkent
Vanuatu|Vanuatu|Port Vila
Wenezuela|Wenezueli|Caracas
Węgry|Węgier|Budapeszt
Wielka Brytania|Wielkiej Brytanii|Londyn
Wietnam|Wietnamu|Hanoi
Włochy|Włoch|Rzym
Wybrzeże Kości Słoniowej|Wybrzeża Kości Słoniowej|Jamusukro
Wyspy Marshalla|Wysp Marshalla|Majuro
Wyspy Salomona|Wysp Salomona|Honiara
Wyspy Świętego Tomasza i Książęca|Wysp Świętego Tomasza i Książęcej|São Tomé
Zambia|Zambii|Lusaka
Zimbabwe|Zimbabwe|Harare
Zjednoczone Emiraty Arabskie|Zjednoczonych Emiratów Arabskich|Abu Zabi
"""

COUNTRIES = [Country(*line.split("|")) for line in TABLE.strip().splitlines()]
PLURAL_CAPITALS = {"Ateny", "Helsinki"}  # „są Ateny”, not „jest Ateny”
