"""The whole system on its embedded engines and callers over real SIP: what they hear is judged by a recogniser that
hears nothing but the audio they received."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from bus.consume import read_call
from ops.caller import CallReport, CallScript, Hold, Outcome, Pause, PressKeys, Resume, Say, WaitForSilence
from ops.caller.call import CallOptions, place_call
from ops.caller.recording import Track
from ops.caller.script import Step
from ops.caller.speech import prepare
from ops.demonstration import caller_side
from ops.hearing import Demonstration, Judge, load_demonstration
from ops.session import offered_calls
from ops.supervisor import Supervisor
from schemas.base import Event
from schemas.call import CallEnded, CallHeld, CallOffered, CallResult, DtmfIn, EndedBy
from schemas.llm import ToolReturned
from schemas.playout import PlayoutFlushed
from schemas.turn import TurnEnded, TurnInterrupted
from services.audio.wav import read_wav, write_wav
from tests.e2e.peers import baresip_calls, baresip_home, program
from tests.e2e.system import HOST, running_system

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

BANK = load_demonstration(Path(__file__).parents[2] / "config" / "demos" / "bank.toml")
GREETING = ("welcome to example bank", "how can i help you")
QUESTION = "where is my credit card"
FRAME_BYTES = 320
STOPPED_WITHIN_MS = 1000
"""From the caller's first sound over the agent to the agent's last one, as the caller hears it."""


def hears(*phrases: str) -> Judge:
    """A judge who wants these phrases in this order, and also knows everything else that the agent says."""
    others = tuple(phrase for phrase in (*BANK.heard, *BANK.instead) if phrase not in phrases)
    return Judge(Demonstration(BANK.caller_voice, BANK.say, phrases, others))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Supervisor]:
    async with running_system(tmp_path_factory.mktemp("system")) as supervisor:
        yield supervisor


async def call(system: Supervisor, caller: str, *steps: Step, transport: str = "udp") -> CallReport:
    """Call the agent as ``caller`` and carry out ``steps``."""
    target = f"sip:bank@{HOST}:{system.sip_port};transport={transport}"
    options = CallOptions(voice=BANK.caller_voice, call_limit_s=60.0, from_uri=f"sip:{caller}@{HOST}")
    return await place_call(target, CallScript(steps), options=options)


async def calls_of(system: Supervisor, caller: str) -> list[CallOffered]:
    """Every call of ``caller``."""
    return [each async for each in offered_calls(system.connection) if each.caller == caller]


async def record_of(system: Supervisor, caller: str) -> list[Event]:
    """Everything on record of the one call of ``caller``, once it has ended."""
    async with asyncio.timeout(10):
        while True:
            calls: list[CallOffered] = [
                each async for each in offered_calls(system.connection) if each.caller == caller
            ]
            if calls:
                events = await read_call(system.connection, calls[0].call_id, calls[0].tenant)
                if any(isinstance(event, CallEnded) for event in events):
                    assert len(calls) == 1
                    return events
            await asyncio.sleep(0.1)


def ending(events: Sequence[Event]) -> tuple[CallResult, EndedBy, str]:
    (ended,) = (event for event in events if isinstance(event, CallEnded))
    return ended.result, ended.ended_by, ended.reason


def sounding_frames(track: Track) -> int:
    """Frames of a track that are not digital silence; eSpeak NG's samples differ a little from time to time."""
    pcm = bytes(track.pcm)
    return sum(any(pcm[start : start + FRAME_BYTES]) for start in range(0, len(pcm), FRAME_BYTES))


async def test_baresip_holds_a_conversation(system: Supervisor, tmp_path: Path) -> None:
    program("baresip")
    sounds = await prepare([Say(QUESTION)], BANK.caller_voice)
    question = tmp_path / "question.wav"
    write_wav(question, bytes(16 * 4500) + sounds[0] + bytes(16 * 20_000), 8000)
    homes = {transport: baresip_home(tmp_path / transport, question) for transport in ("udp", "tcp")}
    ends = await asyncio.gather(
        *(
            baresip_calls(f"sip:bank@{HOST}:{system.sip_port};transport={transport}", home, 10)
            for transport, home in homes.items()
        )
    )
    judge = hears(*GREETING, "i can help you with that")
    for (transport, home), end in zip(homes.items(), ends, strict=True):
        assert "Call established" in end.said, end.said[-2000:]
        (recording,) = home.glob("dump-*-dec.wav")
        verdict = await asyncio.to_thread(judge.judge, read_wav(recording).mono())
        assert verdict.reached, f"over {transport} baresip recorded {verdict}"
    async with asyncio.timeout(10):
        while True:
            calls = await calls_of(system, "baresip")
            records = [await read_call(system.connection, each.call_id, each.tenant) for each in calls]
            if sum(isinstance(event, CallEnded) for events in records for event in events) == 2:
                break
            await asyncio.sleep(0.1)
    assert {each.transport for each in calls} == {"udp", "tcp"}
    for events in records:
        assert ending(events) == (CallResult.COMPLETED, EndedBy.CALLER, "caller_hung_up")
        assert [event.text for event in events if isinstance(event, TurnEnded)] == [QUESTION]


async def test_callers_reach_their_goal_by_keys_over_tcp_and_through_a_hold(system: Supervisor) -> None:
    """Two calls at once: one over TCP who keys the digits, one who speaks them after having put the agent on hold."""
    by_keys, held = await asyncio.gather(
        call(
            system, "keys", WaitForSilence(), Say(QUESTION), WaitForSilence(patience_s=8), PressKeys("4271"),
            WaitForSilence(patience_s=8), Say("no thank you"), WaitForSilence(patience_s=8), transport="tcp",
        ),
        call(
            system, "held", WaitForSilence(), Say(QUESTION), WaitForSilence(patience_s=8), Hold(), Pause(2.5),
            Resume(), Pause(0.3), Say("four two seven one"), WaitForSilence(patience_s=8), Say("no thank you"),
            WaitForSilence(patience_s=8),
        ),
    )  # fmt: skip
    judge = hears(*BANK.heard)
    for report in (by_keys, held):
        assert report.succeeded, report
        assert (report.outcome, report.ended_by) == (Outcome.COMPLETED, "callee"), "the agent hangs up at the end"
        assert report.received.lost == 0
        verdict = await asyncio.to_thread(judge.judge, caller_side(report))
        assert verdict.reached, verdict
    assert by_keys.transport == "tcp"
    events = await record_of(system, "keys")
    assert "".join(event.digit for event in events if isinstance(event, DtmfIn)) == "4271"
    assert [event.digits for event in events if isinstance(event, TurnEnded)] == ["", "4271", ""]
    assert any(isinstance(event, ToolReturned) for event in events)
    assert ending(events) == (CallResult.COMPLETED, EndedBy.AGENT, "agent_hung_up")
    events = await record_of(system, "held")
    assert [event.held for event in events if isinstance(event, CallHeld)] == [True, False]
    assert [event.text for event in events if isinstance(event, TurnEnded)] == [
        QUESTION, "four two seven one", "no thank you",
    ]  # fmt: skip


async def test_a_hold_in_mid_sentence_loses_nothing_of_it(system: Supervisor) -> None:
    whole, held = await asyncio.gather(
        call(system, "listener", Pause(4.0)),
        call(system, "holder", Pause(0.7), Hold(), Pause(1.5), Resume(), Pause(4.0)),
    )
    assert whole.succeeded, whole
    assert held.succeeded, held
    assert whole.recording is not None
    assert held.recording is not None
    assert sounding_frames(held.recording.heard) == sounding_frames(whole.recording.heard) > 100
    hold = next(step for step in held.steps if step.kind == "hold")
    resume = next(step for step in held.steps if step.kind == "resume")
    assert held.recording.heard.first_voiced(8 * (hold.end_ms + 60), 8 * (resume.start_ms - 60)) is None, (
        "silent on hold"
    )


async def test_a_caller_who_speaks_over_the_greeting_is_heard(system: Supervisor) -> None:
    report = await call(system, "barger", Pause(0.3), Say(QUESTION), WaitForSilence(), WaitForSilence(patience_s=8))
    assert report.recording is not None
    speech = report.steps[1]
    events = await record_of(system, "barger")
    (interrupted,) = (event for event in events if isinstance(event, TurnInterrupted))
    (flushed,) = (event for event in events if isinstance(event, PlayoutFlushed))
    assert (interrupted.utterance_id, flushed.utterance_id) == (0, 0), "the greeting"
    assert flushed.dropped_ms > 0
    assert [event.text for event in events if isinstance(event, TurnEnded)][:1] == [QUESTION]
    said, heard = report.recording.said, report.recording.heard
    begun = said.first_voiced(8 * speech.start_ms)
    assert begun is not None
    assert heard.first_voiced(begun) is not None, "the agent spoke when the caller began"
    last = heard.last_voiced(0, begun + 8 * 1600)
    assert last is not None
    assert (last - begun) / 8 <= STOPPED_WITHIN_MS, f"the agent went on for {(last - begun) / 8:.0f} ms"
    verdict = await asyncio.to_thread(hears("i can help you with that").judge, caller_side(report))
    assert verdict.reached, verdict
    print(f"barge-in: the agent was silent {(last - begun) / 8:.0f} ms after the caller's first sound")


async def test_a_caller_who_hangs_up_in_mid_sentence(system: Supervisor) -> None:
    report = await call(system, "gone", Pause(0.8))
    assert report.succeeded, report
    assert report.ended_by == "caller"
    events = await record_of(system, "gone")
    assert ending(events) == (CallResult.COMPLETED, EndedBy.CALLER, "caller_hung_up")
    await everything_is_let_go(system)


async def everything_is_let_go(system: Supervisor) -> None:
    """No worker holds a call any more."""
    async with asyncio.timeout(10):
        while any(row.calls for row in system.status()):
            await asyncio.sleep(0.05)
