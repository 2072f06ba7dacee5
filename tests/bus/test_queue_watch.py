"""How many new calls wait, and how long: by what a consumer says, of a made-up server and of a real one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from bus import codec, queue_watch
from bus.client import connect
from bus.errors import BusUnavailable
from bus.metrics.registry import REGISTRY
from bus.provision import apply
from bus.queue_watch import QueueWatch
from bus.server import NatsServerProcess
from config.settings import NatsSection, StreamsSection
from schemas import subjects
from tests.bus.samples import offered, until

CONSUMER = "asr-assign"
unit = pytest.mark.unit
pytestmark = pytest.mark.bus


class Consumer:
    """Answers as JetStream does; the test moves its numbers and the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pending = self.unacknowledged = self.delivered = self.floor = 0
        self.away = False
        self.asked: list[str] = []

    async def api(self, name: str, body: dict[str, Any] | None = None, timeout_ms: int = 5000) -> dict[str, Any]:
        self.asked.append(name)
        if self.away:
            raise BusUnavailable("no leader")
        return {
            "num_pending": self.pending,
            "num_ack_pending": self.unacknowledged,
            "delivered": {"consumer_seq": self.delivered, "stream_seq": 0},
            "ack_floor": {"consumer_seq": 0, "stream_seq": self.floor},
        }


def told(figure: str) -> float | None:
    return REGISTRY.get_sample_value(f"callbus_queue_{figure}", {"consumer": CONSUMER})


@pytest.fixture
def consumer() -> Consumer:
    return Consumer()


@pytest.fixture
def watch(consumer: Consumer) -> QueueWatch:
    return QueueWatch(consumer, CONSUMER, lambda: consumer.now)


@unit
async def test_nothing_is_told_before_it_is_known(watch: QueueWatch) -> None:
    assert told("pending") is None
    await watch.look()
    assert (told("pending"), told("unacknowledged"), told("oldest_seconds")) == (0, 0, 0)


@unit
async def test_a_queue_that_stands_still_grows_older(consumer: Consumer, watch: QueueWatch) -> None:
    await watch.look()
    consumer.now, consumer.pending = 1005.0, 3
    await watch.look()
    assert (told("pending"), told("oldest_seconds")) == (3, 0)
    consumer.now = 1030.0
    await watch.look()
    assert told("oldest_seconds") == 25
    assert set(consumer.asked) == {f"CONSUMER.INFO.CALLS.{CONSUMER}"}


@unit
async def test_a_queue_that_moves_is_as_old_as_what_is_sure_to_wait_in_it(
    consumer: Consumer, watch: QueueWatch
) -> None:
    """Ten wait, then two at a time are taken while two come: after 25 s the first ten may all have been taken."""
    consumer.pending = 10
    ages = []
    for _ in range(8):
        await watch.look()
        ages.append(told("oldest_seconds"))
        consumer.now += 5
        consumer.delivered += 2
        consumer.floor += 2
    assert ages == [0, 5, 10, 15, 20, 20, 20, 20]


@unit
async def test_a_call_that_nobody_takes_up_is_as_old_as_its_place(consumer: Consumer, watch: QueueWatch) -> None:
    """It was given to a worker that says nothing; others come and go meanwhile."""
    consumer.unacknowledged, consumer.delivered, consumer.floor = 1, 1, 41
    await watch.look()
    consumer.now, consumer.delivered = 1020.0, 9
    await watch.look()
    assert (told("unacknowledged"), told("oldest_seconds")) == (1, 20)
    consumer.unacknowledged, consumer.floor = 0, 60
    await watch.look()
    assert told("oldest_seconds") == 0


@unit
async def test_a_consumer_that_was_made_anew_begins_anew(consumer: Consumer, watch: QueueWatch) -> None:
    consumer.pending, consumer.delivered = 5, 100
    await watch.look()
    consumer.now, consumer.delivered = 1060.0, 0
    await watch.look()
    assert told("oldest_seconds") == 0


@unit
async def test_what_can_not_be_asked_is_not_told(
    consumer: Consumer, watch: QueueWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_watch, "INTERVAL_S", 0.01)
    monkeypatch.setattr(queue_watch, "SPREAD_S", 0.0)
    watching = asyncio.create_task(watch.watch_forever())
    await until(lambda: told("pending") == 0)
    consumer.away = True
    await until(lambda: told("pending") is None)
    consumer.away = False
    await until(lambda: told("pending") == 0)
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching


async def test_what_a_real_server_says() -> None:
    with NatsServerProcess() as server:
        settings = NatsSection(url=server.url)
        ops, worker = await connect("ops-1", settings), await connect("asr-1", settings)
        try:
            await apply(ops, StreamsSection())
            watch = QueueWatch(worker, CONSUMER)
            await watch.look()
            assert (told("pending"), told("unacknowledged"), told("oldest_seconds")) == (0, 0, 0)
            for number in range(3):
                event = offered(f"0192f0c0aaaa7bbb8ccc{number:012x}")
                await ops.store(subjects.subject_of(event), codec.encode(event))
            queue = await worker.work_queue(CONSUMER)
            (claim,) = await queue.fetch(1, 1000)
            await watch.look()
            assert (told("pending"), told("unacknowledged")) == (2, 1)
            await asyncio.sleep(0.3)
            await watch.look()
            assert (told("oldest_seconds") or 0.0) >= 0.3
            await claim.acknowledge()
            for waiting in await queue.fetch(2, 1000):
                await waiting.acknowledge()
            await watch.look()
            assert (told("pending"), told("unacknowledged"), told("oldest_seconds")) == (0, 0, 0)
        finally:
            await worker.close()
            await ops.close()
