"""What an agent says of itself where a stage is down: fixed sentences, and the words for yes and no, by language. Pure.

They are few, they hold nothing of a caller, and they are the same in every call: llm says them, and tts keeps them as
audio for the time when it has no engine.
"""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

FALLBACK = "en"


class Courtesies(NamedTuple):
    """The sentences of a language.

    Attributes:
        wrong: an apology, and what to do.
        offer: after ``cannot_help``: whether the caller wants a person.
        later: before the agent hangs up.
        press: a line of a menu, with ``{title}`` and ``{key}``; ``key_in``: asks for ``{count}`` digits.
        yes, no, person: titles in a menu.
        yes_phrases, no_phrases: what speech recognition listens for after an offer, in JSGF expansion syntax.
        yes_words, no_words: one of them decides; where both are heard, nothing is decided.
        soft_words: they mean yes where nothing else is said: "okay", but not "okay, and what is my balance".
    """

    wrong: tuple[str, ...]
    cannot_help: str
    offer: tuple[str, ...]
    moment: str
    later: tuple[str, ...]
    not_transferred: str
    cannot_hear: str
    use_keys: str
    press: str
    key_in: str
    yes: str
    no: str
    person: str
    yes_phrases: tuple[str, ...]
    no_phrases: tuple[str, ...]
    yes_words: frozenset[str]
    no_words: frozenset[str]
    soft_words: frozenset[str]

    @property
    def recited(self) -> tuple[str, ...]:
        """Sentences that are worth having as audio, the most needed ones first."""
        return (*self.later, self.moment, self.cannot_help, *self.offer, *self.wrong)

    def choice(self, text: str) -> bool | None:
        """Whether the text says yes (True) or no (False); None: neither, or both."""
        words = set(plain_words(text))
        yes = bool(words & self.yes_words) or (bool(words) and words <= self.soft_words)
        no = bool(words & self.no_words)
        return yes if yes != no else None


def courtesies(language: str) -> Courtesies:
    """Those of a BCP 47 tag; English for a language without any."""
    return COURTESIES.get(base_language(language), COURTESIES[FALLBACK])


def base_language(language: str) -> str:
    """The language of a BCP 47 tag without its region: ``de-AT`` -> ``de``."""
    return language.replace("_", "-").partition("-")[0].lower()


def plain_words(text: str) -> list[str]:
    """The words of a text in small letters: ``Sí, gracias.`` -> ``sí``, ``gracias``."""
    letters = unicodedata.normalize("NFC", text.casefold())
    return "".join(each if each.isalnum() else " " for each in letters).split()


COURTESIES: dict[str, Courtesies] = {
    "en": Courtesies(
        wrong=("I am sorry, something went wrong.", "Please say that again."),
        cannot_help="I am sorry, I can not help you at the moment.",
        offer=("Shall I put you through to a colleague?", "Say yes, or press 1."),
        moment="One moment, please.",
        later=("Please call again later.", "Goodbye."),
        not_transferred="I am sorry, I can not transfer you right now.",
        cannot_hear="I am sorry, I can not understand speech at the moment.",
        use_keys="Please use the keys of your telephone.",
        press="For {title}, press {key}.",
        key_in="Please key in the {count} digits.",
        yes="yes",
        no="no",
        person="a colleague",
        yes_phrases=("yes [please | thank you]", "(yeah | yep | sure | okay) [please]", "please [do]"),
        no_phrases=("no [thank you | thanks]", "nope"),
        yes_words=frozenset({"yes", "yeah", "yep", "sure"}),
        no_words=frozenset({"no", "nope", "not", "never", "don"}),
        soft_words=frozenset({"okay", "ok", "please", "do", "thank", "thanks", "you"}),
    ),
    "de": Courtesies(
        wrong=("Entschuldigung, da ist etwas schiefgegangen.", "Bitte sagen Sie das noch einmal."),
        cannot_help="Es tut mir leid, ich kann Ihnen im Moment nicht helfen.",
        offer=("Soll ich Sie mit einer Kollegin verbinden?", "Sagen Sie Ja, oder drücken Sie die 1."),
        moment="Einen Moment, bitte.",
        later=("Bitte rufen Sie später noch einmal an.", "Auf Wiederhören."),
        not_transferred="Es tut mir leid, ich kann Sie gerade nicht verbinden.",
        cannot_hear="Es tut mir leid, ich kann Sie im Moment nicht verstehen.",
        use_keys="Bitte benutzen Sie die Tasten Ihres Telefons.",
        press="Für {title} drücken Sie die {key}.",
        key_in="Bitte geben Sie die {count} Ziffern ein.",
        yes="Ja",
        no="Nein",
        person="eine Kollegin",
        yes_phrases=("ja [bitte | gerne]", "(gerne | okay | bitte)"),
        no_phrases=("nein [danke]", "nee"),
        yes_words=frozenset({"ja", "jawohl"}),
        no_words=frozenset({"nein", "nee", "nicht"}),
        soft_words=frozenset({"gerne", "gern", "okay", "ok", "bitte", "danke"}),
    ),
    "fr": Courtesies(
        wrong=("Je suis désolé, il y a eu un problème.", "Pouvez-vous répéter, s'il vous plaît ?"),
        cannot_help="Je suis désolé, je ne peux pas vous aider pour le moment.",
        offer=("Voulez-vous que je vous passe un collègue ?", "Dites oui, ou appuyez sur le 1."),
        moment="Un instant, s'il vous plaît.",
        later=("Veuillez rappeler plus tard.", "Au revoir."),
        not_transferred="Je suis désolé, je ne peux pas vous transférer maintenant.",
        cannot_hear="Je suis désolé, je ne peux pas comprendre la parole pour le moment.",
        use_keys="Veuillez utiliser les touches de votre téléphone.",
        press="Pour {title}, appuyez sur le {key}.",
        key_in="Veuillez taper les {count} chiffres.",
        yes="oui",
        no="non",
        person="un collègue",
        yes_phrases=("oui [merci]", "d'accord", "(volontiers | okay)"),
        no_phrases=("non [merci]",),
        yes_words=frozenset({"oui", "ouais"}),
        no_words=frozenset({"non", "pas"}),
        soft_words=frozenset({"d", "accord", "volontiers", "okay", "ok", "merci"}),
    ),
    "es": Courtesies(
        wrong=("Lo siento, algo ha salido mal.", "Por favor, dígalo otra vez."),
        cannot_help="Lo siento, no puedo ayudarle en este momento.",
        offer=("¿Quiere que le pase con un compañero?", "Diga sí, o pulse 1."),
        moment="Un momento, por favor.",
        later=("Por favor, llame más tarde.", "Adiós."),
        not_transferred="Lo siento, ahora no puedo pasarle.",
        cannot_hear="Lo siento, en este momento no puedo entender lo que dice.",
        use_keys="Por favor, use las teclas de su teléfono.",
        press="Para {title}, pulse {key}.",
        key_in="Por favor, marque los {count} dígitos.",
        yes="sí",
        no="no",
        person="un compañero",
        yes_phrases=("sí [por favor | gracias]", "(vale | claro | okay)"),
        no_phrases=("no [gracias]",),
        yes_words=frozenset({"sí"}),
        no_words=frozenset({"no", "nunca"}),
        soft_words=frozenset({"si", "vale", "claro", "okay", "ok", "por", "favor", "gracias"}),
    ),
}
