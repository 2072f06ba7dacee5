"""Whether the words so far can be all that a caller wants to say, by language. Pure.

Who falls silent after an article, a possessive, a conjunction, a preposition or a sound of thinking goes on. So does
who stops after the verb of "my name is", though not after "yes it is"; who has said nothing but "well"; and whose only
clause begins with "if". Words that also answer a question or end a sentence ("I do", "that", "mm"; German verbs'
prefixes as in "ich rufe an"; French "un", a digit) are not here: a wait after them would be felt each time, a cut is
rare. A plain "yes" is known the other way round: it is whole.
"""

from __future__ import annotations

from itertools import dropwhile

_LINKS = {
    "en": (
        "a an the my your our their every and or but because if whether than of for from with without to at in on by "
        "as into onto between about during until i we they he she i'm i'd i'll i've we're we've you're it's there's "
        "let's um umm uh uhm uhh er erm"
    ),
    "de": (
        "eine einen einem einer eines dem des mein meine meinen meinem meiner dein deine unser unsere und oder aber "
        "weil dass wenn ob als von für ohne zum zur beim in im am bis über unter zwischen seit ich wir möchte äh ähm öh"
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
"""Words that join what comes to what was said."""

_VERBS = {
    "en": "is are was were will would can could should",
    "de": "ist sind war waren heißt heiße lautet",
    "es": "es son era está están",
    "fr": "est sont était s'appelle m'appelle",
}
"""Verbs that want something after them, except after a pronoun."""

_PRONOUNS = {
    "en": "i you he she it we they that this there those these what who which so",
    "de": "ich du er sie es wir ihr das dies was wer so",
    "es": "yo tú usted él ella eso esto ellos que qué así sí no",
    "fr": "il elle ils elles on c qui que ça ce",
}

_OPENINGS = {
    "en": "well so now okay yes no hello hi also actually",
    "de": "also ja nein naja nun hallo okay",
    "es": "pues bueno sí no hola",
    "fr": "alors bon oui non allô bonjour",
}
"""Words that come before the first that matters."""

_UNFINISHED_OPENINGS = {"en": "well so now also actually", "de": "also naja nun", "es": "pues bueno", "fr": "alors bon"}
"""Those that are no answer by themselves."""

_SUBORDINATE = {
    "en": "if when because although while",
    "de": "wenn weil obwohl während als",
    "es": "si cuando porque aunque mientras",
    "fr": "si quand parce lorsque comme",
}
"""Words that begin a clause which needs another one."""

_SUBJECTS = {
    "en": "i you he she it we they my your the a this that somebody someone",
    "de": "ich du er sie es wir man mein meine der die das jemand",
    "es": "yo el la mi mis lo me se alguien",
    "fr": "je j'ai il elle on nous vous ils le la mon ma qu'on que quelqu'un",
}
"""What follows them there, and not in a question ("when will it come?")."""

_CLAUSE_WORDS = range(4, 9)
"""So many words are one clause: fewer may be an answer ("if you like"), after more the other clause has come."""

_ANSWERS = {
    "en": (
        "yes, yeah, yep, no, nope, okay, ok, sure, right, correct, exactly, thanks, thank you, yes please, no thanks, "
        "no thank you, of course, goodbye, bye"
    ),
    "de": (
        "ja, jawohl, nein, okay, ok, gut, genau, richtig, stimmt, danke, ja bitte, nein danke, natürlich, tschüss, "
        "auf wiederhören"
    ),
    "es": "sí, si, no, vale, claro, correcto, exacto, gracias, sí por favor, no gracias, de acuerdo, adiós",
    "fr": "oui, non, ok, d'accord, exact, exactement, merci, oui merci, non merci, bien sûr, au revoir",
}
"""Turns that are whole, and so short that their sound says little."""

_PUNCTUATION = ".,;:!?…\"'()-"


class _Cues:
    def __init__(self, language: str) -> None:
        self.links = frozenset(_LINKS[language].split())
        self.verbs = frozenset(_VERBS[language].split())
        self.pronouns = frozenset(_PRONOUNS[language].split())
        self.openings = frozenset(_OPENINGS[language].split())
        self.unfinished_openings = frozenset(_UNFINISHED_OPENINGS[language].split())
        self.subordinate = frozenset(_SUBORDINATE[language].split())
        self.subjects = frozenset(_SUBJECTS[language].split())
        self.answers = frozenset(_ANSWERS[language].split(", "))


_CUES = {language: _Cues(language) for language in _LINKS}


def is_unfinished(text: str, language: str) -> bool:
    """Whether ``text`` can hardly be all of what is being said.

    ``language``: a code such as ``en`` or ``en-GB``; nothing is known of one without lists of words.
    """
    cues, words = _cues(language), _words(text)
    if cues is None or not words:
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last in cues.unfinished_openings:
        return cues.openings.issuperset(words)
    if last in cues.links or (before and last in cues.verbs and before not in cues.pronouns):
        return True
    clause = list(dropwhile(cues.openings.__contains__, words))
    return len(clause) in _CLAUSE_WORDS and clause[0] in cues.subordinate and clause[1] in cues.subjects


def is_answer(text: str, language: str) -> bool:
    """Whether ``text`` is a short answer that is whole as it stands."""
    cues = _cues(language)
    return cues is not None and " ".join(_words(text)) in cues.answers


def _cues(language: str) -> _Cues | None:
    return _CUES.get(language.lower().replace("_", "-").partition("-")[0])


def _words(text: str) -> list[str]:
    return [word.strip(_PUNCTUATION) for word in text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").split()]
