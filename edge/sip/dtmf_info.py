"""Keys pressed, as INFO bodies carry them: application/dtmf-relay and application/dtmf.

Neither has an RFC; both come from gateways' manuals and are what PBXes send where RFC 4733 is switched off.
"""

from __future__ import annotations

import re
from typing import NamedTuple

DTMF_RELAY = "application/dtmf-relay"
DTMF = "application/dtmf"

DEFAULT_DURATION_MS = 250
"""Where the body names none; the usual default of dtmf-relay senders."""
MAX_DURATION_MS = 10_000
MAX_BODY_BYTES = 1024

_RELAY_FIELD = re.compile(r"^[ \t]*(signal|duration)[ \t]*=[ \t]*(\S*)[ \t]*$", re.IGNORECASE | re.MULTILINE)
_NUMBERED = {"10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D"}
"""Some senders use the event numbers of RFC 4733 for the keys that are not digits."""


class InfoDigit(NamedTuple):
    """One key press."""

    digit: str
    """One of 0-9, *, #, A-D."""
    duration_ms: int
    """How long it was pressed, in milliseconds."""


def parse_info_digit(content_type: str, body: bytes) -> InfoDigit | None:
    """The key in an INFO body; None where the type is another one or no key can be read."""
    if len(body) > MAX_BODY_BYTES:
        return None
    text = body.decode("ascii", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    if content_type == DTMF_RELAY:
        fields = {name.lower(): value for name, value in _RELAY_FIELD.findall(text)}
        signal, duration = fields.get("signal", ""), fields.get("duration", "")
    elif content_type == DTMF:
        signal, duration = text.strip(), ""
    else:
        return None
    digit = _NUMBERED.get(signal, signal.upper())
    if len(digit) != 1 or digit not in "0123456789*#ABCD":
        return None
    milliseconds = int(duration) if duration.isascii() and duration.isdigit() and len(duration) < 8 else 0
    return InfoDigit(digit, min(milliseconds, MAX_DURATION_MS) or DEFAULT_DURATION_MS)


def build_dtmf_relay(digit: str, duration_ms: int) -> bytes:
    """Body of an INFO that carries one key press."""
    return f"Signal={digit}\r\nDuration={duration_ms}\r\n".encode("ascii")
