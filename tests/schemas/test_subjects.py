"""Subjects: built, parsed and matched as NATS does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import subjects
from schemas.base import type_name
from schemas.subjects import EVENT_BY_NAME, EVENT_TYPES, SubjectError
from tests.schemas.samples import CALL, SAMPLES

pytestmark = pytest.mark.contract

TOKENS = st.text(alphabet="abzAZ09_-", min_size=1, max_size=12)


def test_subject_follows_the_tag() -> None:
    for sample in SAMPLES:
        if type(sample) in EVENT_TYPES:
            subject = subjects.subject_of(sample)  # type: ignore[arg-type]
            assert subject == f"call.clinic.{CALL}.{type_name(type(sample))}"
            parsed = subjects.parse_subject(subject)
            assert EVENT_BY_NAME[parsed.name] is type(sample)
            assert subjects.decode_type(parsed.name) is type(sample)
            assert parsed.name.split(".")[0] in subjects.SPEAKERS


def test_builders() -> None:
    assert subjects.event_subject("asr.final", "c1") == "call.default.c1.asr.final"
    assert subjects.event_subject(EVENT_BY_NAME["call.offered"], "*", "*") == "call.*.*.call.offered"
    assert subjects.call_events("c1", "t") == "call.t.c1.>"
    assert subjects.recording("in", "c1") == "call.default.c1.rec.in"
    assert subjects.live_audio("out", "c1") == "rt.default.c1.audio.out"
    assert subjects.replay("c1") == "rt.default.c1.replay"
    assert subjects.control_of("edge", "c1") == "rt.default.c1.control.edge.*"
    assert subjects.control_of("edge", "c1", "t", "hangup") == "rt.t.c1.control.edge.hangup"
    assert subjects.heartbeat("asr", "*") == "hb.asr.*"
    assert subjects.dead_letter("asr") == "dead_letter.asr"


@pytest.mark.parametrize(
    "build",
    [
        lambda: subjects.event_subject("asr.final", "a.b"),
        lambda: subjects.event_subject("asr.final", "a b"),
        lambda: subjects.call_events(""),
        lambda: subjects.call_events("c1", ">"),
        lambda: subjects.live_audio("sideways", "c1"),
        lambda: subjects.control_of("bank", "c1"),
        lambda: subjects.check_token("x" * 65),
        lambda: subjects.check_token("x\n"),
        lambda: subjects.parse_subject("call.t.c1"),
        lambda: subjects.parse_subject("hb.asr.w1.x"),
        lambda: subjects.parse_subject("call.t.*.asr.final"),
    ],
)
def test_bad_subjects_are_refused(build: object) -> None:
    with pytest.raises(SubjectError):
        build()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("call.>", "call.t.c.asr.final", True),
        ("call.>", "call", False),
        ("call.*.*.asr.*", "call.t.c.asr.final", True),
        ("call.*.*.asr.*", "call.t.c.asr.final.x", False),
        ("call.*.*.asr", "call.t.c.asr.final", False),
        ("call.t.c.asr.final", "call.t.c.asr.final", True),
        ("*.t.c", "call.t.c", True),
        ("a.>.c", "a.b.c", False),
        ("a.b.c", "a.b", False),
    ],
)
def test_matching(pattern: str, subject: str, expected: bool) -> None:
    assert subjects.matches(pattern, subject) is expected


@given(TOKENS, TOKENS, st.sampled_from(sorted(EVENT_BY_NAME)))
def test_build_and_parse_are_inverse(tenant: str, call_id: str, name: str) -> None:
    parsed = subjects.parse_subject(subjects.event_subject(name, call_id, tenant))
    assert parsed == ("call", tenant, call_id, name)
    assert subjects.matches(subjects.call_events(call_id, tenant), ".".join(parsed))


def test_templates_hold_no_identifier() -> None:
    assert subjects.template_of("call.t.c1.asr.final") == "call.*.*.asr.final"
    assert subjects.template_of("rt.t.c1.audio.in") == "rt.*.*.audio.in"
    assert subjects.template_of("hb.asr.w1") == "hb.asr.*"
    assert subjects.template_of("_INBOX.abc.def") == "_INBOX.>"
    assert subjects.template_of("plain") == "plain"
