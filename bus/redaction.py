"""What never stands in a log, as a second line of defence: numbers, users of SIP addresses, keys and tokens.

The first line is that no code writes content into a log at all. This one looks at every line before it is written:
patterns take out what looks like a telephone or card number, the user of a SIP address, a key; and of exceptions from
elsewhere only type and place are told, because their text may quote what a caller said. Our own ids (calls, traces,
workers, subjects) and figures stay as they are.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

NUMBER = "[number]"
USER = "[user]"
SECRET = "[secret]"
WITHHELD = "[text withheld: it may quote a caller]"
DEPTH = 6
"""Values lie no deeper in each other than this."""
FRAMES = 40
"""Of a traceback, the innermost."""

_OWN_PACKAGES = frozenset({"bus", "config", "edge", "ops", "schemas", "services"})
_PLAIN_ERRORS = (OSError, ImportError, MemoryError, TimeoutError)
"""Their texts name files, hosts and modules."""

_SECRET = re.compile(
    r"""
    (?P<scheme>\bbearer\s+)[A-Za-z0-9._~+/=-]{8,}
    | (?P<name>\b(?:authorization|xi-api-key|x-api-key|api[_-]?key|(?:access|auth)[_-]?token|token|secret|passw(?:or)?d)
        ["']?\s*(?:=|:)\s*["']?(?:bearer\s+|basic\s+)?)[^\s"',;&}\])]{4,}
    | \b(?-i:sk|pk|rk|gsk|xi|hf|ghp|gho|glpat|xox[abprs])[-_][A-Za-z0-9_-]{12,}
    | \b(?-i:AIza)[A-Za-z0-9_-]{20,}
    | \b(?-i:eyJ)[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?
    | \b(?-i:S[UAONCX][A-Z2-7]{54,})\b
    | (?-i:-----BEGIN[ ][A-Z ]*KEY-----).*?(?:-----END[ ][A-Z ]*KEY-----|$)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_USER = re.compile(
    r"""
    (?P<sip>\bsips?:)[^\s@<>"]{1,256}(?=@)
    | (?P<tel>\btel:)[+0-9*\#().\-A-Da-d]+
    | (?P<url>\b[a-z][a-z0-9+.-]*://)[^\s/@<>"']{1,256}(?=@)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_NUMBER = re.compile(
    r"""
    (?P<keep>
        (?<![\w.])[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?!\w)            # a UUID
        | (?<!\w)[0-9a-f]{32}(?!\w) | (?<!\w)[0-9a-f]{16}(?!\w)(?<=[a-f0-9])(?<![0-9]{16})        # ids of traces, spans
        | (?<!\w)[a-z]+(?:-[a-z]+)*-[0-9a-f]{8}(?!\w)                                           # a worker
        | (?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?:[:/]\d{1,5})?(?![\d.])                            # an address
        | (?<!\d)\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?(?!\d)   # a time
        | (?<![\w.])\d{1,6}\.\d+(?:e-?\d+)?(?=\ ?(?:ms|s|us|dB|dBFS|%|MB|GB)\b)                 # a measure
        | (?<![\w.])0\.\d+(?![\w.])
    )
    | (?P<number>(?<![\w])(?<![A-Za-z]-)\+?\(?\d(?:[ \t]?[-./()]?[ \t]?\(?\d){6,}\)?(?!\w))
    """,
    re.VERBOSE,
)
_CANDIDATE = re.compile(r"(?<!\w)(?<![A-Za-z]-)\+?\(?\d(?:[ \t]?[-./()]?[ \t]?\(?\d){6,}")
_NAMES_OF_SECRETS = ("bearer", "authoriz", "key", "token", "secret", "passw")
_STARTS_OF_SECRETS = (
    "sk",
    "pk",
    "rk",
    "xi",
    "hf",
    "gh",
    "pat",
    "xox",
    "AIza",
    "eyJ",
    "SU",
    "SA",
    "SN",
    "SO",
    "SC",
    "SX",
)
"""Looking for these takes a tenth of the time of the patterns, and most lines hold none."""
_LONG = 9
"""So many digits in a row are a number; fewer (7 and 8) only where they are written as one."""


def text(value: str) -> str:
    """``value`` without numbers, users of addresses and secrets."""
    if len(value) < 7:
        return value
    lower = value.lower()
    if any(hint in lower for hint in _NAMES_OF_SECRETS) or any(hint in value for hint in _STARTS_OF_SECRETS):
        value = _SECRET.sub(_secret, value)
    if "@" in value or "tel:" in lower:
        value = _USER.sub(_user, value)
    return _NUMBER.sub(_number, value) if _CANDIDATE.search(value) else value


def anything(value: Any, depth: int = 0) -> Any:
    """A value of a log line, and what lies in it. Numbers, booleans and None are figures of ours and stay."""
    if isinstance(value, str):
        return text(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return {text(str(key)): anything(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [anything(each, depth + 1) for each in value]
    if isinstance(value, BaseException):
        return describe(value)
    return text(str(value))


def describe(error: BaseException, *, plainly: bool = False) -> str:
    """Type and, where that can't quote a caller, text. ``plainly``: no caller has been heard yet."""
    name = type(error).__qualname__
    if not (said := str(error)):
        return name
    if plainly or isinstance(error, _PLAIN_ERRORS) or type(error).__module__.partition(".")[0] in _OWN_PACKAGES:
        return f"{name}: {text(said)}"
    return f"{name}: {WITHHELD}"


def trace_of(error: BaseException, *, plainly: bool = False) -> str:
    """A traceback as Python writes it, causes included, but with :func:`describe` in place of the texts."""
    lines: list[str] = []
    seen: set[int] = set()

    def add(one: BaseException) -> None:
        seen.add(id(one))
        cause = one.__cause__
        before = cause or (None if one.__suppress_context__ else one.__context__)
        if before is not None and id(before) not in seen:
            add(before)
            between = "direct cause of" if cause is not None else "during handling of the above"
            lines.append(f"\n[{between} the following]\n")
        lines.extend(_frames(one.__traceback__))
        lines.append(describe(one, plainly=plainly))
        if isinstance(one, BaseExceptionGroup):
            for each in one.exceptions:
                if id(each) not in seen:
                    lines.append("[of the group]")
                    add(each)

    add(error)
    return "\n".join(lines)


def _frames(of: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(of)[-FRAMES:]
    lines = [f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}\n    {frame.line}' for frame in frames]
    return ["Traceback (most recent call last):", *lines] if lines else []


def _secret(found: re.Match[str]) -> str:
    return f"{found['scheme'] or found['name'] or ''}{SECRET}"


def _user(found: re.Match[str]) -> str:
    return f"{found['sip'] or found['tel'] or found['url']}{USER}"


def _number(found: re.Match[str]) -> str:
    written: str = found[0]
    if found["keep"] is not None:
        return written
    digits = sum(character.isdigit() for character in written)
    bare = digits == len(written)
    if bare and digits < _LONG and not written.startswith("0"):
        return written
    return NUMBER
