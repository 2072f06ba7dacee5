"""Scripts are checked before anybody's telephone rings; sounds are ready by then."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.load import ConfigError
from ops.caller import CallScript, HangUp, Hold, Pause, PlayFile, PressKeys, Resume, Say, ScriptError, WaitForSilence
from ops.caller.script import kind_of
from ops.caller.speech import file_pcm, prepare
from services.audio import level
from services.audio.wav import write_wav
from tests.ops.caller.callee import tone

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (PressKeys("12x"), "step 2: '12x' are not telephone keys"),
        (PressKeys(""), "not telephone keys"),
        (PlayFile(Path("/nowhere/at/all.wav")), "no file /nowhere/at/all.wav"),
        (Pause(-1), "a wait of -1 s"),
        (Pause(1e9), "may last up to 3600 s"),
        (Say("  "), "nothing to say"),
    ],
)
def test_what_cannot_be_done_is_told_by_its_number(step, words):
    with pytest.raises(ScriptError, match=words):
        CallScript((HangUp(), step)).check()


def test_good_steps_pass(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"")
    steps = (Say("a"), PlayFile(path), PressKeys("0*#aD"), Pause(1), WaitForSilence(), Hold(), Resume(), HangUp())
    CallScript(steps).check()
    assert [kind_of(step) for step in steps] == [
        "say", "wav", "dtmf", "wait", "wait_for_silence", "hold", "resume", "hang_up",
    ]  # fmt: skip


async def test_texts_are_spoken_and_files_brought_to_8_khz(tmp_path):
    pytest.importorskip("espeakng_loader", reason="eSpeak NG is not installed: pip install 'callbus[espeak]'")
    path = tmp_path / "a.wav"
    write_wav(path, tone(1000), 16000)
    sounds = await prepare([Pause(1), Say("where is my card"), PlayFile(path), Say("where is my card")])
    assert sorted(sounds) == [1, 2, 3]
    assert 0.8 < len(sounds[1]) / 16000 < 2.0
    assert level.rms(sounds[1]) > 500
    assert len(sounds[2]) == 8000


async def test_without_texts_no_voice_is_needed(tmp_path):
    path = tmp_path / "a.wav"
    write_wav(path, tone(100), 8000)
    assert list(await prepare([PlayFile(path)], voice="no such voice")) == [0]


async def test_an_unknown_voice_is_told():
    pytest.importorskip("espeakng_loader", reason="eSpeak NG is not installed: pip install 'callbus[espeak]'")
    with pytest.raises(ConfigError, match="no voice 'xx'"):
        await prepare([Say("hello")], voice="xx")


def test_a_file_that_is_no_wav_is_told(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"not a wave")
    with pytest.raises(ScriptError, match="can't be played"):
        file_pcm(path)
