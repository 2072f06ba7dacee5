"""The catalogue: which struct travels on which subject, who says it, and how subjects are built, parsed and matched.

Pure strings; no I/O. ``call.>`` is recorded, all of it; ``rt.>`` is not.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from schemas import asr, call, control, failure, llm, playout, session, tts, turn, vad
from schemas.base import DEFAULT_TENANT, TOKEN_PATTERN, Event, type_name

_TOKEN = re.compile(TOKEN_PATTERN)

EVENT_TYPES: tuple[type[Event], ...] = (
    call.CallOffered, call.CallAnswered, call.CallHeld, call.CallTransferred, call.CallEnded,
    call.EdgeLost, call.DtmfIn,
    vad.VadStarted, vad.VadStopped,
    asr.AsrPartial, asr.AsrPreflight, asr.AsrFinal,
    turn.TurnStarted, turn.TurnEnded, turn.TurnInterrupted, turn.TurnResumed, turn.TurnAway,
    turn.TurnMeasured,
    llm.LlmSentence, llm.LlmDone, llm.ToolCalled, llm.ToolReturned,
    tts.TtsStarted, tts.TtsDone,
    playout.PlayoutStarted, playout.PlayoutMark, playout.PlayoutPaused, playout.PlayoutResumed,
    playout.PlayoutFinished, playout.PlayoutFlushed,
    failure.Failure,
)  # fmt: skip

COMMAND_TYPES = (
    control.Flush, control.Pause, control.Resume, control.Say, control.Hangup, control.GiveUp, control.Transfer,
    control.SendDtmf, control.Inject,
)  # fmt: skip

STORED_TYPES = (
    session.CallSession, session.ConversationContext, session.Owner, session.WorkerRecord, session.TenantSettings,
)  # fmt: skip


EVENT_BY_NAME: dict[str, type[Event]] = {type_name(t): t for t in EVENT_TYPES}
"""``asr.final`` -> ``AsrFinal``."""

SPEAKERS: dict[str, str] = {
    "call": "edge", "dtmf": "edge", "rec": "edge", "playout": "edge", "vad": "asr", "asr": "asr", "turn": "asr",
    "llm": "llm", "tool": "llm", "tts": "tts", "failure": "any", "edge": "any",
}  # fmt: skip
"""First part of an event's name -> the stage that says it."""

CALL_STREAM_SUBJECT = "call.>"
HEARTBEAT_TEMPLATE = "hb.{stage}.{worker}"
DEAD_LETTER_TEMPLATE = "dead_letter.{service}"
DISCONNECT_SUBJECT = "sys.disconnect"
LOG_LEVEL_TEMPLATE = "ops.log_level.{target}"


class SubjectError(ValueError):
    """A subject, or a token of one, that is not allowed; the text names it and the rule."""


class CallSubject(NamedTuple):
    """A parsed subject of a call: ``root`` is ``call`` or ``rt``, ``name`` what follows the call id."""

    root: str
    tenant: str
    call_id: str
    name: str


def check_token(token: str, what: str = "token") -> str:
    """Return ``token`` if it may stand in a subject.

    Raises:
        SubjectError: it holds a dot, a wildcard, white space, or is empty or longer than 64.
    """
    if not _TOKEN.match(token) or token.endswith("\n"):
        raise SubjectError(f"{what} {token!r} may hold only letters, digits, '_' and '-', 1 to 64 of them")
    return token


def event_subject(event_type: type[Event] | str, call_id: str, tenant: str = DEFAULT_TENANT) -> str:
    """``call.<tenant>.<call>.<domain>.<event>`` of an event type or name. ``*`` is allowed for tenant and call."""
    name = event_type if isinstance(event_type, str) else type_name(event_type)
    return f"call.{_token_or_star(tenant, 'tenant')}.{_token_or_star(call_id, 'call id')}.{name}"


def subject_of(event: Event) -> str:
    """The subject that an event travels on."""
    return f"call.{event.tenant}.{event.call_id}.{type_name(type(event))}"


def call_events(call_id: str, tenant: str = DEFAULT_TENANT) -> str:
    """Everything recorded of one call, audio included: ``call.<tenant>.<call>.>``."""
    return f"call.{_token_or_star(tenant, 'tenant')}.{_token_or_star(call_id, 'call id')}.>"


def recording(direction: str, call_id: str, tenant: str = DEFAULT_TENANT) -> str:
    """``call.<tenant>.<call>.rec.{in,out}``."""
    return event_subject(f"rec.{_one_of(direction, ('in', 'out'), 'direction')}", call_id, tenant)


def live_audio(direction: str, call_id: str, tenant: str = DEFAULT_TENANT) -> str:
    """``rt.<tenant>.<call>.audio.{in,out}``."""
    return _live(f"audio.{_one_of(direction, ('in', 'out'), 'direction')}", call_id, tenant)


def replay(call_id: str, tenant: str = DEFAULT_TENANT) -> str:
    """``rt.<tenant>.<call>.replay``: ask the edge for frames out of its ring."""
    return _live("replay", call_id, tenant)


def control_of(stage: str, call_id: str, tenant: str = DEFAULT_TENANT, command: str = "*") -> str:
    """``rt.<tenant>.<call>.control.{edge,asr,llm,tts}.<command>``: the command stands in the subject, so that the
    server can tell who may hang up from who may only pause."""
    receiver = _one_of(stage, ("edge", "asr", "llm", "tts"), "stage")
    return _live(f"control.{receiver}.{_token_or_star(command, 'command')}", call_id, tenant)


def command_name(command: msgspec.Struct | type[msgspec.Struct]) -> str:
    """Last token of a command's subject: ``hangup`` of ``control.hangup.v1``."""
    kind = command if isinstance(command, type) else type(command)
    return type_name(kind).split(".", 1)[1]


def log_level(target: str) -> str:
    """``ops.log_level.<service>`` or ``ops.log_level.<instance>``: from which level on processes write their logs."""
    return LOG_LEVEL_TEMPLATE.format(target=check_token(target, "service or instance"))


def heartbeat(stage: str, worker: str) -> str:
    """``hb.<stage>.<worker>``; ``*`` is allowed for either."""
    return HEARTBEAT_TEMPLATE.format(stage=_token_or_star(stage, "stage"), worker=_token_or_star(worker, "worker"))


def dead_letter(service: str) -> str:
    """``dead_letter.<service>``: where messages go that a service could not read."""
    return DEAD_LETTER_TEMPLATE.format(service=_token_or_star(service, "service"))


def parse_subject(subject: str) -> CallSubject:
    """Split a subject of a call.

    Raises:
        SubjectError: not ``call.`` or ``rt.`` with tenant, call and name.
    """
    parts = subject.split(".", 3)
    if len(parts) != 4 or parts[0] not in ("call", "rt") or not parts[3]:
        raise SubjectError(f"{subject!r} is not call.<tenant>.<call>.<name> or rt.<tenant>.<call>.<name>")
    check_token(parts[1], "tenant")
    check_token(parts[2], "call id")
    return CallSubject(*parts)


def template_of(subject: str) -> str:
    """The subject with its identifiers replaced by ``*``: safe as a span name or a metric label."""
    parts = subject.split(".")
    if parts[0] in ("call", "rt") and len(parts) > 3:
        return ".".join([parts[0], "*", "*", *parts[3:]])
    if parts[0] == "hb" and len(parts) == 3:
        return f"hb.{parts[1]}.*"
    return parts[0] + (".>" if len(parts) > 1 else "")


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject falls under a pattern with ``*`` (one token) and ``>`` (one or more, at the end)."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return index == len(wanted) - 1 and len(given) > index
        if index >= len(given) or (token not in ("*", given[index])):
            return False
    return len(wanted) == len(given)


def decode_type(name: str) -> type[msgspec.Struct] | None:
    """The event struct for what follows the call id in a ``call.`` subject; None for recordings and unknown names."""
    return EVENT_BY_NAME.get(name)


def _live(name: str, call_id: str, tenant: str) -> str:
    return f"rt.{_token_or_star(tenant, 'tenant')}.{_token_or_star(call_id, 'call id')}.{name}"


def _token_or_star(token: str, what: str) -> str:
    return token if token == "*" else check_token(token, what)


def _one_of(value: str, allowed: tuple[str, ...], what: str) -> str:
    if value not in allowed and value != "*":
        raise SubjectError(f"{what} {value!r} is not one of {', '.join(allowed)}")
    return value
