"""``callbus tail``: events as they happen."""

from __future__ import annotations

import asyncio
import time

import click
import msgspec

from bus.consume import follow_all, follow_call
from ops.session import bus, find_call, json_option, nats_option, run
from schemas.base import Event, type_name

HIDDEN = {"type", "call_id", "at_us", "tenant", "epoch"}


@click.command()
@click.argument("call", required=False)
@click.option("--events", "names", default="", help="Only these, separated by commas: asr.*,turn.ended")
@click.option("--for", "seconds", default=0.0, help="Stop after this many seconds.  [default: until Ctrl-C]")
@nats_option
@json_option
def tail(call: str | None, names: str, seconds: float, nats_url: str, as_json: bool) -> None:
    """Follow the events of CALL from its beginning (until it ends), or those of all calls from now on."""
    wanted = tuple(name.strip() for name in names.split(",") if name.strip())
    run(_tail(call, wanted, seconds, nats_url, as_json))


async def _tail(call: str | None, names: tuple[str, ...], seconds: float, nats_url: str, as_json: bool) -> None:
    over = asyncio.Event()

    def print_event(event: Event) -> None:
        click.echo(msgspec.json.encode(event).decode() if as_json else line_of(event, with_call=call is None))
        if call is not None and type_name(type(event)) == "call.ended":
            over.set()

    async with bus(nats_url) as connection:
        if call is None:
            await follow_all(connection, names or (">",), print_event, service="cli")
        else:
            offered = await find_call(connection, call)
            # The end is always followed, so that the command ends with the call.
            following = (*names, "call.ended") if names else ()
            await follow_call(connection, offered.call_id, offered.tenant, print_event, names=following, service="cli")
        try:
            await asyncio.wait_for(over.wait(), seconds or None)
        except TimeoutError:
            return


def line_of(event: Event, with_call: bool) -> str:
    """One event on one line: clock, call, name, and the fields that say something."""
    at = time.strftime("%H:%M:%S", time.localtime(event.at_us / 1_000_000)) + f".{event.at_us // 1000 % 1000:03}"
    fields = []
    for field in msgspec.structs.fields(type(event)):
        value = getattr(event, field.name)
        if field.name in HIDDEN or value in ("", (), {}, None) or isinstance(value, tuple | msgspec.Struct):
            continue
        fields.append(f"{field.name}={value!r}" if isinstance(value, str) and " " in value else f"{field.name}={value}")
    call = f"{event.call_id[-8:]}  " if with_call else ""
    return f"{at}  {call}{type_name(type(event)):16}  {' '.join(fields)}"
