"""``callbus meter``: answers and barge-ins of a stereo recording, by its sound alone."""

from __future__ import annotations

from pathlib import Path

import click

from ops import meter as sound
from ops.meter import Metering, Overlap
from ops.session import as_json_text, json_option, percentile
from services.audio.wav import WavError, read_wav


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def meter(file: Path, as_json: bool) -> None:
    """Measure FILE, a stereo WAV (caller left, agent right): when the agent answers, and when it stops for the caller.

    Sees no events and knows no call: the energy of windows of 10 ms is all that counts, so recordings of any system can
    be measured. 'callbus play' and 'callbus call --record' make such files.
    """
    try:
        wav = read_wav(file)
    except OSError as error:
        raise click.ClickException(f"{file} can't be read: {error.strerror}") from error
    except WavError as error:
        raise click.ClickException(str(error)) from error
    if wav.channels != 2:
        raise click.ClickException(f"{file} has one channel; two are needed: caller left, agent right")
    found = sound.meter(wav.channel(0), wav.channel(1), wav.sample_rate_hz)
    if as_json:
        click.echo(as_json_text(facts(found)))
        return
    for line in text_lines(str(file), found):
        click.echo(line)


def facts(found: Metering) -> dict[str, object]:
    """Everything, with names, for JSON."""
    return {
        **found._asdict(),
        "caller": [each._asdict() for each in found.caller],
        "agent": [each._asdict() for each in found.agent],
        "answers": [{**each._asdict(), "latency_ms": round(each.latency_ms, 3)} for each in found.answers],
        "barge_ins": [{**each._asdict(), "latency_ms": round(each.latency_ms, 3)} for each in found.barge_ins],
    }


def text_lines(name: str, found: Metering) -> list[str]:
    """What happened in the order of time, then the figures."""
    lines = [
        f"{name}: {found.duration_ms / 1000:.1f} s; voiced over {found.caller_dbfs:.0f} dBFS (caller), "
        f"{found.agent_dbfs:.0f} dBFS (agent); {len(found.caller)} and {len(found.agent)} stretches of voice",
        "",
    ]
    told = [(each.agent_start_ms, f"the agent answers after {each.latency_ms:.0f} ms") for each in found.answers]
    for each in found.barge_ins:
        match each.outcome:
            case Overlap.STOPPED:
                text = f"the caller begins; the agent is silent after {each.latency_ms:.0f} ms"
            case Overlap.PAUSED:
                silent_ms = (each.agent_back_ms or each.agent_end_ms) - each.agent_end_ms
                text = f"a sound; the agent is silent after {each.latency_ms:.0f} ms, for {silent_ms / 1000:.1f} s"
            case Overlap.SPOKE_ON:
                text = "the caller begins; the agent speaks on"
        told.append((each.caller_start_ms, text))
    lines += [f"{at_ms / 1000:7.2f} s  {text}" for at_ms, text in sorted(told)]
    rows = {
        "answer": [each.latency_ms for each in found.answers],
        "barge-in": [each.latency_ms for each in found.of(Overlap.STOPPED)],
        "pause": [each.latency_ms for each in found.of(Overlap.PAUSED)],
    }
    table = [
        f"{row:22} {' '.join(f'{percentile(values, share):8.1f}' for share in (0.5, 0.95, 0.99))} {len(values):4}"
        for row, values in rows.items()
        if values
    ]
    return [*lines, "", f"{'latency (ms)':22} {'p50':>8} {'p95':>8} {'p99':>8} {'n':>4}", *table] if table else lines
