"""``callbus demo``: reaches its goal, twice at the same time, and leaves nothing but its WAV."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from services.audio.wav import read_wav
from tests.e2e.system import BESIDE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def processes_with(variable: str) -> list[str]:
    """Command lines of the processes on this machine that carry a variable in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                if variable.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def test_two_demos_at_once(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    environment.pop("NATS_URL", None)
    judges = {"one": ("audio", ()), "two": ("events", ("--judge", "events", "--tts", "espeak", "--agent", "bank"))}
    demos = [
        subprocess.Popen(
            [*BESIDE, sys.executable, "-m", "ops.main", "demo", "--json", "--output", str(tmp_path / name), *words],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for name, (_, words) in judges.items()
    ]  # fmt: skip
    for name, demo in zip(judges, demos, strict=True):
        out, said = demo.communicate(timeout=180)
        assert demo.returncode == 0, said.decode()[-3000:]
        facts = msgspec.json.decode(out)
        assert facts["reached"] is True
        assert facts["missing"] == []
        assert facts["judged_by"] == judges[name][0]
        assert all(finding["ok"] for finding in facts["events"])
        (wav,) = (tmp_path / name).iterdir()
        stereo = read_wav(wav)
        assert stereo.channels == 2
        assert stereo.duration_ms > 10_000
        assert any(stereo.channel(0))
        assert any(stereo.channel(1))
    assert list(scratch.iterdir()) == [], "a file is left behind"
    assert processes_with(f"TMPDIR={scratch}") == [], "a process is left behind"
