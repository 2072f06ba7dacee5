"""The agent's side of a call: what tts sends to the edge."""

from __future__ import annotations

from schemas import subjects
from schemas.audio import AudioFlag, AudioFrame, pack_audio, segment_sequence
from tests.edge.harness import Edge


def speak(edge: Edge, utterance: int, segment: int, frames: list[bytes], *, first: int = 0, end: bool = True) -> None:
    """Send agent frames as tts would, one message each; ``end``: the last one ends its sentence."""
    for number, payload in enumerate(frames):
        last = end and number == len(frames) - 1
        edge.observer.connection.publish(
            subjects.live_audio("out", edge.observer.call_id),
            pack_audio(
                payload,
                sequence=segment_sequence(segment, first + number),
                utterance=utterance,
                flags=AudioFlag.SEGMENT_END if last else AudioFlag.NONE,
            ),
        )


def finish(edge: Edge, utterance: int, sentences: int = 1) -> None:
    """The utterance has no further sentence."""
    edge.observer.connection.publish(
        subjects.live_audio("out", edge.observer.call_id),
        pack_audio(b"", sequence=sentences << 20, utterance=utterance, flags=AudioFlag.END, frame_count=0),
    )


def frames_of(messages: list[AudioFrame]) -> list[bytes]:
    """Their payloads, frame by frame."""
    return [frame for message in messages for frame in message.frames()]
