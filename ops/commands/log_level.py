"""``callbus log-level``: what the processes write into their logs, changed while they run."""

from __future__ import annotations

import asyncio
import getpass
import re
import socket

import click
import msgspec

from bus import codec
from bus.client import NatsConnection
from bus.errors import DecodeError
from bus.interface import Message
from bus.service_query import Round
from ops.session import as_json_text, bus, fail, json_option, nats_option, run
from schemas import subjects
from schemas.log_level import CONFIGURED, DAY_S, LEVELS, LogLevelOrder, LogLevelReply

SERVICES = ("edge", "asr", "llm", "tts")
ANSWER_S = 2.0
QUIET_S = 0.3
UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds_of(text: str) -> float:
    """``90s``, ``10m``, ``1h`` in seconds; empty: 0.

    Raises:
        click.BadParameter: anything else, or more than a day.
    """
    found = re.fullmatch(r"(\d{1,6})([smh])", text)
    if text and (found is None or not 0 < int(found[1]) * UNITS[found[2]] <= DAY_S):
        raise click.BadParameter(f"--for {text!r}: write for example 90s, 10m or 1h, a day at most")
    return float(int(found[1]) * UNITS[found[2]]) if found else 0.0


@click.command(name="log-level")
@click.argument("service", required=False, type=click.Choice(SERVICES))
@click.argument("level", required=False, type=click.Choice((*LEVELS, CONFIGURED)))
@click.option("--instance", default="", metavar="NAME", help="Only this process, as `callbus health all` names it.")
@click.option(
    "--for", "time", default="", metavar="TIME", help="Back to the configured level after so long: 90s, 10m, 1h."
)
@nats_option
@json_option
def log_level(service: str | None, level: str | None, instance: str, time: str, nats_url: str, as_json: bool) -> None:
    """Change from which LEVEL on the processes of SERVICE write into their logs, while they run; without arguments show
    the levels of all.

    LEVEL 'configured' is what the setting log.level says. Each process answers, and its log says who changed what.
    At no level does a line hold what was said, pressed or dialled. Exit code 1: nobody answers.
    """
    if service is None:
        _show(run(_levels(nats_url)), as_json)
        return
    if level is None:
        raise click.UsageError(f"name a LEVEL: {', '.join((*LEVELS, CONFIGURED))}")
    order = LogLevelOrder(level=level, by=_who(), for_s=seconds_of(time))  # type: ignore[arg-type]
    replies = run(_change(nats_url, instance or service, order))
    if not replies:
        fail(f"no {instance or service} answers; `callbus health {service}` says why")
    if as_json:
        click.echo(as_json_text(replies))
        return
    for reply in replies:
        until = f" for {time}" if reply.for_s else ""
        click.echo(f"{reply.instance}: {reply.error or f'{reply.before} -> {reply.level}{until}'}")


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "?"
    return f"{user}@{socket.gethostname()}"[:64]


async def _levels(nats_url: str) -> list[dict[str, str]]:
    async with bus(nats_url) as connection:
        heard = await Round(connection, "").run(asyncio.get_running_loop().time() + ANSWER_S)
    known = [each for each in heard if each["service"] in SERVICES]
    return [{"instance": each["instance"], "level": each.get("log_level", "")} for each in known]


def _show(levels: list[dict[str, str]], as_json: bool) -> None:
    if as_json:
        click.echo(as_json_text(levels))
    elif not levels:
        fail("no process answers; `callbus health all` says why")
    else:
        click.echo("\n".join(f"{each['instance']}: {each['level'] or 'does not say'}" for each in levels))


async def _change(nats_url: str, target: str, order: LogLevelOrder) -> list[LogLevelReply]:
    async with bus(nats_url) as connection:
        return await _ask(connection, target, order)


async def _ask(connection: NatsConnection, target: str, order: LogLevelOrder) -> list[LogLevelReply]:
    """The answers of all processes that ``target`` names; the first is waited for longer than the others."""
    replies: list[LogLevelReply] = []
    changed = asyncio.Event()
    nobody = False

    def take(message: Message) -> None:
        nonlocal nobody
        try:
            replies.append(codec.decode(message.data, LogLevelReply))
        except DecodeError:
            nobody = message.headers.get("Status") == "503"
        changed.set()

    reply = connection.open_ask(take)
    connection.publish(subjects.log_level(target), msgspec.json.encode(order), reply=reply)
    while not nobody:
        changed.clear()
        try:
            await asyncio.wait_for(changed.wait(), QUIET_S if replies else ANSWER_S)
        except TimeoutError:
            break
    connection.close_reply(reply)
    return sorted(replies, key=lambda each: each.instance)
