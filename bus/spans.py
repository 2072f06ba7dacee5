"""Spans of a call as plain values, folded out of its events. Pure: no clock, no bus, no SDK.

Each stage has a fold of its own (``spans_edge``, ``spans_asr``, ``spans_llm``, ``spans_tts``): events in, finished
spans out. Ids come out of what a span is about, so that every process knows its parent without asking, and a successor
goes on with the span that its predecessor began (ADR 0010). Times are wall clock microseconds: the ``at_us`` of
events, and media time counted from ``call.answered.media_epoch_us``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from schemas.base import Event
from schemas.call import CallAnswered
from schemas.failure import FAILURES, Failure
from schemas.llm import turn_of

Value = str | bool | int | float | Sequence[str]
Attributes = dict[str, Value]

ROOT_MASK = (1 << 64) - 1
SPAN_EVENT_LIMIT = 64
"""Events of a span beyond these are counted, not kept."""
DROPPED_EVENTS = "callbus.events_dropped"
_TRACE_ID = re.compile(r"^[0-9a-f]{32}$")


class Moment(NamedTuple):
    """Something that happened within a span."""

    name: str
    at_us: int
    attributes: Attributes = {}


class Span(NamedTuple):
    """A finished span. ``parent_id`` 0: it is the root. ``error``: a code; empty: nothing went wrong."""

    name: str
    span_id: int
    parent_id: int
    start_us: int
    end_us: int
    attributes: Attributes
    moments: tuple[Moment, ...] = ()
    error: str = ""
    consumer: bool = False


def trace_id_of(call_id: str) -> int:
    """The call id as a trace id; 0 where it can be none (not 32 hexadecimal digits, or half of it zero)."""
    if not _TRACE_ID.match(call_id) or call_id.endswith("\n"):
        return 0
    trace_id = int(call_id, 16)
    return trace_id if trace_id & ROOT_MASK else 0


def root_id_of(call_id: str) -> int:
    """The id of the span ``call``: the last 16 digits of the call id."""
    return int(call_id, 16) & ROOT_MASK


@lru_cache(maxsize=4096)
def span_id_of(call_id: str, what: str) -> int:
    """The id of the span that is about ``what`` in this call, the same in every process."""
    return int.from_bytes(blake2b(f"{call_id}:{what}".encode(), digest_size=8).digest()) or 1


def turn_id_of(call_id: str, turn: int) -> int:
    """The id of the span of a turn."""
    return span_id_of(call_id, f"turn:{turn}")


def turn_named(event: Event) -> int | None:
    """The turn that an event belongs to; None: to none. That of an utterance is the turn that it answers."""
    utterance_id: int | None = getattr(event, "utterance_id", None)
    if utterance_id is not None:
        return turn_of(utterance_id)
    if isinstance(event, Failure):
        return event.turn or None
    turn: int | None = getattr(event, "turn", None)
    return turn


def is_fatal(failure: Failure) -> bool:
    """Whether the caller notices it: what another engine or worker mended in time is told and is no error."""
    return not failure.caller_hears.startswith("nothing") and failure.code != "worker_lost"


def failure_moment(failure: Failure) -> Moment:
    """A failure within the span of a stage."""
    attributes: Attributes = {"callbus.failure.code": failure.code, "callbus.failure.stage": failure.stage}
    row = FAILURES.get(failure.code)
    if row is not None:
        attributes["callbus.failure.text"] = row.text
    if failure.detail:
        attributes["callbus.failure.detail"] = failure.detail
    return Moment("failure", failure.at_us, attributes)


def seconds(milliseconds: float) -> float:
    """Seconds, to the microsecond."""
    return round(milliseconds / 1000, 6)


class OpenSpan:
    """A span that has begun."""

    __slots__ = ("attributes", "dropped", "error", "moments", "name", "parent_id", "span_id", "start_us")

    def __init__(self, name: str, span_id: int, parent_id: int, start_us: int) -> None:
        self.name = name
        self.span_id = span_id
        self.parent_id = parent_id
        self.start_us = start_us
        self.attributes: Attributes = {}
        self.moments: list[Moment] = []
        self.dropped = 0
        self.error = ""

    def note(self, moment: Moment) -> None:
        """Something happened in it."""
        if len(self.moments) < SPAN_EVENT_LIMIT:
            self.moments.append(moment)
        else:
            self.dropped += 1

    def fail(self, failure: Failure) -> None:
        """A failure happened in it; the first that the caller notices is its error."""
        self.note(failure_moment(failure))
        if not self.error and is_fatal(failure):
            self.error = failure.code

    def end(self, end_us: int, common: Mapping[str, Value]) -> Span:
        """The finished span. It never ends before it begins."""
        attributes = {**common, **self.attributes}
        if self.dropped:
            attributes[DROPPED_EVENTS] = self.dropped
        return Span(
            self.name,
            self.span_id,
            self.parent_id,
            self.start_us,
            max(self.start_us, end_us),
            attributes,
            tuple(self.moments),
            self.error,
        )


class Owner(NamedTuple):
    """Who folds: the process that owns the call in its stage.

    ``content``: what was said goes into attributes. ``hops``: messages between two stages are spans, too.
    """

    call_id: str
    tenant: str
    epoch: int = 0
    content: bool = False
    hops: bool = False


class StageSpans:
    """What the folds of all stages have in common."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.epoch_us: int | None = None
        # The worker is the resource's service.instance.id.
        self.common: Attributes = {"callbus.call_id": owner.call_id}
        if owner.epoch:
            self.common["callbus.epoch"] = owner.epoch

    def apply(self, event: Event, at_us: int) -> list[Span]:
        """Take an event; the spans that are finished by it. ``at_us``: when it arrived, of one's own when it was said.

        A span that this process has not seen begin is none of its business.
        """
        if isinstance(event, CallAnswered):
            self.epoch_us = event.media_epoch_us
        return self.fold(event, at_us)

    def fold(self, event: Event, at_us: int) -> list[Span]:
        """The stage's own part of :meth:`apply`."""
        raise NotImplementedError

    def media_us(self, media_ms: float, otherwise_us: int) -> int:
        """A point of media time on the wall clock; ``otherwise_us`` where the call was never answered."""
        return otherwise_us if self.epoch_us is None else self.epoch_us + round(media_ms * 1000)

    def open(self, name: str, what: str, turn: int, start_us: int) -> OpenSpan:
        """Begin a span within a turn."""
        call_id = self.owner.call_id
        span = OpenSpan(name, span_id_of(call_id, what), turn_id_of(call_id, turn), start_us)
        span.attributes["callbus.turn"] = turn
        return span

    def close(self, span: OpenSpan, end_us: int) -> Span:
        """End a span."""
        return span.end(end_us, self.common)
