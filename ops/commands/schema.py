"""``callbus schema``: what travels on the bus, for other programs."""

from __future__ import annotations

from importlib import metadata

import click
import msgspec

from ops import contract
from schemas.base import tag_of
from schemas.subjects import EVENT_BY_NAME, EVENT_TYPES, SPEAKERS


@click.command()
@click.option("--asyncapi", "form", flag_value="asyncapi", help="AsyncAPI 3.0: subjects and messages.")
@click.option("--json-schema", "form", flag_value="json", help="JSON Schema of every message.  [default]")
@click.option("--list", "form", flag_value="list", help="A line per event: subject, type tag, who says it.")
@click.argument("event", required=False)
def schema(form: str | None, event: str | None) -> None:
    """Print the contract of every message as made from the code.

    EVENT limits the output to one event's JSON Schema, for example asr.final.
    """
    if event is not None:
        if event not in EVENT_BY_NAME:
            raise click.BadParameter(f"{event!r} is no event; there are: {', '.join(EVENT_BY_NAME)}")
        document: object = msgspec.json.schema(EVENT_BY_NAME[event])
    elif form == "list":
        for event_type in EVENT_TYPES:
            name = tag_of(event_type).rsplit(".v", 1)[0]
            click.echo(f"call.<tenant>.<call>.{name:22} {tag_of(event_type):24} {SPEAKERS[name.split('.')[0]]}")
        return
    elif form == "asyncapi":
        document = contract.asyncapi(metadata.version("callbus"))
    else:
        document = contract.json_schema()
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
