"""The stereo file: every chunk where it was in time, holes named."""

from __future__ import annotations

import pytest

from ops.rendering import Rendering, holes, place
from ops.session import percentile
from schemas.audio import AudioFlag, AudioFrame, Codec
from services.audio.g711 import decode, encode
from services.audio.wav import parse_wav

pytestmark = pytest.mark.unit


def chunk(sequence: int, media_time: int, frames: int = 10, value: int = 1000) -> AudioFrame:
    pcm = value.to_bytes(2, "little", signed=True) * 160 * frames
    return AudioFrame(Codec.PCMA, AudioFlag.NONE, frames, sequence, 0, media_time, encode(pcm, Codec.PCMA))


def test_chunks_lie_at_their_media_time() -> None:
    track = place([chunk(0, 800), chunk(10, 4000)])
    assert len(track) == (4000 + 1600) * 2
    assert track[: 800 * 2] == bytes(1600)
    assert track[1600 : 1600 + 3200] == decode(chunk(0, 800).payload, Codec.PCMA)
    assert track[(800 + 1600) * 2 : 8000] == bytes(8000 - (800 + 1600) * 2)


def test_a_chunk_with_a_wild_clock_is_left_out() -> None:
    assert len(place([chunk(0, 0), chunk(10, 2**32 - 1)])) == 3200


def test_holes() -> None:
    assert holes([chunk(0, 0), chunk(10, 0), chunk(23, 0), chunk(33, 0)]) == ((20, 3),)
    assert holes([]) == ()
    assert holes([chunk(0, 0), chunk(0, 0), chunk(5, 0)]) == ()


def test_wav_holds_both_sides() -> None:
    rendering = Rendering(place([chunk(0, 0, value=500)]), place([chunk(0, 1600, value=-500)]), (), ())
    wav = parse_wav(rendering.wav())
    assert (wav.channels, wav.sample_rate_hz, wav.duration_ms) == (2, 8000, 400)
    assert rendering.duration_ms == 400
    assert set(wav.channel(0)[3200:]) == {0}
    assert set(wav.channel(1)[:3200]) == {0}


def test_percentile_is_the_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50.0, 95.0, 99.0, 100.0]
    assert percentile([7.0], 0.5) == 7.0
