"""From an engine's PCM to audio messages for the edge: the leg's codec, whole frames, numbered. Pure."""

from __future__ import annotations

from schemas.audio import AudioFlag, Codec, pack_audio, segment_sequence
from services.audio import g711, level
from services.audio.resample import Resampler

CHUNK_FRAMES = 5
"""Frames in one message, once the start of the sentence is out."""
EAGER_MS = 200
"""Audio at the start of a sentence that goes out frame by frame as it comes, so that nothing waits for a full chunk."""
LEADING_SILENCE_LIMIT_MS = 1000
"""Audio searched for the first audible sample; a sentence that begins with more silence is counted with this much."""


class SentenceFramer:
    """Numbers and packs the audio of one sentence."""

    def __init__(self, codec: Codec, sample_rate_hz: int, utterance_id: int, index: int, frame_ms: int = 20) -> None:
        self.frames = 0
        """Frames given out so far."""
        self.leading_silence_ms: int | None = None
        """Silence before the first audible sample; None until that is known."""
        self._codec = codec
        self._frame_ms = frame_ms
        self._frame_bytes = codec.bytes_per_ms * frame_ms
        self._utterance_id = utterance_id
        self._index = index
        self._resampler = Resampler(sample_rate_hz, codec.clock_rate_hz)
        self._rest = b""
        self._silent_samples = 0

    @property
    def duration_ms(self) -> int:
        """Audio given out so far."""
        return self.frames * self._frame_ms

    @property
    def taken_ms(self) -> int:
        """Audio given out so far and what waits for the rest of its message."""
        return self.duration_ms + -(-len(self._rest) // self._codec.bytes_per_ms)

    def feed(self, pcm: bytes) -> list[bytes]:
        """Messages that are ready after this PCM (16-bit mono at the engine's rate)."""
        self._add(self._resampler.feed(pcm))
        messages = []
        while len(self._rest) >= self._frame_bytes:
            ready = min(CHUNK_FRAMES, len(self._rest) // self._frame_bytes)
            if self.frames == 0:
                ready = 1
            elif ready < CHUNK_FRAMES and self.duration_ms >= EAGER_MS:
                break
            messages.append(self._pack(ready, AudioFlag.NONE))
        return messages

    def finish(self) -> list[bytes]:
        """The last messages: padded to a whole frame with silence, the very last one marked as the sentence's end.

        A sentence without any audio is one frame of silence, so that the edge can say when it was due.
        """
        self._add(self._resampler.finish())
        whole = max(1, -(-len(self._rest) // self._frame_bytes))
        self._rest = self._rest.ljust(whole * self._frame_bytes, bytes([self._codec.silence]))
        if self.leading_silence_ms is None:
            self.leading_silence_ms = self._silent_ms()
        messages = []
        while self._rest:
            ready = min(CHUNK_FRAMES, len(self._rest) // self._frame_bytes)
            last = ready * self._frame_bytes == len(self._rest)
            messages.append(self._pack(ready, AudioFlag.SEGMENT_END if last else AudioFlag.NONE))
        return messages

    def _add(self, pcm: bytes) -> None:
        self._rest += g711.encode(pcm, self._codec)
        if self.leading_silence_ms is None:
            first = level.first_voiced_sample(pcm)
            self._silent_samples += len(pcm) // g711.PCM_SAMPLE_BYTES if first is None else first
            if first is not None or self._silent_ms() >= LEADING_SILENCE_LIMIT_MS:
                self.leading_silence_ms = self._silent_ms()

    def _silent_ms(self) -> int:
        return self._silent_samples * 1000 // self._codec.clock_rate_hz

    def _pack(self, count: int, flags: AudioFlag) -> bytes:
        size = count * self._frame_bytes
        payload, self._rest = self._rest[:size], self._rest[size:]
        message = pack_audio(
            payload,
            sequence=segment_sequence(self._index, self.frames),
            codec=self._codec,
            flags=flags,
            frame_count=count,
            utterance=self._utterance_id,
        )
        self.frames += count
        return message


def end_message(codec: Codec, utterance_id: int, sentences: int) -> bytes:
    """The message that completes an utterance of so many sentences; it holds no audio."""
    return pack_audio(
        b"",
        sequence=segment_sequence(sentences, 0),
        codec=codec,
        flags=AudioFlag.END,
        frame_count=0,
        utterance=utterance_id,
    )
