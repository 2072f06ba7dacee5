"""PCM to numbered messages: first frame at once, whole frames, padding, marks."""

from __future__ import annotations

import struct

import pytest

from schemas.audio import AudioFlag, Codec, split_segment_sequence, unpack_audio
from services.audio import g711
from services.tts.framing import SentenceFramer, end_message

pytestmark = pytest.mark.unit

FRAME = struct.pack("<160h", *[1000] * 160)


def framer(codec: Codec = Codec.PCMU) -> SentenceFramer:
    return SentenceFramer(codec, 8000, utterance_id=300, index=2)


def shapes(messages: list[bytes]) -> list[tuple[int, int, AudioFlag]]:
    """(first frame, frames, flags) of each message."""
    frames = [unpack_audio(message) for message in messages]
    assert all(frame.utterance == 300 and split_segment_sequence(frame.sequence)[0] == 2 for frame in frames)
    return [(split_segment_sequence(frame.sequence)[1], frame.frame_count, frame.flags) for frame in frames]


def test_the_first_frame_leaves_alone_and_at_once():
    assert shapes(framer().feed(FRAME * 12)) == [(0, 1, 0), (1, 5, 0), (6, 5, 0)]


def test_the_start_of_a_sentence_does_not_wait_for_full_chunks_and_the_rest_does():
    sentence = framer()
    given = [shapes(sentence.feed(FRAME * 2)) for _ in range(9)]
    assert given[0] == [(0, 1, 0), (1, 1, 0)]
    assert given[4] == [(8, 2, 0)]
    assert given[5:8] == [[], [], [(10, 5, 0)]]
    assert given[8] == []
    assert shapes(sentence.finish()) == [(15, 3, AudioFlag.SEGMENT_END)]


def test_half_a_frame_waits_and_is_padded_with_the_silence_of_the_codec():
    for codec in Codec:
        sentence = framer(codec)
        assert sentence.feed(FRAME[:100]) == []
        (last,) = sentence.finish()
        payload = unpack_audio(last).payload
        assert payload == g711.encode(FRAME[:100], codec) + g711.silence(codec, 110)
        assert unpack_audio(last).codec is codec


def test_all_frames_gone_already_then_the_end_is_a_frame_of_silence():
    sentence = framer()
    sentence.feed(FRAME)
    (last,) = sentence.finish()
    assert shapes([last]) == [(1, 1, AudioFlag.SEGMENT_END)]
    assert unpack_audio(last).payload == b"\xff" * 160
    assert (sentence.frames, sentence.duration_ms) == (2, 40)


def test_a_sentence_without_audio_is_one_silent_frame():
    sentence = framer()
    assert shapes(sentence.finish()) == [(0, 1, AudioFlag.SEGMENT_END)]
    assert sentence.leading_silence_ms == 0


def test_leading_silence_is_known_with_the_first_audible_sample():
    sentence = framer()
    sentence.feed(bytes(320) * 3)
    assert sentence.leading_silence_ms is None
    sentence.feed(bytes(160) + FRAME)
    assert sentence.leading_silence_ms == 70


def test_leading_silence_is_not_searched_for_ever():
    sentence = framer()
    sentence.feed(bytes(320) * 60)
    assert sentence.leading_silence_ms == 1200


def test_every_byte_comes_out_once_and_in_order_whatever_the_rate():
    pcm = struct.pack("<22050h", *[(i * 37) % 20000 - 10000 for i in range(22050)])
    whole, pieces = SentenceFramer(Codec.PCMA, 22050, 1, 0), SentenceFramer(Codec.PCMA, 22050, 1, 0)
    one = whole.feed(pcm) + whole.finish()
    many = [message for at in range(0, len(pcm), 2648) for message in pieces.feed(pcm[at : at + 2648])]
    many += pieces.finish()
    assert [f for m in one for f in unpack_audio(m).frames()] == [f for m in many for f in unpack_audio(m).frames()]
    assert whole.duration_ms == 1000


def test_end_message():
    frame = unpack_audio(end_message(Codec.PCMA, 301, 4))
    assert frame == (Codec.PCMA, AudioFlag.END, 0, 4 << 20, 301, 0, b"")
