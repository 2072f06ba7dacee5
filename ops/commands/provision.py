"""``callbus provision``: what has to be on the server, shown before it is done."""

from __future__ import annotations

import click

from bus.provision import Change, apply, plan
from config.load import load
from ops.session import as_json_text, bus, json_option, nats_option, run


@click.command()
@click.option("--plan", "plan_only", is_flag=True, help="Only show the difference; exit 1 where there is one.")
@nats_option
@json_option
def provision(plan_only: bool, nats_url: str, as_json: bool) -> None:
    """Show how the server differs from the topology, then create and change what is needed.

    Streams, consumers and buckets that are not ours are left alone.
    """
    changes = run(_provision(plan_only, nats_url))
    if as_json:
        click.echo(as_json_text(changes))
    elif not changes:
        click.echo("nothing to do: streams, consumers and buckets are as they should be")
    for change in [] if as_json else changes:
        click.echo(str(change))
    if plan_only and changes:
        raise SystemExit(1)


async def _provision(plan_only: bool, nats_url: str) -> list[Change]:
    section = load().streams
    async with bus(nats_url) as connection:
        if plan_only:
            return await plan(connection, section)
        return await apply(connection, section)
