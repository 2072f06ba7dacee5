"""The process in which one engine is measured: ``python -m ops.bench.engine_process TASK RESULT``, two files of JSON.

A process of its own, so that memory is this engine's alone, and an engine that hangs or dies takes nothing along.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import traceback
from pathlib import Path

import msgspec

from bus import logs
from config.load import ConfigError, load
from config.settings import LogSection
from ops.bench.engine_figures import Outcome, Task


def main(task_file: Path, result_file: Path) -> None:
    """Measure, and write the figures, or why there are none."""
    logs.configure(LogSection(level="error", format="human"), "callbus", "bench", sys.stderr)
    task = msgspec.json.decode(task_file.read_bytes(), type=Task)
    module = importlib.import_module(f"ops.bench.engines_{task.stage}")
    try:
        outcome = Outcome(figures=tuple(asyncio.run(module.measure(task, load()))))
    except ConfigError as error:
        outcome = Outcome(reason=str(error))
    except Exception as error:
        traceback.print_exc()
        outcome = Outcome(reason=f"{type(error).__name__}: {error}")
    result_file.write_bytes(msgspec.json.encode(outcome))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
