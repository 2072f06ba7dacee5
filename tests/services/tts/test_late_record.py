"""A successor in the tts stage that the record reaches late: what was live before it listened, and is stored after it
read, is said all the same, before the caller takes the pause for the end."""

from __future__ import annotations

import asyncio

import pytest

from bus.codec import encode
from bus.memory_stream import MemoryStream
from schemas import subjects
from schemas.base import Event
from schemas.failure import Failure
from schemas.tts import TtsStarted
from services.tts.engines.instant import frame_count
from tests.services.tts.edge_twin import CALL, EPOCH_US, EdgeTwin, done, sentence, settle, speech_call
from tests.services.tts.scripted import started_twin, virtual

pytestmark = pytest.mark.unit

FRAMES = frame_count("hello there")


class LateCopy:
    """The stream that the stage reads, standing still."""

    def __init__(self, edge: EdgeTwin) -> None:
        self._source = edge.server.streams["CALLS"]
        self._behind: list[MemoryStream] = []

    def stop(self) -> None:
        self._behind, self._source.copies = self._source.copies, []

    def catch_up(self, *events: Event) -> None:
        for copy in self._behind:
            for event in events:
                copy.append(subjects.subject_of(event), encode(event), {"Nats-Msg-Id": event.dedupe_id})
        self._source.copies = self._behind


@virtual
async def test_a_moment_late_is_no_pause_that_a_caller_hears():
    for late_s in (0.01, 0.1, 0.3):
        edge = await started_twin()
        copy = LateCopy(edge)
        await edge.answer()
        copy.stop()
        said = (sentence(100, 0), done(100, 1))
        await edge.tell(*said)
        async with speech_call(edge, epoch=2):
            await settle()
            assert edge.frames == []
            await asyncio.sleep(late_s)
            copy.catch_up(*said)
            stored_at = asyncio.get_running_loop().time()
            await asyncio.sleep(0.5)
            assert edge.labels() == [(100, 0, n) for n in range(FRAMES)], f"{late_s} s late"
            assert edge.ends() == [(100, 1)]
            assert edge.sent_at[0] - stored_at <= 0.4


@virtual
async def test_where_a_sentence_is_seen_to_be_missing_it_is_looked_for_until_it_is_given_up():
    edge = await started_twin()
    copy = LateCopy(edge)
    await edge.answer()
    copy.stop()
    await edge.tell(sentence(100, 0))
    async with speech_call(edge, epoch=2):
        await settle()
        await edge.tell(sentence(100, 1, "bye"), done(100, 2))
        await asyncio.sleep(1.7)
        assert edge.frames == []
        copy.catch_up(sentence(100, 0), sentence(100, 1, "bye"), done(100, 2))
        await asyncio.sleep(0.2)
        expected = [(100, 0, n) for n in range(FRAMES)] + [(100, 1, n) for n in range(frame_count("bye"))]
        assert edge.labels() == expected
        assert edge.ends() == [(100, 2)]
        assert edge.of(Failure) == []


@virtual
async def test_what_a_predecessor_has_begun_is_not_closed_for_lost_while_it_is_on_its_way_into_the_record():
    """Its last word is heard live, of a sentence that the record does not hold yet."""
    edge = await started_twin()
    copy = LateCopy(edge)
    await edge.answer()
    copy.stop()
    await edge.tell(sentence(100, 0), done(100, 1))
    started = TtsStarted(call_id=CALL, at_us=EPOCH_US, epoch=1, turn=1, utterance_id=100, index=0, ttfb_ms=1.0)
    async with speech_call(edge, epoch=2):
        await settle()
        await edge.tell(started)
        await asyncio.sleep(1.7)
        copy.catch_up(sentence(100, 0), done(100, 1), started)
        await asyncio.sleep(0.2)
        assert edge.labels() == [(100, 0, n) for n in range(FRAMES)]
        assert edge.ends() == [(100, 1)]
        assert edge.of(Failure) == []
