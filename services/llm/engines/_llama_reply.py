"""A reply of a local model as it grows: what is spoken, what may become a tool call, where it stops. Pure."""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from typing import NamedTuple

from services.llm.engines._thinking import SpokenText


class Piece(NamedTuple):
    """What a token brought.

    Attributes:
        text: to be spoken now; may be empty.
        call_at: tokens of the reply before the one in which a tool call begins; None: none does.
        stopped: whether the reply is over.
    """

    text: str = ""
    call_at: int | None = None
    stopped: bool = False


class ReplyText:
    """Joins tokens to text. A character that lies across tokens comes when it is whole.

    What may turn out to be the beginning of a mark is held back until that is certain; so are the first words as long
    as they may be nothing but the name of a tool, which is how small models ask for one.

    Args:
        marks: what a tool call begins with.
        stops: what ends the reply.
        names: of the tools.
        thinking: whether the prompt has opened the model's thinking.
    """

    def __init__(
        self, marks: Sequence[str], stops: Sequence[str], names: Sequence[str], *, thinking: bool = False
    ) -> None:
        self._marks, self._stops, self._names = tuple(marks), tuple(stops), tuple(names)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._spoken = SpokenText(thinking=thinking)
        self._raw_characters = 0
        self._ends: list[int] = []
        self._shown = ""
        self._given = 0

    def feed(self, token: bytes) -> Piece:
        """The bytes of one token."""
        text = self._decoder.decode(token)
        self._raw_characters += len(text)
        self._ends.append(self._raw_characters)
        self._shown += self._spoken.feed(text)
        found = [(at, mark) for mark in (*self._marks, *self._stops) if (at := self._find(mark)) >= 0]
        if found:
            at, mark = min(found)
            text = self._give(at)
            return Piece(text, stopped=True) if mark in self._stops else Piece(text, self._token_at(at))
        if any(f"{name}()".startswith(self._shown.rstrip()) for name in self._names):
            return Piece()
        return Piece(self._give(len(self._shown) - self._held()))

    def finish(self) -> Piece:
        """The model has ended the reply. ``call_at``: it is nothing but a tool's name."""
        if self.named:
            return Piece("", self._token_at(0), stopped=True)
        self._shown += self._spoken.feed(self._decoder.decode(b"", final=True)) + self._spoken.finish()
        return Piece(self._give(len(self._shown)), stopped=True)

    @property
    def named(self) -> str:
        """The tool whose name the whole reply is; empty: it is not that."""
        text = self._shown.strip().removesuffix("()")
        return text if text in self._names and self._given == 0 else ""

    def _find(self, mark: str) -> int:
        return self._shown.find(mark, max(0, self._given - len(mark)))

    def _held(self) -> int:
        """Characters at the end that may begin a mark."""
        ends = [
            length
            for mark in (*self._marks, *self._stops)
            for length in range(min(len(mark) - 1, len(self._shown)), 0, -1)
            if self._shown.endswith(mark[:length])
        ]
        return max(ends, default=0)

    def _give(self, end: int) -> str:
        text = self._shown[self._given : end]
        self._given = max(self._given, end)
        return text

    def _token_at(self, place: int) -> int:
        """Which token holds a character of the spoken text."""
        place += self._raw_characters - len(self._shown)
        return next((number for number, end in enumerate(self._ends) if end > place), len(self._ends) - 1)


def whole_calls(text: str, key: str) -> list[tuple[str, str]]:
    """Names and arguments of the tool calls that a text holds; what is not whole is left out."""
    decoder, calls, place = json.JSONDecoder(), [], 0
    while (place := text.find("{", place)) >= 0:
        try:
            value, place = decoder.raw_decode(text, place)
        except ValueError:
            break
        if isinstance(value, dict) and isinstance(value.get(key), str):
            calls.append((value[key], json.dumps(value.get("arguments", {}), ensure_ascii=False)))
    return calls
