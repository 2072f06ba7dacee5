"""ElevenLabs over HTTP: one session that stays open for all calls, one request for each sentence."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from bus.logs import get_logger
from config.engine_sections import ElevenlabsSection
from config.settings import Settings, TtsSection
from services.packages import installed
from services.tts.engine import Capabilities, Engine, EngineChoiceError, EngineError, Label, Run, SpeechChunk
from services.tts.engines._elevenlabs_errors import KEY, ElevenlabsError, as_choice, error_of
from services.tts.engines._elevenlabs_stream import PcmReader, StreamReader, TimedReader
from services.tts.sentences import split_text

log = get_logger(__name__)

EXTRA = "elevenlabs"
KEY_VARIABLE = "ELEVENLABS_API_KEY"
TEXT_CHARACTERS = 2500
"""The least that any of its models takes in one request, with room; about three minutes of speech."""
SILENCE_S = 30.0
"""A stream that gives nothing for so long is given up, whoever waits for it."""
ANSWER_S = 10.0
"""Deadline of an answer that is no speech."""
READ_BYTES = 16 * 1024
ERROR_BYTES = 16 * 1024
SPEEDS = (0.7, 1.2)
"""Its slowest and its fastest."""
_LANGUAGES = "ar bg cs da de el en es fi fil fr hi hr hu id it ja ko ms nl no pl pt ro ru sk sv ta tr uk vi zh"
LANGUAGES = frozenset(_LANGUAGES.split(" "))
"""What models named ``_v2_5`` take as a language; the other models hear it from the text."""


def create(section: TtsSection, settings: Settings) -> Engine:
    """The engine with the voice of [elevenlabs]; nothing is asked yet.

    Raises:
        MissingPackageError: aiohttp is not installed.
        EngineChoiceError: there is no key.
    """
    installed("elevenlabs", {"aiohttp": EXTRA})
    return ElevenlabsEngine(settings.elevenlabs, section.speed, _key(settings.elevenlabs))


def _key(section: ElevenlabsSection) -> str:
    key = section.api_key
    if not key and section.api_key_file:
        try:
            key = Path(section.api_key_file).expanduser().read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise EngineChoiceError(f"[elevenlabs] api_key_file = {section.api_key_file!r} can't be read") from error
    key = key or os.environ.get(KEY_VARIABLE, "")
    if not key or not key.isascii() or not key.isprintable():
        raise EngineChoiceError(f"ElevenLabs wants a key, of printable ASCII: {KEY}")
    return key


class ElevenlabsEngine:
    """The voice speaks every language that its model does."""

    def __init__(self, section: ElevenlabsSection, speed: float, key: str) -> None:
        self.capabilities = Capabilities(
            "elevenlabs", section.sample_rate_hz, streaming=True, word_times=section.word_times
        )
        self.section = section
        # What stands behind the id in a line of ``list_voices`` is its name.
        self.voice = section.voice.partition(" ")[0]
        self._speed = min(SPEEDS[1], max(SPEEDS[0], speed))
        if self._speed != speed:
            log.warning(
                "speed_limited", message=f"[tts] speed = {speed}: ElevenLabs goes no further than {self._speed}"
            )
        self._key = key
        self._session: Any = None

    async def warm(self) -> None:
        """Open a connection, and ask for the voice: whether the key is good and the voice is the account's to use.

        Raises:
            EngineChoiceError: one of them is not.
            EngineError: the server can't be reached, or fails.
        """
        try:
            await self._ask(f"/v1/voices/{quote(self.voice, safe='')}")
        except ElevenlabsError as error:
            # A key may be allowed to speak and to do nothing else.
            if error.code != "missing_permissions":
                raise as_choice(error) from None

    def open(self, text: str, *, language: str = "en", label: Label = Label()) -> Run:  # noqa: B008
        clean = text.encode("utf-8", "replace").decode("utf-8")
        pieces = [piece.text for piece in split_text(clean, TEXT_CHARACTERS)]
        return ElevenlabsRun(self, [piece for piece in pieces if any(map(str.isalnum, piece))], language)

    async def list_voices(self) -> tuple[str, ...]:
        """Ids of the account's voices, each with its name behind it, for ``[elevenlabs] voice``."""
        answer = await self._ask("/v1/voices")
        try:
            return tuple(f"{voice['voice_id']} {voice.get('name', '')}".strip() for voice in answer["voices"])
        except (TypeError, KeyError, AttributeError):
            raise EngineError("ElevenLabs answered something else than a list of voices") from None

    async def close(self) -> None:
        """Close the connections; runs under way end with an error."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def request(self, text: str, language: str) -> Any:
        """Send a piece of text; the answer, whose head says that speech follows.

        Raises:
            EngineError: it is no success, or can't be had.
        """
        path = f"/v1/text-to-speech/{quote(self.voice, safe='')}/stream"
        if self.section.word_times:
            path += "/with-timestamps"
        response = await self._http().post(
            self.section.url.rstrip("/") + path,
            params={"output_format": f"pcm_{self.section.sample_rate_hz}"},
            json=self._body(text, language),
            # The key would go along to wherever it is sent.
            allow_redirects=False,
        )
        if response.status != 200:
            raise await _error(response)
        return response

    def reader(self, text: str, begin_s: float) -> StreamReader:
        """What reads the stream of a piece of text, whose audio begins at that time of the sentence's."""
        if self.section.word_times:
            return TimedReader(text, self.section.sample_rate_hz, begin_s)
        return PcmReader()

    def _body(self, text: str, language: str) -> dict[str, Any]:
        body: dict[str, Any] = {"text": text, "model_id": self.section.model}
        if self._speed != 1.0:
            body["voice_settings"] = {"speed": self._speed}
        tag = language.lower().replace("_", "-").partition("-")[0]
        if "_v2_5" in self.section.model and tag in LANGUAGES:
            body["language_code"] = tag
        return body

    async def _ask(self, path: str) -> Any:
        try:
            async with asyncio.timeout(ANSWER_S), self._get(path) as response:
                if response.status != 200:
                    raise await _error(response)
                return await response.json(content_type=None)
        except EngineError:
            raise
        except Exception as error:
            raise_network(error)

    def _get(self, path: str) -> Any:
        return self._http().get(self.section.url.rstrip("/") + path, allow_redirects=False)

    def _http(self) -> Any:
        """The session, opened in the loop that asks first."""
        if self._session is None:
            import aiohttp

            connect_s = self.section.connect_ms / 1000
            self._session = aiohttp.ClientSession(
                headers={"xi-api-key": self._key},
                timeout=aiohttp.ClientTimeout(total=None, connect=connect_s, sock_read=SILENCE_S),
                # As many at once as there are calls; what is over stays open for the next sentence.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


class ElevenlabsRun:
    """One sentence. Nothing is read ahead: the network waits while nobody takes the chunks."""

    def __init__(self, engine: ElevenlabsEngine, pieces: list[str], language: str) -> None:
        self._engine = engine
        self._pieces = deque(pieces)
        self._language = language
        self._ready: deque[SpeechChunk] = deque()
        self._response: Any = None
        self._reader: StreamReader | None = None
        self._reading: asyncio.Future[bool] | None = None
        self._bytes = 0
        self._bytes_of_piece = 0
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True
        self._ready.clear()
        if self._reading is not None:
            self._reading.cancel()
        self._close()

    def __aiter__(self) -> AsyncIterator[SpeechChunk]:
        return self

    async def __anext__(self) -> SpeechChunk:
        while not self._cancelled:
            if self._ready:
                return self._ready.popleft()
            # A task of its own, so that :meth:`cancel` can end the waiting of whoever reads here.
            self._reading = asyncio.ensure_future(self._read())
            try:
                if not await self._reading:
                    break
            except asyncio.CancelledError:
                if self._was_cancelled():
                    break
                self.cancel()
                raise
            except EngineError:
                self.cancel()
                raise
            except Exception as error:
                self.cancel()
                raise_network(error)
            finally:
                self._reading = None
        raise StopAsyncIteration

    def _was_cancelled(self) -> bool:
        """Whether :meth:`cancel` ended the waiting, and not who waited."""
        task = asyncio.current_task()
        return self._cancelled and not (task and task.cancelling())

    async def _read(self) -> bool:
        """Read once. False: all is said."""
        if self._reader is None:
            if not self._pieces:
                return False
            self._reader = await self._request(self._pieces.popleft())
        data = await self._response.content.read(READ_BYTES)
        chunks = list(self._reader.feed(data) if data else self._reader.finish())
        self._bytes_of_piece += sum(len(chunk.pcm) for chunk in chunks)
        if not self._cancelled:
            self._ready.extend(chunks)
        if not data:
            self._end_piece()
        return True

    async def _request(self, piece: str) -> StreamReader:
        self._response = await self._engine.request(piece, self._language)
        reader = self._engine.reader(piece, self._bytes / 2 / self._engine.section.sample_rate_hz)
        kind = self._response.headers.get("Content-Type", "audio/")
        if not kind.startswith(reader.media_types):
            raise EngineError(f"ElevenLabs answered 200 with {kind.partition(';')[0][:40]!r} in place of speech")
        return reader

    def _end_piece(self) -> None:
        if not self._bytes_of_piece:
            raise EngineError("ElevenLabs answered 200 without any speech")
        self._bytes += self._bytes_of_piece
        self._bytes_of_piece = 0
        self._response.release()
        self._response = self._reader = None

    def _close(self) -> None:
        """Not given back to the session: what is still on its way would have to be read first."""
        if self._response is not None:
            self._response.close()
            self._response = None


async def _error(response: Any) -> ElevenlabsError:
    try:
        async with asyncio.timeout(ANSWER_S):
            body = await response.content.read(ERROR_BYTES)
    except Exception:
        # The status says enough.
        body = b""
    finally:
        response.close()
    return error_of(response.status, body)


def raise_network(error: Exception) -> NoReturn:
    """An error of the network or of HTTP as one of the engine. Its own text is left out: it may hold the address."""
    if isinstance(error, TimeoutError):
        raise EngineError("ElevenLabs gave no answer in time ([elevenlabs] url, connect_ms)") from None
    raise EngineError(f"ElevenLabs can't be reached, or broke off: {type(error).__name__} ([elevenlabs] url)") from None
