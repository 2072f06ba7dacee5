"""What is written for eyes taken out of a text: Markdown, HTML, pictures. What it stood around stays. Pure."""

from __future__ import annotations

import html
import re

from services.text.traced import Edit, Traced

_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_AUTO_LINK = re.compile(r"<((?:https?://|mailto:)[^<>\s]{1,500}|[\w.+-]{1,64}@[\w.-]{1,200})>")
_TAG = re.compile(r"</?([A-Za-z][A-Za-z0-9-]{0,20})(?:\s[^<>]{0,300})?/?>|<!--[^<>]{0,500}-->")
_INLINE_TAGS = frozenset("a abbr b code em i mark q s small span strong sub sup u".split())  # noqa: SIM905
_LINK = re.compile(
    r"!?\[([^\[\]]{0,500})\]\([^()\s]{0,500}(?:\([^()\s]{0,100}\)[^()\s]{0,100})?(?:\s[\"'][^\"'()]{0,200}[\"'])?\)"
)
_NOTE = re.compile(r"(?<=\S)\[\^?\w{1,20}\](?!\()")
_RULE = re.compile(r"^[ \t]*([-*_=])(?:[ \t]*\1){2,}[ \t]*$", re.MULTILINE)
_LINE_MARK = re.compile(
    r"^[ \t]*(?:#{1,6}(?=[ \t])|>+(?=[ \t])|[-*+•◦▪‣·](?=[ \t])(?:[ \t]+\[[ xX]\])?)[ \t]*", re.MULTILINE
)
_ROW = re.compile(r"^[ \t]*\|[^\n]*$", re.MULTILINE)
_ROW_RULE = re.compile(r"[|:\-\s]+")
_TICKS = re.compile(r"`+")
_OPENS = re.compile(
    r"(?:(?<=[\s(\[\"'“‘—–/-])|\A)(?:\*{2,3}(?![*\s])|\*(?![*\s0-9.,;:!?)]|\Z)|_{1,3}(?![_\s])|~~(?![~\s]))"
)
_CLOSES = re.compile(r"(?<=[^\s*_~])(?:\*{1,3}|_{1,3}|~~)(?=[\s.,;:!?)\]\"'”’—–/-]|\Z)")
_ESCAPED = re.compile(r"\\(?=[\\`*_{}\[\]()#+\-.!|<>~])")
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_PICTURE = re.compile(
    "[\U0001f000-\U0001faff\u2139\u231a-\u23ff\u25a0-\u27bf\u2b00-\u2bff\u3030\u303d\u3297\u3299]"
    "[\ufe0e\ufe0f\u20e3\u200d\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]*|[\ufe0e\ufe0f\u20e3]"
)


def without_markup(traced: Traced) -> Traced:
    """The text without marks, tags and pictures."""
    if "&" in traced.text:
        traced = traced.replace(_ENTITY, lambda match: html.unescape(match.group()))
    if "<" in traced.text:
        traced = traced.replace(_AUTO_LINK, _link).replace(_TAG, _tag)
    if "[" in traced.text:
        traced = traced.replace(_LINK, _link).replace(_NOTE, "")
    traced = traced.replace(_RULE, "").replace(_ROW, _row).replace(_LINE_MARK, "")
    traced = traced.replace(_OPENS, "").replace(_CLOSES, "").replace(_TICKS, "").replace(_ESCAPED, "")
    return traced.replace(_INVISIBLE, "").replace(_PICTURE, " ")


def _tag(match: re.Match[str]) -> str:
    return "" if (match.group(1) or "").lower() in _INLINE_TAGS else " "


def _link(match: re.Match[str]) -> list[Edit]:
    """What the signs of a link stand around stays."""
    return [Edit(match.start(), match.start(1), ""), Edit(match.end(1), match.end(), "")]


def _row(match: re.Match[str]) -> str | list[Edit]:
    """A row of a table: its cells parted by commas. The line below the head is nothing."""
    row = match.group()
    if _ROW_RULE.fullmatch(row):
        return ""
    bars = [match.start() + at for at, sign in enumerate(row) if sign == "|"]
    closed = row.rstrip().endswith("|")
    edits = []
    for bar in bars:
        first, last = bar == bars[0], closed and bar == bars[-1]
        edits.append(Edit(bar, bar + 1, "" if first else "." if last else ","))
    return edits
