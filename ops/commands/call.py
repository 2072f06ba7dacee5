"""``callbus call``: a SIP/RTP caller for testing any SIP target."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from config.load import ConfigError
from ops.caller.call import CallOptions, place_call
from ops.caller.report import CallReport, Outcome
from ops.caller.script import (
    CallScript,
    Hold,
    Pause,
    PlayFile,
    PressKeys,
    Resume,
    Say,
    ScriptError,
    Step,
    WaitForSilence,
)
from ops.caller.speech import CALLER_VOICE

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class OrderedSteps(click.Command):
    """Keeps the order in which step options stand on the command line: click alone groups them by name."""

    STEPS = ("say", "wav", "dtmf", "wait", "hold", "listen")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given, _, order = self.make_parser(ctx).parse_args(args=list(args))
        values = {name: list(given.get(name) or ()) for name in self.STEPS}
        named = [parameter.name for parameter in order if parameter.name in self.STEPS]
        ctx.obj = [(name, values[name].pop(0)) for name in named if name is not None]
        return super().parse_args(ctx, args)


@click.command(cls=OrderedSteps)
@click.argument("target", metavar="SIP_URI")
@click.option("--say", multiple=True, metavar="TEXT", help="Speak a text.")
@click.option("--wav", multiple=True, metavar="FILE", help="Play a WAV file (PCM16, A-law, mu-law; any rate).")
@click.option("--dtmf", multiple=True, metavar="KEYS", help="Press keys (RFC 4733).")
@click.option("--wait", multiple=True, type=float, metavar="SECONDS", help="Do nothing for so long.")
@click.option("--hold", multiple=True, type=float, metavar="SECONDS", help="Put the other side on hold for so long.")
@click.option(
    "--listen",
    multiple=True,
    type=int,
    metavar="MS",
    help="Wait until the other side has spoken, then for MS of its silence. What it said in the steps before counts.",
)
@click.option(
    "--no-listen", is_flag=True, help="Do not wait for the other side to finish: not at the start, not after a step."
)
@click.option("--silence", type=int, default=800, show_default=True, metavar="MS", help="Silence that ends its speech.")
@click.option(
    "--patience", type=float, default=5.0, show_default=True, metavar="SECONDS", help="Wait for its first sound."
)
@click.option("--record", type=click.Path(path_type=Path), metavar="OUT.wav", help="Stereo: caller left, callee right.")
@click.option("--voice", default=CALLER_VOICE, show_default=True, help="eSpeak NG voice of this caller.")
@click.option("--speed", type=click.FloatRange(0.5, 2.0), default=1.0, show_default=True, help="Speed of speech.")
@click.option(
    "--codec", multiple=True, type=click.Choice(["PCMU", "PCMA"]), help="Codec to offer.  [default: PCMU, then PCMA]"
)
@click.option("--from", "from_uri", default="", metavar="URI", help="Who calls.  [default: sip:caller@this machine]")
@click.option("--ring", type=float, default=30.0, show_default=True, metavar="SECONDS", help="Cancel after so long.")
@click.option("--timeout", type=float, default=300.0, show_default=True, metavar="SECONDS", help="Longest call.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable report.")
@click.pass_context
def call(ctx: click.Context, /, target: str, **given: Any) -> None:
    """Call SIP_URI and carry out the steps in the order in which they are written, then hang up.

    Between two steps the caller listens until the other side has finished speaking; with --no-listen each step follows
    the one before it at once, so that --wait 1.5 --say "stop" speaks over the other side. Works with any SIP target
    over UDP or, with ';transport=tcp', TCP.

    Exit code 0: the call was completed. 1: it was refused (the SIP status is told), nobody answered, or a step could
    not be carried out. 2: called wrongly.

    \b
    callbus call sip:bank@127.0.0.1:5060 --say "where is my credit card" --dtmf 4271 --record call.wav
    """
    listening = None if given["no_listen"] else WaitForSilence(given["silence"], given["patience"])
    options = CallOptions(
        voice=given["voice"],
        speed=given["speed"],
        answer_limit_s=given["ring"],
        call_limit_s=given["timeout"],
        codecs=given["codec"] or CallOptions().codecs,
        from_uri=given["from_uri"],
    )
    script = script_of(ctx.obj, listening, given["patience"])
    progress = _say if given["as_json"] else _progress
    try:
        report = asyncio.run(place_call(target, script, options=options, progress=progress))
    except (ScriptError, ConfigError) as error:
        raise click.UsageError(str(error)) from error
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    if given["record"] is not None:
        _write(report, given["record"])
    if given["as_json"]:
        click.echo(msgspec.json.encode(report.facts()).decode())
    else:
        show(report)
    sys.exit(0 if report.succeeded else EXIT_FAILED)


def script_of(steps: list[tuple[str, Any]], listening: WaitForSilence | None, patience_s: float) -> CallScript:
    """The script of the step options; ``listening`` is put before the first step and after each that makes a sound."""
    script: list[Step] = [] if listening is None or any(name == "listen" for name, _ in steps) else [listening]
    for name, value in steps:
        match name:
            case "wait":
                script.append(Pause(float(value)))
            case "hold":
                script += [Hold(), Pause(float(value)), Resume()]
            case "listen":
                script.append(WaitForSilence(int(value), patience_s))
            case _:
                sound: Step = (
                    Say(value) if name == "say" else PressKeys(value) if name == "dtmf" else PlayFile(Path(value))
                )
                script += [sound] if listening is None else [sound, listening]
    return CallScript(tuple(script))


def show(report: CallReport) -> None:
    """The report for people."""
    console = Console()
    rang = ", ".join(f"{each.status} after {each.at_ms:.0f} ms" for each in report.responses) or "no response"
    console.print(f"[bold]{report.outcome.value}[/bold]: {report.reason}  ({rang})", soft_wrap=True)
    if not report.codec:
        return
    sent, received = report.sent, report.received
    console.print(
        f"{report.duration_ms / 1000:.1f} s, {report.codec} over {report.transport.upper()}; "
        f"sent {sent.packets} packets ({sent.octets} bytes), received {received.frames} frames "
        f"({received.octets} bytes), lost {received.lost}, late {received.late}, jitter {received.jitter_ms:.1f} ms",
        soft_wrap=True,
    )
    if report.greeting_ms is not None:
        console.print(f"first heard {report.greeting_ms} ms after the answer")
    table = Table("step", "from s", "to s", "answer after ms", "note")
    for step in report.steps:
        latency = "" if step.answer_latency_ms is None else str(step.answer_latency_ms)
        table.add_row(step.kind, f"{step.start_ms / 1000:.2f}", f"{step.end_ms / 1000:.2f}", latency, step.note)
    if report.steps:
        console.print(table)


def _write(report: CallReport, path: Path) -> None:
    if report.recording is None:
        _say("there is nothing to record: the call was not answered")
        return
    try:
        path.write_bytes(report.recording.wav())
    except OSError as error:
        raise click.ClickException(f"{path} can't be written: {error.strerror}") from error
    _say(f"recorded in {path}: caller left, callee right")


def _progress(text: str) -> None:
    """What happens on the way. How the call ended stands in the report, and would be said twice."""
    if text.partition(":")[0] not in set(Outcome):
        _say(text)


def _say(text: str) -> None:
    click.echo(text, err=True)
