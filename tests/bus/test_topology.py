"""The topology as data."""

from __future__ import annotations

import pytest

from bus.topology import CALLS, HISTORY_DOMAINS, RESERVED_BYTES, topology
from config.settings import StreamsSection
from schemas.subjects import EVENT_BY_NAME, STORED_TYPES, event_subject, matches

pytestmark = pytest.mark.unit

WANTED = topology(StreamsSection())


def test_everything_says_why() -> None:
    for entry in (*WANTED.streams, *WANTED.consumers, *WANTED.buckets):
        assert entry.why.endswith(".")


def test_history_takes_every_event_and_no_audio() -> None:
    history = next(stream for stream in WANTED.streams if stream.name == "HISTORY")
    for name in EVENT_BY_NAME:
        taken = [p for p in history.source_filters if matches(p, event_subject(name, "c1"))]
        assert len(taken) == 1, f"{name} must be copied once"
    assert not any(matches(pattern, event_subject("rec.in", "c1")) for pattern in history.source_filters)
    assert {name.split(".")[0] for name in EVENT_BY_NAME} == {*HISTORY_DOMAINS, "failure"}


def test_settings_reach_the_topology() -> None:
    section = StreamsSection(replicas=3, calls_max_age_h=1, calls_max_bytes=1_048_576, context_ttl_min=5)
    wanted = topology(section)
    assert {entry.replicas for entry in (*wanted.streams, *wanted.consumers, *wanted.buckets)} == {3}
    calls = wanted.streams[0]
    assert (calls.name, calls.max_age_s, calls.max_bytes) == (CALLS, 3600, 1_048_576)
    assert wanted.streams[1].max_bytes == 1_048_576
    assert next(b for b in wanted.buckets if b.name == "context").ttl_s == 300


def test_each_stored_struct_has_its_bucket() -> None:
    assert len(WANTED.buckets) == len(STORED_TYPES)


def test_what_is_reserved_beside_calls_and_its_copies_is_bounded() -> None:
    small = [s.max_bytes for s in WANTED.streams if s.name != CALLS and s.source != CALLS]
    assert all(size > 0 for size in small)
    assert sum(small) + sum(bucket.max_bytes for bucket in WANTED.buckets) < RESERVED_BYTES


def test_an_offer_is_in_every_queue() -> None:
    assert [consumer.name for consumer in WANTED.consumers] == ["asr-assign", "llm-assign", "tts-assign"]
    assert all(matches(consumer.filter_subject, event_subject("call.offered", "c1")) for consumer in WANTED.consumers)
