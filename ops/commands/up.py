"""``callbus up``: the whole system on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table

from config.load import load
from ops.session import fail
from ops.supervisor import MODULES, StartError, Supervisor, SystemPlan

REFRESH_S = 0.5


def parse_workers(text: str) -> dict[str, int]:
    """``asr=2,tts=3`` as numbers per stage.

    Raises:
        click.BadParameter: an unknown stage, or no number from 1 to 64.
    """
    workers: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        stage, _, number = part.partition("=")
        if stage.strip() not in MODULES:
            raise click.BadParameter(f"{stage!r} is no service; there are: {', '.join(MODULES)}")
        if not number.strip().isdigit() or not 1 <= int(number) <= 64:
            raise click.BadParameter(f"{part!r}: write {stage.strip()}=N with N from 1 to 64")
        workers[stage.strip()] = int(number)
    return workers


@click.command()
@click.option("--workers", default="", metavar="asr=2,tts=2", help="Processes per service.  [default: one each]")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("callbus-data"),
    show_default=True,
    help="Folder for the stream's store and the logs.",
)
@click.option("--json", "as_json", is_flag=True, help="The status as a JSON line at each change, instead of a table.")
def up(workers: str, data: Path, as_json: bool) -> None:
    """Run nats-server (unless NATS_URL is set), the topology, and every service; restart what dies.

    Ctrl-C drains: no new calls, running ones end or are given the time of ownership.drain_ms. Exit code 1 where a
    service can't start.
    """
    settings = load()
    plan = SystemPlan(
        settings=settings,
        data=data,
        nats_url=os.environ.get("NATS_URL", ""),
        workers=parse_workers(workers),
        drain_s=settings.ownership.drain_ms / 1000,
        say=lambda text: click.echo(text, err=True),
    )
    try:
        asyncio.run(_up(plan, as_json))
    except StartError as error:
        fail(str(error))


async def _up(plan: SystemPlan, as_json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stop.set)
    supervisor = Supervisor(plan)
    starting = asyncio.create_task(supervisor.start())
    waiter = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, waiter}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        return
    waiter.cancel()
    await starting
    _greet(plan, supervisor)
    display = asyncio.create_task(_show_json(supervisor) if as_json else _show_table(supervisor))
    try:
        await supervisor.watch(stop)
    finally:
        display.cancel()
        await asyncio.gather(display, return_exceptions=True)
        plan.say("draining; a call that runs has until ownership.drain_ms")
        await supervisor.stop()


def _greet(plan: SystemPlan, supervisor: Supervisor) -> None:
    host = plan.settings.edge.host if plan.settings.edge.host != "0.0.0.0" else "127.0.0.1"
    nats = f" --nats {supervisor.nats_url}" if supervisor.nats_url != plan.settings.nats.url else ""
    plan.say(
        f"ready: call sip:bank@{host}:{supervisor.sip_port}, for example\n"
        f"  callbus call sip:bank@{host}:{supervisor.sip_port} --say 'where is my credit card' --dtmf 4271\n"
        f"  callbus tail{nats}\n"
        f"logs in {plan.data / 'logs'}; Ctrl-C drains and stops"
    )


async def _show_json(supervisor: Supervisor) -> None:
    last = b""
    while True:
        rows = [
            {"name": row.name, "state": row.state, "pid": row.pid, "calls": row.calls, "restarts": row.restarts}
            for row in supervisor.status()
        ]
        line = msgspec.json.encode({"nats": supervisor.nats_url, "sip_port": supervisor.sip_port, "processes": rows})
        if line != last:
            click.echo(line.decode())
            last = line
        await asyncio.sleep(REFRESH_S)


async def _show_table(supervisor: Supervisor) -> None:
    if not sys.stdout.isatty():
        return
    with Live(_table(supervisor), console=Console(), auto_refresh=False, transient=True) as live:
        while True:
            live.update(_table(supervisor), refresh=True)
            await asyncio.sleep(REFRESH_S)


def _table(supervisor: Supervisor) -> Table:
    table = Table(title=f"callbus  nats {supervisor.nats_url}  sip port {supervisor.sip_port}")
    for heading in ("process", "state", "pid", "calls", "slots", "restarts", "ready after", "memory"):
        table.add_column(heading, justify="left" if heading in ("process", "state") else "right")
    for row in supervisor.status():
        table.add_row(
            row.name,
            row.state,
            str(row.pid or ""),
            str(row.calls),
            str(row.slots),
            str(row.restarts),
            f"{row.ready_ms:.0f} ms" if row.ready_ms is not None else "",
            f"{row.resident_mb:.0f} MB" if row.resident_mb is not None else "",
        )
    return table
