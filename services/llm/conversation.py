"""The conversation of a call as a fold over its events. Pure: no clock, no bus.

Any worker that applies the same events stands at the same place, whatever worker said them, in whatever order the last
of them came, and however often: applying an event twice changes nothing.

What the caller heard is decided by ``playout.*`` alone: a sentence was heard when its last frame left, a cut sentence
up to the last word whose audio had left. What was said but not heard is in no history.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from schemas.base import Event
from schemas.call import CallAnswered, CallEnded
from schemas.llm import (
    UTTERANCES_PER_TURN,
    ListenFor,
    LlmDone,
    LlmSentence,
    NextStep,
    ToolCalled,
    ToolReturned,
    turn_of,
    utterance_of,
)
from schemas.playout import PlayoutFinished, PlayoutFlushed, PlayoutMark, PlayoutStarted
from schemas.session import AuthenticationStatus, ConversationContext, Exchange, Speaker
from schemas.tts import TtsDone
from schemas.turn import TurnEnded, TurnInterrupted, TurnResumed
from services.llm.heard import heard_text

HISTORY_LIMIT = 200
"""Exchanges kept in the context: a value of the bucket stays under 64 KiB with sentences of usual length."""

EVENTS = ("call.answered", "call.ended", "turn.*", "llm.*", "tool.*", "tts.done", "playout.*")
"""What the fold reads of a call."""


@dataclass
class Utterance:
    """What the agent said in one go, and what became of it."""

    utterance_id: int
    sentences: dict[int, str] = field(default_factory=dict)
    spoken: dict[int, TtsDone] = field(default_factory=dict)
    marks: set[int] = field(default_factory=set)
    done: LlmDone | None = None
    interrupted: bool = False
    finished: bool = False
    flushed: PlayoutFlushed | None = None
    at_us: int = 0

    @property
    def void(self) -> bool:
        """Whether nobody goes on with it: interrupted, or flushed at the edge."""
        return self.interrupted or self.flushed is not None

    @property
    def heard(self) -> str:
        """The part of it that the caller heard."""
        return heard_text(self.sentences, self.spoken, self.marks, finished=self.finished, flushed=self.flushed)


@dataclass
class Conversation:
    """Where a call's conversation stands.

    Attributes:
        identifying: tools whose result says who the caller is.
        injected: lines put into the context by command, as system exchanges; they are no events.
        last_turn: the last turn whose answer is complete; -1: not even the greeting.
    """

    call_id: str
    tenant: str
    identifying: frozenset[str] = frozenset()
    answered: CallAnswered | None = None
    ended: CallEnded | None = None
    turns: dict[int, TurnEnded] = field(default_factory=dict)
    utterances: dict[int, Utterance] = field(default_factory=dict)
    called: dict[str, ToolCalled] = field(default_factory=dict)
    returned: dict[str, ToolReturned] = field(default_factory=dict)
    injected: list[Exchange] = field(default_factory=list)
    last_turn: int = -1
    intent: str = ""
    listen_for: ListenFor = field(default_factory=ListenFor)
    slots: dict[str, str] = field(default_factory=dict)
    last_word_us: int = 0

    def apply(self, event: Event) -> None:
        """Take an event in. Events that say nothing about the conversation are let pass."""
        match event:
            case CallAnswered():
                self.answered = event
            case CallEnded():
                self.ended = event
            case TurnEnded():
                self.turns.setdefault(event.turn, event)
            case TurnInterrupted() | TurnResumed():
                self.utterance(event.utterance_id).interrupted = isinstance(event, TurnInterrupted)
            case ToolCalled():
                self.called.setdefault(event.tool_call_id, event)
            case ToolReturned():
                self.returned.setdefault(event.tool_call_id, event)
            case LlmSentence() | LlmDone():
                self._said(event)
            case TtsDone() | PlayoutStarted() | PlayoutMark() | PlayoutFinished() | PlayoutFlushed():
                self._played(event)
            case _:
                return
        self.last_word_us = max(self.last_word_us, event.at_us)

    def utterance(self, utterance_id: int) -> Utterance:
        """The utterance of this id; an empty one where nothing is known of it yet."""
        return self.utterances.setdefault(utterance_id, Utterance(utterance_id))

    def _said(self, event: LlmSentence | LlmDone) -> None:
        utterance = self.utterance(event.utterance_id)
        utterance.at_us = utterance.at_us or event.at_us
        if isinstance(event, LlmSentence):
            utterance.sentences.setdefault(event.index, event.text)
            return
        if utterance.done is not None:
            return
        utterance.done = event
        if event.utterance_id == utterance_of(event.turn) and event.turn > self.last_turn:
            self.last_turn = event.turn
            self.intent = event.intent or self.intent
            self.listen_for = event.listen_for
            self.slots = dict(event.slots)

    def _played(self, event: TtsDone | PlayoutStarted | PlayoutMark | PlayoutFinished | PlayoutFlushed) -> None:
        utterance = self.utterance(event.utterance_id)
        match event:
            case TtsDone():
                utterance.spoken[event.index] = event
            case PlayoutMark():
                utterance.marks.add(event.index)
            case PlayoutFinished():
                utterance.finished = True
            case PlayoutFlushed():
                utterance.flushed = event
            case PlayoutStarted():
                utterance.at_us = utterance.at_us or event.at_us

    def pending_turn(self) -> int | None:
        """The first turn that waits for its answer; 0 is the greeting. An interrupted answer waits no more."""
        if self.answered is None or self.ended is not None:
            return None
        for turn in (0, *sorted(self.turns)):
            utterance = self.utterances.get(utterance_of(turn))
            if utterance is None or not (utterance.done or utterance.void):
                return turn
        return None

    def current_turn(self) -> int:
        """The newest turn that the caller ended; 0 before the first."""
        return max(self.turns, default=0)

    def next_part(self, turn: int) -> int:
        """The part that the next utterance beside the answer of ``turn`` takes; at least 1."""
        return 1 + max((u % UTTERANCES_PER_TURN for u in self.utterances if turn_of(u) == turn), default=0)

    def closing(self) -> tuple[NextStep, bool] | None:
        """The step that ends the conversation, and whether all that was said before it has been heard.

        None: the caller is listened to. A caller who spoke again, or spoke into the farewell, is listened to.
        """
        turn = self.current_turn()
        utterance = self.utterances.get(utterance_of(turn))
        if utterance is None or utterance.done is None or utterance.void or utterance.done.then is NextStep.LISTEN:
            return None
        latest = [u for u in self.utterances.values() if turn_of(u.utterance_id) == turn and u.done]
        return utterance.done.then, all(u.finished or u.void for u in latest)

    def tool_calls(self, turn: int) -> list[ToolCalled]:
        """The tools that were called for the answer to a turn, in their order."""
        return [called for called in self.called.values() if called.turn == turn]

    def history(self, before_turn: int | None = None) -> tuple[Exchange, ...]:
        """The conversation as the caller knows it, with injected lines, in order; ``before_turn``: only up to there."""
        turns = {*self.turns, *(turn_of(u) for u in self.utterances), *(line.turn for line in self.injected)}
        exchanges: list[Exchange] = []
        for turn in sorted(turns):
            if before_turn is None or turn < before_turn:
                exchanges += self._exchanges(turn)
            exchanges += [line for line in self.injected if line.turn == turn]
        return tuple(exchanges[-HISTORY_LIMIT:])

    def _exchanges(self, turn: int) -> Iterable[Exchange]:
        ended = self.turns.get(turn)
        if ended is not None and (ended.text or ended.digits):
            yield Exchange(speaker=Speaker.CALLER, text=ended.text or ended.digits, turn=turn, at_us=ended.at_us)
        for utterance_id in sorted(self.utterances):
            utterance = self.utterances[utterance_id]
            if turn_of(utterance_id) == turn and (text := utterance.heard):
                cut = utterance.void and not utterance.finished
                yield Exchange(speaker=Speaker.AGENT, text=text, turn=turn, at_us=utterance.at_us, interrupted=cut)

    def customer_data(self) -> dict[str, Any]:
        """Who the caller is, as far as tools have verified it, with ``authentication_status``."""
        data: dict[str, Any] = {"authentication_status": AuthenticationStatus.PENDING.value}
        for returned in self.returned.values():
            if returned.name not in self.identifying or returned.error:
                continue
            if returned.result.get("verified"):
                data |= {key: value for key, value in returned.result.items() if key != "verified"}
                data["authentication_status"] = AuthenticationStatus.VERIFIED.value
            elif data["authentication_status"] != AuthenticationStatus.VERIFIED.value:
                data["authentication_status"] = AuthenticationStatus.FAILED.value
        return data

    def context(self, time_to_live_us: int) -> ConversationContext:
        """The value for the bucket ``context``."""
        return ConversationContext(
            context_id=self.call_id,
            session_id=self.call_id,
            tenant=self.tenant,
            conversation_history=self.history(),
            current_intent=self.intent,
            customer_data=self.customer_data(),
            dialogue_state=self.listen_for.state,
            slots=self.slots,
            last_turn=self.last_turn,
            last_updated_us=self.last_word_us,
            expires_at_us=self.last_word_us + time_to_live_us,
        )
