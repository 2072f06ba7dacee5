"""Which services are kept ready, lent, kept and closed."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("pipecat", reason="pipecat is not installed: pip install 'callbus[pipecat]'")

from services.pipecat import pool as pools
from services.pipecat.errors import ServiceError
from services.pipecat.pool import ServicePool

pytestmark = pytest.mark.unit


class Service:
    """A harness that only counts."""

    refuses = False

    def __init__(self) -> None:
        self.alive = True
        self.closed = False
        self.stops: bool | None = True
        """None: it raises where it is interrupted."""
        self.take = None

    async def start(self) -> None:
        await asyncio.sleep(0)
        if Service.refuses:
            raise ServiceError("refused")

    async def interrupt(self) -> bool:
        await asyncio.sleep(0)
        if self.stops is None:
            raise AttributeError("no such buffer")
        return self.stops

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed = True


@pytest.fixture(autouse=True)
def _accepting():
    Service.refuses = False
    yield
    Service.refuses = False


def pool_of(spare: int = 1, most: int = 0) -> ServicePool:
    return ServicePool(Service, spare=spare, most=most)  # type: ignore[arg-type,type-var]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_spare_one_is_ready_and_is_replaced_when_it_is_taken():
    pool = pool_of()
    await pool.fill()
    assert (pool.idle, pool.open) == (1, 1)
    async with pool.lend(interruptible=True) as first:
        await settle()
        assert (pool.idle, pool.open) == (1, 2)
    assert (pool.idle, pool.open) == (2, 2)
    async with pool.lend(interruptible=True) as again:
        assert again is first, "what was given back last is the most likely to be well"


async def test_one_that_may_not_be_used_again_is_closed():
    pool = pool_of(spare=0)
    async with pool.lend(interruptible=True, reusable=lambda _: False) as service:
        pass
    await settle()
    assert service.closed
    assert (pool.idle, pool.open) == (0, 0)


async def test_one_whose_work_failed_is_closed():
    pool = pool_of(spare=0)
    with pytest.raises(ValueError):
        async with pool.lend(interruptible=True) as service:
            raise ValueError
    await settle()
    assert service.closed


@pytest.mark.parametrize(
    ("interruptible", "stops", "kept"), [(True, True, 1), (True, False, 0), (True, None, 0), (False, True, 0)]
)
async def test_one_whose_work_was_cancelled_is_kept_if_it_stops(interruptible, stops, kept):
    pool = pool_of(spare=0)
    services = []

    async def work() -> None:
        async with pool.lend(interruptible=interruptible) as service:
            service.stops = stops
            services.append(service)
            await asyncio.sleep(3600)

    task = asyncio.create_task(work())
    await settle()
    task.cancel()
    await settle()
    assert (pool.idle, pool.open) == (kept, kept)
    assert services[0].closed is not bool(kept)


async def test_one_that_died_while_it_waited_is_not_lent():
    pool = pool_of()
    await pool.fill()
    async with pool.lend(interruptible=True) as first:
        await settle()
    first.alive = False
    async with pool.lend(interruptible=True) as other:
        assert other is not first
    await settle()
    assert first.closed


async def test_no_more_than_allowed_and_who_comes_then_waits():
    pool = pool_of(spare=4, most=2)
    await pool.fill()
    assert pool.open == 2
    inside = 0
    most_inside = 0

    async def work() -> None:
        nonlocal inside, most_inside
        async with pool.lend(interruptible=True):
            inside += 1
            most_inside = max(most_inside, inside)
            await asyncio.sleep(0.001)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(7)))
    assert most_inside == 2
    assert pool.open == 2


async def test_a_spare_one_that_can_not_be_had_fails_nobody():
    pool = pool_of()
    await pool.fill()
    Service.refuses = True
    async with pool.lend(interruptible=True):
        await settle()
    assert pool.open == 1
    async with pool.lend(interruptible=True):
        with pytest.raises(ServiceError):
            async with pool.lend(interruptible=True):
                pass
    Service.refuses = False
    async with pool.lend(interruptible=True):
        pass


async def test_what_nobody_needs_any_more_is_closed(monkeypatch):
    monkeypatch.setattr(pools, "IDLE_S", 0.01)
    pool = pool_of()

    async def work() -> None:
        async with pool.lend(interruptible=True):
            await asyncio.sleep(0.001)

    await asyncio.gather(*(work() for _ in range(5)))
    assert pool.idle >= 5
    async with asyncio.timeout(5):
        while pool.idle > 1:
            await asyncio.sleep(0.005)
    await settle()
    assert pool.open == 1


async def test_closed_it_ends_what_is_done_with_its_services():
    pool = pool_of()
    await pool.fill()
    services = []

    async def work() -> None:
        async with pool.lend(interruptible=True) as service:
            services.append(service)
            await asyncio.sleep(3600)

    task = asyncio.create_task(work())
    await settle()
    await pool.close()
    assert task.cancelled()
    assert services[0].closed
    assert (pool.idle, pool.open) == (0, 0)
