"""Finding engines, the two that come along, sentences, and values kept in buckets."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path

import pytest

from bus.clock import ManualClock, settle
from bus.errors import StoreUnavailable
from bus.kv import TypedBucket
from bus.memory import MemoryServer
from config.settings import LlmSection
from schemas.session import TenantSettings
from services.llm.engine import Answer, EngineError, Request, Sentence, ToolCall, ToolResult, load_engine
from services.llm.engines.scripted import ScriptedRun
from services.llm.keeper import Keeper
from services.llm.sentences import split_sentences
from tests.services.llm.engines import FakeEngine
from tests.services.llm.harness import settings_with

pytestmark = pytest.mark.unit


class OwnEngine(FakeEngine):
    """Named in settings as ``module:Class``."""

    def __init__(self, settings: LlmSection) -> None:
        super().__init__()
        self.settings = settings


class TestLoading:
    def test_by_name_and_by_class(self) -> None:
        settings = settings_with().llm
        assert load_engine("instant", settings).name == "instant"
        assert load_engine("scripted", settings).capabilities.tools
        own = load_engine("tests.services.llm.test_engine:OwnEngine", settings)
        assert isinstance(own, OwnEngine)
        assert own.settings is settings

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("nothing", "'nothing' does not exist; there are instant"),
            ("no.such.module:Engine", "does not exist"),
            ("services.llm.engines.instant:Missing", "has no Missing"),
        ],
    )
    def test_mistakes(self, name: str, told: str) -> None:
        with pytest.raises(EngineError, match=told):
            load_engine(name, settings_with().llm)

    def test_a_missing_package_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "needy_engine.py").write_text("import a_package_that_is_missing\n")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(EngineError, match="needs the package 'a_package_that_is_missing'"):
            load_engine("needy_engine:Engine", settings_with().llm)

    def test_an_agent_file_that_is_wrong(self, tmp_path: Path) -> None:
        path = tmp_path / "wrong.toml"
        path.write_text("[agent]\n")
        with pytest.raises(EngineError, match=r"wrong.toml: section \[agent\] is missing"):
            load_engine("scripted", settings_with(agent=str(path)).llm)
        with pytest.raises(EngineError, match="can't be used"):
            load_engine("scripted", settings_with(database=str(path)).llm)

    def test_the_instant_engine_loads_nothing_heavy(self) -> None:
        module = importlib.import_module("services.llm.engines.instant")
        assert not {name for name in vars(module) if name in ("sqlite3", "dialogue", "agent_file")}


class TestEngines:
    async def test_instant(self) -> None:
        engine = load_engine("instant", settings_with().llm)
        await engine.warm()
        run = engine.open(Request("c", "default", 7))
        steps = [step async for step in run]
        assert steps[0] == Sentence("Answer to turn 7.")
        assert isinstance(steps[1], Answer)
        run.return_tool("x", ToolResult({}))
        await run.cancel()

    async def test_scripted_waits_for_its_tool(self) -> None:
        engine = load_engine("scripted", settings_with().llm)
        await engine.warm()
        run = engine.open(Request("c", "default", 2, digits="4271", state="ask_card", slots={"_goal": "card_status"}))
        steps = aiter(run)
        call = await anext(steps)
        assert isinstance(call, ToolCall)
        waiting = asyncio.create_task(anext(steps))  # type: ignore[arg-type]
        await settle()
        assert not waiting.done()
        run.return_tool("another", ToolResult({}))
        await settle()
        assert not waiting.done()
        run.return_tool(call.id, ToolResult({"verified": False}))
        assert await waiting == Sentence("I could not find that card.")

    async def test_scripted_can_be_cancelled(self) -> None:
        engine = load_engine("scripted", settings_with().llm)
        run = engine.open(Request("c", "default", 2, digits="4271", state="ask_card"))
        assert isinstance(run, ScriptedRun)
        steps = aiter(run)
        await anext(steps)
        waiting = asyncio.create_task(anext(steps, None))  # type: ignore[arg-type]
        await settle()
        await run.cancel()
        assert await waiting is None


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("One.", ["One."]),
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("It costs 3.50 dollars.  Fine", ["It costs 3.50 dollars.", "Fine"]),
        ("Dr. Who met Mr. B. Smith. He left.", ["Dr. Who met Mr. B. Smith.", "He left."]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


class Flaky:
    """A bucket whose writes fail as often as it is told."""

    def __init__(self, bucket: TypedBucket[TenantSettings]) -> None:
        self.bucket = bucket
        self.failures = 0
        self.writes = 0

    async def modify(self, key: str, change: object) -> TenantSettings:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("no leader")
        self.writes += 1
        return await self.bucket.modify(key, change)  # type: ignore[arg-type]


class TestKeeper:
    async def start(self) -> tuple[ManualClock, Flaky, Keeper[TenantSettings]]:
        clock = ManualClock()
        server = MemoryServer(clock=clock)
        bucket = Flaky(await TypedBucket.open(server.connect("test"), "tenants", TenantSettings))
        self.value = 0

        def change(current: TenantSettings | None) -> TenantSettings:
            return TenantSettings(tenant="clinic", max_calls=self.value)

        return clock, bucket, Keeper(bucket, "clinic", change, clock)  # type: ignore[arg-type]

    async def stored(self, bucket: Flaky) -> int:
        entry = await bucket.bucket.get("clinic")
        return entry.value.max_calls if entry else -1

    async def test_changes_that_follow_closely_are_joined(self) -> None:
        clock, bucket, keeper = await self.start()
        for self.value in (1, 2, 3):
            keeper.touch()
            await clock.advance(1)
        assert await self.stored(bucket) == 1
        await clock.advance(200)
        assert await self.stored(bucket) == 3
        assert bucket.writes == 2
        keeper.touch()
        await clock.advance(200)
        assert bucket.writes == 2, "nothing has changed"
        assert await keeper.flush(10)
        await keeper.close()
        await keeper.close()

    async def test_a_store_that_is_away_is_tried_again(self) -> None:
        clock, bucket, keeper = await self.start()
        bucket.failures = 3
        self.value = 5
        keeper.touch()
        flushing = asyncio.create_task(keeper.flush(100))
        await clock.advance(100)
        assert await flushing is False
        await clock.advance(700)
        assert await self.stored(bucket) == 5
        await keeper.close()
