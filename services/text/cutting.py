"""Sentences out of a text that comes in pieces: each as soon as it is certain, however the text is cut. Pure.

Whether a mark ends a sentence is decided once, by what stands before it and by at most 64 characters after it; where
those have not come yet the decision waits. So the pieces in which a text comes never change its sentences.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from services.text.abbreviations import AFTER_DAY_TIMES, DAY_TIMES, abbreviations_of
from services.text.fences import FenceFilter

SENTENCE_CHARACTERS = 250
"""A sentence longer than that is cut where a voice pauses: about 17 s of speech."""
LOOK_AHEAD = 64
SOFT_WRAP = 60
"""A line of so many characters without an end mark goes on in the next one: somebody wrapped it."""

_OWN_MARKS = "。！？｡"
"""Marks that no space follows."""
_CANDIDATE = re.compile(f"[.!?…؟۔।॥{_OWN_MARKS}\n]")
_MARKS = re.compile(f"[.!?…؟۔।॥{_OWN_MARKS}]{{1,40}}([\"'”’»›)\\]}}*_`」』）】》〉〕]{{0,8}})")
_CLOSES_SPEECH = frozenset("\"'”’»›)]}」』）】》〉〕")
_OPENING = "\"'“‘„«‹([{*_`¿¡「『（【《〈"
_BEFORE = re.compile(r"\S{0,40}\Z")
_AFTER = re.compile(rf"(\s*)[{re.escape(_OPENING)}]*((?:[^\W_]|['’.](?=[^\W_]))*)")
_BLOCK_LINE = re.compile(r"[ \t]*(?:#{1,6}[ \t]|\|)")
_BLOCK_BEGIN = frozenset("-*+•#|>`~–—·●▪◦‣")
_LIST_MARK = re.compile(r"\d{1,3}[.)](?:\s|\Z)")
_LIST_WORD = re.compile(r"\d{1,3}|[A-Za-z]")
_ACRONYM = re.compile(r"(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2}")
_ORDINAL = re.compile(r"\d{1,2}")
_CLAUSE = re.compile(r"[,;:–—](?=\s)|[、，；：]")
_SPACE = re.compile(r"\s")
_WRAP = re.compile(r"[ \t\r]*\n\s*")


class _Verdict(Enum):
    END = auto()
    GO_ON = auto()
    WAIT = auto()


class _After(NamedTuple):
    """What follows a mark: ``word`` is None while it may go on; ``first`` its first sign, empty where there is none."""

    newline: bool
    first: str
    word: str | None


class SentenceCutter:
    """Takes a text in any pieces, gives its sentences without surrounding white space; code blocks are left out."""

    def __init__(self, language: str = "en", *, limit: int = SENTENCE_CHARACTERS) -> None:
        """``language``: BCP 47 tag of the text. ``limit``: characters of the longest sentence."""
        self._known = abbreviations_of(language)
        self._limit = limit
        self._fences = FenceFilter()
        self._text = ""
        self._start = 0
        """Where the sentence that is not complete begins."""
        self._next = 0
        """Where its next end mark is looked for."""
        self._final = False

    def feed(self, text: str) -> list[str]:
        """The sentences that are certain with this."""
        return self._take(self._fences.feed(text))

    def finish(self) -> list[str]:
        """The rest; the cutter is as new afterwards."""
        self._final = True
        sentences = self._take(self._fences.finish())
        self._final = False
        return sentences

    def _take(self, text: str) -> list[str]:
        self._text += text
        sentences = []
        while (end := self._find_end()) is not None:
            sentences.append(_WRAP.sub(" ", self._text[self._start : end].strip()))
            self._start = self._next = end
        self._text = self._text[self._start :]
        self._next -= self._start
        self._start = 0
        return sentences

    def _find_end(self) -> int | None:
        """Where the sentence at ``_start`` ends; None: not known yet, or there is none."""
        while self._start < len(self._text) and self._text[self._start].isspace():
            self._start += 1
        self._next = max(self._next, self._start)
        while (candidate := _CANDIDATE.search(self._text, self._next, self._start + self._limit)) is not None:
            end, verdict = self._decide(candidate.start())
            if verdict is _Verdict.WAIT:
                return None
            if verdict is _Verdict.END:
                return end
            self._next = end
        if len(self._text) - self._start > self._limit:
            return self._cut_long()
        return len(self._text) if self._final and self._start < len(self._text) else None

    def _decide(self, at: int) -> tuple[int, _Verdict]:
        """Whether the sentence ends with the mark at this place, and where what follows begins."""
        if self._text[at] == "\n":
            return at + 1, self._decide_line(at)
        marks = _MARKS.match(self._text, at)
        assert marks is not None
        end = marks.end()
        if end == len(self._text):
            return end, _Verdict.END if self._final else _Verdict.WAIT
        signs = self._text[at : marks.start(1)]
        if any(sign in _OWN_MARKS for sign in signs):
            return end, _Verdict.END
        following = self._text[end]
        if not following.isspace():
            ends = following in "¿¡" or (_is_unspaced(following) and not self._text[max(at - 1, 0)].isdigit())
            return end, _Verdict.END if ends else _Verdict.GO_ON
        spoken = any(sign in _CLOSES_SPEECH for sign in marks.group(1))
        if not spoken and signs == ".":
            return end, self._decide_stop(at, end)
        if spoken or (set(signs) <= {".", "…"}):
            return end, self._decide_by_case(end)
        return end, _Verdict.END

    def _decide_line(self, at: int) -> _Verdict:
        """A line ends without a mark: does a wrapped sentence go on in the next one?"""
        begin = max(self._start, self._text.rfind("\n", self._start, at) + 1)
        line = self._text[begin:at]
        if _BLOCK_LINE.match(line):
            return _Verdict.END
        ahead = self._text[at + 1 : at + 1 + LOOK_AHEAD]
        shown = ahead.lstrip(" \t\r")
        if not shown:
            return _Verdict.END if self._final or len(ahead) == LOOK_AHEAD else _Verdict.WAIT
        first = shown[0]
        if first.islower():
            return _Verdict.GO_ON
        if first.isspace() or first in _BLOCK_BEGIN or len(line) < SOFT_WRAP:
            return _Verdict.END
        if first.isdigit() and len(shown) < 5 and len(ahead) < LOOK_AHEAD and not self._final:
            return _Verdict.WAIT
        return _Verdict.END if _LIST_MARK.match(shown) else _Verdict.GO_ON

    def _decide_stop(self, at: int, end: int) -> _Verdict:
        """A single full stop before white space."""
        word, begins_line = self._word_before(at)
        if not word:
            return _Verdict.GO_ON
        if begins_line and _LIST_WORD.fullmatch(word):
            return _Verdict.GO_ON
        key = word.lower()
        known = self._known
        if key in known.titles:
            return _Verdict.GO_ON
        if key in known.counts:
            return self._decide_by_first(end, str.isdigit)
        if key in known.numbered:
            return self._decide_by_first(end, lambda first: first.isdigit() or first.islower())
        if key in known.ends:
            return self._decide_by_case(end)
        if key in DAY_TIMES:
            return self._decide_by_word(end, not_before=AFTER_DAY_TIMES)
        ordinal = known.ordinals and _ORDINAL.fullmatch(word)
        initial = len(word) == 1 and word.isalpha() and word != "I"
        if ordinal or initial or key in known.places or _ACRONYM.fullmatch(word):
            return self._decide_by_word(end, before=known.starters)
        return _Verdict.END

    def _word_before(self, at: int) -> tuple[str, bool]:
        """The word before a mark, and whether it is the first one of its line or sentence."""
        found = _BEFORE.search(self._text, max(self._start, at - 40), at)
        word = found.group() if found else ""
        begin = at - len(word)
        gap = begin
        while gap > self._start and self._text[gap - 1] in " \t":
            gap -= 1
        return word.lstrip(_OPENING), gap == self._start or self._text[gap - 1] == "\n"

    def _decide_by_first(self, end: int, goes_on: Callable[[str], bool]) -> _Verdict:
        """It ends unless the first sign of what follows is one of those."""
        after = self._after(end)
        if after is None:
            return _Verdict.WAIT
        return _Verdict.GO_ON if goes_on(after.first) else _Verdict.END

    def _decide_by_case(self, end: int) -> _Verdict:
        """It ends unless a small letter or no letter at all follows."""
        after = self._after(end)
        if after is None:
            return _Verdict.WAIT
        goes_on = after.first.islower() or not after.first
        return _Verdict.GO_ON if goes_on and not after.newline else _Verdict.END

    def _decide_by_word(
        self, end: int, *, before: frozenset[str] | None = None, not_before: frozenset[str] = frozenset()
    ) -> _Verdict:
        """It ends before a new line, or a word with a capital that is in ``before`` and not in ``not_before``."""
        after = self._after(end)
        if after is None:
            return _Verdict.WAIT
        if after.newline:
            return _Verdict.END
        if not after.first.isalpha() or after.first.islower():
            return _Verdict.GO_ON
        if after.word is None:
            return _Verdict.WAIT
        word = after.word.lower().replace("’", "'").partition(".")[0]
        wanted = before is None or word in before or word.partition("'")[0] in before
        return _Verdict.END if wanted and word not in not_before else _Verdict.GO_ON

    def _after(self, end: int) -> _After | None:
        """None: what follows has not come yet."""
        ahead = self._text[end : end + LOOK_AHEAD]
        complete = self._final or len(ahead) == LOOK_AHEAD
        found = _AFTER.match(ahead)
        assert found is not None
        newline = "\n" in found.group(1)
        if found.end() == len(ahead) and not complete:
            word = found.group(2)
            return _After(newline, word[0], None) if word else None
        return _After(newline, found.group(2)[:1], found.group(2))

    def _cut_long(self) -> int:
        """Where a voice would pause in a sentence that is too long, in its last two thirds if possible."""
        limit = self._start + self._limit
        clauses = [match.end() for match in _CLAUSE.finditer(self._text, self._start + self._limit // 3, limit)]
        if clauses:
            return clauses[-1]
        spaces = [match.end() for match in _SPACE.finditer(self._text, self._start + 1, limit + 1)]
        return spaces[-1] if spaces else limit


def cut_sentences(text: str, language: str = "en") -> list[str]:
    """The sentences of a whole text."""
    cutter = SentenceCutter(language)
    return cutter.feed(text) + cutter.finish()


def _is_unspaced(sign: str) -> bool:
    """Whether a sign belongs to a script that puts no space after its marks: Han, Kana."""
    return "\u3040" <= sign <= "\u9fff"
