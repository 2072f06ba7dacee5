"""``callbus calls``: what calls the stream holds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TypeVar

import click

from bus.interface import Connection
from config.load import load
from ops.session import as_json_text, bus, events_of, json_option, nats_option, offered_calls, run, tenant_option
from schemas.call import CallAnswered, CallEnded, CallOffered

Told = TypeVar("Told", CallAnswered, CallEnded)


@dataclass(frozen=True, slots=True)
class CallRow:
    """One call of the list."""

    call_id: str
    tenant: str
    started: str
    at_us: int
    transport: str
    state: str
    duration_ms: int | None
    ended_by: str
    reason: str


@click.command()
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Newest calls to show.")
@tenant_option
@nats_option
@json_option
def calls(limit: int, tenant: str, nats_url: str, as_json: bool) -> None:
    """List calls, newest last: id, start, state, duration, who ended it and why."""
    found = run(_calls(tenant, nats_url))[-limit:]
    if as_json:
        click.echo(as_json_text(found))
        return
    if not found:
        port = load().edge.sip_port or 5060
        click.echo(f"no calls yet; place one: callbus call sip:bank@127.0.0.1:{port} --say 'where is my credit card'")
        return
    click.echo(f"{'call':32}  {'started':19}  {'state':10}  {'duration':>9}  ended by")
    for row in found:
        duration = f"{row.duration_ms / 1000:.1f} s" if row.duration_ms is not None else ""
        ended = f"{row.ended_by}, {row.reason}" if row.ended_by else ""
        click.echo(f"{row.call_id:32}  {row.started:19}  {row.state:10}  {duration:>9}  {ended}")


async def _calls(tenant: str, nats_url: str) -> list[CallRow]:
    async with bus(nats_url) as connection:
        offered = [event async for event in offered_calls(connection, tenant)]
        answered = await _by_call(connection, CallAnswered, tenant)
        ended = await _by_call(connection, CallEnded, tenant)
    return [_row(event, event.call_id in answered, ended.get(event.call_id)) for event in offered]


async def _by_call(connection: Connection, event_type: type[Told], tenant: str) -> dict[str, Told]:
    return {event.call_id: event async for event in events_of(connection, event_type, tenant)}


def _row(offered: CallOffered, answered: bool, ended: CallEnded | None) -> CallRow:
    return CallRow(
        call_id=offered.call_id,
        tenant=offered.tenant,
        started=time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(offered.at_us / 1_000_000)),
        at_us=offered.at_us,
        transport=offered.transport,
        state=ended.result.value if ended else ("active" if answered else "ringing"),
        duration_ms=ended.duration_ms if ended else None,
        ended_by=ended.ended_by.value if ended else "",
        reason=ended.reason if ended else "",
    )
