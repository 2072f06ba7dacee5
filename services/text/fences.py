"""Blocks of code left out of a text that comes in pieces. Pure."""

from __future__ import annotations

import re

_MAYBE = re.compile(r"[ \t]{0,3}(?:`{0,2}|~{0,2}|(?:`{3,}|~{3,})[^`\n]{0,80})\Z")
"""A beginning of a line that may become an opening fence."""
_OPENING = re.compile(r"[ \t]{0,3}(`{3,}|~{3,})[^`\n]{0,80}\Z")


class FenceFilter:
    """Lets text through and drops what stands between two lines of ``` or ~~~, and those lines."""

    def __init__(self) -> None:
        self._fence = ""
        """The opening fence while inside of a block."""
        self._pending = ""
        """The begin of a line of which it is not known yet whether it is a fence."""
        self._in_line = False
        """Inside of a line that is none."""

    def feed(self, text: str) -> str:
        """What of the text is known to stand outside of a block."""
        return "".join(self._take(part) for part in _lines(text))

    def finish(self) -> str:
        """The rest. A block that was not closed is dropped to its end."""
        rest = "" if self._fence or _OPENING.match(self._pending) else self._pending
        self._fence, self._pending, self._in_line = "", "", False
        return rest

    def _take(self, part: str) -> str:
        """A part of a line, or the last part of it with its line feed."""
        ended = part.endswith("\n")
        if self._in_line:
            self._in_line = not ended
            return part
        line = self._pending + part
        self._pending = "" if ended else line
        if self._fence:
            if ended and self._closes(line):
                self._fence = ""
            return ""
        if ended:
            if opening := _OPENING.match(line[:-1]):
                self._fence = opening.group(1)
                return "\n"
            return line
        if _MAYBE.match(line):
            return ""
        self._pending, self._in_line = "", True
        return line

    def _closes(self, line: str) -> bool:
        mark = line.strip()
        return len(mark) >= len(self._fence) and set(mark) == {self._fence[0]}


def _lines(text: str) -> list[str]:
    """Lines with their line feed; nothing else parts them."""
    parts = text.split("\n")
    return [part + "\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
