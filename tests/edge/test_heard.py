"""Which callers are not heard at all, and which only pause: telephones may send nothing in silence (DTX)."""

from __future__ import annotations

import asyncio

import pytest

from bus.memory import MemoryServer
from edge import media_tally
from edge.media_tally import PAUSE_S, UNHEARD_S, hears
from schemas import call
from tests.edge.harness import running_edge, until
from tests.edge.test_metrics import Grown
from tests.fakes.caller import Caller, tone

COMFORT_NOISE = 13


@pytest.mark.unit
@pytest.mark.parametrize(
    ("packets", "comfort_noise", "silent_s", "heard"),
    [
        (0, 0, 0.0, None),
        (0, 0, UNHEARD_S - 0.1, None),
        (0, 0, UNHEARD_S, False),
        (1, 0, 0.0, True),
        (500, 0, UNHEARD_S, True),
        (500, 0, PAUSE_S - 0.1, True),
        (500, 0, PAUSE_S, False),
        (1, 1, 10 * PAUSE_S, True),
    ],
)
def test_never_a_packet_is_not_heard_and_a_pause_is_none_of_it(
    packets: int, comfort_noise: int, silent_s: float, heard: bool | None
) -> None:
    assert hears(packets, comfort_noise, silent_s) is heard


@pytest.mark.integration
async def test_seconds_of_callers_are_counted_by_whether_they_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_tally, "UNHEARD_S", 0.2)
    monkeypatch.setattr(media_tally, "PAUSE_S", 1.2)
    server = MemoryServer()
    grown = Grown()

    def seconds(heard: str) -> float:
        return grown("caller_audio_seconds_total", heard=heard)

    async with running_edge(server.connect("edge"), server.connect("observer")) as edge, Caller() as caller:
        await caller.dial(edge.port)
        await edge.observer.wait_for(call.CallAnswered)
        await until(lambda: seconds("no") >= 1)
        assert seconds("yes") == 0
        await caller.talk(tone(n) for n in range(5))
        await until(lambda: seconds("yes") >= 1)
        unheard = seconds("no")
        caller.send(caller.packet(b"\x40", COMFORT_NOISE))
        await until(lambda: seconds("yes") >= 4)
        assert seconds("no") == unheard, "who sent comfort noise may pause"
        await caller.hold()
        await asyncio.sleep(0.1)
        before = seconds("yes")
        await asyncio.sleep(2.2)
        assert (seconds("yes"), seconds("no")) == (before, unheard), "a call on hold is silent"
