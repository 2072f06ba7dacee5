"""``callbus schema``: what travels on the bus, for other programs."""

from __future__ import annotations

from importlib import metadata

import click
import msgspec

from ops import contract, log_schema, metrics_page, subject_page, turn_tables
from ops.session import as_json_text, json_option
from schemas.base import Event, tag_of, type_name
from schemas.subjects import EVENT_BY_NAME, EVENT_TYPES, SPEAKERS


@click.command()
@click.option("--asyncapi", "form", flag_value="asyncapi", help="AsyncAPI 3.0: subjects and messages.")
@click.option("--json-schema", "form", flag_value="json", help="JSON Schema of every message.  [default]")
@click.option("--turn-machine", "form", flag_value="turns", help="Markdown: the tables of turn taking, with diagrams.")
@click.option(
    "--subjects", "form", flag_value="subjects", help="Markdown: every subject, who says and hears it, its body."
)
@click.option("--metrics", "form", flag_value="metrics", help="Markdown: every metric, its labels, who tells it.")
@click.option("--logs", "form", flag_value="logs", help="JSON Schema of a line of the logs.")
@click.option("--list", "form", flag_value="list", help="A line per event: subject, type tag, who says it.")
@json_option
@click.argument("event", required=False)
def schema(form: str | None, event: str | None, as_json: bool) -> None:
    """Print the contract of every message as made from the code. JSON, but for the Markdown pages and --list.

    EVENT limits the output to one event's JSON Schema, for example asr.final.
    """
    if event is not None:
        if event not in EVENT_BY_NAME:
            raise click.BadParameter(f"{event!r} is no event; there are: {', '.join(EVENT_BY_NAME)}")
        document: object = msgspec.json.schema(EVENT_BY_NAME[event])
    elif form == "list":
        rows = [_row(event_type) for event_type in EVENT_TYPES]
        if as_json:
            click.echo(as_json_text(rows))
            return
        for row in rows:
            click.echo(f"{row['subject']:43} {row['type']:24} {row['speaker']}")
        return
    elif form == "turns":
        click.echo(turn_tables.document(), nl=False)
        return
    elif form == "subjects":
        click.echo(subject_page.document(), nl=False)
        return
    elif form == "metrics":
        click.echo(metrics_page.document(), nl=False)
        return
    elif form == "logs":
        document = log_schema.document()
    elif form == "asyncapi":
        document = contract.asyncapi(metadata.version("callbus"))
    else:
        document = contract.json_schema()
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def _row(event_type: type[Event]) -> dict[str, str]:
    name = type_name(event_type)
    speaker = SPEAKERS[name.split(".")[0]]
    return {"subject": f"call.<tenant>.<call>.{name}", "type": tag_of(event_type), "speaker": speaker}
