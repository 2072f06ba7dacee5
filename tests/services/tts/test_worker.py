"""The process of the tts stage: claims calls, speaks in many at once, hands over when it stops."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from bus.codec import decode_event, encode
from bus.health import Health
from bus.memory import MemoryServer
from bus.service import ServiceContext
from config.load import ConfigError
from config.settings import OwnershipSection, Settings, TtsSection
from schemas import subjects
from schemas.audio import AudioFrame, unpack_audio
from schemas.call import CallAnswered, CallOffered
from schemas.llm import LlmDone, LlmSentence
from schemas.tts import TtsDone, TtsStarted
from services.tts import __main__ as command
from services.tts import worker as worker_module
from services.tts.engine import Label, Run
from services.tts.engines import espeak
from services.tts.engines.instant import InstantEngine
from services.tts.worker import TtsWorker, main, warm_engine
from tests.services.tts.edge_twin import EPOCH_US, EdgeTwin, ended, wait_for

pytestmark = pytest.mark.unit

INSTANT = Settings(tts=TtsSection(engine="instant"), ownership=OwnershipSection(drain_ms=1000))


def context_on(server: MemoryServer, settings: Settings = INSTANT) -> Any:
    """What ``run_service`` hands to ``main``, on the in-memory bus."""
    ready = asyncio.Event()

    async def announce() -> None:
        ready.set()

    return SimpleNamespace(
        settings=settings,
        connection=server.connect("tts"),
        worker="tts-1",
        stopping=asyncio.Event(),
        health=Health("tts", "tts-1"),
        ready=announce,
        announced=ready,
    )


async def offer(edge: EdgeTwin, call_id: str = "c1") -> None:
    await edge.tell(CallOffered(call_id=call_id, at_us=EPOCH_US, edge="e1"))


async def test_from_the_offer_to_the_last_frame_and_the_stop():
    edge = EdgeTwin()
    await edge.listen()
    context = context_on(edge.server)
    running = asyncio.create_task(main(cast(ServiceContext, context)))
    await asyncio.wait_for(context.announced.wait(), 5)
    await offer(edge)
    await edge.answer()
    await edge.tell(
        LlmSentence(call_id="c1", at_us=EPOCH_US, turn=0, utterance_id=0, index=0, text="welcome"),
        LlmDone(call_id="c1", at_us=EPOCH_US, turn=0, utterance_id=0, sentences=1),
    )
    await wait_for(lambda: edge.ends() == [(0, 1)])
    assert [event.index for event in edge.of(TtsDone)] == [0]
    owners = await edge.connection.bucket("owners")
    assert await owners.get("tts.c1") is not None
    await edge.tell(ended())
    for _ in range(200):
        if await owners.get("tts.c1") is None:
            break
        await asyncio.sleep(0.01)
    assert await owners.get("tts.c1") is None, "a call that is over is nobody's"
    context.stopping.set()
    await asyncio.wait_for(running, 5)


async def test_an_engine_that_fails_on_its_first_answer_is_heard_to_apologise(monkeypatch):
    class Failing(InstantEngine):
        """Says the apology at the start, and nothing else."""

        def open(self, text: str, *, language: str = "en", label: Label = Label()) -> Run:  # noqa: B008
            if text != INSTANT.tts.apology:
                raise RuntimeError("broken")
            return super().open(text, language=language, label=label)

    monkeypatch.setattr(worker_module, "load_engine", lambda name, section, settings: Failing(section))
    edge = EdgeTwin()
    await edge.listen()
    context = context_on(edge.server)
    running = asyncio.create_task(main(cast(ServiceContext, context)))
    await asyncio.wait_for(context.announced.wait(), 5)
    await offer(edge)
    await edge.answer()
    await edge.tell(
        LlmSentence(call_id="c1", at_us=EPOCH_US, turn=0, utterance_id=0, index=0, text="welcome"),
        LlmDone(call_id="c1", at_us=EPOCH_US, turn=0, utterance_id=0, sentences=1),
    )
    await wait_for(lambda: edge.ends() == [(0, 1)])
    assert [event.text for event in edge.of(TtsDone)] == [INSTANT.tts.apology]
    context.stopping.set()
    await asyncio.wait_for(running, 5)


async def test_a_worker_that_stops_lets_go_of_its_calls():
    edge = EdgeTwin()
    await edge.listen()
    engine = await warm_engine(INSTANT)
    worker = TtsWorker(edge.server.connect("tts"), "tts-1", INSTANT, engine)
    await worker.start()
    await offer(edge)
    await wait_for(lambda: worker.owner.calls)
    await worker.drain(1000)
    assert not worker.owner.calls


async def test_twenty_calls_at_once_with_the_real_voice():
    """Every call hears its own sentence; the figures are printed with ``pytest -s``."""
    pytest.importorskip("espeakng_loader", reason="eSpeak NG is not installed: pip install 'callbus[espeak]'")
    server = MemoryServer()
    edge = EdgeTwin(server)
    started: list[TtsStarted] = []
    heard: dict[str, list[AudioFrame]] = {}
    await edge.connection.subscribe(
        "rt.*.*.audio.out",
        lambda message: heard.setdefault(subjects.parse_subject(message.subject).call_id, []).append(
            unpack_audio(message.data)
        ),
    )
    await edge.connection.subscribe(
        "call.*.*.tts.started",
        lambda message: started.append(cast(TtsStarted, decode_event(message.subject, message.data))),
    )
    settings = Settings(tts=TtsSection(engine="espeak"))
    worker = TtsWorker(server.connect("tts"), "tts-1", settings, await warm_engine(settings))
    await worker.start()
    calls = [f"call-{number}" for number in range(20)]
    for call_id in calls:
        await offer(edge, call_id)
    await wait_for(lambda: len(worker.owner.calls) == 20)
    for call_id in calls:
        event = CallAnswered(call_id=call_id, at_us=EPOCH_US, edge="e1", codec="PCMU", media_epoch_us=EPOCH_US)
        await edge.connection.store(subjects.subject_of(event), encode(event))
    await asyncio.sleep(0.2)
    begun = time.perf_counter()
    text = "I can see that your credit card was posted on Monday, and it should be with you by Thursday."
    for call_id in calls:
        said = LlmSentence(call_id=call_id, at_us=EPOCH_US, turn=1, utterance_id=100, index=0, text=text)
        over = LlmDone(call_id=call_id, at_us=EPOCH_US, turn=1, utterance_id=100, sentences=1)
        edge.connection.publish(subjects.subject_of(said), encode(said))
        edge.connection.publish(subjects.subject_of(over), encode(over))
    await wait_for(lambda: sum(frames[-1].flags == 4 for frames in heard.values()) == 20, 10)
    took_s = time.perf_counter() - begun
    audio_s = sum(frame.frame_count for frames in heard.values() for frame in frames) / 50
    times = sorted(event.ttfb_ms for event in started)
    print(
        f"\n20 calls: ttfb p50 {times[10]:.1f} ms, max {times[-1]:.1f} ms; "
        f"{audio_s:.0f} s of audio, RTF {took_s / audio_s:.4f}"
    )
    assert len(times) == 20
    assert {sum(frame.frame_count for frame in frames) // 25 for frames in heard.values()} <= {10, 11, 12}
    await worker.drain(1000)


@pytest.mark.parametrize(
    ("section", "words"),
    [(TtsSection(engine="festival"), "no such engine"), (TtsSection(voice="xx"), "no voice 'xx'")],
)
async def test_settings_that_cannot_be_used_end_the_process_with_code_2_and_words(section, words):
    with capture_logs() as lines, pytest.raises(SystemExit) as stop:
        await main(cast(ServiceContext, context_on(MemoryServer(), Settings(tts=section))))
    assert stop.value.code == 2
    assert words in lines[-1]["message"]


async def test_a_missing_resampler_is_told_at_the_start(monkeypatch):
    def missing(*_: Any) -> None:
        raise ImportError("the package soxr is not installed")

    monkeypatch.setattr(worker_module, "SentenceFramer", missing)
    with pytest.raises(ConfigError, match="soxr"):
        await warm_engine(INSTANT)


def test_voices_on_the_command_line(capsys):
    command.run(["--voices"])
    assert "en-us\n" in capsys.readouterr().out


def test_an_engine_without_a_list_says_so(capsys, monkeypatch):
    monkeypatch.setenv("CALLBUS_TTS__ENGINE", "instant")
    command.run(["--voices"])
    assert "does not list" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "engine"), [(["--voices"], "festival"), (["--voyces"], "instant")])
def test_bad_usage_ends_with_code_2(arguments, engine, capsys, monkeypatch):
    monkeypatch.setenv("CALLBUS_TTS__ENGINE", engine)
    with pytest.raises(SystemExit) as stop:
        command.run(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err


def test_without_arguments_the_service_runs(monkeypatch):
    started: list[object] = []
    monkeypatch.setattr(command, "run_service", lambda name, entry: started.append((name, entry)))
    command.run([])
    assert started == [("tts", main)]


def test_espeak_is_the_default():
    assert isinstance(worker_module.load_engine(TtsSection().engine, TtsSection()), espeak.EspeakEngine)
