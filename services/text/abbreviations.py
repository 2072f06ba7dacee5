"""What is written with a full stop inside a sentence, and the words that sentences begin with, by language. Data."""

from __future__ import annotations

from typing import NamedTuple


class Abbreviations(NamedTuple):
    """Words before a full stop, in lower case and without that stop.

    Attributes:
        titles: always followed by what they belong to, so that they end no sentence (``Mr``).
        numbered: end none before a number or a small letter (``Nov``).
        ends: may end one: they do before a capital letter (``etc``).
        places: may end one: they do before a word that sentences begin with (``St``).
        counts: words of their own that are abbreviations only before a number (``No``).
        starters: words that sentences begin with.
        ordinals: a number with a full stop is an ordinal (``3. Mai``).
    """

    titles: frozenset[str] = frozenset()
    numbered: frozenset[str] = frozenset()
    ends: frozenset[str] = frozenset()
    places: frozenset[str] = frozenset()
    counts: frozenset[str] = frozenset()
    starters: frozenset[str] = frozenset()
    ordinals: bool = False


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ENGLISH = Abbreviations(
    titles=_words(
        "mr mrs ms mx dr prof rev fr hon gen col maj capt cmdr lt sgt cpl gov sen rep pres messrs mmes mt "
        "e.g i.e vs cf viz al ca approx dept est gen incl excl attn"
    ),
    numbered=_words(
        "nos p pp fig figs vol ch sec eq ref ext tel ph art apt rm bldg flt para "
        "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri sat sun "
        "min max hr hrs mins secs oz lb lbs ft yd mi tbsp tsp temp avg"
    ),
    ends=_words("inc ltd co corp llc plc bros etc esq assn dist intl"),
    places=_words("st ste ave blvd rd hwy ln ct pl sq jr sr"),
    counts=_words("no"),
    starters=_words(
        "the a an it its i i'm i've i'll i'd we we're we've we'll you you're your yours he he's she she's they they're "
        "this that these those there here in on at for from with by to of and but or so if when while as after before "
        "since because although though please would could can may might will shall should do does did is are was were "
        "has have had what what's which who whom whose why how where my our his her their no not yes yeah okay ok well "
        "now then thus therefore however also just let let's all any some each every both one once only our thank "
        "thanks sorry good great sure right perhaps maybe unfortunately today tomorrow"
    ),
)

_GERMAN = Abbreviations(
    titles=_words(
        "hr hrn fr frl dr prof dipl ing mag z.b d.h u.a i.d.r z.t o.ä u.u s.o s.u v.a bzw ca evtl ggf inkl exkl sog "
        "vgl bspw st mind max min zzgl abzgl einschl ehem gem lt gegr geb verh mr mrs ms"
    ),
    numbered=_words(
        "nr nrn tel s abs art aufl bd kap abb tab ziff jan feb mrz apr jun jul aug sep sept okt nov dez mo di mi do sa "
        "so std sek jh mio mrd"
    ),
    ends=_words("usw etc usf co inc ltd"),
    places=_words("str pl jr sr"),
    starters=_words(
        "der die das ein eine ich du er sie es wir ihr man mein meine dein ihre ihren unser unsere dies diese dieser "
        "dieses jetzt dann danach hier da dort in im am an auf aus bei mit nach von vor zu zum zur für und aber oder "
        "denn wenn falls weil als bitte möchten können kann soll sollen haben hat ist sind war waren wird werden was "
        "wer wie wo wann warum welche welcher welches ja nein gut gerne danke leider vielen alles alle so also auch "
        "nur noch kein keine nicht heute morgen"
    ),
    ordinals=True,
)

_FRENCH = Abbreviations(
    titles=_words("m mm mme mmes mlle mlles dr me pr st ste mgr p.ex c.-à-d cf env ex av apr"),
    numbered=_words("no nos n p pp tél tel fig vol chap art janv févr avr juil sept oct nov déc bd réf éd h min max"),
    ends=_words("etc inc co ltd sté cie"),
    places=_words("jr sr"),
    starters=_words(
        "le la les l un une des je j tu il elle on nous vous ils elles ce c ces cet cette mon ma mes votre vos notre "
        "nos son sa ses leur leurs et mais ou donc or si quand lorsque dans en à au aux avec pour par sur est sont "
        "qui que quoi quel quelle quels quelles où comment pourquoi combien oui non bien merci désolé voici voilà il "
        "puis ensuite alors aujourd'hui demain veuillez avez pouvez souhaitez"
    ),
)

_SPANISH = Abbreviations(
    titles=_words(
        "sr sra srta sres sras dr dra d dña prof ud uds vd vds p.ej ej lic ing st sta sto aprox av avda gral"
    ),
    numbered=_words(
        "núm num n pág págs p pp tel tfno fig vol cap art ene feb mar abr jun jul ago sept sep oct nov dic"
    ),
    ends=_words("etc cía inc ltd"),
    places=_words("ee.uu jr"),
    starters=_words(
        "el la los las lo un una unos unas yo tú él ella usted nosotros ellos ellas ustedes este esta esto estos estas "
        "ese esa eso mi su sus nuestro nuestra y pero o si cuando en con para por de a al del que qué quién cuál cómo "
        "dónde cuándo cuánto sí no bien gracias perdón ahora luego entonces hoy mañana es son está hay puede quiere "
        "tiene ha le me se"
    ),
)

_ITALIAN = Abbreviations(
    titles=_words(
        "sig sigg sig.ra sig.na dott dott.ssa dr prof prof.ssa ing avv arch geom p.es es on rag spett gent ca"
    ),
    numbered=_words("n nn num pag pagg p tel fig vol cap art gen feb mar apr mag giu lug ago set sett ott nov dic"),
    ends=_words("ecc etc soc inc ltd"),
    places=_words("jr"),
    starters=_words(
        "il lo la i gli le l un una uno io tu lui lei noi voi loro questo questa questi queste quello quella mio mia "
        "suo sua nostro nostra e ma o se quando in con per da di a al del che chi cosa come dove quando quanto quale "
        "sì no bene grazie ora poi allora oggi domani è sono ha ho può vuole mi si"
    ),
)

_DUTCH = Abbreviations(
    titles=_words("dhr mevr mw dr drs ir ing prof mr bijv bv o.a d.w.z m.b.t i.v.m t.a.v z.s.m ca incl excl st"),
    numbered=_words("nr nrs tel blz p fig art jan feb mrt apr jun jul aug sep sept okt nov dec mln mld max min"),
    ends=_words("enz etc inc ltd"),
    places=_words("str jr sr"),
    starters=_words(
        "de het een ik jij je u hij zij ze wij we jullie dit dat deze die mijn uw ons onze en maar of als wanneer in "
        "op aan bij met naar van voor te is zijn was waren heeft hebben kan kunt wilt wat wie waar hoe waarom welke ja "
        "nee goed dank bedankt helaas nu dan vandaag morgen er hier daar"
    ),
)

_PORTUGUESE = Abbreviations(
    titles=_words("sr sra srs sras srta dr dra prof profa exmo exma eng d p.ex ex av r aprox sto sta"),
    numbered=_words("n núm num pág págs p pp tel fig vol cap art jan fev mar abr mai jun jul ago set out nov dez"),
    ends=_words("etc ltda cia inc ltd"),
    places=_words("jr"),
    starters=_words(
        "o a os as um uma eu tu ele ela você nós eles elas vocês este esta isto esse essa isso meu minha seu sua nosso "
        "nossa e mas ou se quando em com para por de do da no na que quem qual como onde quanto sim não bem obrigado "
        "obrigada desculpe agora depois então hoje amanhã é são está há pode quer tem"
    ),
)

ABBREVIATIONS = {
    "en": _ENGLISH,
    "de": _GERMAN,
    "fr": _FRENCH,
    "es": _SPANISH,
    "it": _ITALIAN,
    "nl": _DUTCH,
    "pt": _PORTUGUESE,
}
ORDINAL_LANGUAGES = _words("bg cs da de et fi hr hu is lv nb nn no pl sk sl sr tr")
"""Languages that write an ordinal as a number with a full stop."""
DAY_TIMES = frozenset({"a.m", "p.m"})
AFTER_DAY_TIMES = _words(
    "eastern pacific central mountain greenwich est edt et pst pdt pt cst cdt ct mst mdt mt gmt utc cet cest bst ist "
    "monday tuesday wednesday thursday friday saturday sunday january february march april may june july august "
    "september october november december"
)
"""What may follow ``5 p.m.`` with a capital letter in the same sentence."""


def base_language(tag: str) -> str:
    """The language of a BCP 47 tag, in lower case: ``en-US`` -> ``en``."""
    return tag.replace("_", "-").partition("-")[0].lower()


def abbreviations_of(language: str) -> Abbreviations:
    """The abbreviations of a language, a BCP 47 tag; of one that is not known here, titles that many have."""
    base = base_language(language)
    if base in ABBREVIATIONS:
        return ABBREVIATIONS[base]
    return Abbreviations(
        titles=_words("mr mrs ms dr prof e.g i.e vs"), ends=frozenset({"etc"}), ordinals=base in ORDINAL_LANGUAGES
    )
