"""What each engine costs on this machine, and how fast it is: every one that can be made here, with each of its models.

One after the other, each in a process of its own, with a deadline. Those that can not be measured are listed with the
reason. Engines that ask a server do so a few times, where the settings name one that answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from pathlib import Path

import click
import msgspec

from bus.server import ending_with_parent
from config.load import ConfigError, load
from ops.bench.engine_figures import Outcome, Sound, Task, unmeasured
from ops.bench.engine_subjects import Subject, subjects
from ops.bench.engines_asr import sounds
from ops.bench.results import Figure

DEFAULT_CALLS = 1
DEADLINE_S = 600.0
"""Of one engine, beyond the seconds that are asked for: to load a model, to warm it, to play the sentences."""
LOG_LINES = 3
SERVER_WANTED = "needs an account or a server"


async def measure(calls: int, seconds: float) -> list[Figure]:
    """All engines, about half a minute each at least. ``calls`` has no meaning here: one at a time.

    Raises:
        ManifestError: the list of models can't be read.
    """
    found: list[Figure] = []
    heard, why_not = await _sounds()
    with tempfile.TemporaryDirectory(prefix="callbus-bench-") as folder:
        for subject in subjects(load()):
            reason = subject.reason or (why_not if subject.stage == "asr" else "")
            outcome = Outcome(reason=reason) if reason else await _measure(subject, heard, seconds, Path(folder))
            if outcome.reason:
                click.echo(f"  {subject.stage} {subject.label}: not measured: {outcome.reason}", err=True)
            found += outcome.figures or [unmeasured(subject.stage, subject.label, outcome.reason)]
    return found


async def _sounds() -> tuple[tuple[Sound, ...], str]:
    """What callers say, or why they can't."""
    try:
        return await sounds(), ""
    except ConfigError as error:
        return (), f"there is no voice to say the sentences: {error}"


async def _measure(subject: Subject, heard: tuple[Sound, ...], seconds: float, folder: Path) -> Outcome:
    click.echo(f"  {subject.stage} {subject.label} ...", err=True)
    task = Task(
        stage=subject.stage,
        engine=subject.engine,
        label=subject.label,
        seconds=seconds,
        remote=subject.remote,
        agent=subject.agent,
        sounds=heard if subject.stage == "asr" else (),
    )
    outcome = await run_task(task, subject.environment, folder, DEADLINE_S + 2 * seconds)
    if outcome.reason and subject.remote:
        return Outcome(reason=f"{SERVER_WANTED}: {outcome.reason}")
    return outcome


async def run_task(task: Task, environment: dict[str, str], folder: Path, deadline_s: float) -> Outcome:
    """Measure in a process of its own; it never outlives this call."""
    task_file, result_file, log_file = folder / "task.json", folder / "result.json", folder / "log.txt"
    task_file.write_bytes(msgspec.json.encode(task))
    result_file.unlink(missing_ok=True)
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "ops.bench.engine_process",
            str(task_file),
            str(result_file),
            env={**os.environ, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=ending_with_parent(),
        )
        try:
            status = await asyncio.wait_for(process.wait(), deadline_s)
        except TimeoutError:
            return Outcome(reason=f"no figures within {deadline_s:.0f} s")
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
    if not result_file.exists():
        lines = log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        return Outcome(reason=f"its process ended with status {status}: {' | '.join(lines)}")
    return msgspec.json.decode(result_file.read_bytes(), type=Outcome)
