"""An hour of audio in one run, and hundreds of runs: nothing may grow, neither memory nor time for the next second.

A worker cuts a run at 20 seconds, so an hour is far more than a caller can bring about. Where an engine is too slow for
an hour in a test, the table says how much it gets instead, and why; so does the line that this test prints.
"""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path

import pytest

from schemas.llm import ListenFor
from services.asr.engine import Engine
from tests.services.asr.contract.cases import RATE_HZ, EngineCase
from tests.services.asr.contract.listening import at_rate_of, transcribe

pytestmark = pytest.mark.integration

MOST_GROWTH_MB = 48
"""What an hour may leave: its words, and what allocators keep. The audio of an hour is 57 MB at 8,000 Hz. Less may
leave less in proportion."""
ALLOCATORS_MB = 16
MOST_GROWTH_OF_A_RUN_MB = 24 / 500
MOST_OBJECTS_OF_A_RUN = 4


def resident_mb() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


@pytest.mark.parametrize("what", ["speech", "silence"])
@pytest.mark.timeout(300)
def test_an_hour_in_one_run(
    case: EngineCase, engine: Engine, sound: bytes, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = case.speech_s if what == "speech" else case.silence_s
    pcm = at_rate_of(engine, sound + bytes(RATE_HZ * 2)) if what == "speech" else b""
    rate_hz = engine.capabilities.sample_rates_hz[0]
    pcm = pcm or bytes(rate_hz * 2 * 4)
    times = max(1, seconds * rate_hz * 2 // len(pcm))
    run = case.hurried(engine).open(case.listen_for)
    marks: list[tuple[float, float]] = []
    for number in range(times):
        for at in range(0, len(pcm), rate_hz // 2):
            run.accept(pcm[at : at + rate_hz // 2])
        if number in (times // 4, times // 2, times * 3 // 4, times - 1):
            marks.append((time.process_time(), resident_mb()))
    before = time.process_time()
    transcript = run.finish()
    taken = time.process_time() - before
    with capsys.disabled():
        reason = f" ({case.shorter})" if seconds < 3600 and case.shorter else ""
        print(
            f"\n  {case.name}: {seconds} s of {what}{reason}: {marks[-1][1] - marks[0][1]:+.0f} MB in the last three "
            f"quarters, the end took {taken * 1000:.0f} ms"
        )
    assert marks[-1][1] - marks[0][1] < max(MOST_GROWTH_MB * seconds / 3600, ALLOCATORS_MB)
    assert marks[3][0] - marks[2][0] <= 2 * (marks[1][0] - marks[0][0]) + 0.2, "the next second takes ever longer"
    # No longer than any end: not the hour is heard then. 0.5 s: an utterance of 28 s of the largest model here.
    assert taken < 0.5
    assert bool(transcript.text) == (what == "speech" or bool(case.empty))


@pytest.mark.timeout(300)
def test_hundreds_of_runs_leave_nothing(
    case: EngineCase, engine: Engine, sound: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = case.hurried(engine)
    pcm = at_rate_of(engine, sound)[: engine.capabilities.sample_rates_hz[0]]
    for number in range(50):
        _one(engine, case.listen_for, pcm, number)
    gc.collect()
    memory, threads, objects = resident_mb(), threading.active_count(), len(gc.get_objects())
    for number in range(case.runs):
        _one(engine, case.listen_for, pcm, number)
    gc.collect()
    grown = resident_mb() - memory
    with capsys.disabled():
        print(f"\n  {case.name}: {case.runs} runs: {grown:+.1f} MB")
    assert grown < case.runs * MOST_GROWTH_OF_A_RUN_MB
    assert threading.active_count() == threads
    # Phrases that changed with each run may still be remembered; their number is bounded.
    assert len(gc.get_objects()) - objects < case.runs * MOST_OBJECTS_OF_A_RUN


def _one(engine: Engine, listen_for: ListenFor, pcm: bytes, number: int) -> None:
    """Every third is cancelled, every third hears phrases that no run heard before."""
    if number % 3 == 0:
        run = engine.open(listen_for)
        run.accept(pcm)
        run.cancel()
    elif number % 3 == 1:
        transcribe(
            engine, ListenFor(state=f"s{number}", phrases=(*listen_for.phrases, "card " * (number % 9 + 1))), pcm
        )
    else:
        transcribe(engine, listen_for, pcm)
