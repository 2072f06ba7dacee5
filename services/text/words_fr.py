"""French words for numbers and signs."""

from __future__ import annotations

import re

from services.text.vocabulary import Clock, Currency, Day, Noun, Numerals, Vocabulary, word_set

_CENT = Noun("centime", "centimes")
_MONTHS = (
    "janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre",
    "décembre",
)  # fmt: skip


def _ordinal(number: int, mark: str, before: str, numerals: Numerals) -> str:
    if number == 1:
        return "première" if mark in ("re", "ère") else "premier"
    if number == 2 and mark in ("nd", "nde"):
        return "second" if mark == "nd" else "seconde"
    return numerals.ordinal(number)


def _date(date: Day, numerals: Numerals) -> str:
    day = "premier" if date.day == 1 else numerals.cardinal(date.day)
    said = f"{day} {_MONTHS[date.month - 1]}"
    return f"{said} {numerals.cardinal(date.year)}" if date.year else said


def _time(clock: Clock, numerals: Numerals) -> str:
    hour = clock.hour % 12 + 12 if clock.half == "pm" else clock.hour
    if hour in (0, 24):
        said = "minuit"
    else:
        said = f"{_agree(numerals.cardinal(hour), True)} heure{'s' if hour > 1 else ''}"
    return f"{said} {_agree(numerals.cardinal(clock.minute), True)}" if clock.minute else said


def _agree(words: str, feminine: bool) -> str:
    return re.sub(r"\bun\Z", "une", words) if feminine else words


VOCABULARY = Vocabulary(
    code="fr",
    decimal=",",
    point="virgule",
    minus="moins",
    conjunction="et",
    to="à",
    signs={
        "&": "et", "%": "pour cent", "‰": "pour mille", "@": "arobase", "+": "plus", "=": "égale", "×": "fois",
        "÷": "divisé par", "<": "inférieur à", ">": "supérieur à", "≤": "au plus", "≥": "au moins",
        "≈": "environ", "~": "environ", "±": "plus ou moins", "§": "paragraphe", "°": "degrés", "№": "numéro",
        "/": "sur", "#": "dièse", "*": "étoile",
    },
    address={
        ".": "point", "@": "arobase", "/": "barre oblique", "-": "tiret", "_": "tiret bas", "+": "plus",
        ":": "deux points",
    },
    number_sign="numéro",
    hashtag="mot-dièse",
    currencies={
        "EUR": Currency(Noun("euro", "euros"), _CENT),
        "USD": Currency(Noun("dollar", "dollars"), Noun("cent", "cents")),
        "GBP": Currency(Noun("livre", "livres", True), Noun("penny", "pence")),
        "CHF": Currency(Noun("franc suisse", "francs suisses"), _CENT), "JPY": Currency(Noun("yen", "yens"), None),
        "CAD": Currency(Noun("dollar canadien", "dollars canadiens"), Noun("cent", "cents")),
    },
    money_join=" et ",
    agree=_agree,
    of_million="de",
    scales={
        "k": "mille", "m": "millions", "md": "milliards", "million": "million", "millions": "millions",
        "milliard": "milliard", "milliards": "milliards",
    },
    units={
        "km": Noun("kilomètre", "kilomètres"), "m": Noun("mètre", "mètres"), "cm": Noun("centimètre", "centimètres"),
        "mm": Noun("millimètre", "millimètres"), "km/h": Noun("kilomètre heure", "kilomètres heure"),
        "kg": Noun("kilogramme", "kilogrammes"), "g": Noun("gramme", "grammes"),
        "mg": Noun("milligramme", "milligrammes"),
        "l": Noun("litre", "litres"), "L": Noun("litre", "litres"), "ml": Noun("millilitre", "millilitres"),
        "°C": Noun("degré Celsius", "degrés Celsius"), "°": Noun("degré", "degrés"),
        "Ko": Noun("kilooctet", "kilooctets"),
        "Mo": Noun("mégaoctet", "mégaoctets"), "Go": Noun("gigaoctet", "gigaoctets"),
        "To": Noun("téraoctet", "téraoctets"),
        "GB": Noun("gigaoctet", "gigaoctets"), "MB": Noun("mégaoctet", "mégaoctets"), "W": Noun("watt", "watts"),
        "kW": Noun("kilowatt", "kilowatts"), "kWh": Noun("kilowattheure", "kilowattheures"),
        "Hz": Noun("hertz", "hertz"),
        "V": Noun("volt", "volts"), "ms": Noun("milliseconde", "millisecondes", True),
        "s": Noun("seconde", "secondes", True), "min": Noun("minute", "minutes", True),
        "m²": Noun("mètre carré", "mètres carrés"), "m2": Noun("mètre carré", "mètres carrés"),
    },
    month_names={name: at for at, name in enumerate(_MONTHS, 1)}
    | {"janv": 1, "févr": 2, "avr": 4, "juil": 7, "sept": 9, "oct": 10, "nov": 11, "déc": 12, "fevrier": 2, "aout": 8,
       "decembre": 12},
    weekdays={
        "lun": "lundi", "mar": "mardi", "mer": "mercredi", "jeu": "jeudi", "ven": "vendredi", "sam": "samedi",
        "dim": "dimanche",
    },
    abbreviations={
        "M": "Monsieur", "MM": "Messieurs", "Mme": "Madame", "Mlle": "Mademoiselle", "Dr": "Docteur",
        "Pr": "Professeur", "p.ex": "par exemple", "c.-à-d": "c'est-à-dire", "etc": "et cetera", "env": "environ",
        "av": "avenue", "Av": "Avenue", "bd": "boulevard", "Bd": "Boulevard", "tél": "téléphone", "Tél": "Téléphone",
        "cf": "confer", "max": "maximum", "min": "minimum", "janv": "janvier", "févr": "février", "sept": "septembre",
        "oct": "octobre", "nov": "novembre", "déc": "décembre",
    },
    titles={"Mme": "Madame", "Mlle": "Mademoiselle", "MM": "Messieurs", "Mmes": "Mesdames", "Dr": "Docteur"},
    before_numbers={
        "n°": "numéro", "N°": "Numéro", "no": "numéro", "p": "page", "pp": "pages", "art": "article", "fig": "figure",
        "vol": "volume", "chap": "chapitre", "tél": "téléphone", "Tél": "Téléphone",
    },
    digit_words=word_set(
        "carte compte code PIN numéro poste chiffres termine terminant finissant référence commande dossier postal"
    ),
    digit_links=word_set("numéro est par en le la de votre code client postal téléphone"),
    year_words=word_set("en depuis vers dès année avant après de"),
    ordinals=r"(?<![\w.,])(?P<number>[0-9]{1,4})(?P<mark>er|re|ère|nde|nd|ème|eme|e)(?!\w)",
    ordinal=_ordinal,
    fractions={
        (1, 2): "un demi", (1, 3): "un tiers", (2, 3): "deux tiers", (1, 4): "un quart", (3, 4): "trois quarts",
        (1, 5): "un cinquième", (1, 10): "un dixième",
    },
    date=_date,
    time=_time,
    clock=(
        r"(?<![\w:.,])(?P<hour>[0-2]?[0-9]) ?h ?(?P<minute>[0-5][0-9])?(?!\w)",
        r"(?<![\w:.,])(?P<hour>[0-2]?[0-9])(?P<minute>) heures?(?!\w)",
    ),
)  # fmt: skip
