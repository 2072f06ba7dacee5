"""WAV files (RIFF): read 16-bit PCM, A-law and mu-law, mono or stereo; write 16-bit PCM."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

from schemas.audio import Codec
from services.audio import g711
from services.audio.g711 import PCM_SAMPLE_BYTES, audioop

FORMAT_PCM = 1
FORMAT_ALAW = 6
FORMAT_MULAW = 7
FORMAT_EXTENSIBLE = 0xFFFE

_RIFF = struct.Struct("<4sI4s")
_CHUNK = struct.Struct("<4sI")
_FORMAT = struct.Struct("<HHIIHH")
_UNKNOWN_LENGTH = 0xFFFFFFFF


class WavError(ValueError):
    """Bytes that are not a WAV file this module reads; the text names the defect and what is read."""


class Wav(NamedTuple):
    """Audio of a file: interleaved 16-bit little-endian PCM."""

    sample_rate_hz: int
    channels: int
    pcm: bytes

    @property
    def duration_ms(self) -> int:
        return len(self.pcm) // (PCM_SAMPLE_BYTES * self.channels) * 1000 // self.sample_rate_hz

    def channel(self, index: int) -> bytes:
        """One channel's samples (0 left, 1 right)."""
        if not 0 <= index < self.channels:
            raise IndexError(f"channel {index} of {self.channels}")
        if self.channels == 1:
            return self.pcm
        return audioop.tomono(self.pcm, PCM_SAMPLE_BYTES, float(index == 0), float(index == 1))

    def mono(self) -> bytes:
        """All channels as one, at half the level each so that nothing clips."""
        return self.pcm if self.channels == 1 else audioop.tomono(self.pcm, PCM_SAMPLE_BYTES, 0.5, 0.5)


def read_wav(path: Path) -> Wav:
    """Read a file.

    Raises:
        WavError: not a WAV file of a format named above; the text names the file.
        OSError: the file can't be read.
    """
    try:
        return parse_wav(path.read_bytes())
    except WavError as error:
        raise WavError(f"{path}: {error}") from None


def parse_wav(data: bytes) -> Wav:
    """Audio of a WAV file's bytes. A data chunk that is cut short, or of unknown length, ends with the file.

    Raises:
        WavError: as :func:`read_wav`.
    """
    if len(data) < _RIFF.size or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise WavError("not a WAV file: it does not begin with RIFF and WAVE")
    format_chunk = b""
    position = _RIFF.size
    while position + _CHUNK.size <= len(data):
        name, length = _CHUNK.unpack_from(data, position)
        position += _CHUNK.size
        if name == b"data":
            body = data[position:] if length == _UNKNOWN_LENGTH else data[position : position + length]
            return _decode(format_chunk, body)
        if name == b"fmt ":
            format_chunk = data[position : position + length]
        position += length + length % 2
    raise WavError("WAV file without a data chunk")


def write_wav(path: Path, pcm: bytes, sample_rate_hz: int, channels: int = 1) -> None:
    """Write interleaved 16-bit PCM. Raises ``OSError``, or ``PcmLengthError`` for half a sample."""
    path.write_bytes(build_wav(pcm, sample_rate_hz, channels))


def build_wav(pcm: bytes, sample_rate_hz: int, channels: int = 1) -> bytes:
    """Bytes of a WAV file with 16-bit PCM."""
    g711.check_whole_samples(pcm)
    block = PCM_SAMPLE_BYTES * channels
    layout = _FORMAT.pack(FORMAT_PCM, channels, sample_rate_hz, sample_rate_hz * block, block, 8 * PCM_SAMPLE_BYTES)
    header = _CHUNK.pack(b"fmt ", len(layout)) + layout + _CHUNK.pack(b"data", len(pcm))
    return _RIFF.pack(b"RIFF", 4 + len(header) + len(pcm), b"WAVE") + header + pcm


def interleave(left: bytes, right: bytes) -> bytes:
    """Two mono flows as one stereo flow; the shorter one is filled up with silence."""
    length = max(len(left), len(right))
    left, right = left.ljust(length, b"\0"), right.ljust(length, b"\0")
    return audioop.add(
        audioop.tostereo(left, PCM_SAMPLE_BYTES, 1, 0),
        audioop.tostereo(right, PCM_SAMPLE_BYTES, 0, 1),
        PCM_SAMPLE_BYTES,
    )


def _decode(format_chunk: bytes, body: bytes) -> Wav:
    if len(format_chunk) < _FORMAT.size:
        raise WavError("WAV file without a format chunk before its data")
    tag, channels, sample_rate_hz, _, _, bits = _FORMAT.unpack_from(format_chunk)
    if tag == FORMAT_EXTENSIBLE and len(format_chunk) >= 26:
        # The real format is the first two bytes of the sub-format's GUID, after the 8 bytes of the extension.
        tag = int.from_bytes(format_chunk[24:26], "little")
    if channels not in (1, 2):
        raise WavError(f"{channels} channels; mono and stereo are read")
    if sample_rate_hz == 0:
        raise WavError("a sample rate of 0 Hz")
    if (tag, bits) == (FORMAT_PCM, 16):
        pcm = body[: len(body) - len(body) % (PCM_SAMPLE_BYTES * channels)]
    elif tag in (FORMAT_ALAW, FORMAT_MULAW) and bits == 8:
        codec = Codec.PCMA if tag == FORMAT_ALAW else Codec.PCMU
        pcm = g711.decode(body[: len(body) - len(body) % channels], codec)
    else:
        raise WavError(f"WAV format {tag} with {bits} bits; 16-bit PCM (1), A-law (6) and mu-law (7) are read")
    return Wav(sample_rate_hz, channels, pcm)
