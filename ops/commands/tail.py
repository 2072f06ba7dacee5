"""``callbus tail``: events as they happen."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Collection

import click
import msgspec

from bus.consume import follow_all, follow_call
from ops.content import without_content
from ops.session import bus, find_call, json_option, nats_option, run
from schemas.base import Event, type_name
from schemas.subjects import EVENT_TYPES, matches

HIDDEN = {"type", "call_id", "at_us", "tenant", "epoch"}


@click.command()
@click.argument("call", required=False)
@click.option(
    "--events", "names", default="", metavar="NAMES", help="Only these, separated by commas, as in asr.*,turn.ended"
)
@click.option(
    "--for", "seconds", default=0.0, metavar="SECONDS", help="Stop after this long.  [default: when the call ends]"
)
@click.option("--no-content", is_flag=True, help="Leave out what was said, pressed and dialled.")
@nats_option
@json_option
def tail(call: str | None, names: str, seconds: float, no_content: bool, nats_url: str, as_json: bool) -> None:
    """Follow the events of CALL from its beginning until it ends, or those of all calls from now on until Ctrl-C.

    CALL is an id, the beginning or end of one, or 'last'. With --json each line is one event as it stands on the bus.
    """
    wanted = tuple(name.strip() for name in names.split(",") if name.strip())
    check_names(wanted)

    def show(event: Event) -> None:
        shown = without_content(event) if no_content else event
        click.echo(msgspec.json.encode(shown).decode() if as_json else line_of(shown, with_call=call is None))

    run(_tail(call, wanted, seconds, nats_url, show))


def check_names(names: Collection[str]) -> None:
    """Raises ``click.BadParameter`` where a name or pattern fits no event."""
    known = [type_name(event_type) for event_type in EVENT_TYPES]
    for name in names:
        if not any(matches(name, event) for event in known):
            raise click.BadParameter(f"--events {name!r} fits no event; there are: {', '.join(known)}")


async def _tail(
    call: str | None, names: tuple[str, ...], seconds: float, nats_url: str, show: Callable[[Event], None]
) -> None:
    async with bus(nats_url) as connection:
        if call is None:
            await follow_all(connection, names, show, service="cli")
            await asyncio.sleep(seconds or math.inf)
            return
        offered = await find_call(connection, call)
        printer = CallPrinter(show, names)
        # The end is always followed, so that the command ends with the call.
        following = (*names, "call.ended") if names else ()
        feed = await follow_call(
            connection, offered.call_id, offered.tenant, printer.take, names=following, service="cli"
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds or None):
                await feed.caught_up.wait()
                printer.catch_up()
                await printer.over.wait()
        printer.catch_up()


class CallPrinter:
    """One call's events: the stored ones in the order in which they happened, then live ones as they come.

    The stream holds them in the order in which it took them: an event that is stored with a fence comes a little
    later there.
    """

    def __init__(self, show: Callable[[Event], None], names: Collection[str]) -> None:
        self.over = asyncio.Event()
        self._show = show
        self._names = names
        self._kept: list[Event] | None = []

    def take(self, event: Event) -> None:
        """One event of the call."""
        if self._kept is not None:
            self._kept.append(event)
        else:
            self._print(event)

    def catch_up(self) -> None:
        """Everything stored has been taken: print it, and from now on each event at once."""
        kept, self._kept = self._kept or [], None
        for event in sorted(kept, key=lambda event: event.at_us):
            self._print(event)

    def _print(self, event: Event) -> None:
        name = type_name(type(event))
        if not self._names or any(matches(pattern, name) for pattern in self._names):
            self._show(event)
        if name == "call.ended":
            self.over.set()


def line_of(event: Event, with_call: bool) -> str:
    """One event on one line: clock, call, name, and the fields that say something."""
    at = time.strftime("%H:%M:%S", time.localtime(event.at_us / 1_000_000)) + f".{event.at_us // 1000 % 1000:03}"
    fields = []
    for field in msgspec.structs.fields(type(event)):
        value = getattr(event, field.name)
        if field.name in HIDDEN or value in ("", (), {}, None) or isinstance(value, tuple | msgspec.Struct):
            continue
        fields.append(f"{field.name}={_short(value)}")
    call = f"{event.call_id[-8:]}  " if with_call else ""
    return f"{at}  {call}{type_name(type(event)):16}  {' '.join(fields)}"


def _short(value: object) -> str:
    """A field for people: quotes only around several words, figures to a thousandth."""
    match value:
        case str():
            return repr(value) if " " in value else value
        case float():
            return str(round(value, 3))
        case dict():
            return "{" + ", ".join(f"{name}: {_short(each)}" for name, each in value.items()) + "}"
        case _:
            return str(value)
