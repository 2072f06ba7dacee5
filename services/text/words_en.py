"""English words for numbers and signs."""

from __future__ import annotations

from services.text.vocabulary import Clock, Currency, Day, Noun, Numerals, Vocabulary, word_set

_CENT = Noun("cent", "cents")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


def _date(date: Day, numerals: Numerals) -> str:
    month, day = _MONTHS[date.month - 1], numerals.ordinal(date.day)
    said = f"{day} of {month}" if date.before == "the" else f"{month} {day}"
    return f"{said}, {numerals.year(date.year)}" if date.year else said


def _time(clock: Clock, numerals: Numerals) -> str:
    hour = numerals.cardinal(clock.hour)
    half = f" {clock.half.upper()}" if clock.half else ""
    if clock.minute:
        minute = numerals.cardinal(clock.minute)
        return f"{hour} {'oh ' if clock.minute < 10 else ''}{minute}{half}"
    if half:
        return f"{hour}{half}"
    if clock.hour == 0:
        return "midnight"
    return f"{hour} o'clock" if clock.hour <= 12 else f"{hour} hundred"


VOCABULARY = Vocabulary(
    code="en",
    decimal=".",
    point="point",
    minus="minus",
    conjunction="and",
    to="to",
    signs={
        "&": "and", "%": "percent", "‰": "per mille", "@": "at", "+": "plus", "=": "equals", "×": "times",
        "÷": "divided by", "<": "less than", ">": "greater than", "≤": "at most", "≥": "at least", "≈": "about",
        "~": "about", "±": "plus or minus", "§": "section", "°": "degrees", "№": "number", "/": "slash",
        "#": "hash", "*": "star",
    },
    address={".": "dot", "@": "at", "/": "slash", "-": "dash", "_": "underscore", "+": "plus", ":": "colon"},
    number_sign="number",
    hashtag="hashtag",
    currencies={
        "USD": Currency(Noun("dollar", "dollars"), _CENT),
        "EUR": Currency(Noun("euro", "euros"), _CENT),
        "GBP": Currency(Noun("pound", "pounds"), Noun("penny", "pence")),
        "CHF": Currency(Noun("Swiss franc", "Swiss francs"), Noun("centime", "centimes")),
        "JPY": Currency(Noun("yen", "yen"), None),
        "CNY": Currency(Noun("yuan", "yuan"), None),
        "INR": Currency(Noun("rupee", "rupees"), Noun("paisa", "paise")),
        "KRW": Currency(Noun("won", "won"), None),
        "CAD": Currency(Noun("Canadian dollar", "Canadian dollars"), _CENT),
        "AUD": Currency(Noun("Australian dollar", "Australian dollars"), _CENT),
        "BRL": Currency(Noun("real", "reais"), Noun("centavo", "centavos")),
        "MXN": Currency(Noun("Mexican peso", "Mexican pesos"), Noun("centavo", "centavos")),
        "SEK": Currency(Noun("Swedish krona", "Swedish kronor"), Noun("öre", "öre")),
        "PLN": Currency(Noun("zloty", "zlotys"), Noun("grosz", "groszy")),
    },
    money_join=" and ",
    scales={
        "k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion", "t": "trillion",
        "tn": "trillion", "thousand": "thousand", "million": "million", "billion": "billion", "trillion": "trillion",
    },
    units={
        "km": Noun("kilometer", "kilometers"), "m": Noun("meter", "meters"), "cm": Noun("centimeter", "centimeters"),
        "mm": Noun("millimeter", "millimeters"), "mi": Noun("mile", "miles"), "ft": Noun("foot", "feet"),
        "yd": Noun("yard", "yards"), "km/h": Noun("kilometer per hour", "kilometers per hour"),
        "kmh": Noun("kilometer per hour", "kilometers per hour"), "mph": Noun("mile per hour", "miles per hour"),
        "m/s": Noun("meter per second", "meters per second"), "kg": Noun("kilogram", "kilograms"),
        "g": Noun("gram", "grams"), "mg": Noun("milligram", "milligrams"),
        "mcg": Noun("microgram", "micrograms"), "µg": Noun("microgram", "micrograms"),
        "μg": Noun("microgram", "micrograms"),
        "mg/kg": Noun("milligram per kilogram", "milligrams per kilogram"),
        "mg/day": Noun("milligram per day", "milligrams per day"),
        "mg/dL": Noun("milligram per deciliter", "milligrams per deciliter"),
        "mg/dl": Noun("milligram per deciliter", "milligrams per deciliter"),
        "mmol/L": Noun("millimole per liter", "millimoles per liter"),
        "mmol/l": Noun("millimole per liter", "millimoles per liter"),
        "IU": Noun("international unit", "international units"), "/min": Noun("per minute", "per minute"),
        "lb": Noun("pound", "pounds"),
        "lbs": Noun("pound", "pounds"), "oz": Noun("ounce", "ounces"), "l": Noun("liter", "liters"),
        "L": Noun("liter", "liters"), "ml": Noun("milliliter", "milliliters"), "mL": Noun("milliliter", "milliliters"),
        "°C": Noun("degree Celsius", "degrees Celsius"), "°F": Noun("degree Fahrenheit", "degrees Fahrenheit"),
        "°": Noun("degree", "degrees"), "¢": _CENT, "KB": Noun("kilobyte", "kilobytes"),
        "kB": Noun("kilobyte", "kilobytes"),
        "MB": Noun("megabyte", "megabytes"), "GB": Noun("gigabyte", "gigabytes"), "TB": Noun("terabyte", "terabytes"),
        "Mbps": Noun("megabit per second", "megabits per second"),
        "Mbit/s": Noun("megabit per second", "megabits per second"),
        "Gbps": Noun("gigabit per second", "gigabits per second"), "Hz": Noun("hertz", "hertz"),
        "kHz": Noun("kilohertz", "kilohertz"), "MHz": Noun("megahertz", "megahertz"),
        "GHz": Noun("gigahertz", "gigahertz"),
        "W": Noun("watt", "watts"), "kW": Noun("kilowatt", "kilowatts"), "kWh": Noun("kilowatt hour", "kilowatt hours"),
        "V": Noun("volt", "volts"), "ms": Noun("millisecond", "milliseconds"), "s": Noun("second", "seconds"),
        "sec": Noun("second", "seconds"), "secs": Noun("second", "seconds"), "min": Noun("minute", "minutes"),
        "mins": Noun("minute", "minutes"), "h": Noun("hour", "hours"), "hr": Noun("hour", "hours"),
        "hrs": Noun("hour", "hours"), "m²": Noun("square meter", "square meters"),
        "m2": Noun("square meter", "square meters"),
        "km²": Noun("square kilometer", "square kilometers"), "sq ft": Noun("square foot", "square feet"),
        "m³": Noun("cubic meter", "cubic meters"), "kcal": Noun("kilocalorie", "kilocalories"),
    },
    month_names={name.lower(): at for at, name in enumerate(_MONTHS, 1)}
    | {name[:3].lower(): at for at, name in enumerate(_MONTHS, 1)} | {"sept": 9},
    weekdays={
        "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday",
        "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday",
    },
    abbreviations={
        "Mr": "Mister", "Mrs": "Missus", "Ms": "Miz", "Dr": "Doctor", "Prof": "Professor", "Rev": "Reverend",
        "Gen": "General", "Sgt": "Sergeant", "Capt": "Captain", "Lt": "Lieutenant", "Jr": "Junior", "Sr": "Senior",
        "e.g": "for example", "i.e": "that is", "etc": "et cetera", "vs": "versus", "approx": "approximately",
        "dept": "department", "Dept": "Department", "est": "estimated", "incl": "including", "excl": "excluding",
        "Inc": "Incorporated", "Ltd": "Limited", "Corp": "Corporation", "Co": "Company", "Bros": "Brothers",
        "Ave": "Avenue", "Blvd": "Boulevard", "Rd": "Road", "Hwy": "Highway", "Mt": "Mount", "Ft": "Fort",
        "Tel": "Telephone", "tel": "telephone", "min": "minimum", "max": "maximum", "avg": "average",
        "Jan": "January", "Feb": "February", "Aug": "August",
        "Sept": "September", "Oct": "October", "Nov": "November", "Dec": "December", "a.k.a": "also known as",
        "a.m": "AM", "p.m": "PM",
    },
    titles={"Mr": "Mister", "Mrs": "Missus", "Ms": "Miz", "Prof": "Professor"},
    before_numbers={
        "No": "number", "no": "number", "Nos": "numbers", "Nr": "number", "p": "page", "pp": "pages", "fig": "figure",
        "Fig": "figure", "vol": "volume", "Vol": "volume", "ch": "chapter", "Ch": "chapter", "sec": "section",
        "Sec": "section", "ext": "extension", "Ext": "extension", "Apt": "apartment", "apt": "apartment",
        "Rm": "room", "ref": "reference", "Ref": "reference", "tel": "telephone", "Tel": "telephone", "ca": "about",
    },
    digit_words=word_set(
        "card account code pin passcode extension number digits ending ends reference id ticket order confirmation "
        "booking phone zip call dial flight"
    ),
    digit_links=word_set("number numbers code is was are ending in with your the no digits"),
    year_words=word_set("in since from until till by before after circa year of during around"),
    ordinals=r"(?<![\w.])(?P<number>[0-9]{1,3}(?:,[0-9]{3}){1,3}|[0-9]{1,9})(?P<mark>st|nd|rd|th)(?!\w)",
    ordinal=lambda number, mark, before, numerals: numerals.ordinal(number),
    fractions={
        (1, 2): "one half", (1, 3): "one third", (2, 3): "two thirds", (1, 4): "one quarter", (3, 4): "three quarters",
        (1, 5): "one fifth", (2, 5): "two fifths", (3, 5): "three fifths", (4, 5): "four fifths",
        (1, 8): "one eighth", (3, 8): "three eighths", (5, 8): "five eighths", (7, 8): "seven eighths",
        (1, 10): "one tenth",
    },
    date=_date,
    time=_time,
    month_first=True,
)  # fmt: skip
