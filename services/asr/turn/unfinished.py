"""Words that hardly ever end what somebody wants to say, by language: who falls silent after one of them goes on. Pure.

Articles, possessives, conjunctions, prepositions, and the sounds of thinking. Words that also answer a question or end
a sentence ("I do", "that", "mm"; German verbs' prefixes as in "ich rufe an"; French "un", a digit) are not here: a wait
after them would be felt each time, a cut is rare.
"""

from __future__ import annotations

_LISTS = {
    "en": (
        "a an the my your our their every and or but because if whether than of for from with without to at into onto "
        "between about during until i we they he she i'm i'd i'll i've we're we've you're it's there's let's um umm uh "
        "uhm uhh er erm"
    ),
    "de": (
        "eine einen einem einer eines dem des mein meine meinen meinem meiner dein deine unser unsere und oder aber weil "
        "dass wenn ob als von für ohne zum zur beim im bis am über unter zwischen seit ich wir möchte äh ähm öh"
    ),
    "es": (
        "un unos unas el la los las mi mis tu tus su sus nuestro nuestra y e o u pero porque que del de para por con "
        "sin a al en entre sobre hasta desde durante yo quiero quisiera eh em"
    ),
    "fr": (
        "une des le les l mon ma mes ton ta tes sa ses notre nos votre vos leurs et ou mais parce que de du d pour par "
        "avec sans à au aux en dans sur entre jusqu'à depuis pendant je j'ai voudrais euh heu ben"
    ),
}
UNFINISHED = {language: frozenset(words.split()) for language, words in _LISTS.items()}
PUNCTUATION = ".,;:!?…\"'()-"


def is_unfinished(text: str, language: str) -> bool:
    """Whether the last word of ``text`` can hardly be the last of what is being said.

    ``language``: a code such as ``en`` or ``en-GB``; nothing is known of one without a list.
    """
    words = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").split()
    if not words:
        return False
    known = UNFINISHED.get(language.lower().replace("_", "-").partition("-")[0], frozenset())
    return words[-1].strip(PUNCTUATION) in known
