"""Italian words for numbers and signs."""

from __future__ import annotations

import re

from services.text.vocabulary import Clock, Currency, Day, Noun, Numerals, Vocabulary, word_set

_CENT = Noun("centesimo", "centesimi")
_MONTHS = (
    "gennaio", "febbraio", "marzo", "aprile", "maggio", "giugno", "luglio", "agosto", "settembre", "ottobre",
    "novembre", "dicembre",
)  # fmt: skip


def _ordinal(number: int, mark: str, before: str, numerals: Numerals) -> str:
    said = numerals.ordinal(number)
    return re.sub(r"o\Z", "a", said) if mark == "ª" else said


def _date(date: Day, numerals: Numerals) -> str:
    day = "primo" if date.day == 1 else numerals.cardinal(date.day)
    said = f"{day} {_MONTHS[date.month - 1]}"
    return f"{said} {numerals.cardinal(date.year)}" if date.year else said


def _time(clock: Clock, numerals: Numerals) -> str:
    hour = clock.hour % 12 + 12 if clock.half == "pm" else clock.hour
    said = _agree(numerals.cardinal(hour), True)
    return f"{said} e {numerals.cardinal(clock.minute)}" if clock.minute else said


def _agree(words: str, feminine: bool) -> str:
    return re.sub(r"\Auno\Z", "una" if feminine else "un", words)


VOCABULARY = Vocabulary(
    code="it",
    decimal=",",
    point="virgola",
    minus="meno",
    conjunction="e",
    to="a",
    signs={
        "&": "e", "%": "per cento", "‰": "per mille", "@": "chiocciola", "+": "più", "=": "uguale", "×": "per",
        "÷": "diviso", "<": "minore di", ">": "maggiore di", "≤": "al massimo", "≥": "almeno",
        "≈": "circa", "~": "circa", "±": "più o meno", "§": "paragrafo", "°": "gradi", "№": "numero", "/": "barra",
        "#": "cancelletto", "*": "asterisco",
    },
    address={
        ".": "punto", "@": "chiocciola", "/": "barra", "-": "trattino", "_": "trattino basso", "+": "più",
        ":": "due punti",
    },
    number_sign="numero",
    hashtag="hashtag",
    currencies={
        "EUR": Currency(Noun("euro", "euro"), _CENT), "USD": Currency(Noun("dollaro", "dollari"), _CENT),
        "GBP": Currency(Noun("sterlina", "sterline", True), Noun("penny", "pence")),
        "CHF": Currency(Noun("franco svizzero", "franchi svizzeri"), _CENT), "JPY": Currency(Noun("yen", "yen"), None),
    },
    money_join=" e ",
    agree=_agree,
    of_million="di",
    scales={
        "mln": "milioni", "mld": "miliardi", "mila": "mila", "milione": "milione", "milioni": "milioni",
        "miliardo": "miliardo", "miliardi": "miliardi",
    },
    units={
        "km": Noun("chilometro", "chilometri"), "m": Noun("metro", "metri"), "cm": Noun("centimetro", "centimetri"),
        "mm": Noun("millimetro", "millimetri"), "km/h": Noun("chilometro all'ora", "chilometri all'ora"),
        "kg": Noun("chilo", "chili"), "g": Noun("grammo", "grammi"), "mg": Noun("milligrammo", "milligrammi"),
        "l": Noun("litro", "litri"), "ml": Noun("millilitro", "millilitri"),
        "°C": Noun("grado Celsius", "gradi Celsius"),
        "°": Noun("grado", "gradi"), "MB": Noun("megabyte", "megabyte"), "GB": Noun("gigabyte", "gigabyte"),
        "TB": Noun("terabyte", "terabyte"), "W": Noun("watt", "watt"), "kW": Noun("chilowatt", "chilowatt"),
        "kWh": Noun("chilowattora", "chilowattora"), "Hz": Noun("hertz", "hertz"), "s": Noun("secondo", "secondi"),
        "min": Noun("minuto", "minuti"), "h": Noun("ora", "ore", True),
        "m²": Noun("metro quadrato", "metri quadrati"), "m2": Noun("metro quadrato", "metri quadrati"),
    },
    month_names={name: at for at, name in enumerate(_MONTHS, 1)}
    | {"gen": 1, "feb": 2, "mar": 3, "apr": 4, "mag": 5, "giu": 6, "lug": 7, "ago": 8, "set": 9, "sett": 9, "ott": 10,
       "nov": 11, "dic": 12},
    weekdays={
        "lun": "lunedì", "mar": "martedì", "mer": "mercoledì", "gio": "giovedì", "ven": "venerdì", "sab": "sabato",
        "dom": "domenica",
    },
    abbreviations={
        "sig": "signor", "Sig": "Signor", "sig.ra": "signora", "Sig.ra": "Signora", "sig.na": "signorina",
        "dott": "dottor", "Dott": "Dottor", "dott.ssa": "dottoressa", "Dott.ssa": "Dottoressa", "dr": "dottor",
        "Dr": "Dottor", "prof": "professor", "Prof": "Professor", "ing": "ingegner", "Ing": "Ingegner",
        "avv": "avvocato", "Avv": "Avvocato", "p.es": "per esempio", "ecc": "eccetera", "ca": "circa",
        "tel": "telefono",
        "Tel": "Telefono", "max": "massimo", "min": "minimo", "gen": "gennaio", "feb": "febbraio", "nov": "novembre",
        "dic": "dicembre", "ott": "ottobre", "sett": "settembre",
    },
    titles={
        "sig.ra": "signora", "Sig.ra": "Signora", "sig.na": "signorina", "dott.ssa": "dottoressa",
        "Dott.ssa": "Dottoressa", "prof.ssa": "professoressa", "Prof.ssa": "Professoressa",
    },
    before_numbers={
        "n": "numero", "N": "Numero", "nr": "numero", "p": "pagina", "pag": "pagina", "art": "articolo",
        "tel": "telefono", "Tel": "Telefono", "int": "interno", "vol": "volume", "fig": "figura", "cap": "capitolo",
    },
    digit_words=word_set("carta conto codice PIN numero interno cifre termina riferimento ordine pratica CAP"),
    digit_links=word_set("numero è con per in il la di del codice cliente"),
    year_words=word_set("nel dal al del anno dopo prima"),
    ordinals=r"(?<![\w.,])(?P<number>[0-9]{1,4})(?P<mark>º|ª)(?!\w)",
    ordinal=_ordinal,
    fractions={
        (1, 2): "un mezzo", (1, 3): "un terzo", (2, 3): "due terzi", (1, 4): "un quarto", (3, 4): "tre quarti",
        (1, 5): "un quinto", (1, 10): "un decimo",
    },
    date=_date,
    time=_time,
)  # fmt: skip
