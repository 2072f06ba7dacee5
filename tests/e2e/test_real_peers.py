"""The whole system on its embedded engines and callers over real SIP: what they hear is judged by a recogniser that
hears nothing but the audio they received."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from bus.consume import read_call
from ops.caller import CallReport, CallScript, Hold, Outcome, Pause, PressKeys, Resume, Say, WaitForSilence
from ops.caller.call import CallOptions, place_call
from ops.caller.recording import Track
from ops.caller.script import Step
from ops.caller.speech import prepare
from ops.demonstration import caller_side
from ops.hearing import Judge, load_demonstration
from ops.session import offered_calls
from ops.supervisor import Supervisor
from schemas.base import Event
from schemas.call import CallEnded, CallHeld, CallOffered, CallResult, DtmfIn, EndedBy
from schemas.llm import ToolReturned
from schemas.playout import PlayoutFinished, PlayoutFlushed
from schemas.turn import TurnEnded, TurnInterrupted
from services.audio import level
from services.audio.wav import read_wav, write_wav
from tests.e2e.peers import baresip_calls, baresip_home, program
from tests.e2e.system import HOST, running_system

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("real peers"),
]

BANK = load_demonstration(Path(__file__).parents[2] / "config" / "demos" / "bank.toml")
GREETING = ("welcome to example bank", "how can i help you")
QUESTION = "where is my credit card"
FRAME_MS = 20
FRAME_BYTES = 320
STOPPED_WITHIN_MS = 1000
"""From the caller's first sound over the agent to the agent's last one, as the caller hears it."""


def hears(*phrases: str) -> Judge:
    """A judge who wants these phrases in this order, and also knows everything else that the agent says."""
    others = tuple(phrase for phrase in (*BANK.heard, *BANK.instead) if phrase not in phrases)
    return Judge(BANK._replace(heard=phrases, instead=others))


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


def frames_of(track: Track) -> list[bytes]:
    pcm = bytes(track.pcm)
    return [pcm[start : start + FRAME_BYTES] for start in range(0, len(pcm), FRAME_BYTES)]


def voiced_ms(track: Track) -> int:
    """How much of a track can be heard, wherever it lies: what is spoken after a hold has a phase of its own."""
    pcm, size = bytes(track.pcm), FRAME_BYTES // 2
    return 10 * sum(level.dbfs(pcm[start : start + size]) > -45.0 for start in range(0, len(pcm), size))


def longest_pause_ms(track: Track) -> int:
    """The longest digital silence between two sounds."""
    sounds = [number for number, frame in enumerate(frames_of(track)) if any(frame)]
    return max(after - before - 1 for before, after in itertools.pairwise(sounds)) * FRAME_MS


class Calls(NamedTuple):
    """What came of all calls, placed at the same time so that the whole takes as long as the longest one."""

    by_keys: CallReport
    held: CallReport
    listener: CallReport
    holder: CallReport
    barger: CallReport
    gone: CallReport


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def calls(system: Supervisor) -> Calls:
    goodbye = (Say("goodbye"), WaitForSilence(patience_s=8))
    asked = (WaitForSilence(), Say(QUESTION), WaitForSilence(patience_s=8))
    reports = await asyncio.gather(
        call(system, "by_keys", *asked, PressKeys("4271"), WaitForSilence(patience_s=8), *goodbye, transport="tcp"),
        call(
            system, "held", *asked, Hold(), Pause(2.5), Resume(), Pause(0.3), Say("four two seven one"),
            WaitForSilence(patience_s=8), *goodbye,
        ),
        call(system, "listener", Pause(4.0)),
        call(system, "holder", Pause(0.7), Hold(), Pause(1.5), Resume(), Pause(4.0)),
        call(system, "barger", Pause(0.3), Say(QUESTION), WaitForSilence(), WaitForSilence(patience_s=8)),
        call(system, "gone", Pause(0.8)),
    )  # fmt: skip
    return Calls(*reports)


async def check_goal(report: CallReport) -> None:
    """The caller was answered, heard everything that was to be heard, and the agent hung up."""
    assert report.succeeded, report
    assert (report.outcome, report.ended_by) == (Outcome.COMPLETED, "callee")
    assert report.received.lost == 0
    verdict = await asyncio.to_thread(hears(*BANK.heard).judge, caller_side(report))
    assert verdict.reached, verdict


async def test_a_caller_over_tcp_reaches_the_goal_by_keys(system: Supervisor, calls: Calls) -> None:
    await check_goal(calls.by_keys)
    assert calls.by_keys.transport == "tcp"
    events = await record_of(system, "by_keys")
    assert "".join(event.digit for event in events if isinstance(event, DtmfIn)) == "4271"
    assert [event.digits for event in events if isinstance(event, TurnEnded)] == ["", "4271", ""]
    assert any(isinstance(event, ToolReturned) for event in events)
    assert ending(events) == (CallResult.COMPLETED, EndedBy.AGENT, "agent_hung_up")


async def test_a_conversation_goes_on_after_a_hold(system: Supervisor, calls: Calls) -> None:
    await check_goal(calls.held)
    events = await record_of(system, "held")
    assert [event.held for event in events if isinstance(event, CallHeld)] == [True, False]
    said = [event.text for event in events if isinstance(event, TurnEnded)]
    assert said == [QUESTION, "four two seven one", "goodbye"]


async def greeting_frames(system: Supervisor, name: str) -> int:
    """Packets of the greeting that the edge has sent."""
    finished = [event for event in await record_of(system, name) if isinstance(event, PlayoutFinished)]
    return next(event.frames for event in finished if event.utterance_id == 0)


async def test_a_hold_in_mid_sentence_loses_nothing_of_it(system: Supervisor, calls: Calls) -> None:
    whole, held = calls.listener, calls.holder
    assert whole.succeeded, whole
    assert held.succeeded, held
    assert whole.recording is not None
    assert held.recording is not None
    assert voiced_ms(whole.recording.heard) > 2000
    # eSpeak NG's samples differ a little each time, and each of the parts has windows of its own at its ends.
    assert abs(voiced_ms(held.recording.heard) - voiced_ms(whole.recording.heard)) <= 60
    assert held.received.lost == whole.received.lost == 0
    sent = [await greeting_frames(system, name) for name in ("listener", "holder")]
    assert abs(sent[0] - sent[1]) <= 1
    assert longest_pause_ms(held.recording.heard) - longest_pause_ms(whole.recording.heard) > 1000, "silent on hold"


async def test_a_caller_who_speaks_over_the_greeting_is_heard(system: Supervisor, calls: Calls) -> None:
    report = calls.barger
    assert report.recording is not None
    events = await record_of(system, "barger")
    (interrupted,) = (event for event in events if isinstance(event, TurnInterrupted))
    (flushed,) = (event for event in events if isinstance(event, PlayoutFlushed))
    assert (interrupted.utterance_id, flushed.utterance_id) == (0, 0), "the greeting"
    assert flushed.dropped_ms > 0
    assert [event.text for event in events if isinstance(event, TurnEnded)] == [QUESTION]
    said, heard = report.recording.said, report.recording.heard
    begun = said.first_voiced(8 * report.steps[1].start_ms)
    assert begun is not None
    last = heard.last_voiced(begun, begun + 8 * 1600)
    assert last is not None, "the agent spoke when the caller began"
    print(f"barge-in: the agent was silent {(last - begun) / 8:.0f} ms after the caller's first sound")
    assert (last - begun) / 8 <= STOPPED_WITHIN_MS
    verdict = await asyncio.to_thread(hears("i can help you with that").judge, caller_side(report))
    assert verdict.reached, verdict


async def test_a_caller_who_hangs_up_in_mid_sentence(system: Supervisor, calls: Calls) -> None:
    assert calls.gone.succeeded, calls.gone
    assert calls.gone.ended_by == "caller"
    assert ending(await record_of(system, "gone")) == (CallResult.COMPLETED, EndedBy.CALLER, "caller_hung_up")


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


async def test_no_worker_holds_a_call_afterwards(system: Supervisor, calls: Calls) -> None:
    async with asyncio.timeout(10):
        while any(row.calls for row in system.status()):
            await asyncio.sleep(0.05)
