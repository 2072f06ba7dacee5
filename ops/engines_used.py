"""Which engine of each stage did a call's work: one that stands in for another must not be taken for it. Pure."""

from __future__ import annotations

from config.settings import Settings
from schemas.asr import AsrFinal
from schemas.base import Event
from schemas.llm import LlmDone
from schemas.tts import TtsStarted

STAGES = ("asr", "llm", "tts")

EnginesUsed = dict[str, dict[str, int]]
"""Stage -> engine -> how many transcripts, answers or sentences are its work."""


def count_engine(used: EnginesUsed, event: Event) -> None:
    """Take an event of a call; what names no engine changes nothing."""
    match event:
        case AsrFinal():
            stage = "asr"
        case LlmDone():
            stage = "llm"
        case TtsStarted():
            stage = "tts"
        case _:
            return
    if event.engine:
        of_stage = used.setdefault(stage, {})
        of_stage[event.engine] = of_stage.get(event.engine, 0) + 1


def used_text(used: EnginesUsed) -> str:
    """``asr vosk, llm openai 4 + scripted 1, tts espeak``: counts where there was more than one."""
    return ", ".join(f"{stage} {_of_stage(used[stage])}" for stage in STAGES if stage in used)


def idle_engines(used: EnginesUsed, settings: Settings) -> list[str]:
    """A sentence for each stage whose chosen engine did none of the work that was done."""
    found = []
    for stage in STAGES:
        chosen = getattr(settings, stage).engine
        workers = used.get(stage, {})
        if workers and not any(_is(worker, chosen) for worker in workers):
            found.append(f"{stage}: {_of_stage(workers)} stood in for {chosen}, which did nothing")
    return found


def _of_stage(workers: dict[str, int]) -> str:
    if len(workers) == 1:
        return next(iter(workers))
    return " + ".join(f"{name} {count}" for name, count in sorted(workers.items(), key=lambda each: -each[1]))


def _is(worker: str, chosen: str) -> bool:
    """An engine's own name begins with the name that chose it; a class of one's own has any name."""
    return ":" in chosen or worker.split(":")[0] == chosen
