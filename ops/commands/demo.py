"""``callbus demo``: the whole system, a scripted caller, and a verdict on what the caller heard."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from bus.consume import follow_all, read_call
from bus.errors import BusError
from bus.interface import Connection
from config.load import load
from config.settings import Settings
from ops.caller.call import CallOptions, place_call
from ops.caller.report import CallReport
from ops.caller.script import CallScript, Say, Step, WaitForSilence
from ops.callview import CallView, view_of
from ops.demonstration import LiveTranscript, caller_side, stored_lines
from ops.engine_checks import check_engines
from ops.engines import engine_options, overrides, ready_timeout_s, with_overrides
from ops.engines_used import idle_engines, used_text
from ops.hearing import Demonstration, EventGoal, Judge, load_demonstration
from ops.judging import Decision, How, Judgement, answered_turns, decide, judge_events, judgement_lines
from ops.page import latency_lines
from ops.rendering import render_call
from ops.session import as_json_text, fail, given_nats_url, json_option, log_to_stderr, program_name
from ops.supervisor import StartError, Supervisor, SystemPlan

HOST = "127.0.0.1"
DEMOS = Path(__file__).resolve().parents[2] / "config" / "demos"
SETTLE_S = 10.0
"""Longest wait for the last events of the call to be stored."""


@dataclass(slots=True)
class Outcome:
    """What a demo came to."""

    report: CallReport
    view: CallView
    judgement: Judgement
    goal: EventGoal
    wav: Path
    stored: list[str]
    idle: tuple[str, ...]
    """Chosen engines for which others stood in, a sentence each."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a demo runs, and how it is judged. ``chosen``: variables of the options over the settings."""

    settings: Settings
    chosen: Mapping[str, str]
    demonstration: Demonstration
    decision: Decision
    output: Path
    keep: bool
    as_json: bool

    @property
    def patient(self) -> bool:
        """Whether the agent may take its time, as one that is a model does."""
        return self.settings.llm.engine != "scripted"


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("."),
    show_default=True,
    help="Where the WAV goes.",
)
@click.option("--keep", is_flag=True, help="Leave everything running afterwards, to look at the call; Ctrl-C ends it.")
@engine_options
@click.option(
    "--judge",
    type=click.Choice(["audio", "events", "auto"]),
    default="auto",
    show_default=True,
    help="Who decides: a recogniser that hears the audio, the call's events, or whichever can with these engines.",
)
@click.option(
    "--demonstration",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="File of what the caller says and must hear, in place of the agent's own in config/demos.",
)
@json_option
def demo(
    output: Path,
    keep: bool,
    asr: str,
    llm: str,
    tts: str,
    agent: str,
    judge: How,
    demonstration: Path | None,
    as_json: bool,
) -> None:
    """Start everything on free ports, call the bank's agent over SIP, ask for the card, and judge what was heard.

    Exit code 0 only if a recogniser that hears nothing but the audio the caller received finds the goal reached; with
    an agent or a voice that it can't judge, if the call's events show a conversation. The verdict says who decided.
    Leaves one file, the call as stereo WAV; everything else is removed. With NATS_URL the call stays on that server.
    """
    chosen = overrides(asr, llm, tts, agent)
    settings = load(with_overrides(chosen))
    shown = load_demonstration(demonstration or _demonstration_of(settings.llm.agent))
    decision = decide(judge, settings, shown)
    check_engines(settings)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"folder {output} can't be made: {error.strerror}; give another: --output DIR")
    log_to_stderr()
    try:
        plan = Plan(settings, chosen, shown, decision, output, keep, as_json)
        outcome = asyncio.run(_interruptible(_run(plan)))
    except StartError as error:
        fail(str(error))
    except BusError as error:
        fail(f"the bus failed during the call: {error}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        fail("stopped before the call was over; nothing is left running", 130)
    raise SystemExit(0 if outcome.judgement.reached else 1)


def _demonstration_of(agent: str) -> Path:
    """The agent's own demonstration, else the bank's: its caller talks to any agent."""
    own = DEMOS / f"{agent}.toml"
    return own if own.is_file() else DEMOS / "bank.toml"


async def _interruptible(work: Coroutine[Any, Any, Outcome]) -> Outcome:
    """SIGTERM and SIGHUP end it in order, as Ctrl-C does."""
    task = asyncio.create_task(work)
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


async def _run(plan: Plan) -> Outcome:
    def say(text: str = "") -> None:
        click.echo(text, err=plan.as_json)

    with tempfile.TemporaryDirectory(prefix="callbus-demo-") as folder:
        say("starting nats-server, edge, asr, llm, tts, each a process of its own ...")
        supervisor = Supervisor(_system(plan, Path(folder)))
        judge = Judge(plan.demonstration) if plan.decision.listen else None
        warming = asyncio.create_task(asyncio.to_thread(judge.warm)) if judge is not None else None
        try:
            await supervisor.start()
            target = f"sip:bank@{HOST}:{supervisor.sip_port}"
            say(f"ready; calling {target}\n")
            outcome = await _call(supervisor, target, plan)
            if judge is not None and warming is not None:
                await warming
                heard = await asyncio.to_thread(judge.judge, caller_side(outcome.report))
                outcome.judgement = outcome.judgement._replace(heard=heard)
            if plan.as_json:
                click.echo(_json(outcome))
            else:
                for line in _page(outcome, supervisor.nats_url if plan.keep else ""):
                    say(line)
            if plan.keep:
                await _wait_for_interrupt()
        finally:
            if warming is not None:
                warming.cancel()
            await supervisor.stop()
    return outcome


def _system(plan: Plan, folder: Path) -> SystemPlan:
    environment = {
        "CALLBUS_EDGE__HOST": HOST,
        "CALLBUS_EDGE__SIP_PORT": "0",
        "CALLBUS_EDGE__RTP_PORT_MIN": "0",
    }
    given = {name: value for name, value in environment.items() if name not in os.environ}
    return SystemPlan(
        settings=plan.settings,
        data=folder,
        nats_url=given_nats_url(),
        environment={**given, **plan.chosen},
        drain_s=2.0,
        ready_timeout_s=ready_timeout_s(plan.settings),
    )


async def _call(supervisor: Supervisor, target: str, plan: Plan) -> Outcome:
    connection = supervisor.connection
    transcript = LiveTranscript(lambda line: click.echo(line, err=plan.as_json), supervisor.edge_names)
    following = await follow_all(connection, (), transcript.take, service="demo")
    # Else a busy server might read the edge's first event before it reads that somebody waits for it.
    await connection.flush()
    report = await place_call(target, _script(plan), options=_options(plan))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(transcript.ended.wait(), SETTLE_S)
    await following.close()
    call_id, tenant = transcript.call_id, transcript.tenant
    if not call_id:
        said = supervisor.children[0].log_tail()
        raise StartError(
            f"no call reached the stream ({report.outcome.value}: {report.reason}); the edge said:\n{said}"
        )
    view = await _settled(connection, call_id, tenant)
    rendering = await render_call(connection, call_id, tenant)
    wav = plan.output / f"callbus-demo-{call_id[-8:]}.wav"
    await asyncio.to_thread(wav.write_bytes, rendering.wav())
    idle = tuple(idle_engines(view.engines, plan.settings))
    events = judge_events(view, plan.demonstration.events, idle)
    stored = await stored_lines(connection, call_id, tenant)
    return Outcome(report, view, Judgement(plan.decision, None, events), plan.demonstration.events, wav, stored, idle)


def _script(plan: Plan) -> CallScript:
    """The demonstration's sentences, each after the agent has fallen silent, whatever it said; then it hangs up."""
    wait = WaitForSilence(patience_s=20.0, limit_s=45.0) if plan.patient else WaitForSilence(patience_s=8.0)
    steps: list[Step] = [WaitForSilence()]
    for text in plan.demonstration.say:
        steps += [Say(text), wait]
    return CallScript(tuple(steps))


def _options(plan: Plan) -> CallOptions:
    return CallOptions(voice=plan.demonstration.caller_voice, call_limit_s=240.0 if plan.patient else 90.0)


async def _settled(connection: Connection, call_id: str, tenant: str) -> CallView:
    """The call's view once ``call.ended`` is stored, or as it stands after ``SETTLE_S``."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLE_S
    while True:
        view = view_of(await read_call(connection, call_id, tenant))
        if view.ended is not None or loop.time() > deadline:
            return view
        await asyncio.sleep(0.1)


async def _wait_for_interrupt() -> None:
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    await over.wait()


def _page(outcome: Outcome, nats_url: str) -> list[str]:
    call = outcome.view.call_id[-8:]
    seconds = outcome.report.duration_ms / 1000
    lines = ["", *latency_lines(outcome.view), "", "on JetStream, stream CALLS:", *outcome.stored, ""]
    lines += [f"the call as the stream holds it: {outcome.wav} ({seconds:.1f} s; caller left, agent right)", ""]
    lines += [f"engines that did the work: {used_text(outcome.view.engines)}"]
    lines += [*(f"NOT as chosen: {text}" for text in outcome.idle), ""]
    lines += judgement_lines(outcome.judgement)
    lines += ["", "try next:"]
    if nats_url:
        lines += [
            f"  {program_name()} show {call} --nats {nats_url}",
            f"  {program_name()} tail {call} --nats {nats_url}",
            f"  nats sub --server {nats_url} --stream CALLS --all --wait 2s 'call.*.*.>' -I 'call.*.*.rec.*'",
            "still running; Ctrl-C ends it",
        ]
    else:
        lines += [
            f"  {program_name()} demo --keep        the same, and everything stays up to be looked at",
            f"  {program_name()} up                 run it for your own calls; then, in another terminal:",
            f"  {program_name()} call sip:bank@127.0.0.1:5060 --say 'where is my credit card' --dtmf 4271",
            f"  {program_name()} show last",
        ]
    return lines


def _json(outcome: Outcome) -> str:
    judgement = outcome.judgement
    heard = judgement.heard
    return as_json_text(
        {
            "reached": judgement.reached,
            "judged_by": "events" if judgement.decision.by_events else "audio",
            "why": judgement.decision.why,
            "missing": heard.missing if heard is not None else (),
            "heard": [utterance._asdict() for utterance in heard.utterances] if heard is not None else [],
            "events": [finding._asdict() for finding in judgement.events],
            "call_id": outcome.view.call_id,
            "wav": str(outcome.wav),
            "engines": outcome.view.engines,
            "stood_in": outcome.idle,
            "turns": answered_turns(outcome.view, outcome.goal)._asdict(),
            "failures": sorted(failure.code for failure in outcome.view.failures),
            "latencies_ms": {turn.turn: turn.latencies_ms for turn in outcome.view.turns.values()},
            "report": msgspec.to_builtins(outcome.report.facts()),
        }
    )
