"""What passes between the two accounts of the NATS server: a short list, and nothing else passes. Pure.

Streams, buckets and consumers live in ``CALLBUS``, with ``ops``. Every process of callbus, and ``inspect``, lives in
``SERVICES``, which has no JetStream. The server sends an answer to whatever subject a request names, and asks nobody
whether it may; so an answer to ``$JS.API.STREAM.DELETE.CALLS`` is obeyed wherever that subject leads to JetStream. In
``SERVICES`` it leads nowhere. A request that crosses gets a subject for its answer from the server, and the answer is
brought back into the account that asked.

What services write and pull crosses by patterns with a wildcard, never by a whole subject: nats-server takes no answer
that it has brought back across a second time where the subject has to be filled in, so that an answer stores nothing
either, and takes nobody's work.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from bus import topology
from schemas import subjects

STORE = "CALLBUS"
"""The account with JetStream, and of ``ops``. The server keeps streams in a folder of this name."""
LIVE = "SERVICES"
"""The account of edge, asr, llm, tts and inspect."""

API = "$JS.API"
ANSWERS = "_R_.>"
"""Where a request of the other account is answered: the server makes the subject."""
LOOKS = (
    "INFO", "STREAM.NAMES", "STREAM.LIST", "STREAM.INFO.*", "CONSUMER.NAMES.*", "CONSUMER.LIST.*", "CONSUMER.INFO.*.*",
)  # fmt: skip
"""Requests of JetStream's API that change nothing and read no message."""
VERBS = ("PING", "INFO", "STATS")
"""Questions to micro services."""


class Crossing(msgspec.Struct, frozen=True, kw_only=True):
    """Messages that pass from one account to the other.

    Attributes:
        kind: ``service``: said in the taking account, heard in the giving one, and the answer comes back; ``stream``:
            said in the giving account, heard in the taking one.
        many: a request has several answers.
        traced: a traced message shows its way in the giving account too.
    """

    subject: str
    why: str
    kind: Literal["service", "stream"]
    many: bool = False
    traced: bool = False


def given_by_store() -> tuple[Crossing, ...]:
    """What services have of JetStream."""
    queues = [f"{topology.CALLS}.{stage}-assign" for stage in topology.ASSIGN_STAGES]
    buckets = dict.fromkeys(bucket for _, buckets in topology.BINDS.values() for bucket in buckets)
    return (
        _asked(f"{API}.CONSUMER.MSG.NEXT.{topology.CALLS}.*", "takes offered calls", many=True),
        *(_asked(f"$JS.ACK.{queue}.>", "settles an offer") for queue in queues),
        *(_asked(f"$JS.ACK.*.*.{queue}.>", "the same, in the form with domain and account") for queue in queues),
        _asked(f"{API}.DIRECT.GET.>", "reads messages", many=True),
        _asked(f"{API}.STREAM.MSG.GET.*", "reads a message"),
        *(_asked(f"{API}.{request}", "looks at streams and consumers") for request in LOOKS),
        _asked(subjects.CALL_STREAM_SUBJECT, "events and recordings are stored"),
        *(_asked(f"$KV.{bucket}.>", "a bucket's keys are written") for bucket in buckets),
        _asked(subjects.dead_letter("*"), "what could not be read is stored"),
        _heard("kv.>", "changes in buckets"),
        _heard("$JS.EVENT.>", "what JetStream reports"),
        _heard(subjects.event_subject("call.ended", "*", "*"), "ops ends the record of a call whose edge has died"),
    )


def given_by_services() -> tuple[Crossing, ...]:
    """What ``ops`` asks of processes, and hears of what is not stored.

    A stream over a subject that is only heard here would be told raw subjects for its answers: make none.
    """
    return (
        _asked("rt.*.*.control.*.*", "any command to a call", traced=True),
        *(_asked(f"$SRV.{verb}{rest}", "asks micro services", many=True) for verb in VERBS for rest in ("", ".>")),
        *(_asked(f"{name}.*.health", "asks how a process is") for name in topology.BINDS),
        *(_asked(f"hb.{name}.*.ping", "asks whether a process lives") for name in topology.BINDS),
        _asked("ops.log_level.>", "changes log levels", many=True),
        _asked("trace.keep", "keeps a trace"),
        _heard("rt.>", "live audio and commands"),
        _heard("hb.>", "who lives"),
        _heard("$SRV.>", "micro services"),
        _heard("trace.>", "traces that are kept"),
    )


def _asked(subject: str, why: str, *, many: bool = False, traced: bool = False) -> Crossing:
    return Crossing(subject=subject, why=why, kind="service", many=many, traced=traced)


def _heard(subject: str, why: str) -> Crossing:
    return Crossing(subject=subject, why=why, kind="stream")


# --- as configuration ------------------------------------------------------------------------------------------------


def render() -> str:
    """The lists that the accounts of nats.conf name."""
    lists = {
        f"{STORE}_EXPORTS": (_export(each, LIVE) for each in given_by_store()),
        f"{LIVE}_IMPORTS": (_GONE, *(_import(each, STORE) for each in given_by_store())),
        f"{LIVE}_EXPORTS": (_export(each, STORE) for each in given_by_services()),
        f"{STORE}_IMPORTS": (_GONE, *(_import(each, LIVE) for each in given_by_services())),
    }
    return "\n".join(_list(name, entries) for name, entries in lists.items())


_GONE = (
    f'{{ stream: {{ account: SYS, subject: "$SYS.ACCOUNT.{LIVE}.DISCONNECT" }}, to: "{subjects.DISCONNECT_SUBJECT}" }}'
)
"""The server's word that a client is gone."""


def _export(each: Crossing, taker: str) -> str:
    answers = ", response_type: stream" if each.many else ""
    traced = ", allow_trace: true" if each.traced else ""
    return f'{{ {each.kind}: "{each.subject}", accounts: [ {taker} ]{answers}{traced} }}   # {each.why}'


def _import(each: Crossing, giver: str) -> str:
    return f'{{ {each.kind}: {{ account: {giver}, subject: "{each.subject}" }} }}'


def _list(name: str, entries: Iterable[str]) -> str:
    return "\n".join((f"{name}: [", *(f"  {line}" for line in entries), "]"))
