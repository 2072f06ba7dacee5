"""Marked audio: each frame says which one it is, through either law."""

from __future__ import annotations

import pytest

from config.settings import TtsSection
from schemas.audio import Codec
from services.audio import g711
from services.tts.engine import Label
from services.tts.engines.instant import create, frame_count, frame_pcm, read_frame_label

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("codec", list(Codec))
@pytest.mark.parametrize("label", [(0, 0, 0), (0xFFFFFFFF, 0xFFF, 0xFFFFF), (101, 3, 70), (0x12345678, 0x9AB, 0xCDEF0)])
def test_labels_survive_g711(codec, label):
    pcm = frame_pcm(*label)
    assert len(pcm) == 320
    assert read_frame_label(g711.decode(g711.encode(pcm, codec), codec)) == label


@pytest.mark.parametrize(
    "pcm", [b"", bytes(320), b"\x10\x20" * 160, frame_pcm(1, 2, 3)[2:] + b"\0\0", b"\xff\x7f" * 160]
)
def test_other_audio_has_no_label(pcm):
    assert read_frame_label(pcm) is None


async def test_all_frames_at_once_the_first_alone():
    engine = create(TtsSection(speed=2.0))
    await engine.warm()
    chunks = [chunk async for chunk in engine.open("x" * 40, label=Label(200, 1))]
    assert [len(chunk.pcm) // 320 for chunk in chunks] == [1, 25, 25, 9]
    pcm = b"".join(chunk.pcm for chunk in chunks)
    labels = [read_frame_label(pcm[at : at + 320]) for at in range(0, len(pcm), 320)]
    assert labels == [(200, 1, number) for number in range(60)]
    assert await engine.list_voices() == ()
    await engine.close()


async def test_words_are_told_with_the_first_chunk():
    chunks = [chunk async for chunk in create(TtsSection()).open("to the bank the")]
    assert [(word.text, word.start_ms) for word in chunks[0].words] == [
        ("to", 0), ("the", 180), ("bank", 420), ("the", 720),
    ]  # fmt: skip
    assert all(not chunk.words for chunk in chunks[1:])


async def test_cancel_ends_the_iteration():
    run = create(TtsSection()).open("x" * 100)
    chunks = []
    async for chunk in run:
        chunks.append(chunk)
        run.cancel()
    assert len(chunks) == 1


def test_length_depends_on_text_and_speed_alone():
    assert [frame_count(text) for text in ("", "a", "abcd")] == [1, 3, 12]
    assert frame_count("abcd", 0.5) == 24
