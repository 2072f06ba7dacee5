"""Barge-in and answers over a real line: what a meter hears in the caller's recording, beside what we say of ourselves.

Real processes with the embedded engines (Silero, PocketSphinx, eSpeak NG, a scripted agent that talks at length), real
SIP callers with several voices who speak over the agent at varied moments. The caller's telephone records what it sent
and what it received; ``ops.meter`` measures that by energy alone. Our own figures are those of the events: from the
first voiced sample to the end of the last agent packet, and from the last voiced sample to the first audible one.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from bus.consume import read_call
from config.load import load
from ops.bench.results import Figure, Limit, distribution
from ops.caller.call import CallOptions, place_conversation
from ops.caller.media import CallMedia
from ops.caller.recording import SAMPLE_RATE_HZ
from ops.caller.report import CallReport
from ops.caller.running import Reinvite
from ops.caller.script import Say
from ops.caller.speech import Sounds, prepare
from ops.callview import CallView, view_of
from ops.meter import Metering, Overlap, meter
from ops.session import offered_calls
from ops.supervisor import Supervisor, SystemPlan

HOST = "127.0.0.1"
DEFAULT_CALLS = 2
"""Calls at once."""
BARGE_INS_PER_CALL = 5
BARGE_INS_PER_SECOND = 3
"""Of ``--seconds``: how many are measured, not how fast."""
POLICIES = ("pause", "confirm")
LIMIT_MS = 350.0
DIFFERENCE_LIMIT_MS = 40.0
SAME_MS = 500.0
"""Two observers mean the same event where it begins for both within this time."""
CALL_LIMIT_S = 120.0
SETTLE_S = 10.0
AFTER_END_S = 0.5
"""The last turn is measured when the call has ended."""
TICKS_PER_MS = SAMPLE_RATE_HZ // 1000

VOICES = ("en-us+klatt4", "en-us+m3", "en-us+f2", "en-us+m7", "en-us+f4", "en-us+edward")
SAYINGS = (
    "please stop I have another question",
    "tell me about my credit card",
    "what is the balance of my account",
    "I would like to order a new card",
    "no I wanted to ask you something else",
)
AGENT = """
[agent]
name = "talker"
start = "talk"
retry = ["{text}"]
retries = 10
give_up = "talk"

[intents.question]
phrases = [{phrases}]
go = "talk"

[states.talk]
say = ["{text}"]
listen = ["question"]
"""
TEXT = (
    "I will tell you all about the many accounts that our bank has for you and about the cards that come with them and "
    "about the people who will help you when you call them on any day of the week and about the branches that you can "
    "visit in the morning or in the afternoon and much more"
)
"""Long, and without a sign at which a voice would pause: a silence in it is a stop."""


class Speaker:
    """A caller who lets the agent speak for a while, speaks over it, and listens to the answer: a ``Conversation``.

    Args:
        sounds: PCM of what is said, one piece for each time the agent is interrupted.
        waits_ms: how long the agent has spoken by then.
    """

    def __init__(self, sounds: Sounds, waits_ms: Sequence[int]) -> None:
        self._sounds = sounds
        self._waits_ms = waits_ms

    async def run(self, media: CallMedia, reinvite: Reinvite) -> None:
        """All of it, and two more seconds of the last answer."""
        for number, wait_ms in enumerate(self._waits_ms):
            await _hear(media)
            await _wait(media, wait_ms)
            await media.play(self._sounds[number])
            media.detector.forget()
        await _hear(media)
        await _wait(media, 2000)

    def complete(self, report: CallReport) -> None:
        """The recording says all."""


async def _hear(media: CallMedia) -> None:
    while not media.detector.has_spoken:
        await media.next_turn()


async def _wait(media: CallMedia, wait_ms: int) -> None:
    until = media.ticks + wait_ms * TICKS_PER_MS
    while media.ticks < until:
        await media.next_turn()


class Pair(NamedTuple):
    """One quantity as the meter heard it and as the events say it, milliseconds."""

    metered: float
    said: float


class Observed(NamedTuple):
    """What calls came to.

    ``spoke_on``: the agent was not stopped. ``unmatched``: heard by the meter, and not in the events.
    ``own_difference_ms``: between ``turn.measured`` and the same figure computed from the events of the stages.
    """

    barge_ins: list[Pair]
    answers: list[Pair]
    spoke_on: int
    unmatched: int
    own_difference_ms: list[float]


async def measure(calls: int, seconds: float) -> list[Figure]:
    """About ``seconds`` × 3 barge-ins under each policy, ``calls`` calls at once.

    Raises:
        RuntimeError: a call was not answered, or ended early.
        ValueError: nothing was measured.
    """
    count = max(BARGE_INS_PER_CALL, int(seconds * BARGE_INS_PER_SECOND))
    figures: list[Figure] = []
    for policy in POLICIES:
        figures += figures_of(policy, await _observe_policy(policy, count, calls))
    return figures


async def _observe_policy(policy: str, count: int, calls: int) -> Observed:
    with tempfile.TemporaryDirectory(prefix="callbus-bench-") as folder:
        agent = Path(folder) / "talker.toml"
        agent.write_text(agent_text(), encoding="utf-8")
        environment = {
            "CALLBUS_EDGE__HOST": HOST,
            "CALLBUS_EDGE__SIP_PORT": "0",
            "CALLBUS_EDGE__RTP_PORT_MIN": "0",
            "CALLBUS_LLM__AGENT": str(agent),
            "CALLBUS_TURN__INTERRUPTION": policy,
            "CALLBUS_LOG__LEVEL": "warning",
        }
        supervisor = Supervisor(SystemPlan(settings=load({}), data=Path(folder), environment=environment))
        await supervisor.start()
        try:
            free = asyncio.Semaphore(calls)
            numbers = range(-(-count // BARGE_INS_PER_CALL))
            found = await asyncio.gather(*(_observe_call(supervisor, number, free) for number in numbers))
        finally:
            await supervisor.stop()
    return merged(found)


async def _observe_call(supervisor: Supervisor, number: int, free: asyncio.Semaphore) -> Observed:
    async with free:
        voice = VOICES[number % len(VOICES)]
        places = range(number * BARGE_INS_PER_CALL, (number + 1) * BARGE_INS_PER_CALL)
        sounds = await prepare([Say(SAYINGS[place % len(SAYINGS)]) for place in places], voice)
        speaker = Speaker(sounds, [moment_of(place) for place in places])
        caller = f"bench{number}"
        options = CallOptions(from_uri=f"sip:{caller}@{HOST}", call_limit_s=CALL_LIMIT_S)
        report = await place_conversation(f"sip:bench@{HOST}:{supervisor.sip_port}", speaker, options=options)
        if not report.succeeded or report.recording is None:
            raise RuntimeError(f"a call came to nothing: {report.outcome}, {report.reason}")
        view = await _settled(supervisor, caller)
        heard = meter(bytes(report.recording.said.pcm), bytes(report.recording.heard.pcm), SAMPLE_RATE_HZ)
        return compare(heard, view)


async def _settled(supervisor: Supervisor, caller: str) -> CallView:
    """The call of this caller, once its events are stored."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(AFTER_END_S)
    deadline = loop.time() + SETTLE_S
    while True:
        async for offered in offered_calls(supervisor.connection):
            if caller in offered.caller:
                view = view_of(await read_call(supervisor.connection, offered.call_id, offered.tenant))
                if view.ended is not None:
                    return view
        if loop.time() > deadline:
            raise RuntimeError(f"the call of {caller} is not in the stream")
        await asyncio.sleep(0.2)


def agent_text() -> str:
    """The agent file: whatever it hears, it talks at length."""
    phrases = ", ".join(f'"{saying.lower()}"' for saying in SAYINGS)
    return AGENT.format(text=TEXT, phrases=phrases)


def moment_of(place: int) -> int:
    """How long the agent has spoken when it is interrupted for the ``place``-th time: spread over 0.5 to 3 s."""
    return 500 + place * 379 % 2500


def compare(heard: Metering, view: CallView) -> Observed:
    """Match what the meter heard with what the events say, each by when it began."""
    stopped = [each for each in heard.barge_ins if each.outcome is not Overlap.SPOKE_ON]
    barge_ins, answers, unmatched = [], [], 0
    said = {each.at_ms: each.barge_in_ms for each in view.interruptions if each.barge_in_ms is not None}
    for each in stopped:
        at_ms = _nearest(said, each.caller_start_ms)
        if at_ms is None:
            unmatched += 1
        else:
            barge_ins.append(Pair(each.latency_ms, said[at_ms] or 0.0))
    turns = {
        turn.speech_end_ms: turn.latencies_ms["e2e_latency"]
        for turn in view.turns.values()
        if "e2e_latency" in turn.latencies_ms
    }
    for answer in heard.answers:
        at_ms = _nearest(turns, answer.caller_end_ms)
        if at_ms is None:
            unmatched += 1
        else:
            answers.append(Pair(answer.latency_ms, turns[at_ms]))
    return Observed(barge_ins, answers, len(heard.of(Overlap.SPOKE_ON)), unmatched, own_differences(view))


def _nearest(times: Iterable[int], at_ms: float) -> int | None:
    best = min(times, key=lambda each: abs(each - at_ms), default=None)
    return best if best is not None and abs(best - at_ms) <= SAME_MS else None


def own_differences(view: CallView) -> list[float]:
    """How far ``turn.measured`` is from what the other events say, over all turns and names."""
    return [
        abs(turn.latencies_ms[name] - said)
        for number, event in view.measured.items()
        if (turn := view.turns.get(number)) is not None
        for name in turn.latencies_ms
        if (said := getattr(event, f"{name}_ms")) is not None
    ]


def merged(found: Sequence[Observed]) -> Observed:
    """All calls as one."""
    return Observed(
        [pair for each in found for pair in each.barge_ins],
        [pair for each in found for pair in each.answers],
        sum(each.spoke_on for each in found),
        sum(each.unmatched for each in found),
        [value for each in found for value in each.own_difference_ms],
    )


def figures_of(policy: str, observed: Observed) -> list[Figure]:
    """The figures of one policy; the limits are those of the default one."""
    default = policy == POLICIES[0]
    note = f"{observed.spoke_on} not stopped, {observed.unmatched} heard and not reported"
    difference = (Limit(statistic="p50", value=DIFFERENCE_LIMIT_MS), Limit(statistic="p95", value=DIFFERENCE_LIMIT_MS))
    rows: list[tuple[str, list[float], tuple[Limit, ...], str]] = []
    for what, pairs, limits in (
        ("barge-in", observed.barge_ins, (Limit(statistic="p95", value=LIMIT_MS),) if default else ()),
        ("answer", observed.answers, ()),
    ):
        rows += [
            (f"{what}, by the meter", [pair.metered for pair in pairs], limits, note if what == "barge-in" else ""),
            (f"{what}, by our events", [pair.said for pair in pairs], limits, ""),
            (f"{what}, difference of the two", [abs(pair.metered - pair.said) for pair in pairs], difference, ""),
        ]
    own = (Limit(statistic="max", value=1.0),)
    rows.append(("turn.measured against the events of the stages", observed.own_difference_ms, own, ""))
    return [
        Figure(
            bench="barge_in",
            name=f"policy {policy}: {name}",
            unit="ms",
            statistics=distribution(values),
            limits=limits,
            note=told,
        )
        for name, values, limits, told in rows
    ]
