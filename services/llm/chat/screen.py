"""What no voice speaks, taken out of a model's text as it comes: thinking, tools called in writing, JSON, marks. Pure.

A model that is small, or talked into it, writes such things in the middle of its answer. They are found however the
text is cut into tokens: what may yet become a mark is held back until it is known.
"""

from __future__ import annotations

import re

_THOUGHTS = "think|thinking|thoughts?|reasoning|reflection|scratchpad|analysis"
_CALLS = "tool_calls?|tool_response|function_calls?|function|tools?|invoke"
_QUOTES = "caller|keys|event"
"""Marks of the prompt (``services.llm.chat.prompt``): between them stands what the caller said."""

_MARK = re.compile(
    rf"""(?P<thought><(?:{_THOUGHTS})\b[^<>]{{0,80}}>)
    |(?P<call><(?:{_CALLS})\b[^<>]{{0,80}}>)
    |(?P<quote><(?:{_QUOTES})>)
    |(?P<end><[|｜][^<>\n]{{1,80}}[|｜]>|</?s>|<(?:start|end)_of_turn>|<eos>|<bos>|<</?SYS>>|\[/?INST\])
    |(?P<tag></?[A-Za-z][^<>]{{0,80}}>|\[/?[A-Z]+_[A-Z_]+\])
    |(?P<fence>```)
    |(?P<json>\{{(?=\s*["'}}]))""",
    re.VERBOSE | re.IGNORECASE,
)
_PARTIAL = re.compile(r"(?:<[^<>\n]{0,90}|\[/?[A-Za-z_]{0,30}|`{1,2}|\{\s{0,20})\Z")
_CLOSING = {
    "thought": re.compile(rf"</(?:{_THOUGHTS})>", re.IGNORECASE),
    "call": re.compile(rf"</(?:{_CALLS})>", re.IGNORECASE),
    "quote": re.compile(rf"</(?:{_QUOTES})>", re.IGNORECASE),
    "fence": re.compile("```"),
}
_LONGEST_CLOSING = 24


class Screen:
    """Takes a text in any pieces and gives what of it may be spoken.

    Attributes:
        dropped: something other than thinking was taken out.
        over: a sign of a chat template ended the answer: what follows is not the agent's.
    """

    def __init__(self) -> None:
        self.dropped = False
        self.over = False
        self._held = ""
        self._inside = ""
        self._depth = 0
        self._quoted = ""
        self._shown = False

    def feed(self, text: str) -> str:
        """What is certain with this."""
        return self._take(text, final=False)

    def finish(self) -> str:
        """The rest. What was begun and not ended is left out."""
        return self._take("", final=True)

    def _take(self, text: str, *, final: bool) -> str:
        self._held += text
        shown = ""
        while self._held and not self.over:
            if self._inside:
                if not self._skip():
                    break
                continue
            mark = _MARK.search(self._held)
            if mark is None:
                partial = None if final else _PARTIAL.search(self._held)
                end = partial.start() if partial else len(self._held)
                shown, self._held = shown + self._held[:end], self._held[end:]
                break
            shown += self._held[: mark.start()]
            self._held = self._held[mark.end() :]
            self._shown = self._shown or bool(shown.strip())
            self._enter(mark.lastgroup or "")
        self._shown = self._shown or bool(shown.strip())
        self._held = "" if self.over else self._held
        return shown

    def _enter(self, kind: str) -> None:
        if kind == "end":
            # Before the first word it is a slip of the template; after it, the model has gone on to play the others.
            self.over = self._shown
        elif kind != "tag":
            self._inside, self._depth = kind, 1
            self.dropped = self.dropped or kind != "thought"

    def _skip(self) -> bool:
        """Leave out what is inside of a block; False: its end has not come yet."""
        if self._inside == "json":
            return self._skip_json()
        closing = _CLOSING[self._inside].search(self._held)
        if closing is None:
            self._held = self._held[-_LONGEST_CLOSING:]
            return False
        self._held, self._inside = self._held[closing.end() :], ""
        return True

    def _skip_json(self) -> bool:
        escaped = False
        for at, sign in enumerate(self._held):
            if self._quoted:
                if escaped:
                    escaped = False
                elif sign == "\\":
                    if at + 1 == len(self._held):
                        self._held = sign
                        return False
                    escaped = True
                elif sign == self._quoted:
                    self._quoted = ""
            elif sign == '"':
                self._quoted = sign
            elif sign in "{[":
                self._depth += 1
            elif sign in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self._held, self._inside = self._held[at + 1 :], ""
                    return True
        self._held = ""
        return False
