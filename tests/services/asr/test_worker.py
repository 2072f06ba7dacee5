"""The process of the asr stage on the in-memory bus: from the offer to the turn, and the stop."""

from __future__ import annotations

import asyncio
import runpy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from structlog.testing import capture_logs

from bus import codec, service
from bus.clock import wall_us
from bus.health import Health
from bus.memory import MemoryServer
from bus.service import ServiceContext
from config.settings import AsrSection, OwnershipSection, Settings
from schemas import subjects
from schemas.audio import pack_audio
from schemas.base import Event
from schemas.call import CallAnswered, CallEnded, CallOffered, CallResult, EndedBy
from schemas.turn import TurnEnded
from services.asr.engines.instant import FrameCounter
from services.asr.worker import AsrWorker, load_models, main
from tests.services.asr.harness import SILENCE, voice

pytestmark = pytest.mark.unit

SETTINGS = Settings(asr=AsrSection(engine="instant", vad="energy"), ownership=OwnershipSection(drain_ms=500))
CALL_ID = "0190aaaa0000700080000000000000bb"


class Closing(FrameCounter):
    """Counts how often it was closed."""

    closed = 0

    def close(self) -> None:
        Closing.closed += 1


def context_on(server: MemoryServer, settings: Settings) -> Any:
    """What ``run_service`` hands to ``main``."""
    announced = asyncio.Event()

    async def ready() -> None:
        announced.set()

    return SimpleNamespace(
        settings=settings,
        connection=server.connect("asr"),
        worker="asr-1",
        stopping=asyncio.Event(),
        health=Health("asr", "asr-1"),
        ready=ready,
        announced=announced,
    )


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.005)


async def test_from_the_offer_to_the_turn_and_the_stop() -> None:
    server = MemoryServer()
    edge = server.connect("edge")
    turns: list[TurnEnded] = []
    await edge.subscribe(
        subjects.event_subject(TurnEnded, CALL_ID),
        lambda message: turns.append(cast(TurnEnded, codec.decode_event(message.subject, message.data))),
    )
    context = context_on(server, SETTINGS)
    running = asyncio.create_task(main(cast(ServiceContext, context)))
    await asyncio.wait_for(context.announced.wait(), 5)

    async def tell(event: Event) -> None:
        await edge.store(subjects.subject_of(event), codec.encode(event), {"Nats-Msg-Id": event.dedupe_id})

    now_us = wall_us()
    await tell(CallOffered(edge="e", call_id=CALL_ID, at_us=now_us))
    owners = await edge.bucket("owners")
    async with asyncio.timeout(5):
        while await owners.get(f"asr.{CALL_ID}") is None:
            await asyncio.sleep(0.01)
    await tell(CallAnswered(edge="e", call_id=CALL_ID, at_us=now_us, codec="PCMU", media_epoch_us=now_us))
    await asyncio.sleep(0.05)
    # Media time is what counts: the frames may come all at once.
    for number, payload in enumerate([voice(n) for n in range(30)] + [SILENCE] * 40):
        data = pack_audio(payload, sequence=number, media_time=number * 160)
        edge.publish(subjects.live_audio("in", CALL_ID), data)
    await until(lambda: turns)
    assert turns[0].text.startswith("frames:55:")
    assert (turns[0].speech_start_ms, turns[0].speech_end_ms, turns[0].epoch) == (0, 600, 1)

    await tell(
        CallEnded(
            edge="e", call_id=CALL_ID, at_us=wall_us(), result=CallResult.COMPLETED, reason="caller_hung_up",
            ended_by=EndedBy.CALLER,
        )
    )  # fmt: skip
    async with asyncio.timeout(5):
        while await owners.get(f"asr.{CALL_ID}") is not None:
            await asyncio.sleep(0.01)
    context.stopping.set()
    await asyncio.wait_for(running, 5)


@pytest.mark.parametrize("fallbacks", ["", "instant"])
async def test_an_engine_that_holds_connections_is_closed_at_the_end(fallbacks: str) -> None:
    closed = Closing.closed
    section = AsrSection(engine=f"{__name__}:Closing", fallbacks=fallbacks, vad="energy")
    context = context_on(MemoryServer(), msgspec.structs.replace(SETTINGS, asr=section))
    running = asyncio.create_task(main(cast(ServiceContext, context)))
    await asyncio.wait_for(context.announced.wait(), 5)
    assert Closing.closed == closed
    context.stopping.set()
    await asyncio.wait_for(running, 5)
    assert Closing.closed == closed + 1


async def test_another_worker_takes_the_calls_of_one_that_stops() -> None:
    server = MemoryServer()
    edge = server.connect("edge")
    engine, detectors, turn_model = await load_models(SETTINGS)
    first, second = (
        AsrWorker(server.connect(f"asr-{n}"), f"asr-{n}", SETTINGS, engine, detectors, turn_model=turn_model)
        for n in (1, 2)
    )
    await first.start()
    offered = CallOffered(edge="e", call_id=CALL_ID, at_us=wall_us())
    await edge.store(subjects.subject_of(offered), codec.encode(offered), {"Nats-Msg-Id": offered.dedupe_id})
    await until(lambda: first.owner.calls)
    await second.start()
    await first.drain(3000)
    await until(lambda: second.owner.calls)
    assert not first.owner.calls
    await second.drain(0)


async def test_a_setting_that_can_not_be_used_ends_the_process() -> None:
    context = context_on(MemoryServer(), Settings(asr=AsrSection(engine="magic")))
    with capture_logs() as lines, pytest.raises(SystemExit, match="2"):
        await main(cast(ServiceContext, context))
    assert (lines[-1]["event"], lines[-1]["log_level"]) == ("bad_setting", "error")
    assert "[asr] engine = 'magic'" in lines[-1]["message"]


def test_the_module_runs_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, object]] = []
    monkeypatch.setattr(service, "run_service", lambda name, work: started.append((name, work)))
    runpy.run_module("services.asr", run_name="__main__")
    assert started == [("asr", main)]
