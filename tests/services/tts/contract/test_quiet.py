"""Neural voices tell nobody, fetch nothing, leave nothing behind, and live beside eSpeak NG in one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

for package, extra in (("piper", "piper"), ("kokoro_onnx", "kokoro"), ("espeakng_loader", "espeak"), ("onnx", "dev")):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'callbus[{extra}]'")
pytestmark = pytest.mark.contract

SCRIPT = """
import asyncio, logging, sys

NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request")

def refuse(event, arguments):
    if event in NETWORK:
        raise AssertionError(event)

sys.addaudithook(refuse)
logging.basicConfig(level=logging.DEBUG)
from config.settings import KokoroSection, PiperSection, Settings
from services.tts.engine import load_engine

TEXT = "Kingfisher: your card was posted on Monday. C'est computer science."

async def speak(name, *, language="en", warm=True):
    settings = Settings(
        piper=PiperSection(model=sys.argv[1], threads=1), kokoro=KokoroSection(model=sys.argv[2], threads=1)
    )
    engine = load_engine(name, settings.tts, settings)
    if warm:
        await engine.warm()
    size = 0
    async for chunk in engine.open(TEXT, language=language):
        size += len(chunk.pcm)
    await engine.close()
    return size

async def main():
    alone = await speak("espeak")
    sizes = [await speak("piper"), await speak("kokoro"), await speak("kokoro", language="fr")]
    between = await asyncio.gather(*(speak(name) for name in ("espeak", "kokoro", "piper", "espeak")))
    assert abs(between[0] - alone) < 4000 and abs(between[3] - alone) < 4000, (alone, between)
    assert between[1:3] == [sizes[1], sizes[0]], (sizes, between)
    assert min(sizes) > 50000, sizes

asyncio.run(main())
"""


def test_nothing_is_told_fetched_or_left_behind(tmp_path: Path) -> None:
    from tests.tiny_models.kokoro import build_kokoro_model
    from tests.tiny_models.piper import build_piper_voice

    voice, model = build_piper_voice(tmp_path / "piper"), build_kokoro_model(tmp_path / "kokoro")
    place = tmp_path / "place"
    place.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(voice), str(model)],
        env={**environment, "TMPDIR": str(place), "HOME": str(place)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(place.iterdir()) == []
    assert "Kingfisher" not in done.stderr + done.stdout
    assert "kˈɑːɹd" not in done.stderr + done.stdout, "its phonemes are its text"
