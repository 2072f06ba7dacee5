"""``callbus bench``: measure and hold against the limits."""

from __future__ import annotations

import asyncio
import importlib
import os
import platform
import time
from pathlib import Path

import click
import msgspec
import uvloop

from ops.bench.results import Figure, table_lines
from ops.session import log_to_stderr

BENCHES = {
    "hop": "bus hop of live frames with recording on",
    "turn": "turn overhead with engines that answer at once, beside an in-process pipeline",
    "capacity": "concurrent two-way calls of one edge on one core, beside aiortp's echo",
    "vad": "voice activity detection of one call, beside pipecat's analyzer",
    "barge_in": "interruptions and answers over SIP, by a meter that hears the recording, beside our own figures",
    "endpointing": "callers cut off and callers kept waiting: silence alone, and with turn model and words",
    "engines": "every engine that this machine has: latency, work, memory, calls per core",
    "observability": "traces, hops and scraped metrics, on against off: processor time of a call, turn overhead",
    "processes": "memory of each process, idle and per call; time from start to ready",
}


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--seconds", default=10.0, show_default=True, help="Length of each measurement.")
@click.option("--calls", default=0, help="Calls at once, where a bench has that.  [default: the bench's own]")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("bench-results"),
    show_default=True,
    help="Folder for the results.",
)
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
@click.option("--list", "only_list", is_flag=True, help="List the benches.")
def bench(names: tuple[str, ...], seconds: float, calls: int, output: Path, as_json: bool, only_list: bool) -> None:
    """Run the named benches, or all. Exit code 1 where a figure is over its limit.

    Figures depend on the machine and on what else runs on it: compare within one run.
    """
    if only_list and as_json:
        click.echo(msgspec.json.encode(BENCHES).decode())
        return
    if only_list:
        for name, text in BENCHES.items():
            click.echo(f"{name:13}  {text}")
        return
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is no bench; there are: {', '.join(BENCHES)}")
    log_to_stderr()
    figures: list[Figure] = []
    for name in names or BENCHES:
        click.echo(f"{name}: {BENCHES[name]} ...", err=True)
        found = _run(name, seconds, calls)
        for line in [] if as_json else table_lines(found):
            click.echo(line)
        figures += found
    path = _write(output, figures)
    if as_json:
        click.echo(path.read_text(encoding="utf-8"))
    click.echo(f"written to {path}", err=True)
    if any(figure.within is False for figure in figures):
        raise SystemExit(1)


def _run(name: str, seconds: float, calls: int) -> list[Figure]:
    module = importlib.import_module(f"ops.bench.{name}")
    work = module.measure(calls or module.DEFAULT_CALLS, seconds)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures: list[Figure] = runner.run(work)
    return figures


def _write(output: Path, figures: list[Figure]) -> Path:
    output.mkdir(parents=True, exist_ok=True)
    path = output / time.strftime("bench-%Y%m%d-%H%M%S.json")
    document = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()},
        "figures": figures,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    return path
