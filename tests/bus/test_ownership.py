from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bus import codec, ownership, tracing
from bus.errors import BusTimeout, StoreUnavailable
from bus.fencing import MESSAGE_ID
from bus.guard import guard_of
from bus.heartbeat import Heartbeat, WorkerDirectory, ping_subject
from bus.interface import Claimable, Message, StoredMessage
from bus.memory import MemoryConnection, MemoryServer
from bus.ownership import Claim, StageOwner
from bus.spans_asr import AsrSpans
from bus.tracing_calls import CallTraces, Rules
from config.settings import OwnershipSection
from schemas import subjects
from schemas.base import Event
from schemas.call import CallOffered
from schemas.failure import Failure
from schemas.session import Owner, Stage, WorkerRecord
from tests.bus.samples import ended, offered, until
from tests.fakes.virtual import run_virtual

pytestmark = pytest.mark.unit

SETTINGS = OwnershipSection(heartbeat_ms=100, suspect_ms=250, confirm_ms=300, drain_ms=5000)


def call_id(number: int) -> str:
    return f"0192f0c0aaaa7bbb8ccc{number:012x}"


class Worker:
    """One worker of the asr stage and what happened to its calls."""

    def __init__(self, server: MemoryServer, name: str, slots: int = 10) -> None:
        self.name = name
        self.connection: MemoryConnection = server.connect(name)
        self.claims: list[Claim] = []
        self.released: list[tuple[str, str]] = []
        self.failing: Callable[[Claim], bool] = lambda _: False
        self.owner = StageOwner(
            self.connection, Stage.ASR, name, slots=slots, settings=SETTINGS, accept=self.accept, engine="test"
        )

    async def accept(self, claim: Claim) -> Held:
        if self.failing(claim):
            raise RuntimeError("the model is broken")
        self.claims.append(claim)
        return Held(self, claim)

    def calls(self) -> set[str]:
        return set(self.owner.calls)

    def die(self) -> None:
        """kill -9: the connection is gone, and nothing of the process runs any more."""
        self.connection.kill()
        self.freeze()

    def freeze(self) -> None:
        """SIGSTOP: connected, but silent."""
        heartbeat, succession = self.owner.heartbeat, self.owner._succession
        for task in (*heartbeat._tasks, self.owner._claiming, succession._ticking):
            assert task is not None
            task.cancel()
        heartbeat._answer = lambda _: None  # type: ignore[method-assign]
        assert heartbeat._ping is not None
        heartbeat._ping._handler = lambda _: None  # type: ignore[attr-defined]


class Held:
    def __init__(self, worker: Worker, claim: Claim) -> None:
        self.worker = worker
        self.claim = claim

    async def release(self, why: str) -> None:
        self.worker.released.append((self.claim.call_id, why))


class Stand:
    """A server with an edge that offers calls."""

    def __init__(self) -> None:
        self.server = MemoryServer()
        self.edge = self.server.connect("edge-1")

    async def workers(self, *names: str, slots: int = 10) -> list[Worker]:
        workers = [Worker(self.server, name, slots) for name in names]
        for worker in workers:
            await worker.owner.start()
        await asyncio.sleep(0.2)
        return workers

    async def say(self, event: Event) -> None:
        await self.edge.store(subjects.subject_of(event), codec.encode(event), {MESSAGE_ID: event.dedupe_id})

    async def offer(self, count: int, first: int = 0) -> set[str]:
        for number in range(first, first + count):
            await self.say(offered(call_id(number)))
        return {call_id(number) for number in range(first, first + count)}

    async def owner_of(self, number: int) -> Owner | None:
        entry = await (await self.edge.bucket("owners")).get(f"asr.{call_id(number)}")
        return codec.decode(entry.value, Owner) if entry is not None and entry.value else None

    def failures(self) -> list[Failure]:
        found = self.server.streams["CALLS"].read("call.*.*.failure")
        return [codec.decode(message.data, Failure) for message in found]


def all_calls(*workers: Worker) -> set[str]:
    return set().union(*(worker.calls() for worker in workers))


def now() -> float:
    return asyncio.get_running_loop().time()


def test_each_call_goes_to_one_worker() -> None:
    async def scenario() -> None:
        stand = Stand()
        one, two = await stand.workers("asr-1", "asr-2")
        calls = await stand.offer(12)
        await until(lambda: all_calls(one, two) == calls)
        assert not one.calls() & two.calls()
        assert one.calls()
        assert two.calls()
        claim = (one.claims + two.claims)[0]
        assert (claim.epoch, claim.takeover, claim.previous_worker, claim.tenant) == (1, False, "", "default")
        assert claim.offered == offered(claim.call_id)
        owner = await stand.owner_of(0)
        assert owner is not None
        assert owner.epoch == 1

    run_virtual(scenario())


def test_no_more_calls_than_slots_and_the_next_when_one_is_free() -> None:
    async def scenario() -> None:
        stand = Stand()
        (one,) = await stand.workers("asr-1", slots=2)
        await stand.offer(3)
        await asyncio.sleep(1)
        assert len(one.calls()) == 2
        assert one.owner.free_slots() == 0
        await one.owner.finished(one.claims[0].call_id)
        await until(lambda: len(one.claims) == 3)
        assert await stand.owner_of(0) is None
        await one.owner.finished("unknown")

    run_virtual(scenario())


def test_killed_worker_is_replaced() -> None:
    async def scenario() -> None:
        stand = Stand()
        one, two, three = await stand.workers("asr-1", "asr-2", "asr-3", slots=50)
        calls = await stand.offer(30)
        await until(lambda: all_calls(one, two, three) == calls)
        lost = one.calls()
        assert lost
        begun = now()
        one.die()
        await until(lambda: all_calls(two, three) == calls)
        assert now() - begun < 0.35
        assert not two.calls() & three.calls()
        taken = [claim for claim in two.claims + three.claims if claim.takeover]
        assert {claim.call_id for claim in taken} == lost
        assert all((claim.epoch, claim.previous_worker) == (2, "asr-1") for claim in taken)
        assert {claim.call_id for claim in taken} & two.calls()
        assert {claim.call_id for claim in taken} & three.calls()
        await asyncio.sleep(0.5)
        failures = stand.failures()
        assert {(failure.code, failure.worker, failure.epoch) for failure in failures} == {("worker_lost", "asr-1", 2)}
        assert {failure.call_id for failure in failures} == lost

    run_virtual(scenario())


def test_frozen_worker_is_replaced_and_lets_go_when_it_wakes() -> None:
    async def scenario() -> None:
        stand = Stand()
        one, two = await stand.workers("asr-1", "asr-2")
        calls = await stand.offer(6)
        await until(lambda: all_calls(one, two) == calls)
        lost = one.calls()
        begun = now()
        one.freeze()
        await until(lambda: two.calls() == calls)
        assert now() - begun < 0.7
        await asyncio.sleep(0.5)
        assert {call for call, why in one.released if why == "superseded"} == lost
        assert not one.calls()

    run_virtual(scenario())


def test_mere_reconnect_costs_no_call() -> None:
    async def scenario() -> None:
        stand = Stand()
        one, two = await stand.workers("asr-1", "asr-2")
        calls = await stand.offer(6)
        await until(lambda: all_calls(one, two) == calls)
        before = one.calls()
        one.connection.interrupt()
        await asyncio.sleep(0.1)
        one.connection.restore()
        await asyncio.sleep(3)
        assert one.calls() == before
        assert not stand.failures()

    run_virtual(scenario())


def test_server_restart_costs_no_call() -> None:
    async def scenario() -> None:
        stand = Stand()
        one, two = await stand.workers("asr-1", "asr-2")
        calls = await stand.offer(6)
        await until(lambda: all_calls(one, two) == calls)
        before = one.calls()
        stand.server.stop()
        await asyncio.sleep(3)
        stand.server.start()
        await asyncio.sleep(5)
        assert one.calls() == before
        assert not one.released
        assert not stand.failures()

    run_virtual(scenario())


def test_drain_hands_calls_over_at_once() -> None:
    async def scenario() -> None:
        stand = Stand()
        one, two = await stand.workers("asr-1", "asr-2", slots=50)
        calls = await stand.offer(20)
        await until(lambda: all_calls(one, two) == calls)
        handed = one.calls()
        begun = now()
        draining = asyncio.create_task(one.owner.drain(5000))
        await until(lambda: two.calls() == calls)
        assert now() - begun < 0.2
        await draining
        assert {call for call, why in one.released if why == "handed_over"} == handed
        assert not stand.failures(), "nobody was lost"
        more = await stand.offer(1, first=100)
        await until(lambda: more <= two.calls())
        assert "asr.asr-1" not in await (await stand.edge.bucket("workers")).keys()

    run_virtual(scenario())


def test_drain_without_successor_keeps_calls_until_its_deadline() -> None:
    async def scenario() -> None:
        stand = Stand()
        (one,) = await stand.workers("asr-1")
        calls = await stand.offer(2)
        await until(lambda: one.calls() == calls)
        begun = now()
        draining = asyncio.create_task(one.owner.drain(2000))
        await asyncio.sleep(1)
        assert one.calls() == calls
        late = await stand.offer(1, first=7)
        await one.owner.finished(call_id(0))
        await draining
        assert now() - begun >= 2.0
        assert one.released == [(call_id(1), "draining")]
        assert await stand.owner_of(1) is not None, "the key stays for a worker that starts later"
        (two,) = await stand.workers("asr-2")
        await until(lambda: two.calls() == {call_id(1)} | late)
        assert [c.epoch for c in two.claims if c.call_id == call_id(1)] == [2]

    run_virtual(scenario())


def test_drain_with_nothing_to_do_is_quick() -> None:
    async def scenario() -> None:
        (one,) = await Stand().workers("asr-1")
        begun = now()
        await one.owner.drain(5000)
        assert now() - begun < 1.1

    run_virtual(scenario())


def test_worker_that_starts_later_adopts_orphans() -> None:
    async def scenario() -> None:
        stand = Stand()
        (one,) = await stand.workers("asr-1")
        calls = await stand.offer(3)
        await until(lambda: one.calls() == calls)
        one.die()
        await asyncio.sleep(10)
        begun = now()
        (two,) = await stand.workers("asr-2")
        await until(lambda: two.calls() == calls)
        assert now() - begun < 1.0

    run_virtual(scenario())


def test_orphans_of_calls_that_ended_are_swept_away() -> None:
    async def scenario() -> None:
        stand = Stand()
        (one,) = await stand.workers("asr-1")
        calls = await stand.offer(2)
        await until(lambda: one.calls() == calls)
        one.die()
        await stand.say(ended(call_id(0)))
        (two,) = await stand.workers("asr-2")
        await until(lambda: two.calls() == {call_id(1)})
        await asyncio.sleep(1)
        assert two.calls() == {call_id(1)}
        assert await stand.owner_of(0) is None

    run_virtual(scenario())


def test_no_free_slot_is_better_than_no_owner() -> None:
    async def scenario() -> None:
        stand = Stand()
        one, two = await stand.workers("asr-1", "asr-2", slots=3)
        calls = await stand.offer(6)
        await until(lambda: all_calls(one, two) == calls)
        one.die()
        await until(lambda: two.calls() == calls)
        assert len(two.calls()) == 6

    run_virtual(scenario())


def test_standby_takes_what_the_chosen_one_does_not() -> None:
    async def scenario() -> None:
        stand = Stand()
        one, two, three = await stand.workers("asr-1", "asr-2", "asr-3", slots=50)
        calls = await stand.offer(30)
        await until(lambda: all_calls(one, two, three) == calls)
        one.die()
        two.freeze()
        await until(lambda: three.calls() == calls, 3.0)

    run_virtual(scenario())


@pytest.mark.parametrize("how", ["ended", "old"])
def test_offers_that_are_over_are_dropped(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        stand = Stand()
        await stand.offer(1)
        if how == "ended":
            await stand.say(ended(call_id(0)))
        seconds = 70 if how == "old" else 5
        monkeypatch.setattr(ownership, "wall_us", lambda: stand.server.clock.now_us() + seconds * 1_000_000)
        (one,) = await stand.workers("asr-1")
        await asyncio.sleep(10)
        assert not one.claims
        assert await stand.owner_of(0) is None

    run_virtual(scenario())


def test_offer_that_can_not_be_read_goes_to_the_dead_letters() -> None:
    async def scenario() -> None:
        stand = Stand()
        dead: list[Message] = []
        await stand.edge.subscribe("dead_letter.asr", dead.append)
        (one,) = await stand.workers("asr-1")
        await stand.edge.store(subjects.event_subject("call.offered", call_id(0)), b"rubbish", {})
        await stand.offer(1, first=1)
        await until(lambda: one.calls() == {call_id(1)})
        await asyncio.sleep(10)
        assert [message.data for message in dead] == [b"rubbish"]

    run_virtual(scenario())


def test_call_whose_accept_fails_goes_to_another_worker() -> None:
    async def scenario() -> None:
        stand = Stand()
        one, two = await stand.workers("asr-1", "asr-2")
        one.failing = lambda _: True
        calls = await stand.offer(6)
        await until(lambda: two.calls() == calls)
        await asyncio.sleep(1)
        failures = stand.failures()
        assert failures
        assert {(f.code, f.stage, f.worker, f.retryable) for f in failures} == {("engine_failed", "asr", "asr-1", True)}
        assert "RuntimeError" in failures[0].detail

    run_virtual(scenario())


def test_a_call_whose_accept_fails_is_left_by_the_traces() -> None:
    known: set[str] = set()

    class Traces(CallTraces):
        def claimed(self, offered: CallOffered, epoch: int, takeover: bool, now_us: int) -> None:
            super().claimed(offered, epoch, takeover, now_us)
            known.add(offered.call_id)

    async def scenario() -> None:
        traces = Traces(
            "asr",
            "asr-1",
            Rules(),
            fold=AsrSpans,
            emit=lambda *_: None,
            passes=lambda: True,
            ask=lambda _: None,
            now=now,
        )
        tracing.observe(traces)
        stand = Stand()
        (one,) = await stand.workers("asr-1")
        one.failing = lambda _: True
        await stand.offer(1)
        await asyncio.sleep(30)
        assert (len(known), traces.calls) == (1, 0)

    try:
        run_virtual(scenario())
    finally:
        tracing.observe(None)


def test_call_that_nobody_can_take_is_given_up() -> None:
    async def scenario() -> None:
        stand = Stand()
        (one,) = await stand.workers("asr-1")
        one.failing = lambda _: True
        await stand.offer(1)
        await asyncio.sleep(30)
        one.failing = lambda _: False
        await asyncio.sleep(30)
        assert not one.calls()
        assert len(stand.failures()) == 5
        assert await stand.owner_of(0) is None

    run_virtual(scenario())


def test_takeover_whose_accept_fails_goes_to_another_worker() -> None:
    async def scenario() -> None:
        stand = Stand()
        one, two, three = await stand.workers("asr-1", "asr-2", "asr-3", slots=50)
        two.failing = lambda claim: claim.takeover
        calls = await stand.offer(20)
        await until(lambda: all_calls(one, two, three) == calls)
        one.die()
        await until(lambda: all_calls(two, three) == calls, 20)
        assert all(claim.epoch >= 3 for claim in three.claims if claim.previous_worker == "nobody")
        assert any(claim.previous_worker == "nobody" for claim in three.claims)

    run_virtual(scenario())


def test_takeover_goes_on_when_the_stream_is_back() -> None:
    async def scenario() -> None:
        stand = Stand()
        one, two = await stand.workers("asr-1", "asr-2")
        calls = await stand.offer(4)
        await until(lambda: all_calls(one, two) == calls)
        bucket = two.owner._owners
        update, away = bucket.update, [True]

        async def unavailable(key: str, value: bytes, revision: int) -> int:
            if away[0]:
                raise StoreUnavailable("no leader")
            return await update(key, value, revision)

        bucket.update = unavailable  # type: ignore[method-assign]
        one.die()
        await asyncio.sleep(5)
        assert two.calls() != calls
        away[0] = False
        await until(lambda: two.calls() == calls, 0.5)

    run_virtual(scenario())


def test_worker_that_stood_still_looks_before_it_speaks() -> None:
    async def scenario() -> None:
        stand = Stand()
        one, two = await stand.workers("asr-1", "asr-2")
        calls = await stand.offer(6)
        await until(lambda: all_calls(one, two) == calls)
        kept, lost = sorted(one.calls())[0], sorted(one.calls())[1:]
        bucket = await stand.edge.bucket("owners")
        one.owner._succession._subscriptions[2]._closed = True  # type: ignore[attr-defined]  # the watch is late
        for call in lost[:-1]:
            usurper = Owner(stage=Stage.ASR, call_id=call, worker="asr-2", epoch=2)
            await bucket.put(f"asr.{call}", codec.encode(usurper))
        await bucket.delete(f"asr.{lost[-1]}")
        guard = guard_of(one.connection)
        guard._closed = True
        opened: list[set[str]] = []
        guard.on_open(lambda: opened.append(one.calls()))
        await until(lambda: opened)
        assert opened == [{kept}], "what was lost is let go before anything may leave"
        assert {call for call, why in one.released if why == "superseded"} == set(lost)

    run_virtual(scenario())


def test_verifying_gives_up_where_the_bucket_can_not_be_read() -> None:
    async def scenario() -> None:
        stand = Stand()
        (one,) = await stand.workers("asr-1")
        calls = await stand.offer(1)
        await until(lambda: one.calls() == calls)

        async def unavailable(_: str) -> None:
            raise BusTimeout("no answer")

        one.owner._owners.get = unavailable  # type: ignore[method-assign, assignment]
        await one.owner.verify()
        assert one.calls() == calls

    run_virtual(scenario())


def test_release_that_fails_is_logged_and_finished_never_raises() -> None:
    async def scenario() -> None:
        stand = Stand()
        (one,) = await stand.workers("asr-1")
        calls = await stand.offer(1)
        await until(lambda: one.calls() == calls)

        async def unavailable(_: str) -> None:
            raise BusTimeout("no answer")

        one.owner._owners.delete = unavailable  # type: ignore[method-assign]
        await one.owner.finished(call_id(0))
        assert not one.calls()
        await stand.offer(1, first=1)
        await until(lambda: one.calls() == {call_id(1)})

        async def broken(_: str) -> None:
            raise RuntimeError("broken")

        one.owner.calls[call_id(1)].release = broken  # type: ignore[method-assign]
        await one.owner.drain(100)
        assert not one.calls()

    run_virtual(scenario())


def test_heartbeat_says_how_the_worker_stands() -> None:
    async def scenario() -> None:
        stand = Stand()
        beats: list[WorkerRecord] = []
        await stand.edge.subscribe("hb.asr.*", lambda m: beats.append(codec.decode(m.data, WorkerRecord)))
        (one,) = await stand.workers("asr-1", slots=3)
        one.owner.figures["sip_port"] = 5060.0
        calls = await stand.offer(2)
        await until(lambda: one.calls() == calls)
        beats.clear()
        await asyncio.sleep(1.0)
        assert 9 <= len(beats) <= 11
        last = beats[-1]
        assert (last.worker, last.calls, last.slots, last.engine, last.draining) == ("asr-1", 2, 3, "test", False)
        assert last.figures == {"sip_port": 5060.0}
        entry = await (await stand.edge.bucket("workers")).get("asr.asr-1")
        assert entry is not None
        answer = await stand.edge.request(ping_subject("asr", "asr-1"), b"")
        assert codec.decode(answer.data, WorkerRecord).worker == "asr-1"
        one.owner.figures = {"a": 1.0}
        assert one.owner.heartbeat.figures == {"a": 1.0}

    run_virtual(scenario())


def test_directory_counts_free_slots() -> None:
    async def scenario() -> None:
        stand = Stand()
        directory = WorkerDirectory(stand.edge)
        await directory.start()
        one, two = await stand.workers("asr-1", "asr-2", slots=3)
        edge = Heartbeat(stand.edge, Stage.EDGE, "edge-1", settings=SETTINGS, slots=300)
        await edge.start()
        await asyncio.sleep(0.3)
        assert directory.free_slots("asr") == 6
        assert directory.free_slots("edge") == 300
        assert directory.free_slots("llm") == 0
        stand.edge.publish("hb.asr.asr-1", b"rubbish")
        await stand.offer(2)
        await asyncio.sleep(0.3)
        assert directory.free_slots("asr") == 4
        two.owner.heartbeat.draining = True
        await asyncio.sleep(0.3)
        assert directory.free_slots("asr") == 3 - len(one.calls())
        one.die()
        await asyncio.sleep(2)
        assert [record.worker for record in directory.workers("asr")] == ["asr-2"]
        await edge.stop()
        await directory.close()

    run_virtual(scenario())


def test_rubbish_from_others_is_survived() -> None:
    async def scenario() -> None:
        stand = Stand()
        one, two = await stand.workers("asr-1", "asr-2")
        stand.edge.publish("hb.asr.ghost", b"rubbish")
        stand.edge.publish("sys.disconnect", b"rubbish")
        await (await stand.edge.bucket("owners")).put(f"asr.{call_id(9)}", b"rubbish")
        calls = await stand.offer(4)
        await until(lambda: all_calls(one, two) == calls)
        one.die()
        await until(lambda: two.calls() == calls)

    run_virtual(scenario())


def test_a_call_that_a_replica_does_not_know_yet_is_not_let_go_of() -> None:
    """One that came back and catches up may answer that there is no such message."""

    async def scenario() -> None:
        stand = Stand()
        one, two = await stand.workers("asr-1", "asr-2")
        calls = await stand.offer(6)
        await until(lambda: all_calls(one, two) == calls)
        last, behind = two.connection.last, 30

        async def look(subject: str, stream: str = "CALLS") -> StoredMessage | None:
            nonlocal behind
            behind -= 1
            return None if behind >= 0 else await last(subject, stream)

        two.connection.last = look  # type: ignore[method-assign]
        one.die()
        await until(lambda: two.calls() == calls)

    run_virtual(scenario())


def test_what_nobody_expected_ends_no_claiming() -> None:
    async def scenario() -> None:
        stand = Stand()
        (worker,) = await stand.workers("asr-1")
        fetch, left = worker.owner._queue.fetch, 40

        async def broken(count: int, timeout_ms: int, *, wait: bool = True) -> list[Claimable]:
            nonlocal left
            left -= 1
            if left >= 0:
                raise KeyError("nobody thought of this")
            return await fetch(count, timeout_ms, wait=wait)

        worker.owner._queue.fetch = broken  # type: ignore[method-assign]
        await asyncio.sleep(2)
        assert worker.owner.lacks() == "", "a moment without calls is no defect"
        await asyncio.sleep(5)
        assert worker.owner.lacks() == "asr can't claim new calls: KeyError; see its log and that of nats-server"
        calls = await stand.offer(3)
        await until(lambda: worker.calls() == calls)
        await asyncio.sleep(1)
        assert worker.owner.lacks() == ""

    run_virtual(scenario())


def test_a_worker_whose_tasks_have_ended_says_so() -> None:
    async def scenario() -> None:
        stand = Stand()
        one, two, three = await stand.workers("asr-1", "asr-2", "asr-3")
        assert not any(worker.owner.lacks() for worker in (one, two, three))
        one.owner._claiming.cancel()
        two.owner.heartbeat._tasks[0].cancel()
        assert three.owner._succession._ticking is not None
        three.owner._succession._ticking.cancel()
        await asyncio.sleep(0.1)
        assert "claims them has ended" in one.owner.lacks()
        assert all("no longer says that it lives" in worker.owner.lacks() for worker in (two, three))

    run_virtual(scenario())


def test_claiming_goes_on_when_the_queue_answers_again() -> None:
    async def scenario() -> None:
        stand = Stand()
        (one,) = await stand.workers("asr-1")
        fetch = one.owner._queue.fetch

        async def unavailable(*_: object) -> None:
            raise BusTimeout("no answer")

        one.owner._queue.fetch = unavailable  # type: ignore[method-assign, assignment]
        await asyncio.sleep(12)
        calls = await stand.offer(1)
        one.owner._queue.fetch = fetch  # type: ignore[method-assign]
        await until(lambda: one.calls() == calls)

    run_virtual(scenario())


def test_offer_that_somebody_owns_already_is_dropped() -> None:
    async def scenario() -> None:
        stand = Stand()
        owner = Owner(stage=Stage.ASR, call_id=call_id(0), worker="asr-9", epoch=1)
        bucket = await stand.edge.bucket("owners")
        await bucket.create(f"asr.{call_id(0)}", codec.encode(owner))
        heartbeat = Heartbeat(stand.edge, Stage.ASR, "asr-9", settings=SETTINGS, slots=1)
        await heartbeat.start()
        (one,) = await stand.workers("asr-1")
        await stand.offer(1)
        await asyncio.sleep(20)
        assert not one.claims
        await heartbeat.stop()

    run_virtual(scenario())


def test_offer_that_comes_while_draining_goes_to_somebody_else() -> None:
    async def scenario() -> None:
        stand = Stand()
        one, two = await stand.workers("asr-1", "asr-2", slots=50)
        for first in range(0, 40, 4):
            await stand.offer(4, first)
            if first == 20:
                draining = asyncio.create_task(one.owner.drain(5000))
            await asyncio.sleep(0.001)
        await until(lambda: len(two.calls()) == 40)
        assert not one.calls()
        await draining

    run_virtual(scenario())


def test_acknowledgement_that_fails_costs_nothing() -> None:
    async def scenario() -> None:
        stand = Stand()
        (one,) = await stand.workers("asr-1")
        fetch, failing = one.owner._queue.fetch, [True]

        async def fetch_without_acknowledgement(count: int, timeout_ms: int, *, wait: bool = True) -> list[Claimable]:
            claimables = await fetch(count, timeout_ms)
            for claimable in claimables:
                if failing.pop():

                    async def lost() -> None:
                        raise BusTimeout("no answer")

                    claimable.acknowledge = lost  # type: ignore[method-assign]
                failing.append(False)
            return claimables

        one.owner._queue.fetch = fetch_without_acknowledgement  # type: ignore[method-assign]
        calls = await stand.offer(1)
        await asyncio.sleep(20)
        assert one.calls() == calls
        assert len(one.claims) == 1

    run_virtual(scenario())


def test_call_taken_by_another_while_it_is_accepted_is_let_go() -> None:
    async def scenario() -> None:
        stand = Stand()
        (one,) = await stand.workers("asr-1")
        bucket = await stand.edge.bucket("owners")
        usurper = Owner(stage=Stage.ASR, call_id=call_id(0), worker="asr-2", epoch=2)
        accept = one.owner._accept

        async def slowly(claim: Claim) -> ownership.OwnedCall:
            await bucket.put(f"asr.{call_id(0)}", codec.encode(usurper))
            await asyncio.sleep(0.1)
            return await accept(claim)

        one.owner._accept = slowly
        await stand.offer(1)
        await until(lambda: one.released)
        assert one.released == [(call_id(0), "superseded")]

    run_virtual(scenario())


def instead(target: object, **methods: Callable[..., Awaitable[Any]]) -> None:
    """Put other methods in the place of an object's own."""
    vars(target).update(methods)


async def never_heard(*_: object) -> int:
    raise StoreUnavailable("the acknowledgement got lost")


def test_claim_whose_acknowledgement_got_lost_is_kept() -> None:
    """The key is written although the writer was not told: nobody else would ever take the call."""

    async def scenario() -> None:
        stand = Stand()
        one, two = await stand.workers("asr-1", "asr-2")
        for worker in (one, two):
            create = worker.owner._owners.create

            async def unheard(key: str, value: bytes, create: Callable[..., Awaitable[int]] = create) -> int:
                await create(key, value)
                return await never_heard()

            instead(worker.owner._owners, create=unheard)
        calls = await stand.offer(1)
        await until(lambda: all_calls(one, two) == calls)
        await asyncio.sleep(10)
        owner = await stand.owner_of(0)
        assert owner is not None
        assert [claim.epoch for claim in one.claims + two.claims] == [owner.epoch] == [2]
        assert owner.worker == (one if one.calls() else two).name

    run_virtual(scenario())


def test_claim_that_is_slow_is_made_once() -> None:
    async def scenario() -> None:
        stand = Stand()
        (one,) = await stand.workers("asr-1")
        create = one.owner._owners.create

        async def slow(key: str, value: bytes) -> int:
            revision = await create(key, value)
            await asyncio.sleep(5)
            return revision

        instead(one.owner._owners, create=slow)
        await stand.offer(1)
        await asyncio.sleep(20)
        assert [claim.epoch for claim in one.claims] == [1]

    run_virtual(scenario())


@pytest.mark.parametrize("lost", ["offer", "acknowledgement"])
def test_takeover_that_breaks_off_half_way_is_made_again(lost: str) -> None:
    async def scenario() -> None:
        stand = Stand()
        one, two = await stand.workers("asr-1", "asr-2")
        calls = await stand.offer(1)
        await until(lambda: all_calls(one, two) == calls)
        dead, heir = (one, two) if one.calls() else (two, one)
        update, last = heir.owner._owners.update, heir.connection.last
        failures = [2]

        async def unheard(*arguments: Any) -> int:
            revision = await update(*arguments)
            failures[0] -= 1
            return revision if failures[0] < 0 else await never_heard()

        async def unread(*arguments: Any) -> StoredMessage | None:
            failures[0] -= 1
            if failures[0] >= 0:
                raise BusTimeout("the stream elects a leader")
            return await last(*arguments)

        if lost == "offer":
            instead(heir.connection, last=unread)
        else:
            instead(heir.owner._owners, update=unheard)
        dead.die()
        await until(lambda: heir.calls() == calls, 20.0)
        owner = await stand.owner_of(0)
        assert owner is not None
        assert (owner.worker, owner.epoch) == (heir.name, heir.claims[0].epoch)

    run_virtual(scenario())


def test_key_that_could_not_be_deleted_is_deleted_later() -> None:
    async def scenario() -> None:
        stand = Stand()
        (one,) = await stand.workers("asr-1")
        await stand.offer(1)
        await until(one.calls)
        delete = one.owner._owners.delete

        async def refuse(_: str) -> None:
            raise StoreUnavailable("no leader")

        instead(one.owner._owners, delete=refuse)
        await stand.say(ended(call_id(0)))
        await one.owner.finished(call_id(0))
        instead(one.owner._owners, delete=delete)
        assert await stand.owner_of(0) is not None
        await asyncio.sleep(5)
        assert await stand.owner_of(0) is None
        assert one.owner.free_slots() == 10
        assert len(one.claims) == 1

    run_virtual(scenario())
