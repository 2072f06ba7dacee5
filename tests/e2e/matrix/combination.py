"""A combination of engines, a call with it through ``callbus demo``, and the table of what came of them all."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tests.e2e.matrix.parts import DATA, LLM, STAGES, Part, Parts, demonstration_of, missing
from tests.e2e.system import BESIDE

LIMIT_S = 150.0
"""Start, call and end of one demonstration on a machine that has much else to do."""
LAST_WORDS = 1500
UNSET = ("NATS_URL",)


class Combination(NamedTuple):
    """One engine for each stage."""

    asr: str
    llm: str
    tts: str

    @property
    def name(self) -> str:
        return "-".join(self)

    @property
    def missing(self) -> str:
        """Why it can't be had on this machine; empty: it can."""
        return "; ".join(text for stage, engine in zip(STAGES, self, strict=True) if (text := missing(stage, engine)))


class Row(NamedTuple):
    """What came of a combination.

    Attributes:
        judged_by: ``audio`` or ``events``; empty: there was no call.
        answered, understood: turns of the caller.
        e2e_ms: median of the times from the caller's last word to the answer's first sound.
        note: why the events judge; and what is wrong, where something is.
    """

    combination: Combination
    judged_by: str = ""
    reached: bool = False
    answered: int = 0
    understood: int = 0
    e2e_ms: float | None = None
    seconds: float = 0.0
    note: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """Its line of the table."""
        if not self.judged_by:
            return (*self.combination, "-", "no call", "-", "-", f"{self.seconds:.0f}", self.note)
        latency = f"{self.e2e_ms:.0f}" if self.e2e_ms is not None else "-"
        turns = f"{self.answered}/{self.understood}"
        goal = "reached" if self.reached else "NOT REACHED"
        return (*self.combination, self.judged_by, goal, turns, latency, f"{self.seconds:.0f}", self.note)


HEAD = ("asr", "llm", "tts", "judged by", "goal", "turns answered", "e2e p50 ms", "seconds", "note")


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Cells as a table that can be read as text and as Markdown."""
    lines = [HEAD, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(HEAD) - 1)]
    ruled = [lines[0], tuple("-" * width for width in (*widths, len(HEAD[-1]))), *lines[1:]]
    return "\n".join(
        "| " + " | ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]) + " |"
        for line in ruled
    )


def covering() -> list[Combination]:
    """Each engine at least once, the example of the documents among them, in as few combinations as there are voices.

    Where the engine of a stage is not installed, the others are covered without it as well.
    """
    rows = [
        Combination("vosk", "llama_cpp", "piper"),
        Combination("pocketsphinx", "openai", "elevenlabs"),
        Combination("faster_whisper", "scripted", "kokoro"),
        Combination("pipecat", "ollama", "espeak"),
        Combination("vosk", "pipecat", "pipecat"),
    ]
    if missing("llm", "llama_cpp"):
        rows.append(rows[0]._replace(llm=LLM[0]))
    return rows


def product() -> list[Combination]:
    """All of them."""
    return [Combination(asr, llm, tts) for asr in STAGES["asr"] for llm in STAGES["llm"] for tts in STAGES["tts"]]


async def hold(combination: Combination, parts: Parts, folder: Path) -> Row:
    """A conversation with these engines, each in a process of its own."""
    chosen = parts.of(combination)
    unclear = "; ".join(part.unclear for part in chosen if part.unclear)
    judge = "events" if unclear else "audio"
    began = time.monotonic()
    (folder / "scratch").mkdir(parents=True)
    process = await asyncio.create_subprocess_exec(
        *_command(combination, judge, chosen[1].agent, folder),
        env=_environment(chosen, folder),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            out, said = await process.communicate()
    except TimeoutError:
        return Row(combination, seconds=LIMIT_S, note=f"not over after {LIMIT_S:.0f} s")
    finally:
        await _end(process)
    seconds = time.monotonic() - began
    if not out:
        return Row(combination, seconds=seconds, note=" ".join(said.decode()[-LAST_WORDS:].split()))
    return _row(combination, msgspec.json.decode(out), unclear, seconds)


def _command(combination: Combination, judge: str, agent: str, folder: Path) -> list[str]:
    engines = [f"--{stage}={engine}" for stage, engine in zip(STAGES, combination, strict=True)]
    scene = [f"--agent={DATA / 'agents' / agent}.toml", f"--demonstration={demonstration_of(agent)}"]
    options = ["--json", f"--judge={judge}", f"--output={folder}"]
    return [*BESIDE, sys.executable, "-m", "ops.main", "demo", *engines, *scene, *options]


def _environment(chosen: Iterable[Part], folder: Path) -> Mapping[str, str]:
    own = {name: value for name, value in os.environ.items() if name not in UNSET}
    for part in chosen:
        own |= part.environment
    return own | {"TMPDIR": str(folder / "scratch")}


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM ends a demonstration in order, with everything that it has started."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(20):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _row(combination: Combination, facts: Mapping[str, Any], unclear: str, seconds: float) -> Row:
    wrong = [finding["text"] for finding in facts["events"] if not finding["ok"]]
    if facts["judged_by"] == "audio" and facts["missing"]:
        heard = " / ".join(utterance["text"] for utterance in facts["heard"])
        line = facts["report"]["received"]
        wrong.append(f"not heard: {'; '.join(facts['missing'])}; but: {heard}")
        wrong.append(f"packets lost {line['lost']}, late {line['late']}, of {line['frames']}")
    times = [found["e2e_latency"] for found in facts["latencies_ms"].values() if "e2e_latency" in found]
    return Row(
        combination,
        facts["judged_by"],
        facts["reached"] and not wrong,
        facts["turns"]["answered"],
        facts["turns"]["understood"],
        statistics.median(times) if times else None,
        seconds,
        "; ".join([*wrong, *([unclear] if unclear else [])]),
    )
