"""Whether what happened is what a scenario expects. Pure: events in, failures in plain words out.

The same judge stands over a run in virtual time and a run over real SIP.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ops.scenario.document import Expect, Never, Scenario
from ops.scenario.grammar import parse_reference
from schemas.base import Event, type_name
from schemas.session import Speaker
from schemas.subjects import EVENT_BY_NAME
from services.llm.conversation import Conversation

CALL_ID = "scenario"
SHARED_FIELDS = ("type", *(field.name for field in msgspec.structs.fields(Event)))
"""What every event has."""


class SeenEvent(NamedTuple):
    """An event of the call: its name on the bus, media time, and its fields without those that every event has."""

    name: str
    at_ms: int
    fields: dict[str, Any]


class StepTimes(NamedTuple):
    """When the sound (or the keys, the hold, the wait) of a step began and ended, media time."""

    begin_ms: int
    end_ms: int


def seen(event: Event, at_ms: int) -> SeenEvent:
    """A recorded event as it is judged."""
    fields = msgspec.to_builtins(event)
    for name in SHARED_FIELDS:
        fields.pop(name, None)
    return SeenEvent(type_name(type(event)), at_ms, fields)


def check(scenario: Scenario, events: Sequence[SeenEvent], steps: Mapping[str, StepTimes]) -> list[str]:
    """What did not come as the scenario expects; nothing: it passed. ``steps``: of those that were begun, by name."""
    events = sorted(events, key=lambda event: event.at_ms)
    failures = [
        f"the caller never came to {step.name!r}: it waited for {step.when!r} in vain"
        for step in scenario.caller
        if step.name not in steps
    ]
    for expect in scenario.expect:
        failures += _check_expect(expect, events, steps)
    for never in scenario.never:
        failures += _check_never(never, events, steps)
    return failures + _check_outcome(scenario, events)


def _check_expect(expect: Expect, events: Sequence[SeenEvent], steps: Mapping[str, StepTimes]) -> list[str]:
    since, where = _point(expect.after, events, steps)
    wanted = f"expected {_wording(expect)}{_window(expect)}{where}"
    if since is None:
        return [f"{wanted}; that point was never reached"]
    found = [event for event in events if event.at_ms >= since and _is(event, expect)]
    if not found:
        return [f"{wanted}; {_nearest(expect, events, since)}"]
    first = found[0].at_ms
    failures = []
    if first < since + expect.not_before_ms:
        failures.append(f"{wanted}; it came at {first} ms, {since + expect.not_before_ms - first} ms too early")
    elif expect.within_ms is not None and first > since + expect.within_ms:
        failures.append(f"{wanted}; the first such event came at {first} ms")
    if expect.count is not None and len(found) != expect.count:
        times = ", ".join(str(event.at_ms) for event in found)
        failures.append(
            f"expected {_wording(expect)}{where} exactly {expect.count} times; {len(found)} came, at {times} ms"
        )
    return failures


def _check_never(never: Never, events: Sequence[SeenEvent], steps: Mapping[str, StepTimes]) -> list[str]:
    since, where = _point(never.after, events, steps)
    until, limit = _point(never.until, events, steps) if never.until else (None, "")
    if since is None:
        return []
    found = [
        event
        for event in events
        if since <= event.at_ms and (until is None or event.at_ms < until) and _is(event, never)
    ]
    before = f"{' and' * bool(where)} before{limit.removeprefix(' after')}" if never.until and until is not None else ""
    return [
        f"{_wording(never)} must never come{where}{before}; it came at {event.at_ms} ms{_told(event)}"
        for event in found[:1]
    ]


def _check_outcome(scenario: Scenario, events: Sequence[SeenEvent]) -> list[str]:
    outcome = scenario.outcome
    if outcome.agent_heard is None and outcome.interrupted is None and outcome.caller_said is None:
        return []
    history = fold(events).history()
    agent = [line for line in history if line.speaker is Speaker.AGENT]
    caller = [line for line in history if line.speaker is Speaker.CALLER]
    failures = _differs("the caller heard of the agent", outcome.agent_heard, [line.text for line in agent])
    failures += _differs("the caller said", outcome.caller_said, [line.text for line in caller])
    cut = tuple(line.interrupted for line in agent)
    if outcome.interrupted is not None and outcome.interrupted != cut:
        failures.append(f"expected interrupted lines {list(outcome.interrupted)}; the context has {list(cut)}")
    return failures


def fold(events: Iterable[SeenEvent]) -> Conversation:
    """The conversation that these events make: what an agent's context holds of it."""
    conversation = Conversation(call_id=CALL_ID, tenant="default")
    for event in events:
        if event.name in EVENT_BY_NAME:
            base = {"call_id": CALL_ID, "at_us": max(0, event.at_ms) * 1000}
            tag = EVENT_BY_NAME[event.name].__struct_config__.tag
            conversation.apply(msgspec.convert({"type": tag, **event.fields, **base}, EVENT_BY_NAME[event.name]))
    return conversation


def same_words(left: str, right: str) -> bool:
    """Equal but for case, punctuation and white space."""
    return _words(left) == _words(right)


def _words(text: str) -> list[str]:
    return text.lower().translate(str.maketrans("", "", string.punctuation)).split()


def _differs(what: str, wanted: Sequence[str] | None, found: Sequence[str]) -> list[str]:
    if wanted is None:
        return []
    if len(wanted) == len(found) and all(map(same_words, wanted, found)):
        return []
    return [f"expected that {what} {list(wanted)}; the context has {list(found)}"]


def _point(text: str, events: Sequence[SeenEvent], steps: Mapping[str, StepTimes]) -> tuple[int | None, str]:
    """The time that a reference means (None: it never came), and how to say it."""
    reference = parse_reference(text)
    if reference is None or not text:
        return 0, ""
    if reference.event:
        named = [event.at_ms for event in events if event.name == reference.event]
        at_ms = named[reference.number - 1] if len(named) >= reference.number else None
    elif reference.label:
        times = steps.get(reference.label)
        at_ms = None if times is None else times.end_ms if reference.end else times.begin_ms
    else:
        at_ms = 0
    if at_ms is None:
        return None, f" after {text!r}"
    return at_ms + reference.offset_ms, f" after {text!r} (at {at_ms + reference.offset_ms} ms)"


def _is(event: SeenEvent, wanted: Expect | Never) -> bool:
    return event.name == wanted.event and all(
        _equal(name, value, event.fields.get(name)) for name, value in wanted.fields.items()
    )


def _equal(name: str, wanted: Any, found: Any) -> bool:
    if name == "text" and isinstance(wanted, str) and isinstance(found, str):
        return same_words(wanted, found)
    return bool(wanted == found)


def _wording(wanted: Expect | Never) -> str:
    fields = " and ".join(f"{name} {value!r}" for name, value in wanted.fields.items())
    return f"{wanted.event} with {fields}" if fields else wanted.event


def _window(expect: Expect) -> str:
    if expect.not_before_ms and expect.within_ms is not None:
        return f" between {expect.not_before_ms} and {expect.within_ms} ms"
    if expect.not_before_ms:
        return f" not before {expect.not_before_ms} ms"
    return "" if expect.within_ms is None else f" within {expect.within_ms} ms"


def _nearest(expect: Expect, events: Sequence[SeenEvent], since: int) -> str:
    """What came instead of an event that did not come."""
    named = [event for event in events if event.name == expect.event]
    later = [event for event in named if event.at_ms >= since]
    if later:
        shown = {name: later[0].fields.get(name) for name in expect.fields}
        return f"the first {expect.event} from there on came at {later[0].at_ms} ms with {_fields(shown)}"
    if named:
        return f"none came from there on, the last one came at {named[-1].at_ms} ms"
    return "none came"


def _told(event: SeenEvent) -> str:
    shown = {name: event.fields[name] for name in ("why", "utterance_id", "text") if event.fields.get(name)}
    return f" with {_fields(shown)}" if shown else ""


def _fields(fields: Mapping[str, Any]) -> str:
    return " and ".join(f"{name} {value!r}" for name, value in fields.items())
