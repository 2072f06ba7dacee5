"""``callbus provision``: what has to be on the server, shown before it is done."""

from __future__ import annotations

import click

from bus.provision import Change, apply, plan
from config.load import load
from ops.session import as_json_text, bus, json_option, nats_option, run

DONE = {"create": "created", "change": "changed", "recreate": "made anew"}


@click.command()
@click.option("--plan", "plan_only", is_flag=True, help="Only show the difference; exit 1 where there is one.")
@click.option("--recreate", is_flag=True, help="Delete and make anew what can't be changed: loses what it holds.")
@nats_option
@json_option
def provision(plan_only: bool, recreate: bool, nats_url: str, as_json: bool) -> None:
    """Show how the server differs from the topology, then create and change what is needed.

    Streams, consumers and buckets that are not ours are named and left alone.
    """
    wanted = run(_plan(nats_url))
    due = [change for change in wanted if change.action != "extra"]
    if not as_json:
        for change in wanted:
            click.echo(str(change))
        if not due:
            click.echo("nothing to do: streams, consumers and buckets are as they should be")
    if plan_only:
        if as_json:
            click.echo(as_json_text(wanted))
        raise SystemExit(1 if due else 0)
    done = run(_apply(nats_url, recreate)) if due else []
    if as_json:
        click.echo(as_json_text(done))
        return
    for change in done:
        click.echo(f"{DONE[change.action]}: {change.kind} {change.name}")
    left = [change for change in due if change.action == "recreate" and not recreate]
    if left:
        raise click.ClickException(f"{len(left)} can't be changed in place; --recreate makes them anew, and empty")


async def _plan(nats_url: str) -> list[Change]:
    async with bus(nats_url) as connection:
        return await plan(connection, load().streams)


async def _apply(nats_url: str, recreate: bool) -> list[Change]:
    async with bus(nats_url) as connection:
        return await apply(connection, load().streams, recreate=recreate)
