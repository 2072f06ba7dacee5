"""Scenarios over real SIP and RTP, in real time, against a running system.

The caller acts by what it hears; what happened is read from the call's stream afterwards and judged as in virtual time.
Scenarios with the same settings and the same agent share one system, several of their calls at once.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from bus.clock import wall_us
from bus.consume import read_call
from bus.interface import Connection
from config.load import ConfigError, load
from ops.caller.call import CallOptions, place_conversation
from ops.caller.report import CallReport, Outcome
from ops.scenario import sound
from ops.scenario.document import Scenario, Step
from ops.scenario.expectations import SeenEvent, StepTimes, check, seen
from ops.scenario.mistakes import settings_environment
from ops.scenario.report import Result
from ops.scenario.sip_caller import SipCaller
from ops.session import offered_calls
from ops.supervisor import StartError, Supervisor, SystemPlan
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallOffered
from schemas.playout import PlayoutFinished, PlayoutMark, PlayoutPaused, PlayoutResumed, PlayoutStarted

HOST = "127.0.0.1"
TOLERANCE_MS = 120
"""What a real call may lie beside the times of a scenario: a frame at each end, the bus, a busy machine."""
AT_ONCE = 3
ROUNDING_MS = 2
"""Steps are put so much earlier, so that nothing that comes of one lies before it."""
CALL_LIMIT_S = 180.0
STORED_LIMIT_S = 10.0
STORED_POLL_S = 0.2
OFFICE = "speech:noise/office_ambience_8k.wav"
ENVIRONMENT = {
    "CALLBUS_EDGE__HOST": HOST,
    "CALLBUS_EDGE__SIP_PORT": "0",
    "CALLBUS_EDGE__RTP_PORT_MIN": "0",
    "CALLBUS_LOG__LEVEL": "warning",
}

MEDIA_TIMED = (PlayoutStarted, PlayoutMark, PlayoutPaused, PlayoutResumed, PlayoutFinished)
"""Events whose media time is that of the packet that made them happen, by the edge's own clock. A flush's is the end of
the last packet before it: long ago where a pause went before."""

Progress = Callable[[str], None]


def environment_of(scenario: Scenario) -> dict[str, str]:
    """What a system for this scenario needs in its environment; scenarios of equal ones can share a system."""
    found = ENVIRONMENT | settings_environment(scenario.settings)
    if scenario.agent.file:
        agent = scenario.file(scenario.agent.file)
        assert agent is not None
        found["CALLBUS_LLM__AGENT"] = str(agent.resolve())
    return found


def grouped(scenarios: Sequence[Scenario]) -> list[list[Scenario]]:
    """Scenarios that can share a system, in the order of their first ones."""
    groups: dict[tuple[tuple[str, str], ...], list[Scenario]] = {}
    for scenario in scenarios:
        groups.setdefault(tuple(sorted(environment_of(scenario).items())), []).append(scenario)
    return list(groups.values())


@asynccontextmanager
async def system_for(scenario: Scenario) -> AsyncIterator[Supervisor]:
    """A system of its own with the scenario's settings and agent, on free ports; stopped at the end.

    Raises:
        StartError: it can't start; the text says why.
        ConfigError: a setting is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="callbus-scenario-") as folder:
        environment = environment_of(scenario)
        supervisor = Supervisor(SystemPlan(settings=load({}), data=Path(folder), environment=environment, drain_s=2.0))
        await supervisor.start()
        try:
            yield supervisor
        finally:
            await supervisor.stop()


async def run_scenario(
    scenario: Scenario,
    *,
    system: Supervisor | None = None,
    progress: Progress = lambda text: None,
    record: Path | None = None,
) -> Result:
    """Run one scenario in real time. What goes wrong with its sounds or its call is a failure of the result.

    Args:
        system: a running one with :func:`environment_of` this scenario; None: one of its own is started and stopped.
        record: folder for a stereo WAV of the call (caller left, agent right), made where it is not there.

    Raises:
        StartError, ConfigError: as :func:`system_for`; or the caller's voice can't be had.
    """
    lacks = scenario.lacks()
    if lacks:
        return Result(scenario=scenario, way="sip", skipped=lacks)
    if system is None:
        async with system_for(scenario) as own:
            return await run_scenario(scenario, system=own, progress=progress, record=record)
    begun = time.monotonic()
    try:
        sounds = await sounds_of(scenario)
        background = _background(scenario, sounds)
    except sound.SoundError as error:
        return Result(scenario=scenario, way="sip", failures=(str(error),))

    def tell(text: str) -> None:
        progress(f"{scenario.path.stem}: {text}")

    conversation = SipCaller(scenario, sounds, background, tell)
    name = f"scenario-{secrets.token_hex(6)}"
    options = CallOptions(call_limit_s=CALL_LIMIT_S, from_uri=f"sip:{name}@{HOST}")
    target = f"sip:agent@{HOST}:{system.sip_port}"
    report = await place_conversation(target, conversation, options=options, progress=tell)
    events = await _events_of(system.connection, name) if conversation.started_at else []
    happened, steps = timed(events, conversation)
    return Result(
        scenario=scenario,
        way="sip",
        failures=(*_problems(report, events, conversation), *check(tolerant(scenario), happened, steps)),
        events=tuple(happened),
        steps=steps,
        duration_ms=report.duration_ms,
        wall_s=time.monotonic() - begun,
        recording=_kept(report, scenario, record),
    )


async def run_scenarios(
    scenarios: Sequence[Scenario],
    *,
    at_once: int = AT_ONCE,
    progress: Progress = lambda text: None,
    record: Path | None = None,
) -> AsyncIterator[Result]:
    """Run many, one group that shares a system after the other; a result comes as soon as its call is over.

    A group whose system can't start fails as a whole. Raises else as :func:`run_scenario`.
    """
    for group in grouped(scenarios):
        for scenario in group:
            if lacks := scenario.lacks():
                yield Result(scenario=scenario, way="sip", skipped=lacks)
        able = [scenario for scenario in group if not scenario.lacks()]
        if not able:
            continue
        try:
            async with system_for(able[0]) as system:
                async for result in _together(able, system, at_once, progress, record):
                    yield result
        except (StartError, ConfigError) as error:
            for scenario in able:
                yield Result(scenario=scenario, way="sip", failures=(f"the system can't start: {error}",))


async def _together(
    scenarios: Sequence[Scenario], system: Supervisor, at_once: int, progress: Progress, record: Path | None
) -> AsyncIterator[Result]:
    free = asyncio.Semaphore(at_once)

    async def run(scenario: Scenario) -> Result:
        async with free:
            return await run_scenario(scenario, system=system, progress=progress, record=record)

    running = [asyncio.create_task(run(scenario)) for scenario in scenarios]
    try:
        for done in asyncio.as_completed(running):
            yield await done
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


# -- before the call ---------------------------------------------------------------------------------------------------


async def sounds_of(scenario: Scenario) -> dict[str, bytes]:
    """PCM of every step that makes a sound of its own, by the step's name, as loud as the scenario says.

    Raises:
        SoundError: a file can't be read.
        ConfigError: eSpeak NG is missing.
    """
    spoken = [step for step in scenario.caller if step.say is not None]
    said = await sound.speech([step.phrases for step in spoken])
    pcm = {step.name: sound.at_level(speech, step.level) for step, speech in zip(spoken, said, strict=True)}
    for step in scenario.caller:
        if step.wav is not None:
            path = scenario.file(step.wav)
            assert path is not None, "lacks() was asked before"
            pcm[step.name] = sound.at_level(sound.recording(path), step.level)
        elif step.mumble_ms is not None:
            pcm[step.name] = await sound.mumble(step.mumble_ms, step.level)
        elif (made := _made(step)) is not None:
            pcm[step.name] = made
    return pcm


def _made(step: Step) -> bytes | None:
    if step.cough_ms is not None:
        return sound.cough(step.cough_ms, step.level)
    if step.noise_ms is not None:
        return sound.noise(step.noise_ms, step.level)
    return None if step.hum_ms is None else sound.hum(step.hum_ms, step.level)


def _background(scenario: Scenario, sounds: Mapping[str, bytes]) -> sound.Background | None:
    wanted = scenario.background
    if wanted is None:
        return None
    noise: str | Path = wanted.noise
    if wanted.noise not in ("white", "pink"):
        path = scenario.file(OFFICE if wanted.noise == "office" else wanted.noise)
        assert path is not None, "lacks() was asked before"
        noise = path
    speech = [sounds[step.name] for step in scenario.caller if step.say is not None or step.wav is not None]
    return sound.Background(sound.background_noise(noise), sound.active_rms(speech), wanted.snr_db)


# -- after the call ----------------------------------------------------------------------------------------------------


def tolerant(scenario: Scenario, tolerance_ms: int = TOLERANCE_MS) -> Scenario:
    """The scenario with its times as wide as a real call needs."""
    widened = tuple(
        msgspec.structs.replace(
            expect,
            within_ms=None if expect.within_ms is None else expect.within_ms + tolerance_ms,
            not_before_ms=max(0, expect.not_before_ms - tolerance_ms),
        )
        for expect in scenario.expect
    )
    return msgspec.structs.replace(scenario, expect=widened)


def timed(events: Sequence[Event], conversation: SipCaller) -> tuple[list[SeenEvent], dict[str, StepTimes]]:
    """What happened and what the caller did, both on the edge's media time: milliseconds since its answer.

    Caller and edge share a machine, so that the wall clock brings their times together.
    """
    epoch_us = next((event.media_epoch_us for event in events if isinstance(event, CallAnswered)), 0)
    happened = []
    for event in events:
        at_ms = event.media_time_ms if isinstance(event, MEDIA_TIMED) else round((event.at_us - epoch_us) / 1000)
        happened.append(seen(event, at_ms))
    started_us = wall_us() - round((time.monotonic() - conversation.started_at) * 1_000_000)
    offset_ms = (started_us - epoch_us) / 1000 - ROUNDING_MS
    steps = {
        name: StepTimes(*(round(ticks / sound.SAMPLES_PER_MS + offset_ms) for ticks in span))
        for name, span in conversation.spans.items()
    }
    return happened, steps


async def _events_of(connection: Connection, caller: str) -> list[Event]:
    """Everything on record of the one call of ``caller``: once it has ended and nothing more comes."""
    deadline = time.monotonic() + STORED_LIMIT_S
    offered: CallOffered | None = None
    events: list[Event] = []
    while time.monotonic() < deadline:
        if offered is None:
            calls = [each async for each in offered_calls(connection) if each.caller == caller]
            offered = calls[0] if calls else None
        if offered is not None:
            before, events = len(events), await read_call(connection, offered.call_id, offered.tenant)
            if len(events) == before and any(isinstance(event, CallEnded) for event in events):
                break
        await asyncio.sleep(STORED_POLL_S)
    return events


def _problems(report: CallReport, events: Sequence[Event], conversation: SipCaller) -> list[str]:
    """Why what was measured is not what the scenario means."""
    found = list(conversation.problems)
    if report.outcome is not Outcome.COMPLETED:
        found.append(f"the call {report.outcome}: {report.reason}")
    elif not any(isinstance(event, CallEnded) for event in events):
        found.append(f"the end of the call was not on record after {STORED_LIMIT_S:.0f} s")
    return found


def _kept(report: CallReport, scenario: Scenario, folder: Path | None) -> str:
    if folder is None or report.recording is None:
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{scenario.path.stem}.wav"
    path.write_bytes(report.recording.wav())
    return str(path)
