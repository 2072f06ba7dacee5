"""Sentences kept as audio, for when no engine is left to say them. Pure.

Three kinds: recordings of the user's own, the fixed sentences of an agent whose stage is down, and what the engines
have said here themselves: a sentence that was said whole in two calls is kept. Of the last kind there is a limit, and
nothing that can be read: texts are kept as keyed hashes, and only of sentences without a digit. A phrase is played only
in place of the very same sentence, so that no caller hears what was said to another.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from hashlib import blake2b

from services.audio.g711 import PCM_SAMPLE_BYTES
from services.audio.resample import resample
from services.text.courtesies import base_language, plain_words

RECORDED = "recorded"
"""As the engine in ``tts.started``."""

LIMIT_BYTES = 8 * 1024 * 1024
"""Audio of what was said here: three minutes at 22,050 Hz."""
SENTENCE_BYTES = LIMIT_BYTES // 16
SEEN_LIMIT = 4096
"""Sentences that were said in one call so far, of which it is remembered in which."""
TEXT_LIMIT = 300

_Key = bytes


class PhraseBook:
    """The phrases of one worker."""

    def __init__(self, rate_hz: int, limit_bytes: int = LIMIT_BYTES) -> None:
        """``rate_hz``: of all its audio, 16-bit mono PCM."""
        self.rate_hz = rate_hz
        self._limit_bytes = limit_bytes
        self._secret = secrets.token_bytes(16)
        self._fixed: dict[_Key, bytes] = {}
        self._said: OrderedDict[_Key, bytes] = OrderedDict()
        self._said_bytes = 0
        self._seen: OrderedDict[_Key, _Key] = OrderedDict()

    def add(self, text: str, language: str, pcm: bytes, rate_hz: int) -> None:
        """Keep a phrase for good; the first one of a text stands.

        Raises:
            ResamplerMissingError: its rate is another, and nothing is installed that changes it.
        """
        if rate_hz != self.rate_hz:
            pcm = resample(pcm, rate_hz, self.rate_hz)
        self._fixed.setdefault(self._key(text, language), pcm)

    def recording(self, text: str, language: str) -> bytes | None:
        """The audio of exactly this sentence; None: it is not in the book."""
        key = self._key(text, language)
        if key in self._said:
            self._said.move_to_end(key)
        return self._fixed.get(key) or self._said.get(key)

    def duration_ms(self, pcm: bytes) -> float:
        """How long it is."""
        return 1000 * len(pcm) / PCM_SAMPLE_BYTES / self.rate_hz

    def wants(self, text: str, language: str, call_id: str) -> bool:
        """Whether the audio of this sentence, which is about to be said in a call, is worth keeping."""
        if len(text) > TEXT_LIMIT or any(character.isnumeric() for character in text):
            return False
        key, call = self._key(text, language), self._hash(call_id)
        if key in self._fixed or key in self._said or not plain_words(text):
            return False
        first = self._seen.setdefault(key, call)
        self._seen.move_to_end(key)
        if len(self._seen) > SEEN_LIMIT:
            self._seen.popitem(last=False)
        return first != call

    def keep(self, text: str, language: str, pcm: bytes) -> None:
        """Keep what an engine has said, from its first sample to its last; what was needed least recently goes."""
        key = self._key(text, language)
        if not pcm or len(pcm) > min(SENTENCE_BYTES, self._limit_bytes) or key in self._fixed or key in self._said:
            return
        self._seen.pop(key, None)
        self._said[key] = bytes(pcm)
        self._said_bytes += len(pcm)
        while self._said_bytes > self._limit_bytes:
            self._said_bytes -= len(self._said.popitem(last=False)[1])

    def _key(self, text: str, language: str) -> _Key:
        return self._hash(f"{base_language(language)} {' '.join(plain_words(text))}")

    def _hash(self, text: str) -> bytes:
        return blake2b(text.encode(), digest_size=16, key=self._secret).digest()
