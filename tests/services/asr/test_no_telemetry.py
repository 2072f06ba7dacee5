"""Loading a model that the pipecat wheel carries tells nobody, leaves nothing behind, and imports no pipecat."""

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
        any(importlib.util.find_spec(name) is None for name in ("pipecat", "onnxruntime", "soxr")),
        reason="needs the extra 'silero'",
    ),
]

VOICE = """
from config.settings import AsrSection
from services.asr.vad.silero import create
create(AsrSection())
"""
TURNS = """
from config.settings import AsrSection
from services.asr.turn_model import load_turn_model
load_turn_model("smart_turn", AsrSection()).warm()
"""
CHECK = """
import sys
assert "pipecat" not in sys.modules
"""


@pytest.mark.parametrize("load", [VOICE, TURNS], ids=["silero", "smart_turn"])
def test_the_runtime_reports_to_nobody(tmp_path: Path, load: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", load + CHECK],
        env={**environment, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
