"""What a model writes becomes what the agent says: tokens in, sentences fit to be spoken out. Pure.

* What is cut off at the longest answer (``length``) is left out where the answer has a whole sentence, and else said
  up to its last word, with an ellipsis.
* After a takeover a model may begin anew: its first sentences are left out for as long as they are among those that
  the caller has heard.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from services.llm.chat.agent import ChatAgent
from services.llm.chat.model import FinishReason
from services.llm.chat.safety import Confidential, Guard, Verdict
from services.llm.chat.screen import Screen
from services.text.cutting import SentenceCutter

SAME = 0.8
"""Over this likeness two sentences are one that was written anew, unless they hold other digits."""

MAX_CHARACTERS = 6000
"""Longest answer, six minutes of speech: a model that writes more goes round in circles."""

_END = re.compile(r"[.!?…。！？؟।][\"'”’»)\]]*$")


class Speech:
    """The sentences of one answer.

    Args:
        said: sentences of it that the caller has heard already.

    Attributes:
        sentences: what it has said, with what was said of it before.
        said: whether the model has said anything since :meth:`begin`.
        over: it is complete, whatever else the model writes.
        dropped: something was left out that may not be spoken.
    """

    def __init__(self, agent: ChatAgent, confidential: Confidential, said: Sequence[str]) -> None:
        self._language = agent.language
        self._refusal = agent.model.refusal
        self._guard = Guard(confidential, said)
        self._heard = [_words(text) for text in said]
        self._repeating = bool(said)
        self._characters = 0
        self.sentences = list(said)
        self.over = False
        self.dropped = False
        self.begin()

    def begin(self) -> None:
        """The model begins to write, for the first time or after a tool."""
        self._screen = Screen()
        self._cutter = SentenceCutter(self._language)
        self.said = False

    def feed(self, text: str) -> list[str]:
        """The sentences that are complete with this."""
        self._characters += len(text)
        if self.over or self._characters > MAX_CHARACTERS:
            self.over = True
            return []
        fit = self._say(self._cutter.feed(self._screen.feed(text)))
        self.dropped = self.dropped or self._screen.dropped
        if self._screen.over and not self.over:
            fit += self._say(self._cutter.finish())
            self.over = True
        return fit

    def finish(self, reason: FinishReason) -> list[str]:
        """The rest of what the model has written."""
        if self.over or reason == "content_filter":
            self.dropped = self.dropped or reason == "content_filter"
            return []
        rest = self._cutter.feed(self._screen.finish())
        rest += self._cutter.finish()
        if reason == "length" and rest and not _END.search(rest[-1]):
            rest[-1:] = [] if self.said or len(rest) > 1 else [f"{rest[-1].rsplit(None, 1)[0].rstrip(',;:—- ')} …"]
        return self._say(rest)

    def replace(self, texts: Sequence[str]) -> Sequence[str]:
        """Say these instead."""
        self.sentences += texts
        self.said = True
        return texts

    def _say(self, texts: list[str]) -> list[str]:
        fit: list[str] = []
        for text in texts:
            if self.over or self._repeated(text):
                continue
            verdict, plain = self._guard.look(text)
            self.dropped = self.dropped or (verdict is not Verdict.SAY and any(map(str.isalnum, text)))
            self.over = verdict in (Verdict.END, Verdict.LEAK)
            if verdict is Verdict.SAY:
                fit.append(plain)
            elif verdict is Verdict.LEAK:
                fit.extend(self._refusal)
        self.sentences += fit
        self.said = self.said or bool(fit)
        return fit

    def _repeated(self, text: str) -> bool:
        if self._repeating:
            words = _words(text)
            self._repeating = any(_are_one(words, heard) for heard in self._heard)
        return self._repeating


def _are_one(words: list[str], heard: list[str]) -> bool:
    digits = [[word for word in each if any(map(str.isdigit, word))] for each in (words, heard)]
    return digits[0] == digits[1] and SequenceMatcher(None, words, heard).ratio() > SAME


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
