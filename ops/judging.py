"""What a demonstration came to: by the audio that the caller received, by the call's events, or by both.

A recogniser can judge a voice that speaks an agent's own sentences. A model answers in words of its own, and a voice
may be one that the recogniser does not understand: the events then say whether the conversation was one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from config.settings import Settings
from ops.callview import CallView, TurnView
from ops.hearing import Demonstration, EventGoal, Verdict
from schemas.call import CallResult
from schemas.llm import turn_of

How = Literal["audio", "events", "auto"]

GOES_ON_MS = 3000
"""A caller who speaks again so soon has not waited for an answer: two turns of the asr stage, one of the caller."""


class Decision(NamedTuple):
    """How a demonstration is judged.

    Attributes:
        listen: whether a recogniser hears the audio.
        by_events: whether the events decide; otherwise the audio does.
        why: why so, for the verdict.
    """

    listen: bool
    by_events: bool
    why: str


class Finding(NamedTuple):
    """One thing that the events must show."""

    ok: bool
    text: str


class Judgement(NamedTuple):
    """Both judges' findings. ``heard`` None: no recogniser listened; ``events`` count where they decide."""

    decision: Decision
    heard: Verdict | None
    events: tuple[Finding, ...]

    @property
    def reached(self) -> bool:
        """What the deciding judge says."""
        if self.decision.by_events:
            return all(finding.ok for finding in self.events)
        return self.heard is not None and self.heard.reached


def decide(how: How, settings: Settings, demonstration: Demonstration) -> Decision:
    """Who judges.

    ``auto``: the audio, where the demonstration knows the agent's sentences and the recogniser the voice; otherwise the
    audio is tried, and the events decide.
    """
    if how == "audio":
        return Decision(True, False, "as --judge says")
    if how == "events":
        return Decision(False, True, "as --judge says; nobody listened to the words")
    reasons = []
    if settings.llm.engine != "scripted":
        reasons.append(f"{settings.llm.engine} answers in words of its own")
    elif Path(settings.llm.agent).stem != demonstration.name:
        reasons.append(f"no demonstration knows the sentences of the agent {settings.llm.agent}")
    if settings.tts.engine != "espeak":
        reasons.append(f"the recogniser may not understand the voice of {settings.tts.engine}")
    if not reasons:
        return Decision(True, False, "")
    return Decision(True, True, ", and ".join(reasons))


class AnsweredTurns(NamedTuple):
    """How often the caller was understood, and how often an answer to that was played to the caller."""

    understood: int
    answered: int


def answered_turns(view: CallView, goal: EventGoal) -> AnsweredTurns:
    """Count what the caller said, and what of it has got as many sentences of answer as ``goal`` asks for."""
    said = contributions(view)
    answers = [sum(sentences_heard(view, turn.turn) for turn in turns) for turns in said]
    return AnsweredTurns(len(said), sum(count >= goal.answers for count in answers))


def judge_events(view: CallView, goal: EventGoal, idle: Sequence[str] = ()) -> tuple[Finding, ...]:
    """Hold a call against what its events must show. ``idle``: chosen engines for which others stood in."""
    understood, answered = answered_turns(view, goal)
    codes = sorted({failure.code for failure in view.failures})
    ended = view.ended
    how = f"{ended.result.value}, {ended.reason}" if ended is not None else "not at all"
    orderly = ended is not None and ended.result is CallResult.COMPLETED and ended.reason in goal.ended
    return (
        Finding(understood >= goal.turns, f"the caller was understood {understood} times, of at least {goal.turns}"),
        Finding(
            answered == understood,
            f"{answered} of {understood} times with {goal.answers} or more sentences of answer, played to the caller",
        ),
        Finding(
            len(view.failures) <= goal.failures,
            f"{len(view.failures)} failures, of at most {goal.failures}" + (f": {', '.join(codes)}" if codes else ""),
        ),
        Finding(orderly, f"the call ended: {how}; wanted is: {' or '.join(goal.ended)}"),
        *(Finding(False, text) for text in idle),
    )


def contributions(view: CallView) -> list[list[TurnView]]:
    """The caller's turns, those together that the caller spoke without waiting for an answer."""
    found: list[list[TurnView]] = []
    for turn in view.turns.values():
        if not turn.ended or turn.turn == 0:
            continue
        before = found[-1][-1] if found else None
        went_on = before is not None and turn.speech_start_ms - before.speech_end_ms < GOES_ON_MS
        if went_on and before is not None and not sentences_heard(view, before.turn):
            found[-1].append(turn)
        else:
            found.append([turn])
    return found


def sentences_heard(view: CallView, turn: int) -> int:
    """Sentences of the answer to a turn that were played to their end; fillers are none."""
    return sum(
        len(utterance.heard - utterance.fillers)
        for utterance_id, utterance in view.utterances.items()
        if turn_of(utterance_id) == turn
    )


def judgement_lines(judgement: Judgement) -> list[str]:
    """Both judges' findings, and what follows from the one that decides."""
    decision, heard = judgement.decision, judgement.heard
    lines = []
    if heard is not None:
        lines += ["what a recogniser heard in the audio that the caller received:"]
        lines += [f"{utterance.start_ms / 1000:7.2f} s  {utterance.text}" for utterance in heard.utterances]
        lines += [f"NOT HEARD: {phrase}" for phrase in heard.missing] if not decision.by_events else []
    if decision.by_events:
        if heard is not None:
            found = f"{len(heard.missing)} phrase(s) of the goal not heard" if heard.missing else "goal reached"
            lines.append(f"judged by the audio: {found}")
        lines.append(f"judged by the events, which decide: {decision.why}")
        lines += [f"  {'ok ' if finding.ok else 'NOT'}  {finding.text}" for finding in judgement.events]
        return [
            *lines,
            "GOAL REACHED: every turn was answered; what was said, nobody judged"
            if judgement.reached
            else "GOAL NOT REACHED",
        ]
    if judgement.reached:
        return [*lines, "GOAL REACHED: the caller heard everything that was to be heard, in order"]
    return [*lines, "GOAL NOT REACHED"]
