"""What every inspecting command shares: reach the bus or say in words why not, and name a call by the end of its id."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import math
import os
import shutil
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, Literal, NoReturn, TextIO, TypeVar, cast

import click
import msgspec

from bus import logs
from bus.client import NatsConnection, connect
from bus.errors import BusError, BusUnavailable
from bus.interface import Connection
from config.load import load, rows
from config.settings import LogSection
from schemas.base import Event
from schemas.call import CallOffered
from schemas.subjects import event_subject

Result = TypeVar("Result")
Said = TypeVar("Said", bound=Event)

nats_option = click.option(
    "--nats",
    "nats_url",
    default="",
    metavar="URL",
    help="NATS to look at; otherwise NATS_URL, else the setting nats.url.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
tenant_option = click.option("--tenant", default="*", help="Only this tenant's calls.  [default: all]")


def program_name() -> str:
    """How to call this program from where one stands: ``callbus``, or its path where it is not on the PATH."""
    if shutil.which("callbus") or Path(sys.argv[0]).name != "callbus":
        return "callbus"
    return os.path.relpath(sys.argv[0])


def fail(text: str, code: int = 1) -> NoReturn:
    """Say what went wrong on standard error and leave."""
    click.echo(f"Error: {text}", err=True)
    sys.exit(code)


class _CurrentStderr(io.TextIOBase):
    """Standard error as it is at the moment: a live table or a test may stand in for it."""

    def write(self, text: str, /) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()


def log_to_stderr(level: Literal["info", "error"] = "info") -> None:
    """What the bus has to say (connection lost, connected again) goes to standard error, as sentences."""
    logs.configure(LogSection(level=level, format="human"), "callbus", "callbus", cast(TextIO, _CurrentStderr()))


def given_nats_url() -> str:
    """The NATS server that NATS_URL, another variable or app.ini names; empty where nobody named one."""
    row = next(row for row in rows() if (row.section, row.key) == ("nats", "url"))
    return str(row.value) if row.source != "default" else ""


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a command's work; a bus error becomes one line and exit code 1, Ctrl-C exit code 130."""
    log_to_stderr()
    try:
        return asyncio.run(work)
    except BusUnavailable as error:
        fail(f"{error}\nStart one with: callbus up; or name one with --nats URL")
    except BusError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


@contextlib.asynccontextmanager
async def bus(nats_url: str) -> AsyncIterator[NatsConnection]:
    """A connection for the time of one command."""
    section = load().nats
    if nats_url:
        section = msgspec.structs.replace(section, url=nats_url)
    connection = await connect("callbus-cli", section, wait=False)
    try:
        yield connection
    finally:
        await connection.close()


async def find_call(connection: Connection, name: str, tenant: str = "*") -> CallOffered:
    """The call whose id is, starts with or ends with ``name``; ``last`` is the newest.

    Raises:
        click.ClickException: no such call, or several.
    """
    if not name:
        raise click.UsageError("CALL is empty; give an id, the beginning or end of one, or 'last'")
    offered = [call async for call in offered_calls(connection, tenant)]
    if name == "last" and offered:
        return offered[-1]
    found = [call for call in offered if call.call_id.startswith(name) or call.call_id.endswith(name)]
    if len(found) == 1:
        return found[0]
    if not offered:
        raise click.ClickException("the stream holds no calls yet")
    if not found:
        raise click.ClickException(f"the stream holds no call {name!r}; `callbus calls` lists them")
    raise click.ClickException(f"{name!r} fits {len(found)} calls; give more of the id: `callbus calls` lists them")


async def offered_calls(connection: Connection, tenant: str = "*") -> AsyncIterator[CallOffered]:
    """Every ``call.offered`` in the stream, oldest first; what does not decode is left out."""
    async for offered in events_of(connection, CallOffered, tenant):
        yield offered


async def events_of(connection: Connection, event_type: type[Said], tenant: str = "*") -> AsyncIterator[Said]:
    """Every event of one type in the stream, in its order; what does not decode is left out."""
    decoder = msgspec.json.Decoder(event_type)
    async for message in connection.read(event_subject(event_type, "*", tenant)):
        with contextlib.suppress(msgspec.MsgspecError):
            yield decoder.decode(message.data)


def as_json_text(value: object) -> str:
    """JSON of structs, dataclasses and plain values."""

    def encode(other: object) -> object:
        if dataclasses.is_dataclass(other) and not isinstance(other, type):
            return dataclasses.asdict(other)
        raise NotImplementedError(type(other).__name__)

    return msgspec.json.encode(value, enc_hook=encode).decode()


def percentile(values: list[float], share: float) -> float:
    """Nearest-rank percentile of a list that is not empty."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
