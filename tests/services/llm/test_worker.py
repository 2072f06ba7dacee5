"""The worker: claims calls from the queue, lets go of them, hands them over; the process and its exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bus.clock import SystemClock
from bus.kv import TypedBucket
from bus.service import ServiceContext
from config.settings import Settings
from schemas.llm import LlmSentence
from schemas.session import Owner
from services.llm.engine import load_engine
from services.llm.worker import Worker, main, serve
from tests.fakes.virtual import run_virtual
from tests.services.llm.harness import CALL_ID, World

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[3]


def test_a_call_is_claimed_answered_and_let_go() -> None:
    async def scenario() -> None:
        # Offers are aged by the machine's clock.
        world = World(clock=SystemClock())
        settings = Settings()
        engine = load_engine("instant", settings.llm)
        worker = Worker(world.server.connect("llm-1"), "llm-1", engine, settings, world.clock, executor=world.executor)
        await worker.start()
        await world.begin()
        await world.answer()
        assert world.answer_to(0) == ["Answer to turn 0."]
        assert await world.say(1, "hello") == ["Answer to turn 1."]
        assert list(worker.owner.calls) == [CALL_ID]
        await world.hang_up()
        await world.rest(1000)
        assert not worker.owner.calls
        owners = await TypedBucket.open(world.connection, "owners", Owner)
        assert await owners.get(f"llm.{CALL_ID}") is None
        await worker.stop(1000)

    run_virtual(scenario())


def test_the_process_serves_until_it_is_stopped() -> None:
    async def scenario() -> None:
        # Offers are aged by the machine's clock.
        world = World(clock=SystemClock())
        settings = Settings()
        context = ServiceContext("llm", settings, world.server.connect("llm-1"), "llm-1")
        serving = asyncio.create_task(serve(load_engine("instant", settings.llm), context))
        await world.rest(500)
        assert context.health.is_ready
        await world.begin()
        await world.answer()
        assert world.of(LlmSentence)
        await world.hang_up()
        context.stopping.set()
        await world.rest(20_000)
        assert serving.done()
        await serving

    run_virtual(scenario())


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("CALLBUS_LLM__AGENT", "nobody", "nobody.toml does not exist; there are bank"),
        ("CALLBUS_LLM__ENGINE", "nothing", "engine = 'nothing' does not exist"),
        ("CALLBUS_LLM__SLOTS", "many", "[llm] slots = 'many'"),
    ],
)
def test_a_setting_that_is_not_allowed_is_told(
    variable: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert told in capsys.readouterr().err


def test_the_process_ends_with_the_text_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.llm"],
        cwd=ROOT,
        env={**os.environ, "CALLBUS_LLM__AGENT": "nobody"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    line = json.loads(done.stderr)
    assert (line["event"], line["level"], line["service"]) == ("bad_setting", "error", "llm")
    assert line["message"].startswith("llm can't start: [llm] agent = 'nobody'")
