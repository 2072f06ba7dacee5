"""The caller's frames as the bus brings them, and as it should not."""

from __future__ import annotations

import asyncio

import pytest

from bus import codec
from bus.clock import SystemClock
from bus.interface import Message
from bus.memory import MemoryServer
from schemas import subjects
from schemas.audio import pack_audio
from schemas.control import ReplayReply
from services.asr.feed import AudioFeed
from tests.fakes.virtual import run_virtual
from tests.services.asr.harness import CALL_ID, TENANT

pytestmark = pytest.mark.unit


def test_a_frame_that_is_none_of_the_edges_is_asked_for_once() -> None:
    """Its predecessors will never come: waiting for them would deafen the call, asking again would flood the edge."""

    async def scenario() -> None:
        server = MemoryServer()
        edge = server.connect("edge")
        asked: list[int] = []
        heard: list[int] = []
        spoken = 0

        def replay(message: Message) -> None:
            asked.append(spoken)
            edge.publish(message.reply, codec.encode(ReplayReply(first_sequence=spoken, next_sequence=spoken)))

        def say(sequence: int) -> None:
            data = pack_audio(b"\xff" * 160, sequence=sequence, media_time=160 * (sequence % 1000))
            edge.publish(subjects.live_audio("in", CALL_ID, TENANT), data)

        await edge.subscribe(subjects.replay(CALL_ID, TENANT), replay)
        feed = AudioFeed(
            server.connect("asr"),
            CALL_ID,
            TENANT,
            SystemClock(),
            handle=lambda frame: heard.append(frame.sequence),
            ready=lambda: True,
            lost=lambda _: None,
            caught_up=lambda: None,
        )
        await feed.open()
        feed.begin(0, replay=False)
        for spoken in range(1, 3):
            say(spoken - 1)
        say(1_000_000_000)
        await asyncio.sleep(1)
        assert asked == [2]
        assert not feed.behind
        say(2)
        await asyncio.sleep(1)
        assert heard == [0, 1, 2]
        await feed.close()

    run_virtual(scenario())
