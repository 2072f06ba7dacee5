"""Whole calls on loopback between the caller and a user agent of our own."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from edge.sip.events import CallCancelled, IncomingCall, ReinviteReceived
from edge.sip.sdp import Direction
from ops.caller import (
    CallOptions,
    CallScript,
    HangUp,
    Hold,
    Outcome,
    Pause,
    PlayFile,
    PressKeys,
    Resume,
    ScriptError,
    WaitForSilence,
    place_call,
)
from ops.caller import call as call_module
from services.audio import level
from tests.ops.caller.callee import Callee, tone, tone_file

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _short_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing gets lost on loopback: no time for a second BYE."""
    monkeypatch.setattr(call_module, "LINGER_S", 0.05)


async def test_a_conversation_is_heard_recorded_and_measured(tmp_path: Path):
    told: list[str] = []
    script = CallScript(
        (
            WaitForSilence(silence_ms=200),
            PlayFile(tone_file(tmp_path, 300)),
            WaitForSilence(silence_ms=200),
            PlayFile(tone_file(tmp_path, 100)),
        )
    )
    async with Callee() as callee:

        async def converse() -> None:
            await callee.play(bytes(1600) + tone(300))
            await callee.until_heard(silence_ms=300)
            await callee.play(tone(200))

        talking = asyncio.create_task(converse())
        report = await place_call(callee.uri, script, progress=told.append)
        await talking
        heard_by_callee = callee.media.recording.heard
    assert report.succeeded, report
    assert (report.outcome, report.ended_by, report.codec, report.transport) == ("completed", "caller", "PCMU", "udp")
    assert [each.status for each in report.responses] == [180, 200]
    assert report.greeting_ms is not None
    assert 80 <= report.greeting_ms <= 400
    first, second = report.steps[1], report.steps[3]
    assert first.answer_latency_ms is not None
    assert 280 <= first.answer_latency_ms <= 700, "300 ms of silence are waited for by the other side"
    assert second.answer_latency_ms is None, "nobody answers the last words"
    assert first.last_voiced_ms is not None
    assert 260 <= first.last_voiced_ms - first.start_ms <= 320
    assert report.sent.packets * 160 == report.sent.octets
    assert report.received.lost == 0
    assert report.received.octets == report.received.frames * 160
    assert abs(report.duration_ms - 20 * report.sent.packets) < 300
    said = report.recording.said
    start = said.first_voiced(0)
    there = heard_by_callee.first_voiced(0)
    assert heard_by_callee.pcm[2 * there : 2 * there + 4800] == said.pcm[2 * start : 2 * start + 4800]
    assert told[0].startswith("calling sip:callee@")
    assert "listen" in told
    assert report.facts()["steps"][1]["kind"] == "wav"
    assert "recording" not in report.facts()


async def test_keys_over_tcp_with_the_other_law():
    async with Callee(codecs=("PCMA",)) as callee:
        report = await place_call(f"{callee.uri};transport=tcp", CallScript((PressKeys("42#"), Pause(0.1))))
        assert callee.media.keys == "42#"
    assert report.succeeded, report
    assert (report.codec, report.transport) == ("PCMA", "tcp")
    keys = report.steps[0]
    assert keys.last_voiced_ms == keys.end_ms - (keys.end_ms - keys.start_ms) // 3, "the third of three keys goes down"


async def test_keys_where_the_other_side_takes_none_fail_that_step():
    async with Callee(telephone_event=False) as callee:
        report = await place_call(callee.uri, CallScript((PressKeys("1"), HangUp(), Pause(60))))
    assert report.outcome is Outcome.COMPLETED
    assert not report.succeeded
    assert [(step.kind, step.ok) for step in report.steps] == [("dtmf", False)]
    assert "RFC 4733" in report.steps[0].note


async def test_keys_of_the_other_side_are_told():
    async with Callee() as callee:

        async def press() -> None:
            await callee.up.wait()
            await callee.media.press("7")

        pressing = asyncio.create_task(press())
        report = await place_call(callee.uri, CallScript((Pause(0.5),)))
        await pressing
    assert report.keys_received == "7"
    assert report.received.telephone_events > 0


async def test_refused_with_its_status():
    async with Callee() as callee:
        callee.on_call = lambda event: callee.agent.reject(event.call, 486, time.monotonic())
        report = await place_call(callee.uri, CallScript())
    assert (report.outcome, report.sip_status, report.ended_by) == (Outcome.REJECTED, 486, "callee")
    assert "486" in report.reason
    assert report.recording is None


async def test_nobody_answers_and_the_call_is_cancelled():
    async with Callee() as callee:
        callee.on_call = lambda event: callee.agent.ring(event.call, time.monotonic())
        report = await place_call(callee.uri, CallScript(), options=CallOptions(answer_limit_s=0.3))
        assert isinstance(callee.events[-1], CallCancelled)
    assert report.outcome is Outcome.UNANSWERED
    assert [each.status for each in report.responses] == [180]


async def test_the_other_side_hangs_up_in_the_middle_of_a_word(tmp_path: Path):
    async with Callee() as callee:

        async def leave() -> None:
            await callee.up.wait()
            await asyncio.sleep(0.2)
            callee.hang_up()

        leaving = asyncio.create_task(leave())
        script = CallScript((Pause(0.05), PlayFile(tone_file(tmp_path, 2000)), Pause(5)))
        report = await place_call(callee.uri, script)
        await leaving
    assert (report.outcome, report.ended_by) == (Outcome.COMPLETED, "callee")
    assert [(step.kind, step.ok) for step in report.steps] == [("wait", True), ("wav", False)]
    assert 150 <= report.duration_ms <= 1000


async def test_a_goodbye_while_listening_is_no_fault():
    async with Callee() as callee:

        async def leave() -> None:
            await callee.play(tone(100))
            callee.hang_up()

        leaving = asyncio.create_task(leave())
        report = await place_call(callee.uri, CallScript((WaitForSilence(),)))
        await leaving
    assert report.succeeded


async def test_hold_and_resume():
    async with Callee() as callee:
        report = await place_call(callee.uri, CallScript((Pause(0.1), Hold(), Pause(0.4), Resume(), Pause(0.2))))
        assert callee.offered == ["sendonly", "sendrecv"]
        received = callee.media.received().frames
    assert report.succeeded, report
    assert received * 20 < report.duration_ms - 300, "nothing is sent on hold"
    assert received * 20 > 200


async def test_hold_refused_fails_that_step():
    async with Callee() as callee:
        callee.on_reinvite = lambda event: callee.agent.reject_reinvite(event.call, 488, time.monotonic())
        report = await place_call(callee.uri, CallScript((Hold(),)))
    assert not report.succeeded
    assert "refused with 488" in report.steps[0].note


async def test_hold_that_crosses_another_change_is_tried_again():
    async with Callee() as callee:
        refusals = [491]

        def sometimes(event: ReinviteReceived) -> None:
            if refusals:
                callee.agent.reject_reinvite(event.call, refusals.pop(), time.monotonic())
            else:
                callee.accept_reinvite(event)

        callee.on_reinvite = sometimes
        report = await place_call(callee.uri, CallScript((Hold(),)))
        assert callee.offered == ["sendonly", "sendonly"]
    assert report.succeeded, report


async def test_put_on_hold_by_the_other_side_nothing_is_sent():
    async with Callee() as callee:

        async def hold() -> None:
            await callee.up.wait()
            await asyncio.sleep(0.1)
            offer = callee.session.offer(Direction.SENDONLY)
            callee.agent.reinvite(callee.handle, offer, time.monotonic())
            callee.signalling.pump()

        holding = asyncio.create_task(hold())
        report = await place_call(callee.uri, CallScript((Pause(0.8),)))
        await holding
        received = callee.media.received().frames
    assert report.succeeded
    assert received < 25


async def test_an_answer_without_a_session_is_a_failure():
    async with Callee() as callee:
        callee.on_call = lambda event: callee.agent.answer(event.call, b"", time.monotonic())
        report = await place_call(callee.uri, CallScript())
        async with asyncio.timeout(2):
            await callee.over.wait()
    assert report.outcome is Outcome.FAILED
    assert "no session description" in report.reason


async def test_a_call_over_its_limit_is_hung_up():
    async with Callee() as callee:
        report = await place_call(callee.uri, CallScript((Pause(60),)), options=CallOptions(call_limit_s=0.3))
        async with asyncio.timeout(2):
            await callee.over.wait()
    assert report.outcome is Outcome.TIMED_OUT
    assert not report.succeeded


async def test_silence_and_endless_speech_are_told():
    async with Callee() as callee:
        report = await place_call(callee.uri, CallScript((WaitForSilence(patience_s=0.2),)))
        assert report.succeeded
        assert "nothing was heard for 0.2 s" in report.steps[0].note
    async with Callee() as callee:
        talking = asyncio.create_task(callee.play(tone(5000)))
        report = await place_call(callee.uri, CallScript((WaitForSilence(limit_s=0.4),)))
        talking.cancel()
        assert "still speaking after 0.4 s" in report.steps[0].note


async def test_interrupting_the_caller_program_hangs_up():
    async with Callee() as callee:
        calling = asyncio.create_task(place_call(callee.uri, CallScript((Pause(60),))))
        await callee.up.wait()
        calling.cancel()
        async with asyncio.timeout(2):
            await callee.over.wait()
        with pytest.raises(asyncio.CancelledError):
            await calling


async def test_nobody_there_over_tcp():
    async with Callee() as callee:
        uri = callee.uri
    report = await place_call(f"{uri};transport=tcp", CallScript(), options=CallOptions(answer_limit_s=3))
    assert (report.outcome, report.reason) == (Outcome.FAILED, "no connection to the target could be made")


async def test_nobody_there_over_udp():
    async with Callee() as callee:
        uri = callee.uri
    report = await place_call(uri, CallScript(), options=CallOptions(answer_limit_s=0.3))
    assert report.outcome is Outcome.UNANSWERED
    assert "does anything listen there" in report.reason


async def test_a_name_that_does_not_resolve():
    report = await place_call("sip:x@no-such-host.invalid", CallScript())
    assert report.outcome is Outcome.FAILED
    assert "no-such-host.invalid can't be resolved" in report.reason


@pytest.mark.parametrize("target", ["", "bob", "sips:x@127.0.0.1", "tel:+4930", "sip:x@127.0.0.1:99999"])
async def test_what_is_no_sip_target_is_told(target):
    with pytest.raises(ScriptError, match="can't be called"):
        await place_call(target, CallScript())


async def test_strange_events_are_ignored():
    """A call that comes in on the caller's own port is nobody's."""
    async with Callee() as callee, Callee() as stranger:

        async def intrude() -> None:
            await callee.up.wait()
            incoming = next(event for event in callee.events if isinstance(event, IncomingCall))
            stranger.agent.invite(
                f"sip:x@{incoming.source[0]}:{incoming.source[1]}", time.monotonic(), sdp=stranger.session.offer()
            )
            stranger.signalling.pump()

        intruding = asyncio.create_task(intrude())
        report = await place_call(callee.uri, CallScript((Pause(0.3),)))
        await intruding
    assert report.succeeded
    assert level.rms(bytes(report.recording.said.pcm)) == 0
