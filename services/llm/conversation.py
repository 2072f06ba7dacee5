"""The conversation of a call as a fold over its events. Pure: no clock, no bus.

Any worker that applies the same events stands at the same place, whatever worker said them, in whatever order the last
of them came, and however often: applying an event twice changes nothing.

What the caller heard is decided by ``playout.*`` alone: a sentence was heard when its last frame left, a cut sentence
up to the last word whose audio had left. What was said but not heard is in no history.

Some things once true stay true: an utterance that was interrupted or flushed is void in every stage, whatever resumes;
and where the tts stage has said its apology for a stuck turn, the answer to that turn is void.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from schemas.base import Event
from schemas.call import CallAnswered, CallEnded
from schemas.failure import Failure
from schemas.llm import (
    APOLOGY_PART,
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
from schemas.session import AuthenticationStatus, ConversationContext, Exchange, Speaker
from schemas.turn import TurnAway, TurnEnded, TurnInterrupted
from schemas.vad import VadStarted, VadStopped
from services.llm.utterance import PLAYED, Utterance
from services.llm.verified import says_verified
from services.resilience.attempts import TAKEOVER_HEARD

HISTORY_LIMIT = 200
"""Exchanges kept in the context: a value of the bucket stays under 64 KiB with sentences of usual length."""

EVENTS = (
    "call.answered",
    "call.transferred",
    "call.ended",
    "vad.*",
    "turn.*",
    "asr.preflight",
    "llm.*",
    "tool.*",
    "tts.done",
    "playout.*",
    "failure",
)
"""What is read of a call."""

ENGINE_FAILURES = ("stage_down", "engine_failed", "engine_timeout")


class Closing(NamedTuple):
    """The step that ends the conversation, once the caller has ``heard`` everything that was said before it.

    ``utterance_id``: the utterance that asks for it. ``away``: it is said to a caller who is no longer there.
    """

    step: NextStep
    heard: bool
    utterance_id: int
    away: bool = False


@dataclass
class Conversation:
    """Where a call's conversation stands.

    Attributes:
        identifying: tools whose result says who the caller is.
        injected: lines put into the context by command, as system exchanges; they are no events.
        last_turn: the last turn whose answer is complete; -1: not even the greeting.
        voiced_ms, silent_ms: where the caller began to speak last and fell silent last, caller's media time.
        failed: turns that no engine has answered, with the code of the failure.
        away: ``turn.away`` by number; ``asked``: the utterance that was said to it.
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
    voiced_ms: int = -1
    silent_ms: int = -1
    failed: dict[int, str] = field(default_factory=dict)
    away: dict[int, TurnAway] = field(default_factory=dict)
    asked: dict[int, int] = field(default_factory=dict)
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
                self.silent_ms = max(self.silent_ms, event.speech_end_ms)
            case VadStarted():
                self.voiced_ms = max(self.voiced_ms, event.media_time_ms)
            case VadStopped():
                self.silent_ms = max(self.silent_ms, event.media_time_ms)
            case TurnInterrupted():
                self.utterance(event.utterance_id).interrupted = True
            case TurnAway():
                self.away.setdefault(event.number, event)
            case ToolCalled():
                self.called.setdefault(event.tool_call_id, event)
            case ToolReturned():
                self.returned.setdefault(event.tool_call_id, event)
            case LlmSentence() | LlmDone():
                self._said(event)
            case Failure():
                self._went_wrong(event)
                return
            case _ if isinstance(event, PLAYED):
                self.utterance(event.utterance_id).play(event)
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
            utterance.say(event)
            if event.away is not None:
                self.asked.setdefault(event.away, event.utterance_id)
            return
        if utterance.done is not None:
            return
        utterance.done = event
        if event.utterance_id == utterance_of(event.turn) and event.turn > self.last_turn:
            self.last_turn = event.turn
            self.intent = event.intent or self.intent
            self.listen_for = event.listen_for
            self.slots = dict(event.slots)

    def _went_wrong(self, event: Failure) -> None:
        ours = event.stage == "llm" and event.code in ENGINE_FAILURES
        if ours and event.caller_hears != TAKEOVER_HEARD:
            self.failed.setdefault(event.turn, event.code)

    def is_void(self, utterance_id: int) -> bool:
        """Whether nobody goes on with it: interrupted, flushed at the edge, or overtaken by the apology of a stuck
        turn."""
        utterance = self.utterances.get(utterance_id)
        if utterance is not None and utterance.void:
            return True
        apology = utterance_of(turn_of(utterance_id), APOLOGY_PART)
        return utterance_id < apology and apology in self.utterances

    def pending_turn(self) -> int | None:
        """The first turn that waits for its answer; 0 is the greeting. An interrupted answer waits no more."""
        if self.answered is None or self.ended is not None:
            return None
        for turn in (0, *sorted(self.turns)):
            utterance = self.utterances.get(utterance_of(turn))
            if (utterance is None or not utterance.done) and not self.is_void(utterance_of(turn)):
                return turn
        return None

    def pending_away(self) -> TurnAway | None:
        """The silence that the agent has yet to say something to: the newest that was found, and only while the
        caller's last turn lies before it."""
        newest = max(self.away.values(), key=lambda away: away.number, default=None)
        if newest is None or self.answered is None or self.ended is not None:
            return None
        if any(ended.at_us > newest.at_us for ended in self.turns.values()):
            return None
        said = self.utterances.get(self.asked.get(newest.number, -1))
        return newest if said is None or not (said.done or said.void) else None

    @property
    def settling(self) -> bool:
        """Whether the agent was interrupted and how much the caller heard of it is not known yet."""
        return any(utterance.settling for utterance in self.utterances.values())

    @property
    def caller_speaks(self) -> bool:
        """Whether the caller's voice is heard now."""
        return self.voiced_ms > self.silent_ms

    def current_turn(self) -> int:
        """The newest turn that the caller ended; 0 before the first."""
        return max(self.turns, default=0)

    def next_part(self, turn: int) -> int | None:
        """The part that the next utterance beside the answer of ``turn`` takes; at least 1. None: the turn has no
        further id, and the edge plays none that is lower than one it has played. The apology's id is nobody else's."""
        part = 1 + max((u % UTTERANCES_PER_TURN for u in self.utterances if turn_of(u) == turn), default=0)
        part += part == APOLOGY_PART
        return part if part < UTTERANCES_PER_TURN else None

    def closing(self) -> Closing | None:
        """The step that ends the conversation.

        None: the caller is listened to. A caller who spoke again, or spoke into the farewell, is listened to.
        """
        turn = self.current_turn()
        ids = sorted(u for u in self.utterances if turn_of(u) == turn)
        said = [(u, done) for u in ids if (done := self.utterances[u].done) is not None and not self.is_void(u)]
        last = next(((u, done) for u, done in reversed(said) if done.then is not NextStep.LISTEN), None)
        if last is None:
            return None
        heard = all(self.utterances[u].finished or not done.sentences for u, done in said)
        return Closing(last[1].then, heard, last[0], last[0] in self.asked.values())

    def tool_calls(self, turn: int) -> list[ToolCalled]:
        """The tools that were called for the answer to a turn, in their order."""
        return [called for called in self.called.values() if called.turn == turn]

    def history(self, before_turn: int | None = None, *, fillers: bool = True) -> tuple[Exchange, ...]:
        """The conversation as the caller knows it, with injected lines, in order; ``before_turn``: only up to there.

        Without ``fillers`` it is what an engine is told: what bridged a wait was heard and stands in the context, but
        a model that reads it in its own turns begins to say such things by itself.
        """
        turns = {*self.turns, *(turn_of(u) for u in self.utterances), *(line.turn for line in self.injected)}
        exchanges: list[Exchange] = []
        for turn in sorted(turns):
            if before_turn is None or turn < before_turn:
                exchanges += self._exchanges(turn, fillers)
            exchanges += [line for line in self.injected if line.turn == turn]
        return tuple(exchanges[-HISTORY_LIMIT:])

    def _exchanges(self, turn: int, fillers: bool) -> Iterable[Exchange]:
        ended = self.turns.get(turn)
        if ended is not None and (ended.text or ended.digits):
            yield Exchange(speaker=Speaker.CALLER, text=ended.text or ended.digits, turn=turn, at_us=ended.at_us)
        for utterance_id in sorted(self.utterances):
            utterance = self.utterances[utterance_id]
            if turn_of(utterance_id) == turn and (text := utterance.heard(fillers=fillers)):
                cut = self.is_void(utterance_id) and not utterance.finished
                yield Exchange(speaker=Speaker.AGENT, text=text, turn=turn, at_us=utterance.at_us, interrupted=cut)

    def customer_data(self) -> dict[str, Any]:
        """Who the caller is, as far as tools have verified it, with ``authentication_status``."""
        data: dict[str, Any] = {"authentication_status": AuthenticationStatus.PENDING.value}
        for returned in self.returned.values():
            if returned.name not in self.identifying or returned.error:
                continue
            if says_verified(returned.result):
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
