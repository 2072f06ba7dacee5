"""docs/metrics.md, made from the declarations: every figure with its labels, who tells it, and what it means."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from bus.metrics import calls, engines, media, process, traces, turns, workers
from bus.metrics.registry import SERVICES, Declaration, Figure, Label

ROOMS: tuple[tuple[ModuleType, str], ...] = (
    (turns, "Turns"),
    (calls, "Calls"),
    (media, "Sound"),
    (engines, "Engines"),
    (workers, "Workers and queues"),
    (process, "Processes"),
    (traces, "Traces"),
)
HEAD = """\
# Metrics

Made from the code by `callbus schema --metrics`.

Each process serves its own figures for Prometheus at `/metrics` where `[metrics] port` is set (`host`: `127.0.0.1` by
default; nothing is bound while the port is 0), beside `/health` and `/ready`. The processes of
`CALLBUS_METRICS__PORT=9464 callbus up` take 9464, 9465, ... in the order in which they are listed: edges, asr, llm,
tts; `up` prints the first and the last. Processes that are started one by one need a port each; one whose port is
taken says so in its log and works without.

A process tells what it knows and nothing else: an edge has no latencies of turns, not even at zero. What a turn
measures is counted by the asr process that owned the call. A counter with few series has all of them from the start,
at 0, so that its first count shows in `increase()`.

No label holds an identifier: values come out of closed lists, and anything else becomes `other`; names of engines
come out of the settings, 16 at most. So the number of series of a process has an end, whatever callers do (a test
holds it). From a slow bucket to its calls the way is `callbus calls` and `callbus show`, the event `turn.measured`,
which holds the same figures per turn, or an exemplar: asked for in the OpenMetrics format, as Prometheus does,
`callbus_turn_e2e_latency_seconds` names the trace id of a turn in each bucket (Prometheus keeps them with
`--enable-feature=exemplar-storage`).

What the engines' figures mean, an alert on them, and what callers get where a stage is down: [failover](failover.md).
`process_resident_memory_bytes`, `process_cpu_seconds_total` and the like stand beside the tables below in every
process.
"""

TAIL = """\
## How the sound is judged

`callbus_call_mos` is an estimate by the E-model (ITU-T G.107): it takes loss and delay and says what people would
have said of the sound, 1 (bad) to 4.41 (the best that telephone sound can have). Nobody has listened to it. What goes
in:

* Loss: packets that never came or came too late, and how far they fell into bursts. Inwards a lost packet is a hole
  (G.113: Bpl 4.3), because the recogniser gets what came; of the caller's telephone it is assumed that it conceals
  loss as G.711 appendix I does (Bpl 25.1). 1 % random loss: 3.8 and 4.3; 5 %: 2.2 and 3.9.
* Delay from mouth to ear: half of the round trip that RTCP measured, or 20 ms where the telephone sends none; a
  packet of 20 ms; outwards 40 ms for the telephone's jitter buffer. The time that the agent takes to answer is none
  of it.
* Loudness, echo and noise of the telephone have the default values of G.107: no packet tells them.

Outwards there is a score only where the caller's telephone sends RTCP reports. A call with less than a second of
packets has none. The same figures stand in `call.ended` and in `callbus show`.

## What it costs

Nothing is done by RTP packet or audio frame beyond counts that the media keeps anyway: an edge carries them into the
figures once a second and call, spread over the second (3.4 µs each: 0.1 % of a core at 300 calls), and the pacer
counts its lateness in its own buckets. A histogram costs an observation a turn, a sentence or a message; handlers are
timed in any case and count one bucket more (0.12 µs of 7.7). A worker asks the server once in 5 to 7 s about its
queue.

Pages are made when they are asked for, on a thread of their own that lets the event loop go first between two
figures. After some calls a page has 250 lines (edge) to 650 (asr) and takes 2 to 5 ms; 2000 lines is the most that
any process comes to. The times are of a busy machine of two cores.
"""


def document() -> str:
    """The whole page."""
    parts = [HEAD]
    for room, title in ROOMS:
        told = (room.__doc__ or "").split("\n")[0]
        parts += [f"## {title}\n", f"{told}\n", *_table(list(figures_in(room))), ""]
    return "\n".join([*parts, TAIL])


def figures_in(room: ModuleType) -> Iterator[Declaration]:
    """The declarations of a room in their order."""
    for value in vars(room).values():
        for each in value.values() if isinstance(value, dict) else (value,):
            if isinstance(each, Figure):
                yield each.declaration


def _table(declared: list[Declaration]) -> list[str]:
    head = ["| metric | type | labels | told by | is |", "|---|---|---|---|---|"]
    return [*head, *(_row(each) for each in declared)]


def _row(each: Declaration) -> str:
    labels = "; ".join(f"`{label.name}`: {_values(label)}" for label in each.labels)
    by = "all" if set(each.by) == set(SERVICES) else ", ".join(each.by)
    return f"| `{each.name}` | {each.kind} | {labels} | {by} | {each.text} |"


def _values(label: Label) -> str:
    if label.own:
        return "the process's own"
    return label.told
