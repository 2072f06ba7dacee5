"""Every RFC that the room cites is one that it follows: a wrong number would send the reader astray."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOM = Path(__file__).resolve().parents[3] / "edge" / "sip"
FOLLOWED = {
    "2543": "SIP as it was before",
    "3261": "SIP",
    "3263": "locating servers",
    "3264": "offer and answer",
    "3311": "UPDATE",
    "3326": "Reason",
    "3420": "SIP fragments",
    "3515": "REFER",
    "3551": "static payload types",
    "3581": "rport",
    "3892": "Referred-By",
    "4028": "session timers",
    "4320": "non-INVITE transactions",
    "4475": "torture messages",
    "4585": "RTP/AVPF",
    "4733": "telephone-event",
    "5118": "IPv6 torture messages",
    "5626": "keep-alives",
    "5923": "connection reuse",
    "6026": "2xx to INVITE",
    "6086": "INFO",
    "6337": "offer and answer in SIP",
    "6665": "event notification",
    "8866": "SDP",
}


def test_only_followed_rfcs_are_cited() -> None:
    cited = {
        number for path in ROOM.glob("*.py") for number in re.findall(r"RFC (\d{4})", path.read_text(encoding="utf-8"))
    }
    assert cited == set(FOLLOWED)
