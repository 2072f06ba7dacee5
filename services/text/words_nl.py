"""Dutch words for numbers and signs."""

from __future__ import annotations

from services.text.vocabulary import Clock, Currency, Day, Noun, Numerals, Vocabulary, word_set

_CENT = Noun("cent", "cent")
_MONTHS = (
    "januari", "februari", "maart", "april", "mei", "juni", "juli", "augustus", "september", "oktober", "november",
    "december",
)  # fmt: skip


def _date(date: Day, numerals: Numerals) -> str:
    said = f"{numerals.cardinal(date.day)} {_MONTHS[date.month - 1]}"
    return f"{said} {numerals.cardinal(date.year)}" if date.year else said


def _time(clock: Clock, numerals: Numerals) -> str:
    hour = clock.hour % 12 + 12 if clock.half == "pm" else clock.hour
    said = f"{numerals.cardinal(hour)} uur"
    return f"{said} {numerals.cardinal(clock.minute)}" if clock.minute else said


VOCABULARY = Vocabulary(
    code="nl",
    decimal=",",
    point="komma",
    minus="min",
    conjunction="en",
    to="tot",
    signs={
        "&": "en", "%": "procent", "‰": "promille", "@": "apenstaartje", "+": "plus", "=": "is", "×": "keer",
        "÷": "gedeeld door", "<": "kleiner dan", ">": "groter dan", "≤": "hoogstens", "≥": "minstens",
        "≈": "ongeveer", "~": "ongeveer", "±": "ongeveer", "§": "paragraaf", "°": "graden", "№": "nummer",
        "/": "schuine streep", "#": "hekje", "*": "sterretje",
    },
    address={
        ".": "punt", "@": "apenstaartje", "/": "schuine streep", "-": "streepje", "_": "laag streepje", "+": "plus",
        ":": "dubbele punt",
    },
    number_sign="nummer",
    hashtag="hashtag",
    currencies={
        "EUR": Currency(Noun("euro", "euro"), _CENT), "USD": Currency(Noun("dollar", "dollar"), _CENT),
        "GBP": Currency(Noun("pond", "pond"), Noun("penny", "pence")), "JPY": Currency(Noun("yen", "yen"), None),
    },
    money_join=" en ",
    scales={"mln": "miljoen", "mld": "miljard", "duizend": "duizend", "miljoen": "miljoen", "miljard": "miljard"},
    units={
        "km": Noun("kilometer", "kilometer"), "m": Noun("meter", "meter"), "cm": Noun("centimeter", "centimeter"),
        "mm": Noun("millimeter", "millimeter"), "km/u": Noun("kilometer per uur", "kilometer per uur"),
        "km/h": Noun("kilometer per uur", "kilometer per uur"), "kg": Noun("kilo", "kilo"), "g": Noun("gram", "gram"),
        "mg": Noun("milligram", "milligram"), "l": Noun("liter", "liter"), "ml": Noun("milliliter", "milliliter"),
        "°C": Noun("graad Celsius", "graden Celsius"), "°": Noun("graad", "graden"), "MB": Noun("megabyte", "megabyte"),
        "GB": Noun("gigabyte", "gigabyte"), "TB": Noun("terabyte", "terabyte"), "W": Noun("watt", "watt"),
        "kW": Noun("kilowatt", "kilowatt"), "kWh": Noun("kilowattuur", "kilowattuur"), "Hz": Noun("hertz", "hertz"),
        "s": Noun("seconde", "seconden"), "sec": Noun("seconde", "seconden"), "min": Noun("minuut", "minuten"),
        "u": Noun("uur", "uur"), "m²": Noun("vierkante meter", "vierkante meter"),
        "m2": Noun("vierkante meter", "vierkante meter"),
    },
    month_names={name: at for at, name in enumerate(_MONTHS, 1)}
    | {"jan": 1, "feb": 2, "mrt": 3, "apr": 4, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "sept": 9, "okt": 10, "nov": 11,
       "dec": 12},
    weekdays={
        "ma": "maandag", "di": "dinsdag", "wo": "woensdag", "do": "donderdag", "vr": "vrijdag", "za": "zaterdag",
        "zo": "zondag",
    },
    abbreviations={
        "dhr": "de heer", "Dhr": "De heer", "mevr": "mevrouw", "Mevr": "Mevrouw", "mw": "mevrouw", "dr": "dokter",
        "Dr": "Dokter", "drs": "doctorandus", "ir": "ingenieur", "ing": "ingenieur", "prof": "professor",
        "bijv": "bijvoorbeeld", "bv": "bijvoorbeeld", "enz": "enzovoort", "etc": "et cetera", "ca": "circa",
        "o.a": "onder andere", "d.w.z": "dat wil zeggen", "m.b.t": "met betrekking tot", "i.v.m": "in verband met",
        "t.a.v": "ter attentie van", "incl": "inclusief", "excl": "exclusief", "tel": "telefoon", "Tel": "Telefoon",
        "max": "maximaal", "min": "minimaal", "str": "straat", "jan": "januari", "feb": "februari", "okt": "oktober",
        "nov": "november", "dec": "december",
    },
    before_numbers={
        "nr": "nummer", "Nr": "Nummer", "blz": "bladzijde", "p": "pagina", "art": "artikel", "tel": "telefoon",
        "Tel": "Telefoon", "fig": "figuur",
    },
    digit_words=word_set(
        "kaart pas rekening rekeningnummer code pincode PIN nummer toestel cijfers eindigt eindigend referentie "
        "bestelnummer klantnummer telefoonnummer ordernummer"
    ),
    digit_links=word_set("nummer is op met de het uw eindigt eindigend cijfers"),
    year_words=word_set("in sinds tot jaar vanaf"),
    ordinals=r"(?<![\w.,])(?P<number>[0-9]{1,4})(?P<mark>ste|de|e)(?!\w)",
    ordinal=lambda number, mark, before, numerals: numerals.ordinal(number),
    fractions={
        (1, 2): "een half", (1, 3): "een derde", (2, 3): "twee derde", (1, 4): "een kwart", (3, 4): "drie kwart",
        (1, 5): "een vijfde", (1, 10): "een tiende",
    },
    date=_date,
    time=_time,
    clock=(
        r"(?<![\w:.,])(?P<hour>[0-2]?[0-9])[.:](?P<minute>[0-5][0-9]) ?(?:uur|u)(?!\w)",
        r"(?<![\w:.,])(?P<hour>[0-2]?[0-9])(?P<minute>) uur(?!\w)",
    ),
)  # fmt: skip
