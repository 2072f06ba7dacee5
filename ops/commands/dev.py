"""``callbus dev``: one service under development."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import click

from bus.service import ownership_drain_ms
from config.load import load
from edge.process import drain_ms
from ops.reload import DevelopmentPlan, Reloader
from ops.session import fail
from ops.supervisor import MODULES

ROOT = Path(__file__).resolve().parents[2]
STAGES = frozenset({"asr", "llm", "tts"})
FOLDERS = {
    "edge": ("bus", "config", "edge", "schemas"),
    **dict.fromkeys(STAGES, ("bus", "config", "schemas", "services")),
}


@click.command()
@click.argument("service", type=click.Choice(list(MODULES)))
def dev(service: str) -> None:
    """Run SERVICE in development mode: at each change of its source a new process takes over.

    asr, llm, tts: the new process starts beside the old one, which hands its calls over once the new one is ready.
    Code that can't start changes nothing. edge: the old process lets running calls end (edge.drain_ms), then the new
    one takes the SIP port. Needs NATS and what `callbus provision` makes. Not for production: the source is watched,
    and a mistake is one save away from a caller.
    """
    settings = load()
    drain = drain_ms(settings) if service == "edge" else ownership_drain_ms(settings)
    plan = DevelopmentPlan(
        service=service,
        command=(sys.executable, "-m", MODULES[service]),
        trial=(sys.executable, "-c", "import edge.__main__") if service == "edge" else (),
        skipped=STAGES - {service},
        folders=[ROOT / folder for folder in FOLDERS[service]],
        host=settings.metrics.host,
        port=settings.metrics.port,
        drain_s=drain / 1000,
    )
    click.echo(f"callbus dev {service}: DEVELOPMENT MODE, not for production; watching {ROOT}", err=True)
    try:
        asyncio.run(_until_signal(Reloader(plan)))
    except OSError as error:
        fail(f"the pages can't be served on {settings.metrics.host}:{settings.metrics.port}: {error.strerror}")


async def _until_signal(reloader: Reloader) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await reloader.run(stopping)
