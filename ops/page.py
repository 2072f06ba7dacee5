"""A call's view as lines of text: transcript, table of latencies, a waterfall for each turn."""

from __future__ import annotations

from typing import NamedTuple

from ops.callview import LATENCY_NAMES, CallView, Interruption, Line, Pause, TurnView, Unanswered
from ops.session import percentile
from schemas.call import CallHeld
from schemas.failure import Failure
from schemas.llm import turn_of
from schemas.turn import TurnAway

Note = Pause | Interruption | TurnAway | Failure | Unanswered | CallHeld

BAR_WIDTH = 60
NAME_WIDTH = 24
FROM_ZERO = ("transcription_delay", "end_of_turn_delay", "filler_latency")
"""Bars that begin where the caller fell silent."""
MIN_REST_MS = 1.0
HOPS = ("turn.ended", "llm.sentence", "llm.done", "tts.started", "playout.started", "playout.mark")
"""Hops on the bus in the order of the way to the answer; others follow."""
PREPARED = {"hit": "answer prepared ahead", "miss": "prepared ahead in vain"}


class _Step(NamedTuple):
    """A bar of the waterfall. ``within``: it lies within the bar above it, and takes no time of its own."""

    name: str
    begin_ms: float
    length_ms: float
    within: bool = False


def transcript_lines(view: CallView) -> list[str]:
    """Both sides, with the media time at which each began, and what happened to the floor between them."""
    found = [(line.at_ms, 1, _told(line.at_ms, line.speaker, _text_of(view, line))) for line in view.lines]
    found += [
        (turn.speech_start_ms, 1, _told(turn.speech_start_ms, "caller", "[no words were understood]"))
        for turn in view.turns.values()
        if turn.ended and not turn.text and not turn.digits
    ]
    # A pause that was confirmed is told as the interruption that it became.
    pauses = [pause for pause in view.pauses if pause.duration_ms is not None or not _is_interrupted(view, pause)]
    notes: list[Note] = [*pauses, *view.interruptions, *view.away, *view.stuck, *view.unanswered, *view.holds]
    found += [
        (at_ms, 0, _told(at_ms, "", f"[{_note(view, note)}]")) for note in notes for at_ms in [_at_ms(view, note)]
    ]
    return [text for _, _, text in sorted(found, key=lambda each: each[:2])]


def _is_interrupted(view: CallView, pause: Pause) -> bool:
    return any(each.utterance_id == pause.utterance_id for each in view.interruptions)


def _told(at_ms: int, speaker: str, text: str) -> str:
    return f"{at_ms / 1000:7.2f} s  {speaker:6}  {text}"


def _text_of(view: CallView, line: Line) -> str:
    cut = ""
    if line.cut:
        by_caller = any(turn_of(each.utterance_id) == line.turn for each in view.interruptions)
        cut = " [interrupted]" if by_caller or view.ended is None else " [cut off by the end of the call]"
    return f"{'[filler] ' if line.filler else ''}{line.text}{cut}"


def _interrupted_at_ms(view: CallView, note: Interruption) -> int:
    """It stands before the words that interrupt and after those that are interrupted.

    Its first sample is looked for in the sound, that of the words is the VAD's: either can be the earlier one.
    """
    turn = view.turns.get(note.turn)
    if turn is None or not turn.ended:
        return note.at_ms
    begun = [line.at_ms for line in view.lines if line.speaker == "agent" and line.turn == turn_of(note.utterance_id)]
    return note.at_ms if begun and begun[0] >= turn.speech_start_ms else min(note.at_ms, turn.speech_start_ms)


def _at_ms(view: CallView, note: Note) -> int:
    match note:
        case TurnAway():
            return note.media_time_ms
        case Interruption():
            return _interrupted_at_ms(view, note)
        case Failure() | CallHeld():
            epoch_us = view.answered.media_epoch_us if view.answered is not None else note.at_us
            return max(0, note.at_us - epoch_us) // 1000
        case _:
            return note.at_ms


def _note(view: CallView, note: Note) -> str:
    match note:
        case Pause():
            lasted = "" if note.duration_ms is None else f" {note.duration_ms / 1000:.1f} s"
            words = f", {note.text!r}" if note.text else ""
            return f"paused{lasted}: {note.why}{words}" if note.why else f"paused{lasted}"
        case Interruption():
            silent = "had not begun" if note.barge_in_ms is None else f"is silent after {note.barge_in_ms:.0f} ms"
            lost = "" if note.barge_in_ms is None or _was_heard(view, note) else ", no word of it was heard"
            return f"interruption ({note.why}): the agent {silent}{lost}"
        case CallHeld():
            return "the caller puts the call on hold" if note.held else "the caller is back from hold"
        case Unanswered():
            return f"{note.duration_ms / 1000:.1f} s of sound, no words were understood: not answered"
        case Failure():
            return f"no answer: {note.detail or note.code}"
        case TurnAway():
            then = "the agent says goodbye" if note.last else "the agent asks"
            return f"nobody has spoken for {note.silent_ms / 1000:.1f} s: {then}"


def _was_heard(view: CallView, note: Interruption) -> bool:
    turn = turn_of(note.utterance_id)
    return any(line.speaker == "agent" and line.turn == turn for line in view.lines)


def latency_lines(view: CallView) -> list[str]:
    """Every latency name with p50, p95, p99 and n; then hops on the bus and waits in queues."""
    rows = {name: view.latencies(name) for name in LATENCY_NAMES}
    rows |= {f"bus_hop {name}": [] for name in HOPS}
    for turn in view.turns.values():
        for subject, hop_ms in turn.bus_hop_ms.items():
            rows.setdefault(_hop_name(subject), []).append(hop_ms)
    rows |= {f"queue_wait {stage}": [] for stage in ("llm", "tts")}
    for turn in view.turns.values():
        for stage, wait_ms in turn.queue_wait_ms.items():
            rows.setdefault(f"queue_wait {stage}", []).append(wait_ms)
    width = max([NAME_WIDTH, *(len(name) for name, values in rows.items() if values)])
    lines = [f"{'latency (ms)':{width}} {'p50':>8} {'p95':>8} {'p99':>8} {'n':>4}"]
    for name, values in rows.items():
        if values:
            figures = " ".join(f"{percentile(values, share):8.1f}" for share in (0.5, 0.95, 0.99))
            lines.append(f"{name:{width}} {figures} {len(values):4}")
    return lines if len(lines) > 1 else []


def _hop_name(subject: str) -> str:
    return f"bus_hop {subject.removeprefix('call.*.*.')}"


def turn_lines(view: CallView) -> list[str]:
    """The waterfalls of all turns of the caller that ended."""
    lines: list[str] = []
    for turn in view.turns.values():
        if turn.ended:
            lines += ["", *waterfall(turn)]
    return lines


def waterfall(turn: TurnView) -> list[str]:
    """One turn from the caller's last voiced sample to the first audible sample of the answer, as bars."""
    steps = _steps(turn)
    total = max([1.0, *(step.begin_ms + step.length_ms for step in steps)])
    lines = _head(turn)
    for step in steps:
        begin = min(int(step.begin_ms / total * BAR_WIDTH), BAR_WIDTH - 1)
        length = max(1, min(round(step.length_ms / total * BAR_WIDTH), BAR_WIDTH - begin))
        bar = " " * begin + ("░" if step.within else "█") * length
        lines.append(f"  {'  ' * step.within + step.name:{NAME_WIDTH}} {bar:{BAR_WIDTH + 1}} {step.length_ms:7.1f} ms")
    return lines


def _head(turn: TurnView) -> list[str]:
    found = turn.latencies_ms
    answered = f"answered after {found['e2e_latency']:.0f} ms" if "e2e_latency" in found else _unanswered(turn)
    tools = [f"tools: {', '.join(turn.tools)}"] if turn.tools else []
    more = []
    if turn.preemptive:
        more.append(PREPARED.get(turn.preemptive, turn.preemptive))
    if "barge_in" in found:
        more.append(f"interrupted the agent, which was silent after {found['barge_in']:.0f} ms")
    if "filler_latency" in found:
        more.append(f"filler after {found['filler_latency']:.0f} ms")
    intent = f"intent {turn.intent}" if turn.intent else "no intent"
    head = f"turn {turn.turn}: {', '.join([turn.why, intent, *tools, answered])}"
    return [head, f"  {'; '.join(more)}"] if more else [head]


def _unanswered(turn: TurnView) -> str:
    if turn.stuck:
        return f"no answer: {turn.stuck}"
    return "interrupted before an answer was heard" if turn.interrupted else "no answer"


def _steps(turn: TurnView) -> list[_Step]:
    """What is known of the way, each step where the one before it ended."""
    found = turn.latencies_ms
    steps = [_Step(name, 0.0, found[name]) for name in FROM_ZERO if name in found]
    at = found.get("end_of_turn_delay", 0.0)
    chain = (
        (_hop_name("turn.ended"), turn.bus_hop_ms.get("call.*.*.turn.ended"), ""),
        ("llm_node_ttfs", found.get("llm_node_ttfs"), "llm"),
        (_hop_name("llm.sentence"), turn.bus_hop_ms.get("call.*.*.llm.sentence"), ""),
        ("tts_node_ttfb", found.get("tts_node_ttfb"), "tts"),
        ("playback_latency", found.get("playback_latency"), ""),
    )
    for name, length, stage in chain:
        if length is None:
            continue
        steps.append(_Step(name, at, length))
        if stage in turn.queue_wait_ms:
            steps.append(_Step(f"queue_wait {stage}", at, turn.queue_wait_ms[stage], within=True))
        at += length
    rest = found.get("e2e_latency", at) - at
    if rest >= MIN_REST_MS:
        steps.append(_Step("leading silence, rest", at, rest))
    return steps
