"""Streams, consumers and buckets as data, each with its reason. ``bus.provision`` applies it; services only bind.

A stage's work queue, a stream or a bucket exists once for all calls: nothing here is made per call, because a
replicated consumer takes 63 ms and 134 KB to create.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from config.settings import StreamsSection
from schemas.subjects import CALL_STREAM_SUBJECT

HOUR_S = 3600
DAY_S = 24 * HOUR_S
CALLS = "CALLS"
HISTORY = "HISTORY"
LIMITS = "LIMITS"
DEAD_LETTERS = "DEAD_LETTERS"
CALLS_TTS = "CALLS_TTS"
ASSIGN_STAGES = ("asr", "llm", "tts")

TTS_FOLLOWS = (
    "call.answered", "call.held", "call.ended", "llm.sentence", "llm.done", "tts.*", "playout.*", "turn.interrupted",
)  # fmt: skip
"""Events that the tts stage follows, and all that it may read: what is to be said, never what a caller said."""

BINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "edge": ((), ("workers",)),
    "asr": (("asr-assign",), ("owners", "workers")),
    "llm": (("llm-assign",), ("owners", "workers", "context", "calls")),
    "tts": (("tts-assign",), ("owners", "workers")),
}
"""Service -> work queues and buckets that it uses, and may look at."""

SHARED_BUCKETS = ("owners", "workers")
"""Several services write there. A write that rolls up takes away every key of a bucket, not only those that its writer
may write, so the server takes none there; without it a deletion would leave a history, so there is none."""

READS_COPY = {"tts": CALLS_TTS}
"""Service -> the stream that it reads a call's events from, where that is not CALLS."""

HISTORY_DOMAINS = ("call", "edge", "dtmf", "vad", "asr", "turn", "llm", "tool", "tts", "playout")
"""Domains of events that outlive the audio; ``rec`` is left out. ``failure`` has no second token and stands apart."""

RESERVED_BYTES = 1_073_741_824
"""Disk that everything but CALLS and its copies reserves at most: what a server must have beside them."""


class StreamSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One stream.

    Attributes:
        subjects: what it captures; empty for a stream that is filled from ``source``.
        source: stream that it copies, in that stream's order; ``source_filters`` says which subjects.
        max_age_s: seconds a message is kept; 0: no limit.
        max_bytes: size limit; -1: none.
        discard: at the limit drop the oldest, or refuse the new.
        max_messages_per_subject: -1: no limit.
        counter: every message adds ``Nats-Incr`` to its subject's total (server 2.12 and later).
    """

    name: str
    why: str
    subjects: tuple[str, ...] = ()
    source: str = ""
    source_filters: tuple[str, ...] = ()
    replicas: int = 1
    max_age_s: int = 0
    max_bytes: int = -1
    max_message_bytes: int = 65_536
    max_messages_per_subject: int = -1
    discard: Literal["old", "new"] = "old"
    duplicate_window_s: int = 120
    compression: Literal["none", "s2"] = "none"
    counter: bool = False


class ConsumerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One durable pull consumer with explicit acknowledgement.

    Attributes:
        acknowledge_ms: unacknowledged this long: delivered again, to anyone.
        max_deliver: deliveries, first one included, before the message is given up.
    """

    name: str
    why: str
    filter_subject: str
    stream: str = CALLS
    replicas: int = 1
    deliver: Literal["new", "all"] = "new"
    acknowledge_ms: int = 3000
    max_deliver: int = 5
    max_pending: int = 1000


class BucketSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One KV bucket.

    Attributes:
        ttl_s: seconds a value lives after its last write; 0: for ever.
        discard: at the size limit refuse writes, or drop the value that was written longest ago.
    """

    name: str
    why: str
    history: int = 1
    ttl_s: int = 0
    replicas: int = 1
    max_value_bytes: int = 65_536
    max_bytes: int = 67_108_864
    discard: Literal["old", "new"] = "new"


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that has to be on the server."""

    streams: tuple[StreamSpec, ...]
    consumers: tuple[ConsumerSpec, ...]
    buckets: tuple[BucketSpec, ...]


def topology(section: StreamsSection) -> Topology:
    """All of it for these settings."""
    return Topology(streams=streams(section), consumers=consumers(section), buckets=buckets(section))


def streams(section: StreamsSection) -> tuple[StreamSpec, ...]:
    """The streams, sources before the streams that copy them."""
    return (
        StreamSpec(
            name=CALLS,
            why="Everything recorded of every call in one order: one command replays a call, one Raft group in the "
            "hot path. Old calls make room for new ones; a full disk never stops a call.",
            subjects=(CALL_STREAM_SUBJECT,),
            replicas=section.replicas,
            max_age_s=section.calls_max_age_h * HOUR_S,
            max_bytes=section.calls_max_bytes,
        ),
        *_copies(section),
        StreamSpec(
            name=LIMITS,
            why="Rate limits are counters: one request adds and returns the total, without compare-and-set retries.",
            subjects=("limit.>",),
            replicas=section.replicas,
            max_age_s=120,
            max_bytes=67_108_864,
            max_message_bytes=1024,
            max_messages_per_subject=1,
            counter=True,
        ),
        StreamSpec(
            name=DEAD_LETTERS,
            why="What a service could not read, with the defect in its headers, long enough to look at it.",
            subjects=("dead_letter.>",),
            replicas=section.replicas,
            max_age_s=7 * DAY_S,
            max_bytes=67_108_864,
        ),
    )


def _copies(section: StreamsSection) -> tuple[StreamSpec, ...]:
    return (
        StreamSpec(
            name=HISTORY,
            why="Events outlive audio: text is small and stays long, audio is large and goes early. Copied in the "
            "order of CALLS.",
            source=CALLS,
            source_filters=(*(f"call.*.*.{domain}.>" for domain in HISTORY_DOMAINS), "call.*.*.failure"),
            replicas=section.replicas,
            max_age_s=section.history_max_age_d * DAY_S,
            max_bytes=max(section.calls_max_bytes // 10, 1_048_576),
            compression="s2",
        ),
        StreamSpec(
            name=CALLS_TTS,
            why="What the tts stage may read of a call when it takes it over. Which subjects a batch reads is said in "
            "the request's body, where no permission reaches: so this stage has a stream that holds nothing else.",
            source=CALLS,
            source_filters=tuple(f"call.*.*.{name}" for name in TTS_FOLLOWS),
            replicas=section.replicas,
            max_age_s=section.calls_max_age_h * HOUR_S,
            max_bytes=max(section.calls_max_bytes // 20, 1_048_576),
            compression="s2",
        ),
    )


def consumers(section: StreamsSection) -> tuple[ConsumerSpec, ...]:
    """One work queue per stage: hands each offered call to one worker with a free slot."""
    return tuple(
        ConsumerSpec(
            name=f"{stage}-assign",
            why="A call is given to one worker of the stage. Made at provisioning and durable, so `new` starts there: "
            "a call that rings while every worker restarts waits in the queue, days of old calls do not. A reader "
            "drops offers that are too old.",
            filter_subject="call.*.*.call.offered",
            replicas=section.replicas,
        )
        for stage in ASSIGN_STAGES
    )


def buckets(section: StreamsSection) -> tuple[BucketSpec, ...]:
    """The KV buckets."""
    return (
        BucketSpec(
            name="calls",
            why="CallSession by call id: what is stored of a call, with its last changes. Old calls make room for new.",
            history=8,
            ttl_s=section.calls_max_age_h * HOUR_S,
            replicas=section.replicas,
            max_bytes=268_435_456,
            discard="old",
        ),
        BucketSpec(
            name="context",
            why="ConversationContext by call id: a successor goes on from it; forgotten some time after the last word.",
            ttl_s=section.context_ttl_min * 60,
            replicas=section.replicas,
            max_bytes=268_435_456,
        ),
        BucketSpec(
            name="owners",
            why="Owner by stage and call id: worker and epoch. Deleted when the call ends, a day later in any case; a "
            "deletion is forgotten after a minute, or the bucket would fill up with it.",
            ttl_s=DAY_S,
            replicas=section.replicas,
        ),
        BucketSpec(
            name="workers",
            why="WorkerRecord by stage and worker: who is there, with what engine. Renewed while the worker lives; a "
            "dead one is gone after a minute. Death itself is noticed by heartbeat, not here.",
            ttl_s=60,
            replicas=section.replicas,
        ),
        BucketSpec(name="tenants", why="TenantSettings by tenant: limits and agent.", replicas=section.replicas),
    )
