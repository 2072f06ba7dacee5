"""Loading the voice activity model tells nobody and leaves nothing behind."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("pipecat", "onnxruntime")),
        reason="needs the extra 'silero'",
    ),
]

LOAD = """
from config.settings import AsrSection
from services.asr.vad.silero import create
create(AsrSection())
"""


def test_the_runtime_reports_to_nobody(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        env={**environment, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
