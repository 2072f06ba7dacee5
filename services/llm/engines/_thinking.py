"""What a reasoning model thinks aloud before it answers is not for the caller's ears."""

from __future__ import annotations

from typing import Literal

OPENING, CLOSING = "<think>", "</think>"
"""How models that think in their reply (Qwen 3, DeepSeek R1 and others) mark it."""


class SpokenText:
    """Lets through what a reply says, without the thinking and the white space before it.

    Args:
        thinking: whether the prompt itself has already opened the thinking, as some chat templates do.
    """

    def __init__(self, *, thinking: bool = False) -> None:
        self._state: Literal["before", "thinking", "speaking"] = "thinking" if thinking else "before"
        self._held = ""

    def feed(self, text: str) -> str:
        """What of ``text``, and of what was held back, is certain to be spoken; may be empty."""
        if self._state == "speaking":
            return text
        self._held += text
        if self._state == "thinking":
            _, closing, rest = self._held.partition(CLOSING)
            if not closing:
                self._held = self._held[-len(CLOSING) + 1 :]
                return ""
            self._state, self._held = "before", rest
        return self._begin()

    def _begin(self) -> str:
        text = self._held.lstrip()
        if text.startswith(OPENING):
            self._state, self._held = "thinking", text[len(OPENING) :]
            return self.feed("")
        if OPENING.startswith(text):
            self._held = text
            return ""
        self._state, self._held = "speaking", ""
        return text

    def finish(self) -> str:
        """What was still held back at the end of the reply."""
        held, self._held = self._held, ""
        return "" if self._state == "thinking" else held
