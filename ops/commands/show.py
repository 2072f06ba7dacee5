"""``callbus show``: one call, as a person wants to read it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import click

from bus.consume import read_call
from bus.spans import trace_id_of
from ops.callview import CallView, describe_failure, view_of
from ops.content import without_content, words_of
from ops.engines_used import used_text
from ops.page import latency_lines, transcript_lines, turn_lines
from ops.rendering import holes, read_chunks
from ops.session import as_json_text, bus, find_call, json_option, nats_option, run


@dataclass(frozen=True, slots=True)
class Shown:
    """A call's view and the holes in its recording, per direction as (first missing frame, count)."""

    view: CallView
    missing_in: tuple[tuple[int, int], ...]
    missing_out: tuple[tuple[int, int], ...]


@click.command()
@click.argument("call")
@click.option("--no-content", is_flag=True, help="Leave out what was said and pressed.")
@nats_option
@json_option
def show(call: str, no_content: bool, nats_url: str, as_json: bool) -> None:
    """Show CALL (an id, the beginning or end of one, or 'last'): who said what, how fast, what failed.

    Latencies begin at the caller's last voiced sample and end at the first audible sample of the answer; a filler is no
    answer. Barge-in is from the caller's first voiced sample to the end of the last agent packet. --no-content hides
    what was said, pressed and dialled; intents and names of tools stay.
    """
    shown = run(_show(call, nats_url))
    if no_content:
        hide_content(shown.view)
    if as_json:
        click.echo(as_json_text({"state": shown.view.state, **dataclasses.asdict(shown)}))
    else:
        click.echo("\n".join(text_lines(shown)))


async def _show(call: str, nats_url: str) -> Shown:
    async with bus(nats_url) as connection:
        offered = await find_call(connection, call)
        view = view_of(await read_call(connection, offered.call_id, offered.tenant))
        chunks_in = await read_chunks(connection, "in", offered.call_id, offered.tenant)
        chunks_out = await read_chunks(connection, "out", offered.call_id, offered.tenant)
    return Shown(view, holes(chunks_in), holes(chunks_out))


def hide_content(view: CallView) -> None:
    """Replace what was said, pressed and dialled by its length."""
    for line in view.lines:
        keys = view.turns[line.turn].digits if line.speaker == "caller" else ""
        line.text = f"[{len(keys)} keys]" if keys else words_of(line.text)
    for pause in view.pauses:
        pause.text = words_of(pause.text) if pause.text else ""
    for turn in view.turns.values():
        turn.text = words_of(turn.text) if turn.text else ""
        turn.digits = "*" * len(turn.digits)
    view.offered = without_content(view.offered) if view.offered is not None else None
    view.keys = [without_content(key) for key in view.keys]
    view.utterances = {}


def text_lines(shown: Shown) -> list[str]:
    """The whole page."""
    view = shown.view
    transcript, latencies = transcript_lines(view), latency_lines(view)
    return [
        *_head(view),
        *(["", *transcript] if transcript else []),
        *(["", *latencies] if latencies else []),
        *turn_lines(view),
        *_failure_lines(shown),
        *_end_lines(view),
    ]


def _head(view: CallView) -> list[str]:
    lines = [f"call {view.call_id}  tenant {view.tenant}  {view.state}  {view.events} events"]
    if trace_id_of(view.call_id):
        lines.append(f"trace {view.call_id}")
    if view.answered is not None:
        lines.append(f"edge {view.answered.edge}, {view.answered.codec}, {view.answered.frame_ms} ms frames")
    if view.engines:
        lines.append(f"engines: {used_text(view.engines)}")
    return lines


def _failure_lines(shown: Shown) -> list[str]:
    lines = [f"failure: {describe_failure(failure)}" for failure in shown.view.failures]
    for name, missing in (("caller", shown.missing_in), ("agent", shown.missing_out)):
        lines += [f"gap in the recording of the {name}: {count} frames from number {first}" for first, count in missing]
    return ["", *lines] if lines else []


def _end_lines(view: CallView) -> list[str]:
    ended = view.ended
    if ended is None:
        return []
    media = ended.media
    return [
        "",
        f"ended: {ended.result.value} by {ended.ended_by.value}, {ended.reason}, {ended.duration_ms / 1000:.1f} s",
        f"rtp: {media.packets_received} in, {media.packets_sent} out, {media.lost} lost, {media.late} late, "
        f"{media.reordered} reordered, {media.duplicate} duplicate, jitter {media.jitter_ms:.1f} ms, "
        f"pacer late at most {media.pacer_late_max_ms:.1f} ms",
        f"sound: {_sound(media.mos_in, media.loss_share, media.jitter_ms)} in, "
        f"{_sound(media.mos_out, media.out_loss_share, media.out_jitter_ms)} out",
    ]


def _sound(mos: float | None, loss_share: float | None, jitter_ms: float | None) -> str:
    if mos is None or loss_share is None or jitter_ms is None:
        return "MOS not known"
    return f"MOS {mos:.2f} ({100 * loss_share:.1f} % lost, jitter {jitter_ms:.1f} ms)"
