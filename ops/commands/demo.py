"""``callbus demo``: the whole system, a scripted caller, and a verdict on what the caller heard."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Coroutine
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
from ops.demonstration import LiveTranscript, caller_side, stored_lines, verdict_lines
from ops.hearing import Demonstration, Judge, Verdict, load_demonstration
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
    verdict: Verdict
    wav: Path
    stored: list[str]


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("."),
    show_default=True,
    help="Where the WAV goes.",
)
@click.option("--keep", is_flag=True, help="Leave everything running afterwards, to look at the call; Ctrl-C ends it.")
@json_option
def demo(output: Path, keep: bool, as_json: bool) -> None:
    """Start everything on free ports, call the bank's agent over SIP, ask for the card, and judge what was heard.

    Exit code 0 only if a recogniser that hears nothing but the audio the caller received finds the goal reached.
    Leaves one file, the call as stereo WAV; everything else is removed. With NATS_URL the call stays on that server.
    """
    settings = load()
    demonstration = load_demonstration(DEMOS / f"{settings.llm.agent}.toml")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"folder {output} can't be made: {error.strerror}; give another: --output DIR")
    log_to_stderr()
    try:
        outcome = asyncio.run(_interruptible(_run(settings, demonstration, output, keep, as_json)))
    except StartError as error:
        fail(str(error))
    except BusError as error:
        fail(f"the bus failed during the call: {error}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        fail("stopped before the call was over; nothing is left running", 130)
    raise SystemExit(0 if outcome.verdict.reached else 1)


async def _interruptible(work: Coroutine[Any, Any, Outcome]) -> Outcome:
    """SIGTERM and SIGHUP end it in order, as Ctrl-C does."""
    task = asyncio.create_task(work)
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


async def _run(settings: Settings, demonstration: Demonstration, output: Path, keep: bool, as_json: bool) -> Outcome:
    def say(text: str = "") -> None:
        click.echo(text, err=as_json)

    with tempfile.TemporaryDirectory(prefix="callbus-demo-") as folder:
        say("starting nats-server, edge, asr, llm, tts, each a process of its own ...")
        supervisor = Supervisor(_plan(settings, Path(folder)))
        judge = Judge(demonstration)
        warming = asyncio.create_task(asyncio.to_thread(judge.warm))
        try:
            await supervisor.start()
            target = f"sip:bank@{HOST}:{supervisor.sip_port}"
            say(f"ready; calling {target}\n")
            outcome = await _call(supervisor, target, demonstration, output, as_json)
            await warming
            outcome.verdict = await asyncio.to_thread(judge.judge, caller_side(outcome.report))
            if as_json:
                click.echo(_json(outcome))
            else:
                for line in _page(outcome, supervisor.nats_url if keep else ""):
                    say(line)
            if keep:
                await _wait_for_interrupt()
        finally:
            warming.cancel()
            await supervisor.stop()
    return outcome


def _plan(settings: Settings, folder: Path) -> SystemPlan:
    environment = {
        "CALLBUS_EDGE__HOST": HOST,
        "CALLBUS_EDGE__SIP_PORT": "0",
        "CALLBUS_EDGE__RTP_PORT_MIN": "0",
    }
    given = {name: value for name, value in environment.items() if name not in os.environ}
    return SystemPlan(
        settings=settings,
        data=folder,
        nats_url=given_nats_url(),
        environment=given,
        drain_s=2.0,
    )


async def _call(
    supervisor: Supervisor, target: str, demonstration: Demonstration, output: Path, as_json: bool
) -> Outcome:
    connection = supervisor.connection
    transcript = LiveTranscript(lambda line: click.echo(line, err=as_json), supervisor.edge_names)
    following = await follow_all(connection, (), transcript.take, service="demo")
    steps: list[Step] = [WaitForSilence()]
    for text in demonstration.say:
        steps += [Say(text), WaitForSilence(patience_s=8.0)]
    report = await place_call(
        target, CallScript(tuple(steps)), options=CallOptions(voice=demonstration.caller_voice, call_limit_s=90.0)
    )
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
    wav = output / f"callbus-demo-{call_id[-8:]}.wav"
    await asyncio.to_thread(wav.write_bytes, rendering.wav())
    return Outcome(report, view, Verdict((), demonstration.heard), wav, await stored_lines(connection, call_id, tenant))


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
    lines += verdict_lines(outcome.verdict)
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
    return as_json_text(
        {
            "reached": outcome.verdict.reached,
            "missing": outcome.verdict.missing,
            "heard": [utterance._asdict() for utterance in outcome.verdict.utterances],
            "call_id": outcome.view.call_id,
            "wav": str(outcome.wav),
            "latencies_ms": {turn.turn: turn.latencies_ms for turn in outcome.view.turns.values()},
            "report": msgspec.to_builtins(outcome.report.facts()),
        }
    )
