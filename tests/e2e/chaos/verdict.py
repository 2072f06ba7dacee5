"""What the recording and the events of a call say of each of its turns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

from ops.hearing import utterances_of
from ops.meter import meter
from schemas.asr import AsrFinal
from schemas.base import Event
from schemas.failure import Failure
from schemas.llm import ListenFor, LlmDone, LlmSentence, ToolCalled, turn_of, utterance_of
from schemas.playout import PlayoutFlushed, PlayoutMark
from schemas.tts import TtsDone, TtsStarted
from schemas.turn import TurnEnded
from services.asr.engines.pocketsphinx import SAMPLE_RATE_HZ, PocketSphinxEngine
from services.asr.grammar import RULES
from services.audio.level import first_voiced_sample
from services.audio.resample import resample
from services.resilience.attempts import TAKEOVER_HEARD
from tests.e2e.chaos.call import Held, Turn
from tests.e2e.chaos.stages import Stage

E = TypeVar("E", bound=Event)

RATE_HZ = 8000
TICKS_PER_MS = RATE_HZ // 1000
GAP_LIMIT_MS = 1500
REPEATED_WORDS = 3
"""At most so many words are said again where another voice goes on."""
SKIPPED_MS = (0, 250, 500)
"""A word may break off before the sentence begins anew; no grammar holds half a word."""
CLEAR_LETTERS = 4
"""A recogniser misses a shorter word now and then."""
APOLOGIES = ("i am sorry something went wrong", "please say that again", "i did not catch that")


class Row(NamedTuple):
    """What came of a turn.

    Attributes:
        answer_ms: last voiced sample of the caller to the first one of the answer.
        gap_ms: longest silence within the answer.
        takeovers: failure events that say that another engine took over.
        problems: what should not be.
    """

    stage: str
    turn: Turn
    answer_ms: float
    gap_ms: float
    takeovers: int
    heard: str
    problems: tuple[str, ...]

    @property
    def name(self) -> str:
        """What failed in it."""
        if self.turn.fault is not None:
            return self.turn.fault.name
        return "left alone" if self.turn.left_alone else "well"

    @property
    def silence_ms(self) -> float:
        """The longest time in which the caller heard nothing."""
        return max(self.answer_ms, self.gap_ms)


def table(rows: Sequence[Row]) -> str:
    """As Markdown, a line for each fault of a stage: the worst of its turns."""
    lines = [
        "| stage | fault | turns | answer ms | gap within it ms | taken over | wrong |",
        "|---|---|---|---|---|---|---|",
    ]
    for stage, name in dict.fromkeys((row.stage, row.name) for row in rows):
        group = [row for row in rows if (row.stage, row.name) == (stage, name)]
        answer_ms, gap_ms = max(row.answer_ms for row in group), max(row.gap_ms for row in group)
        wrong = "; ".join(problem for row in group for problem in row.problems)
        taken = sum(row.takeovers for row in group)
        lines.append(f"| {stage} | {name} | {len(group)} | {answer_ms:.0f} | {gap_ms:.0f} | {taken} | {wrong} |")
    return "\n".join(lines)


def judge(stage: Stage, held: Held, ear: PocketSphinxEngine) -> list[Row]:
    """A row for each turn."""
    said, heard = bytes(held.recording.said.pcm), bytes(held.recording.heard.pcm)
    measured = meter(said, heard, RATE_HZ)
    begins = [span.start / TICKS_PER_MS for span in held.spans] + [measured.duration_ms]
    rows = []
    for number, turn in enumerate(held.turns, 1):
        begin_ms, end_ms = begins[number - 1], begins[number]
        caller = [each for each in measured.caller if begin_ms <= each.start_ms < end_ms]
        last_ms = max((each.end_ms for each in caller), default=begin_ms)
        answer = [each for each in measured.agent if last_ms < each.start_ms < end_ms]
        waits = [after.start_ms - before.end_ms for before, after in pairwise(answer)]
        audio = heard[round(last_ms * TICKS_PER_MS) * 2 : round(end_ms * TICKS_PER_MS) * 2]
        text = _hear(ear, turn, audio)
        problems = [*_problems(stage, held, number), *_unheard(turn, text)]
        answer_ms = answer[0].start_ms - last_ms if answer else float("inf")
        row = Row(stage.name, turn, answer_ms, max(waits, default=0.0), _takeovers(held, number), text, ())
        if row.silence_ms > GAP_LIMIT_MS:
            problems.append(f"nothing was heard for {row.silence_ms:.0f} ms")
        rows.append(row._replace(problems=tuple(problems)))
    return rows


def _problems(stage: Stage, held: Held, number: int) -> list[str]:
    """What the events of a turn show that should not be."""
    turn = held.turns[number - 1]
    problems = []
    ended = [event.text for event in _of(held, TurnEnded) if event.turn == number]
    if ended != [turn.talk.say]:
        problems.append(f"understood: {ended}")
    problems += _unsaid(held, number)
    calls = [event.name for event in _of(held, ToolCalled) if event.turn == number]
    if len(calls) != len(set(calls)):
        problems.append(f"tools were used twice: {calls}")
    failures = [event for event in _of(held, Failure) if event.turn == number]
    problems += [
        f"failure: {event.stage} {event.code} {event.detail}"
        for event in failures
        if event.caller_hears != TAKEOVER_HEARD or event.stage != stage.name
    ]
    if turn.fault is not None and not failures:
        problems.append("nobody was told of a failure")
    if turn.fault is None and failures:
        problems.append(f"failures though all is well: {[event.detail for event in failures]}")
    engines = _engines(stage, held, number)
    wanted = stage.heard_as[1] if turn.left_alone else stage.heard_as[0]
    if turn.fault is None and engines != [wanted] * len(engines):
        problems.append(f"not by {wanted}, but by {engines}")
    return problems


def _unsaid(held: Held, number: int) -> list[str]:
    """What of the answer was not said, not synthesised or not played."""
    turn, utterance_id = held.turns[number - 1], utterance_of(number)
    problems = []
    sentences = {event.index: event for event in _of(held, LlmSentence) if event.utterance_id == utterance_id}
    texts = [event.text for _, event in sorted(sentences.items())]
    whole = len(texts) == len(turn.talk.answer) and all(map(re.fullmatch, turn.talk.answer, texts))
    if not whole or any(event.filler for event in sentences.values()):
        problems.append(f"said: {texts}")
    done = {event.index: event for event in _of(held, TtsDone) if event.utterance_id == utterance_id}
    for index, event in done.items():
        words = [word.text for word in event.words]
        if event.text is not None or index not in sentences or words != sentences[index].text.split():
            problems.append(f"sentence {index} was spoken as: {words}")
    marks = {event.index for event in _of(held, PlayoutMark) if event.utterance_id == utterance_id}
    if not sentences.keys() == done.keys() == marks:
        problems.append(f"of {len(sentences)} sentences {sorted(done)} were spoken, {sorted(marks)} played")
    others = {event.utterance_id for event in _of(held, LlmSentence) if turn_of(event.utterance_id) == number}
    if others != {utterance_id} or any(event.utterance_id == utterance_id for event in _of(held, PlayoutFlushed)):
        problems.append(f"utterances of the turn: {sorted(others)}")
    return problems


def _engines(stage: Stage, held: Held, number: int) -> list[str]:
    """Who did the stage's work in a turn, as the events tell."""
    if stage.name == "asr":
        return [event.engine for event in _of(held, AsrFinal) if event.turn == number]
    if stage.name == "llm":
        return [event.engine for event in _of(held, LlmDone) if event.turn == number]
    return [event.engine for event in _of(held, TtsStarted) if event.turn == number]


def _takeovers(held: Held, number: int) -> int:
    return sum(event.turn == number and event.caller_hears == TAKEOVER_HEARD for event in _of(held, Failure))


def _of(held: Held, kind: type[E]) -> list[E]:
    return [event for event in held.events if isinstance(event, kind)]


# -- by ear ------------------------------------------------------------------------------------------------------------


def _spoken(pattern: str) -> list[str]:
    """Words of a sentence as a recogniser's grammar has them."""
    text = re.sub(r"\[A-Z\]\[a-z\]\+day", "<weekday>", pattern)
    for digit, word in enumerate(("zero", *RULES["unit"].split(" | "))):
        text = text.replace(str(digit), word)
    return re.sub(r"[^\w<> ]", "", text).lower().split()


def _choices(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """What may be heard of a sentence: it in one flow, or with some words twice; and what may not: a word less."""
    places = range(1, len(words))
    twice = [(place, count) for place in places for count in range(1, min(place, REPEATED_WORDS) + 1)]
    right = [" ".join(words), *(" ".join([*words[:place], *words[place - count :]]) for place, count in twice)]
    clear = [place for place, word in enumerate(words) if len(word) >= CLEAR_LETTERS and words.count(word) == 1]
    wrong = [" ".join([*words[:place], *words[place + 1 :]]) for place in clear]
    return right, wrong


def _hear(ear: PocketSphinxEngine, turn: Turn, audio: bytes) -> str:
    """What a recogniser hears: an answer of one sentence as a whole, whatever its pauses, else stretch by stretch."""
    answer = [_spoken(pattern) for pattern in turn.talk.answer]
    if len(answer) == 1:
        right, wrong = _choices(answer[0])
        begin = first_voiced_sample(audio) or 0
        for skipped_ms in SKIPPED_MS:
            part = audio[2 * (begin + skipped_ms * TICKS_PER_MS) :] if skipped_ms else audio
            text = _recognise(ear, part, (*right, *wrong, *APOLOGIES))
            if text in right:
                break
        return text
    phrases = [" ".join(words) for words in answer] + [each for words in answer for each in _choices(words)[1]]
    heard = [_recognise(ear, part, (*phrases, *APOLOGIES)) for _, part in utterances_of(audio)]
    return " ".join(text for text in heard if text)


def _recognise(ear: PocketSphinxEngine, audio: bytes, phrases: Sequence[str]) -> str:
    run = ear.open(ListenFor(state="judge", phrases=tuple(phrases)))
    pcm = resample(audio, RATE_HZ, SAMPLE_RATE_HZ)
    step = SAMPLE_RATE_HZ // 50 * 2
    for start in range(0, len(pcm), step):
        run.accept(pcm[start : start + step])
    return run.finish().text


def _unheard(turn: Turn, text: str) -> list[str]:
    answer = [_spoken(pattern) for pattern in turn.talk.answer]
    right = _choices(answer[0])[0] if len(answer) == 1 else [" ".join(word for words in answer for word in words)]
    patterns = [each.replace("<weekday>", f"({RULES['weekday']})").replace(" | ", "|") for each in right]
    return [] if any(re.fullmatch(pattern, text) for pattern in patterns) else [f"heard: {text!r}"]
