"""What a caller gets where a whole stage is down, as far as the agent can say it. Pure.

* llm: an apology, and where ``[failover] transfer_target`` is set the offer of a person. Who takes it is handed over,
  who does not is asked no second time; the conversation stays where it was, for an engine that is back.
* asr: keys. The caller hears what each stands for, after every answer, until speech is understood again.
* tts: after two answers in a row of which nothing could be said, a goodbye.

All of it stands in the call's events, so that a successor goes on with it: what is to be remembered travels in the
slots of ``llm.done``, under names that no agent's slot can have and no engine is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from schemas.llm import ListenFor, NextStep, turn_of, utterance_of
from services.llm.conversation import Conversation
from services.llm.engine import Answer, Engine, Request
from services.llm.farewell import TRANSFER_TARGET
from services.llm.menu import Menu
from services.text.courtesies import Courtesies, courtesies

UNHEARD = "unheard"
"""Why a turn ended that no engine could transcribe (``schemas.turn.TurnEnded``)."""

PREFIX = "degraded."
"""Begins the names of our slots."""
DOWN, OPEN_TURN = "degraded.down", "degraded.turn"
"""How many turns in a row no engine has answered, and the first of them."""
OFFER = "degraded.offer"
"""A person was offered."""
TRANSFERRED = "degraded.transfer"
"""The caller was handed over. Where that came to nothing no second offer is made."""
KEYS, UNHEARD_TURNS = "degraded.keys", "degraded.unheard"
"""The caller was told to use the keys; and how many turns in a row could not be transcribed."""

OFFERS = 2
"""So often in a row a person is offered to a caller who answers neither yes nor no."""
UNHEARD_LIMIT = 5
"""So often in a row a caller who speaks is told to use the keys."""
PERSON_KEY = "0"
YES_KEY, NO_KEY = "1", "2"


class Reply(NamedTuple):
    """An answer that no engine has thought of. ``stage``, ``what``: as they are counted."""

    sentences: tuple[str, ...]
    listen_for: ListenFor
    slots: dict[str, str]
    stage: str
    what: str
    then: NextStep = NextStep.LISTEN


def plain_slots(slots: Mapping[str, str]) -> dict[str, str]:
    """What an engine is shown of the slots: those that it has filled itself."""
    ours = TRANSFERRED in slots
    return {
        name: value
        for name, value in slots.items()
        if not name.startswith(PREFIX) and not (ours and name == TRANSFER_TARGET)
    }


def is_keyed(slots: Mapping[str, str]) -> bool:
    """Whether the caller was told what the keys stand for."""
    return KEYS in slots


class Degraded(NamedTuple):
    """The agent's way through it.

    Attributes:
        language: of the agent.
        target: who is offered; empty: nobody.
        menu: what the keys stand for in a state; None: nobody knows.
    """

    language: str
    target: str = ""
    menu: Callable[[str], Menu | None] = lambda state: None

    @property
    def texts(self) -> Courtesies:
        return courtesies(self.language)

    # What is answered without an engine, or after one.

    def own(self, said: Conversation, turn: int) -> Reply | None:
        """The answer to a turn that needs no engine; None: it is an engine's."""
        if turn in said.failed:
            # A predecessor has asked them all, and died before it had said so to the end.
            return self.down(said, turn, said.failed[turn])
        ended = said.turns.get(turn)
        if ended is None:
            return None
        wants_person = KEYS in said.slots and ended.digits.strip("#") == PERSON_KEY and self._offers_person(said)
        if wants_person or (self._offered(said) and self._choice(said, turn)):
            return self._transfer(said, turn)
        if ended.why == UNHEARD and not ended.text and not ended.digits:
            return self._keys(said, turn)
        return None

    def asked(self, said: Conversation, request: Request) -> Request:
        """What an engine is asked in place of a no to our offer: what was left unanswered before it."""
        if not self._offered(said) or self._choice(said, request.turn) is not False:
            return request
        left_open = said.turns.get(int(said.slots.get(OPEN_TURN, "0")))
        if left_open is None:
            return request
        return request._replace(text=left_open.text, digits=left_open.digits, why=left_open.why)

    def down(self, said: Conversation, turn: int, code: str) -> Reply:
        """No engine has answered this turn. ``code``: of the failure; one that is alone and failed once is not down."""
        count = int(said.slots.get(DOWN, "0")) + 1
        level = count - (code != "stage_down")
        marks = {DOWN: str(count), OPEN_TURN: said.slots.get(OPEN_TURN, str(turn))}
        refused = self._offered(said) and self._choice(said, turn) is False
        if level >= 1 and not refused and level <= OFFERS and self.target and TRANSFERRED not in said.slots:
            return self._offer(said, turn, marks)
        if refused or level > 1:
            return self._goodbye(said, turn, "llm", marks)
        sentences, listen_for = self.texts.wrong, said.listen_for
        if _speechless(said, turn):
            lines, digits = self._lines(said.listen_for, said)
            sentences = (sentences[0], *lines)
            listen_for = msgspec.structs.replace(listen_for, digits=digits)
        return Reply(sentences, listen_for, _marked(said, turn, marks), "llm", "apology")

    def follow(self, said: Conversation, turn: int, answer: Answer) -> tuple[tuple[str, ...], Answer]:
        """An engine's answer to a turn as the caller gets it: while speech is not understood, with a menu after it."""
        if not _speechless(said, turn):
            return (), answer
        answer = answer._replace(slots={**answer.slots, KEYS: said.slots[KEYS]})
        if answer.then is not NextStep.LISTEN:
            return (), answer
        expected = msgspec.structs.replace(answer.listen_for, state=answer.state or answer.listen_for.state)
        lines, digits = self._lines(expected, said)
        return lines, answer._replace(listen_for=msgspec.structs.replace(answer.listen_for, digits=digits))

    def listens_itself(self, said: Conversation) -> bool:
        """Whether the caller's next words may be for us and not for an engine."""
        return OFFER in said.slots

    # A voice that says nothing.

    def voiceless(self, said: Conversation) -> bool:
        """Whether nothing of the last two answers could be said, so that the call is to be ended."""
        turn = said.current_turn()
        if turn < 1 or said.answered is None or said.ended is not None or said.closing() is not None:
            return False
        last = [said.utterances.get(utterance_of(each)) for each in (turn - 1, turn)]
        return all(utterance is not None and utterance.mute for utterance in last)

    def leave_taking(self, said: Conversation) -> int | None:
        """The utterance in which a predecessor began to say goodbye to a caller who hears nothing; None: in none."""
        begun = (
            utterance.utterance_id
            for utterance in said.utterances.values()
            if utterance.done is None
            and turn_of(utterance.utterance_id) == said.current_turn()
            and {*utterance.sentences.values()} & {*self.texts.later}
        )
        return next(begun, None)

    # The replies.

    def _offer(self, said: Conversation, turn: int, marks: dict[str, str]) -> Reply:
        texts, before = self.texts, said.listen_for.phrases
        phrases = tuple(dict.fromkeys((*texts.yes_phrases, *texts.no_phrases, *before)))
        listen_for = msgspec.structs.replace(said.listen_for, phrases=phrases, digits=1)
        slots = _marked(said, turn, {**marks, OFFER: "1"})
        return Reply((texts.cannot_help, *texts.offer), listen_for, slots, "llm", "offer")

    def _transfer(self, said: Conversation, turn: int) -> Reply:
        kept = {name: said.slots[name] for name in (DOWN, OPEN_TURN) if name in said.slots}
        slots = {**_marked(said, turn, {**kept, TRANSFERRED: "1"}), TRANSFER_TARGET: self.target}
        listen_for = msgspec.structs.replace(said.listen_for, digits=0)
        stage = "llm" if OFFER in said.slots else "asr"
        return Reply((self.texts.moment,), listen_for, slots, stage, "transfer", NextStep.TRANSFER)

    def _keys(self, said: Conversation, turn: int) -> Reply:
        texts = self.texts
        count = int(said.slots.get(UNHEARD_TURNS, "0")) + 1
        kept = {name: said.slots[name] for name in (DOWN, OPEN_TURN, OFFER) if name in said.slots}
        marks = {**kept, KEYS: "1", UNHEARD_TURNS: str(count)}
        if count > UNHEARD_LIMIT:
            return self._goodbye(said, turn, "asr", marks)
        lines, digits = self._lines(said.listen_for, said)
        begin = (texts.use_keys,) if KEYS in said.slots else (texts.cannot_hear, texts.use_keys)
        listen_for = msgspec.structs.replace(said.listen_for, digits=digits)
        return Reply((*begin, *lines), listen_for, _marked(said, turn, marks), "asr", "menu")

    def _goodbye(self, said: Conversation, turn: int, stage: str, marks: dict[str, str]) -> Reply:
        slots = _marked(said, turn, marks)
        return Reply(self.texts.later, said.listen_for, slots, stage, "goodbye", NextStep.HANG_UP)

    # The keys.

    def _lines(self, expected: ListenFor, said: Conversation) -> tuple[tuple[str, ...], int]:
        """What the keys stand for, as sentences, and how many keys complete a turn."""
        texts = self.texts
        menu = Menu(((YES_KEY, texts.yes), (NO_KEY, texts.no))) if OFFER in said.slots else self._menu(expected)
        lines = menu.lines
        if self._offers_person(said) and OFFER not in said.slots:
            lines = (*lines, (PERSON_KEY, texts.person))
        begin = (texts.key_in.format(count=menu.digits),) if menu.digits else ()
        sentences = (*begin, *(texts.press.format(key=key, title=title) for key, title in lines))
        return sentences, menu.digits or 1

    def _menu(self, expected: ListenFor) -> Menu:
        """Of an agent without a script it is known only how many digits it asked for, if it did."""
        if (menu := self.menu(expected.state)) is not None:
            return menu
        if expected.digits > 1:
            return Menu((), expected.digits)
        return Menu(((YES_KEY, self.texts.yes), (NO_KEY, self.texts.no)))

    def _offers_person(self, said: Conversation) -> bool:
        """Whether 0 is ours to hand the caller over."""
        if not self.target or TRANSFERRED in said.slots:
            return False
        return PERSON_KEY not in dict(self._menu(said.listen_for).lines)

    # What the caller answers.

    def _offered(self, said: Conversation) -> bool:
        """Whether the caller has heard our offer: one that was cut short before it was made is none."""
        if OFFER not in said.slots:
            return False
        offer = said.utterances.get(utterance_of(said.last_turn))
        if offer is None or not offer.void:
            return True
        return offer.reached >= max(offer.sentences, default=0) - len(self.texts.offer) + 1

    def _choice(self, said: Conversation, turn: int) -> bool | None:
        ended = said.turns.get(turn)
        if ended is None:
            return None
        keys = ended.digits.strip("#")
        if keys:
            return {YES_KEY: True, NO_KEY: False}.get(keys)
        return self.texts.choice(ended.text)


def degraded_of(engine: Engine, language: str, target: str) -> Degraded:
    """For the agent of this engine."""
    menu = getattr(engine, "menu", None)
    return Degraded(language, target.strip(), menu) if menu is not None else Degraded(language, target.strip())


def _speechless(said: Conversation, turn: int) -> bool:
    """Whether the caller uses the keys because speech is not understood; not, where this turn was understood."""
    ended = said.turns.get(turn)
    return KEYS in said.slots and not (ended is not None and ended.text)


def _marked(said: Conversation, turn: int, marks: dict[str, str]) -> dict[str, str]:
    """The engine's slots as they were, and ours; that the keys are in use, and that a transfer failed, stays."""
    kept = {TRANSFERRED: "1"} if TRANSFERRED in said.slots else {}
    if _speechless(said, turn):
        kept[KEYS] = said.slots[KEYS]
    return {**plain_slots(said.slots), **kept, **marks}
