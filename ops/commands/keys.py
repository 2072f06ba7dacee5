"""``callbus keys``: one NATS user per service, each with a key of its own."""

from __future__ import annotations

from pathlib import Path

import click

from ops.keys import KeyFileError, KeyFolder, rows_of
from ops.permissions_page import document
from ops.session import as_json_text, json_option

folder_option = click.option(
    "--out",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder of the keys; each user has a folder of its own in it.",
)


@click.group()
def keys() -> None:
    """Make and look at the keys (nkeys) that every process shows to NATS. No seed is ever printed."""


@keys.command()
@folder_option
@click.option("--if-missing", is_flag=True, help="Keep the keys that are there, make those that are not.")
@click.option("--force", is_flag=True, help="Replace every key, and the store's: what it holds can't be read any more.")
@click.option("--owner", type=int, default=None, metavar="UID", help="Numeric user that the files shall belong to.")
def create(folder: Path, if_missing: bool, force: bool, owner: int | None) -> None:
    """Make a key per NATS user, and the users.conf that nats.conf includes.

    Seeds lie in DIR/USER/USER.nk, public keys, permissions and the key of the encrypted store in DIR/nats/users.conf.
    All of them can be read by their owner only.
    """
    if if_missing and force:
        raise click.UsageError("--if-missing keeps keys and --force replaces them: say one of the two")
    try:
        for made in KeyFolder(folder, owner).create(if_missing=if_missing, force=force):
            click.echo(made.sentence)
    except (KeyFileError, OSError) as error:
        raise click.ClickException(str(error)) from None


@keys.command()
@folder_option
@json_option
def show(folder: Path, as_json: bool) -> None:
    """Show every user, its public key and what it is for; exit 1 where a key is missing or open to others."""
    found = KeyFolder(folder).show()
    if as_json:
        rows = [
            {"name": k.name, "public_key": k.public_key, "what": k.what, "file": str(k.path), "defect": k.defect}
            for k in found
        ]
        click.echo(as_json_text(rows))
    else:
        for row in rows_of(found):
            click.echo(row)
    for key in found:
        if key.defect:
            click.echo(f"Error: {key.name}: {key.defect}", err=True)
    if any(key.defect for key in found):
        raise SystemExit(1)


@keys.command()
def rights() -> None:
    """Print what every NATS user may publish and subscribe, and what for, as Markdown (docs/security.md)."""
    click.echo(document())
