"""German words for numbers and signs."""

from __future__ import annotations

import re

from services.text.vocabulary import Clock, Currency, Day, Noun, Numerals, Vocabulary, word_set

_CENT = Noun("Cent", "Cent")
_MONTHS = (
    "Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November",
    "Dezember",
)  # fmt: skip
_DATIVE = word_set("am im vom zum beim dem den einem diesem jedem seit bis ab dieser einer zur")
_NOMINATIVE = word_set("der die das")


def _ordinal(number: int, mark: str, before: str, numerals: Numerals) -> str:
    ending = "n" if before in _DATIVE else "" if before in _NOMINATIVE else "r"
    return numerals.ordinal(number) + ending


def _date(date: Day, numerals: Numerals) -> str:
    said = f"{_ordinal(date.day, '', date.before, numerals)} {_MONTHS[date.month - 1]}"
    return f"{said} {numerals.year(date.year)}" if date.year else said


def _time(clock: Clock, numerals: Numerals) -> str:
    hour = clock.hour % 12 + 12 if clock.half == "pm" else clock.hour
    said = f"{_agree(numerals.cardinal(hour), False)} Uhr"
    return f"{said} {numerals.cardinal(clock.minute)}" if clock.minute else said


def _agree(words: str, feminine: bool) -> str:
    return re.sub(r"eins\Z", "eine" if feminine else "ein", words)


VOCABULARY = Vocabulary(
    code="de",
    decimal=",",
    point="Komma",
    minus="minus",
    conjunction="und",
    to="bis",
    signs={
        "&": "und", "%": "Prozent", "‰": "Promille", "@": "ät", "+": "plus", "=": "gleich", "×": "mal",
        "÷": "geteilt durch", "<": "kleiner als", ">": "größer als", "≤": "höchstens", "≥": "mindestens", "≈": "etwa",
        "~": "etwa", "±": "plus minus", "§": "Paragraf", "°": "Grad", "№": "Nummer", "/": "Schrägstrich",
        "#": "Raute", "*": "Stern",
    },
    address={
        ".": "Punkt", "@": "ät", "/": "Schrägstrich", "-": "Bindestrich", "_": "Unterstrich", "+": "plus",
        ":": "Doppelpunkt",
    },
    number_sign="Nummer",
    hashtag="Hashtag",
    currencies={
        "EUR": Currency(Noun("Euro", "Euro"), _CENT), "USD": Currency(Noun("Dollar", "Dollar"), _CENT),
        "GBP": Currency(Noun("Pfund", "Pfund"), Noun("Penny", "Pence")),
        "CHF": Currency(Noun("Franken", "Franken"), Noun("Rappen", "Rappen")),
        "JPY": Currency(Noun("Yen", "Yen"), None), "PLN": Currency(Noun("Zloty", "Zloty"), Noun("Groszy", "Groszy")),
    },
    money_join=" und ",
    agree=_agree,
    scales={
        "mio": "Millionen", "mrd": "Milliarden", "tsd": "tausend", "tausend": "tausend", "million": "Million",
        "millionen": "Millionen", "milliarde": "Milliarde", "milliarden": "Milliarden",
    },
    units={
        "km": Noun("Kilometer", "Kilometer"), "m": Noun("Meter", "Meter"), "cm": Noun("Zentimeter", "Zentimeter"),
        "mm": Noun("Millimeter", "Millimeter"), "km/h": Noun("Kilometer pro Stunde", "Kilometer pro Stunde"),
        "kg": Noun("Kilogramm", "Kilogramm"), "g": Noun("Gramm", "Gramm"), "mg": Noun("Milligramm", "Milligramm"),
        "l": Noun("Liter", "Liter"), "ml": Noun("Milliliter", "Milliliter"), "°C": Noun("Grad Celsius", "Grad Celsius"),
        "°": Noun("Grad", "Grad"), "KB": Noun("Kilobyte", "Kilobyte"), "MB": Noun("Megabyte", "Megabyte"),
        "GB": Noun("Gigabyte", "Gigabyte"), "TB": Noun("Terabyte", "Terabyte"), "W": Noun("Watt", "Watt"),
        "Hz": Noun("Hertz", "Hertz"), "kHz": Noun("Kilohertz", "Kilohertz"), "kW": Noun("Kilowatt", "Kilowatt"),
        "kWh": Noun("Kilowattstunde", "Kilowattstunden", True), "V": Noun("Volt", "Volt"),
        "ms": Noun("Millisekunde", "Millisekunden", True), "s": Noun("Sekunde", "Sekunden", True),
        "Sek.": Noun("Sekunde", "Sekunden", True), "min": Noun("Minute", "Minuten", True),
        "Min.": Noun("Minute", "Minuten", True), "h": Noun("Stunde", "Stunden", True),
        "Std.": Noun("Stunde", "Stunden", True), "/min": Noun("pro Minute", "pro Minute"),
        "µg": Noun("Mikrogramm", "Mikrogramm"), "μg": Noun("Mikrogramm", "Mikrogramm"),
        "mg/kg": Noun("Milligramm pro Kilogramm", "Milligramm pro Kilogramm"),
        "mg/dl": Noun("Milligramm pro Deziliter", "Milligramm pro Deziliter"),
        "mmol/l": Noun("Millimol pro Liter", "Millimol pro Liter"),
        "mg/Tag": Noun("Milligramm pro Tag", "Milligramm pro Tag"),
        "I.E.": Noun("Internationale Einheit", "Internationale Einheiten", True),
        "IE": Noun("Internationale Einheit", "Internationale Einheiten", True), "ct": _CENT,
        "m²": Noun("Quadratmeter", "Quadratmeter"),
        "m2": Noun("Quadratmeter", "Quadratmeter"), "m³": Noun("Kubikmeter", "Kubikmeter"),
    },
    month_names={name.lower(): at for at, name in enumerate(_MONTHS, 1)}
    | {"jan": 1, "feb": 2, "mär": 3, "mrz": 3, "apr": 4, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "sept": 9, "okt": 10,
       "nov": 11, "dez": 12, "jänner": 1},
    weekdays={
        "Mo": "Montag", "Di": "Dienstag", "Mi": "Mittwoch", "Do": "Donnerstag", "Fr": "Freitag", "Sa": "Samstag",
        "So": "Sonntag",
    },
    abbreviations={
        "z.B": "zum Beispiel", "d.h": "das heißt", "u.a": "unter anderem", "usw": "und so weiter", "etc": "et cetera",
        "bzw": "beziehungsweise", "ca": "circa", "evtl": "eventuell", "ggf": "gegebenenfalls", "inkl": "inklusive",
        "zzgl": "zuzüglich", "bspw": "beispielsweise", "vgl": "vergleiche", "sog": "sogenannt", "Hr": "Herr",
        "Hrn": "Herrn", "Dr": "Doktor", "Prof": "Professor", "Str": "Straße", "Tel": "Telefon", "max": "maximal",
        "min": "minimal", "mind": "mindestens", "i.d.R": "in der Regel", "u.U": "unter Umständen", "Mio": "Millionen",
        "Mrd": "Milliarden", "Jan": "Januar", "Feb": "Februar", "Aug": "August", "Sept": "September", "Okt": "Oktober",
        "Nov": "November", "Dez": "Dezember", "St": "Sankt",
    },
    before_numbers={
        "Nr": "Nummer", "S": "Seite", "Abs": "Absatz", "Art": "Artikel", "Kap": "Kapitel", "Abb": "Abbildung",
        "Tel": "Telefon", "ca": "circa",
    },
    digit_words=word_set(
        "Karte Kartennummer Konto Kontonummer Code PIN Nummer Durchwahl Kundennummer Bestellnummer Ziffern endet "
        "Referenz Vorgangsnummer Telefonnummer Postleitzahl Endung BLZ Bankleitzahl Notruf"
    )
    | {"Rufen Sie", "Wählen Sie"},
    digit_links=word_set("nummer mit auf ist lautet der die code endet ziffern ihre sind"),
    year_words=word_set("in seit bis jahr jahre um ab vor nach von"),
    ordinals=r"(?<![\w.,])(?P<number>[0-9]{1,3})(?P<mark>\.)(?= [a-zäöü]{2}| [A-ZÄÖÜ][a-zäöüß])",
    ordinal=_ordinal,
    fractions={
        (1, 2): "ein halb", (1, 3): "ein Drittel", (2, 3): "zwei Drittel", (1, 4): "ein Viertel",
        (3, 4): "drei Viertel", (1, 8): "ein Achtel", (1, 10): "ein Zehntel",
    },
    date=_date,
    time=_time,
    clock=(
        r"(?<![\w:.,])(?P<hour>[0-2]?[0-9])\.(?P<minute>[0-5][0-9])(?= bis [0-2]?[0-9](?:[.:][0-5][0-9])? ?Uhr)",
        r"(?<![\w:.,])(?P<hour>[0-2]?[0-9])[.:](?P<minute>[0-5][0-9]) ?(?:Uhr|h)(?!\w)",
        r"(?<![\w:.,])(?P<hour>[0-2]?[0-9])(?P<minute>) ?Uhr(?!\w)",
    ),
)  # fmt: skip
