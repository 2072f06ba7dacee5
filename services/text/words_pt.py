"""Portuguese words for numbers and signs."""

from __future__ import annotations

import re

from services.text.vocabulary import Clock, Currency, Day, Noun, Numerals, Vocabulary, word_set

_CENT = Noun("cêntimo", "cêntimos")
_CENTAVO = Noun("centavo", "centavos")
_MONTHS = (
    "janeiro", "fevereiro", "março", "abril", "maio", "junho", "julho", "agosto", "setembro", "outubro", "novembro",
    "dezembro",
)  # fmt: skip


def _ordinal(number: int, mark: str, before: str, numerals: Numerals) -> str:
    said = numerals.ordinal(number)
    return re.sub(r"o\b", "a", said) if mark in ("ª", "a") else said


def _date(date: Day, numerals: Numerals) -> str:
    day = "primeiro" if date.day == 1 else numerals.cardinal(date.day)
    said = f"{day} de {_MONTHS[date.month - 1]}"
    return f"{said} de {numerals.cardinal(date.year)}" if date.year else said


def _time(clock: Clock, numerals: Numerals) -> str:
    hour = clock.hour % 12 + 12 if clock.half == "pm" else clock.hour
    if hour in (0, 24):
        said = "meia-noite"
    else:
        said = f"{_agree(numerals.cardinal(hour), True)} hora{'s' if hour > 1 else ''}"
    return f"{said} e {numerals.cardinal(clock.minute)}" if clock.minute else said


def _agree(words: str, feminine: bool) -> str:
    if not feminine:
        return words
    words = re.sub(r"\bum\Z", "uma", words.replace("entos", "entas"))
    return re.sub(r"\bdois\Z", "duas", words)


VOCABULARY = Vocabulary(
    code="pt",
    decimal=",",
    point="vírgula",
    minus="menos",
    conjunction="e",
    to="a",
    signs={
        "&": "e", "%": "por cento", "‰": "por mil", "@": "arroba", "+": "mais", "=": "igual a", "×": "vezes",
        "÷": "dividido por", "<": "menor que", ">": "maior que", "≤": "no máximo", "≥": "pelo menos",
        "≈": "cerca de", "~": "cerca de", "±": "mais ou menos", "§": "parágrafo", "°": "graus", "№": "número",
        "/": "barra", "#": "cardinal", "*": "asterisco",
    },
    address={
        ".": "ponto", "@": "arroba", "/": "barra", "-": "hífen", "_": "sublinhado", "+": "mais", ":": "dois pontos",
    },
    number_sign="número",
    hashtag="hashtag",
    currencies={
        "EUR": Currency(Noun("euro", "euros"), _CENT),
        "USD": Currency(Noun("dólar", "dólares"), Noun("cêntimo", "cêntimos")),
        "BRL": Currency(Noun("real", "reais"), _CENTAVO),
        "GBP": Currency(Noun("libra", "libras", True), Noun("pêni", "pence")),
        "JPY": Currency(Noun("iene", "ienes"), None),
    },
    money_join=" e ",
    agree=_agree,
    of_million="de",
    scales={"mil": "mil", "mi": "milhões", "milhão": "milhão", "milhões": "milhões", "bilhões": "bilhões"},
    units={
        "km": Noun("quilómetro", "quilómetros"), "m": Noun("metro", "metros"), "cm": Noun("centímetro", "centímetros"),
        "mm": Noun("milímetro", "milímetros"), "km/h": Noun("quilómetro por hora", "quilómetros por hora"),
        "kg": Noun("quilo", "quilos"), "g": Noun("grama", "gramas"), "mg": Noun("miligrama", "miligramas"),
        "l": Noun("litro", "litros"), "L": Noun("litro", "litros"), "ml": Noun("mililitro", "mililitros"),
        "°C": Noun("grau Celsius", "graus Celsius"), "ºC": Noun("grau Celsius", "graus Celsius"),
        "°": Noun("grau", "graus"), "MB": Noun("megabyte", "megabytes"), "GB": Noun("gigabyte", "gigabytes"),
        "TB": Noun("terabyte", "terabytes"), "W": Noun("watt", "watts"), "kW": Noun("quilowatt", "quilowatts"),
        "kWh": Noun("quilowatt-hora", "quilowatts-hora"), "Hz": Noun("hertz", "hertz"),
        "s": Noun("segundo", "segundos"), "min": Noun("minuto", "minutos"),
        "m²": Noun("metro quadrado", "metros quadrados"), "m2": Noun("metro quadrado", "metros quadrados"),
    },
    month_names={name: at for at, name in enumerate(_MONTHS, 1)}
    | {"jan": 1, "fev": 2, "mar": 3, "abr": 4, "mai": 5, "jun": 6, "jul": 7, "ago": 8, "set": 9, "out": 10, "nov": 11,
       "dez": 12},
    weekdays={
        "seg": "segunda", "ter": "terça", "qua": "quarta", "qui": "quinta", "sex": "sexta", "sáb": "sábado",
        "dom": "domingo",
    },
    abbreviations={
        "Sr": "Senhor", "Sra": "Senhora", "Srs": "Senhores", "Srta": "Senhorita", "Dr": "Doutor", "Dra": "Doutora",
        "Prof": "Professor", "Profa": "Professora", "Eng": "Engenheiro", "Exmo": "Excelentíssimo",
        "p.ex": "por exemplo",
        "etc": "et cetera", "aprox": "aproximadamente", "Av": "Avenida", "R": "Rua", "tel": "telefone",
        "Tel": "Telefone", "máx": "máximo", "mín": "mínimo", "Ltda": "Limitada", "jan": "janeiro", "fev": "fevereiro",
        "nov": "novembro", "dez": "dezembro", "out": "outubro",
    },
    before_numbers={
        "n": "número", "nº": "número", "N": "Número", "núm": "número", "p": "página", "pág": "página", "art": "artigo",
        "tel": "telefone", "Tel": "Telefone", "ramal": "ramal", "vol": "volume", "fig": "figura",
    },
    digit_words=word_set(
        "cartão conta código PIN número ramal dígitos termina terminado referência pedido reserva CEP senha"
    ),
    digit_links=word_set("número é em o a de do da seu sua código cliente"),
    year_words=word_set("em desde até ano de"),
    ordinals=r"(?<![\w.,])(?P<number>[0-9]{1,3})\.?(?P<mark>º|ª|[oa])(?!\w)",
    ordinal=_ordinal,
    fractions={
        (1, 2): "um meio", (1, 3): "um terço", (2, 3): "dois terços", (1, 4): "um quarto", (3, 4): "três quartos",
        (1, 5): "um quinto", (1, 10): "um décimo",
    },
    date=_date,
    time=_time,
    clock=(r"(?<![\w:.,])(?P<hour>[0-2]?[0-9]) ?(?:h|horas?\b) ?(?P<minute>[0-5][0-9])?(?:min\b)?(?!\w)",),
)  # fmt: skip
