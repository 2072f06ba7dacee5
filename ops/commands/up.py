"""``callbus up``: the whole system on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table

from config.load import load
from config.settings import NatsSection
from ops.broker import port_of
from ops.engine_checks import check_engines
from ops.engines import engine_options, overrides, ready_timeout_s, with_overrides
from ops.secured import TLS_CONFIG
from ops.session import fail, given_nats_url, log_to_stderr, program_name
from ops.supervisor import KEYS_ONLY, MODULES, StartError, Supervisor, SystemPlan, secured_folder

REFRESH_S = 0.5
COLUMNS = ("process", "state", "pid", "calls", "slots", "restarts", "ready after", "memory")
STYLES = {"failed": "bold red", "silent": "red", "restarting": "yellow", "draining": "yellow"}


def parse_workers(text: str) -> dict[str, int]:
    """``asr=2,tts=3`` as numbers per stage.

    Raises:
        click.BadParameter: an unknown stage, or no number from 1 to 64.
    """
    workers: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        stage, _, number = (piece.strip() for piece in part.partition("="))
        if stage not in MODULES:
            raise click.BadParameter(
                f"--workers {part}: {stage!r} is no service; there are: {', '.join(MODULES)}, as in asr=2,tts=2"
            )
        if not number.isdecimal() or not 1 <= int(number) <= 64:
            raise click.BadParameter(f"--workers {part}: write {stage}=N with N from 1 to 64")
        workers[stage] = int(number)
    return workers


@click.command()
@click.option("--workers", default="", metavar="asr=2,tts=2", help="Processes per service.  [default: one each]")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("callbus-data"),
    show_default=True,
    help="Folder for the stream's store and the logs; one `callbus up` at a time.",
)
@click.option(
    "--secure",
    is_flag=False,
    flag_value=KEYS_ONLY,
    default="",
    type=click.Choice(["", KEYS_ONLY, *TLS_CONFIG]),
    metavar="[keys|tls|mutual]",
    help="One key per process and nobody anonymous, as nats.conf has it; also with TLS, or mutual TLS.",
)
@engine_options
@click.option("--json", "as_json", is_flag=True, help="The status as a JSON line at each change, instead of a table.")
def up(workers: str, data: Path, secure: str, asr: str, llm: str, tts: str, agent: str, as_json: bool) -> None:
    """Run nats-server (unless NATS_URL or the setting nats.url names one), the topology, and every service; restart
    what dies.

    nats-server takes the port 4222 where it is free, so that the other commands find it without --nats. Several edges
    take the SIP ports that follow the first one.

    Ctrl-C drains: no new calls; running ones may end within edge.drain_ms, or ownership.drain_ms where that is
    0. A second Ctrl-C hangs them up.

    Exit code 0: stopped by Ctrl-C or SIGTERM. 1: a service can't start, and its last log lines are shown; or an
    engine's package or model is missing, and nothing was started. 2: called wrongly, or a setting is not allowed.
    """
    chosen = overrides(asr, llm, tts, agent)
    settings = load(with_overrides(chosen))
    if secure and given_nats_url():
        raise click.UsageError("--secure makes keys for a server of its own: leave NATS_URL and nats.url unset")
    check_engines(settings)
    plan = SystemPlan(
        settings=settings,
        data=data,
        nats_url=given_nats_url(),
        nats_port=port_of(settings.nats.url),
        secure=secure,
        workers=parse_workers(workers),
        environment=chosen,
        drain_s=settings.ownership.drain_ms / 1000,
        edge_drain_s=settings.edge.drain_ms / 1000,
        ready_timeout_s=ready_timeout_s(settings),
        say=_say,
    )
    log_to_stderr()
    try:
        asyncio.run(_up(plan, as_json))
    except StartError as error:
        fail(str(error))


def _say(text: str) -> None:
    # print looks sys.stderr up each time: while the table is drawn that is a stand-in which writes above it.
    print(text, file=sys.stderr, flush=True)


async def _up(plan: SystemPlan, as_json: bool) -> None:
    supervisor = Supervisor(plan)
    stop = _stop_by_signal(supervisor)
    starting = asyncio.create_task(supervisor.start())
    waiter = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, waiter}, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    if not starting.done():
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        plan.say("stopped before everything was ready")
        return
    await starting
    plan.say(greeting(plan, supervisor.nats_url, supervisor.sip_ports))
    display = asyncio.create_task(_show_json(supervisor) if as_json else _show_table(supervisor))
    try:
        await supervisor.watch(stop)
        plan.say(f"draining: running calls have {plan.call_drain_s:.0f} s to end; Ctrl-C again hangs them up")
    finally:
        await supervisor.stop()
        display.cancel()
        await asyncio.gather(display, return_exceptions=True)
    plan.say("stopped")


def _stop_by_signal(supervisor: Supervisor) -> asyncio.Event:
    """Set by the first signal; the second one hurries the drain."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            supervisor.hurry()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stop


def greeting(plan: SystemPlan, nats_url: str, sip_ports: Sequence[int]) -> str:
    """What can be done now, and where to look."""
    edge, metrics = plan.settings.edge, plan.settings.metrics
    host = edge.host if edge.host != "0.0.0.0" else "127.0.0.1"
    uris = [f"sip:bank@{host}:{port}" for port in sip_ports]
    # What another terminal would look at, where NATS_URL may not be set.
    nats = f" --nats {nats_url}" if nats_url != NatsSection().url else ""
    lines = [
        f"ready: call {' or '.join(uris)}, for example",
        f"  {program_name()} call {uris[0]} --say 'where is my credit card' --dtmf 4271",
        f"  {program_name()} tail{nats}",
        f"  {program_name()} show last{nats}",
    ]
    if plan.secure:
        lines.append("who looks needs a key, in another terminal first:")
        lines += [f"  export {name}={value}" for name, value in secured_folder(plan).environment("ops").items()]
    if metrics.port:
        last = metrics.port + sum(plan.workers.get(stage, 1) for stage in MODULES) - 1
        lines.append(f"metrics at http://{metrics.host}:{metrics.port}/metrics, one port a process up to {last}")
    return "\n".join([*lines, f"logs in {plan.data / 'logs'}; Ctrl-C drains and stops"])


async def _show_json(supervisor: Supervisor) -> None:
    last = b""
    while True:
        rows = [
            {"name": row.name, "state": row.state, "pid": row.pid, "calls": row.calls, "restarts": row.restarts}
            for row in supervisor.status()
        ]
        status = {
            "nats": supervisor.nats_url,
            "sip_port": supervisor.sip_port,
            "sip_ports": supervisor.sip_ports,
            "processes": rows,
        }
        line = msgspec.json.encode(status)
        if line != last:
            click.echo(line.decode())
            last = line
        await asyncio.sleep(REFRESH_S)


async def _show_table(supervisor: Supervisor) -> None:
    if not sys.stdout.isatty():
        return
    with Live(
        table_of(supervisor),
        console=Console(),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=sys.stderr.isatty(),
    ) as live:
        while True:
            live.update(table_of(supervisor), refresh=True)
            await asyncio.sleep(REFRESH_S)


def table_of(supervisor: Supervisor) -> Table:
    """The status as it is drawn."""
    ports = ", ".join(str(port) for port in supervisor.sip_ports)
    table = Table(title=f"callbus   nats {supervisor.nats_url}   sip port {ports}", title_style="")
    for heading in COLUMNS:
        table.add_column(heading, justify="left" if heading in ("process", "state") else "right")
    for row in supervisor.status():
        table.add_row(
            row.name,
            row.state,
            str(row.pid or ""),
            str(row.calls) if row.slots else "",
            str(row.slots or ""),
            str(row.restarts),
            f"{row.ready_ms:.0f} ms" if row.ready_ms is not None else "",
            f"{row.resident_mb:.0f} MB" if row.resident_mb is not None else "",
            style=STYLES.get(row.state),
        )
    return table
