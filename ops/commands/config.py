"""``callbus config``: every setting, its value and where that came from."""

from __future__ import annotations

import click
import msgspec

from config.load import Row, rows
from config.settings import Settings
from ops.session import as_json_text, json_option


@click.group()
def config() -> None:
    """Settings: config/app.ini, then the environment (CALLBUS_<SECTION>__<KEY>)."""


@config.command()
@json_option
@click.option("--changed", is_flag=True, help="Only settings that differ from their default.")
@click.argument("section", required=False)
def show(as_json: bool, changed: bool, section: str | None) -> None:
    """Show each setting with its value and its source (default, file, or variable)."""
    found = [row for row in rows() if section in (None, row.section) and not (changed and row.source == "default")]
    if section is not None and not any(row.section == section for row in rows()):
        sections = sorted({row.section for row in rows()})
        raise click.BadParameter(f"{section!r} is no section; there are: {', '.join(sections)}")
    if as_json:
        click.echo(as_json_text([row._asdict() for row in found]))
        return
    width = max((len(f"{row.section}.{row.key}") for row in found), default=0)
    for row in found:
        click.echo(f"{row.section + '.' + row.key:{width}}  {text_of(row.value):32}  {row.source}")


@config.command()
@json_option
def check(as_json: bool) -> None:
    """Check the settings; exit 2 with the first mistake."""
    count = sum(1 for _ in rows())
    click.echo(as_json_text({"settings": count, "ok": True}) if as_json else f"{count} settings, all allowed")


@config.command()
def document() -> None:
    """Print the settings as the page docs/configuration.md."""
    click.echo(document_text(), nl=False)


def text_of(value: object) -> str:
    """A value as it would stand in app.ini."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if value != "" else "(empty)"


def document_text() -> str:
    """docs/configuration.md, made from the setting rows."""
    lines = [
        "# Configuration",
        "",
        "This page is made by `callbus config document`. Settings stand in `config/app.ini` (or the file that",
        "`CALLBUS_CONFIG` names); the environment wins: `CALLBUS_<SECTION>__<KEY>`, for example",
        "`CALLBUS_EDGE__SIP_PORT=5070`. `callbus config show` says each value and where it came from. A value that is",
        "not allowed stops the process at start with the section, the key, the value and what is allowed.",
    ]
    by_section: dict[str, list[Row]] = {}
    for row in rows(environment={}):
        by_section.setdefault(row.section, []).append(row)
    for field in msgspec.structs.fields(Settings):
        summary = (type(field.default).__doc__ or "").split(": ", 1)[-1]
        lines += ["", f"## [{field.name}]", "", summary[:1].upper() + summary[1:], ""]
        lines += ["| key | allowed | default | what it is |", "|---|---|---|---|"]
        lines += [
            f"| `{row.key}` | {row.type_text} | `{text_of(row.default)}` | {row.help} |"
            for row in by_section[field.name]
        ]
    return "\n".join(lines) + "\n"


@config.command()
def sample() -> None:
    """Print an app.ini that names every setting with its default, commented out."""
    click.echo(sample_text(), nl=False)


def sample_text() -> str:
    """config/app.ini, made from the setting rows."""
    lines = ["; Settings of callbus. Every setting stands here with its default, commented out; take the ';' away to"]
    lines += ["; change one. The environment wins: CALLBUS_<SECTION>__<KEY>. Check with: callbus config check"]
    section = ""
    for row in rows(environment={}, file=None):
        if row.section != section:
            section = row.section
            lines += ["", f"[{section}]"]
        lines += [
            f"; {row.help} ({row.type_text})",
            f"; {row.key} = {text_of(row.default).replace('(empty)', '')}".rstrip(),
        ]
    return "\n".join(lines) + "\n"
