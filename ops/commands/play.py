"""``callbus play``: the recording of a call as a stereo WAV file."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import click

from ops.rendering import Rendering, render_call
from ops.session import as_json_text, bus, find_call, json_option, nats_option, run
from schemas.call import CallOffered

STANDARD_OUTPUT = Path("-")


@click.command()
@click.argument("call")
@click.option(
    "--wav", "path", type=click.Path(path_type=Path), required=True, help="File to write; - is standard output."
)
@nats_option
@json_option
def play(call: str, path: Path, nats_url: str, as_json: bool) -> None:
    """Render CALL (an id, the beginning or end of one, or 'last') out of the stream: caller left, agent right."""
    offered, rendering = run(_render(call, nats_url))
    if path == STANDARD_OUTPUT:
        sys.stdout.buffer.write(rendering.wav())
        return
    try:
        path.write_bytes(rendering.wav())
    except OSError as error:
        hint = "; `--wav - > FILE` writes it outside of a container" if error.errno == errno.EROFS else ""
        raise click.ClickException(f"{path} can't be written: {error.strerror}{hint}") from error
    _report(offered.call_id, path, rendering, as_json)


async def _render(call: str, nats_url: str) -> tuple[CallOffered, Rendering]:
    async with bus(nats_url) as connection:
        offered = await find_call(connection, call)
        rendering = await render_call(connection, offered.call_id, offered.tenant)
    if not rendering.duration_ms:
        raise click.ClickException(f"the stream holds no audio of call {offered.call_id}")
    return offered, rendering


def _report(call_id: str, path: Path, rendering: Rendering, as_json: bool) -> None:
    if as_json:
        facts = {
            "call_id": call_id,
            "wav": str(path),
            "duration_ms": rendering.duration_ms,
            "missing_in": rendering.missing_in,
            "missing_out": rendering.missing_out,
        }
        click.echo(as_json_text(facts))
        return
    click.echo(f"{path}: {rendering.duration_ms / 1000:.1f} s, caller left, agent right")
    for name, missing in (("caller", rendering.missing_in), ("agent", rendering.missing_out)):
        for first, count in missing:
            click.echo(f"  missing in the recording of the {name}: {count} frames from number {first}")
