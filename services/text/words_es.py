"""Spanish words for numbers and signs."""

from __future__ import annotations

import re

from services.text.vocabulary import Clock, Currency, Day, Noun, Numerals, Vocabulary, word_set

_CENT = Noun("céntimo", "céntimos")
_CENTAVO = Noun("centavo", "centavos")
_MONTHS = (
    "enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre",
    "diciembre",
)  # fmt: skip


def _ordinal(number: int, mark: str, before: str, numerals: Numerals) -> str:
    said = numerals.ordinal(number)
    if mark in ("ª", "a", "ra", "da", "ta", "ma", "va", "na"):
        return re.sub(r"o\b", "a", said)
    return re.sub(r"(primer|tercer)o\Z", r"\1", said) if mark in ("er", ".er") else said


def _date(date: Day, numerals: Numerals) -> str:
    said = f"{numerals.cardinal(date.day)} de {_MONTHS[date.month - 1]}"
    return f"{said} de {numerals.cardinal(date.year)}" if date.year else said


def _time(clock: Clock, numerals: Numerals) -> str:
    said = _agree(numerals.cardinal(clock.hour), True)
    if clock.minute:
        said += f" y {numerals.cardinal(clock.minute)}"
    return said + {"am": " de la mañana", "pm": " de la tarde", "": ""}[clock.half]


def _agree(words: str, feminine: bool) -> str:
    if feminine:
        return re.sub(r"uno\Z", "una", words.replace("cientos", "cientas").replace("quinientos", "quinientas"))
    return re.sub(r"\buno\Z", "un", re.sub(r"veintiuno\Z", "veintiún", words))


VOCABULARY = Vocabulary(
    code="es",
    decimal=",",
    point="coma",
    minus="menos",
    conjunction="y",
    to="a",
    signs={
        "&": "y", "%": "por ciento", "‰": "por mil", "@": "arroba", "+": "más", "=": "igual a", "×": "por",
        "÷": "entre", "<": "menor que", ">": "mayor que", "≤": "como máximo", "≥": "al menos", "≈": "unos",
        "~": "unos", "±": "más menos", "§": "sección", "°": "grados", "№": "número", "/": "barra",
        "#": "almohadilla", "*": "asterisco",
    },
    address={".": "punto", "@": "arroba", "/": "barra", "-": "guion", "_": "guion bajo", "+": "más", ":": "dos puntos"},
    number_sign="número",
    hashtag="etiqueta",
    currencies={
        "EUR": Currency(Noun("euro", "euros"), _CENT), "USD": Currency(Noun("dólar", "dólares"), _CENTAVO),
        "GBP": Currency(Noun("libra", "libras", True), Noun("penique", "peniques")),
        "MXN": Currency(Noun("peso", "pesos"), _CENTAVO), "JPY": Currency(Noun("yen", "yenes"), None),
        "BRL": Currency(Noun("real", "reales"), _CENTAVO),
    },
    money_join=" con ",
    agree=_agree,
    of_million="de",
    scales={"k": "mil", "m": "millones", "mil": "mil", "millón": "millón", "millones": "millones"},
    units={
        "km": Noun("kilómetro", "kilómetros"), "m": Noun("metro", "metros"), "cm": Noun("centímetro", "centímetros"),
        "mm": Noun("milímetro", "milímetros"), "km/h": Noun("kilómetro por hora", "kilómetros por hora"),
        "kg": Noun("kilo", "kilos"), "g": Noun("gramo", "gramos"), "mg": Noun("miligramo", "miligramos"),
        "l": Noun("litro", "litros"), "L": Noun("litro", "litros"), "ml": Noun("mililitro", "mililitros"),
        "°C": Noun("grado Celsius", "grados Celsius"), "ºC": Noun("grado Celsius", "grados Celsius"),
        "°": Noun("grado", "grados"), "MB": Noun("megabyte", "megabytes"), "GB": Noun("gigabyte", "gigabytes"),
        "TB": Noun("terabyte", "terabytes"), "W": Noun("vatio", "vatios"), "kW": Noun("kilovatio", "kilovatios"),
        "kWh": Noun("kilovatio hora", "kilovatios hora"), "Hz": Noun("hercio", "hercios"),
        "s": Noun("segundo", "segundos"), "min": Noun("minuto", "minutos"), "h": Noun("hora", "horas", True),
        "m²": Noun("metro cuadrado", "metros cuadrados"), "m2": Noun("metro cuadrado", "metros cuadrados"),
    },
    month_names={name: at for at, name in enumerate(_MONTHS, 1)}
    | {"ene": 1, "feb": 2, "mar": 3, "abr": 4, "may": 5, "jun": 6, "jul": 7, "ago": 8, "sep": 9, "sept": 9, "oct": 10,
       "nov": 11, "dic": 12, "setiembre": 9},
    weekdays={
        "lun": "lunes", "mar": "martes", "mié": "miércoles", "jue": "jueves", "vie": "viernes", "sáb": "sábado",
        "dom": "domingo",
    },
    abbreviations={
        "Sr": "Señor", "Sra": "Señora", "Srta": "Señorita", "Sres": "Señores", "Dr": "Doctor", "Dra": "Doctora",
        "D": "Don", "Dña": "Doña", "Ud": "usted", "Uds": "ustedes", "Vd": "usted", "p.ej": "por ejemplo",
        "etc": "etcétera", "aprox": "aproximadamente", "Av": "Avenida", "Avda": "Avenida", "Prof": "Profesor",
        "tel": "teléfono", "Tel": "Teléfono", "máx": "máximo", "mín": "mínimo", "EE.UU": "Estados Unidos",
        "ene": "enero", "feb": "febrero", "ago": "agosto", "sept": "septiembre", "oct": "octubre", "nov": "noviembre",
        "dic": "diciembre",
    },
    before_numbers={
        "núm": "número", "Núm": "Número", "n": "número", "nº": "número", "N": "número", "pág": "página", "p": "página",
        "art": "artículo", "tel": "teléfono", "Tel": "Teléfono", "ext": "extensión", "vol": "volumen",
    },
    digit_words=word_set(
        "tarjeta cuenta código PIN número extensión dígitos termina terminada acabada referencia pedido reserva postal"
    ),
    digit_links=word_set("número es en la el de su código postal cliente"),
    year_words=word_set("en desde hasta año de hacia"),
    ordinals=r"(?<![\w.,])(?P<number>[0-9]{1,3})\.?(?P<mark>º|ª|er|ro|ra|do|da|to|ta|mo|ma|vo|va|no|na|[oa])(?!\w)",
    ordinal=_ordinal,
    fractions={
        (1, 2): "un medio", (1, 3): "un tercio", (2, 3): "dos tercios", (1, 4): "un cuarto", (3, 4): "tres cuartos",
        (1, 5): "un quinto", (1, 10): "un décimo",
    },
    date=_date,
    time=_time,
    clock=(r"(?<![\w:.,])(?P<hour>[0-2]?[0-9])[:.](?P<minute>[0-5][0-9]) ?(?:h\b|horas)\.?",),
)  # fmt: skip
