"""Tools and the example bank: checked arguments, a deadline, one effect however often asked."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from bus.clock import ManualClock
from services.llm.bank import AccountQuery, Bank, CardQuery, VerifyCustomer, create_tools
from services.llm.deadline import Deadline, pause
from services.llm.tools import Toolbox, ToolContext, ToolError, ToolSpec, describe, load_tools
from tests.services.llm.harness import InlineExecutor, settings_with

pytestmark = pytest.mark.unit

DEMO = "C-1001"


def context(number: int = 0) -> ToolContext:
    return ToolContext(f"call-1-{number}", "call", "default")


class TestBank:
    def test_the_customer_of_the_demo(self) -> None:
        bank = Bank()
        assert bank.verify_customer(VerifyCustomer(card_last_four="4271"), context()) == {
            "verified": True,
            "customer_id": DEMO,
            "name": "Alex Morgan",
        }
        assert bank.card_status(CardQuery(customer_id=DEMO, card_last_four="4271"), context(1)) == {
            "status": "shipped",
            "kind": "credit card",
            "shipped_on": "2026-11-16",
            "shipped_weekday": "Monday",
            "tracking_tail": "8831",
        }
        assert bank.account_balance(AccountQuery(customer_id=DEMO), context(2)) == {
            "whole": 1250,
            "cents": 40,
            "currency": "dollars",
        }

    def test_what_is_not_there(self) -> None:
        bank = Bank()
        assert bank.verify_customer(VerifyCustomer(card_last_four="0000"), context()) == {"verified": False}
        with pytest.raises(ToolError, match="no such card"):
            bank.card_status(CardQuery(customer_id="C-1002", card_last_four="4271"), context(1))
        with pytest.raises(ToolError, match="no account"):
            bank.account_balance(AccountQuery(customer_id="C-9"), context(2))

    @pytest.mark.parametrize(
        ("balance_cents", "told"), [(-1250, (-12, 50)), (-50, (0, -50)), (-1200, (-12, 0)), (50, (0, 50)), (0, (0, 0))]
    )
    def test_a_debt_is_told_as_one(self, balance_cents: int, told: tuple[int, int], tmp_path: Path) -> None:
        path = str(tmp_path / "bank.sqlite")
        bank = Bank(path)
        with sqlite3.connect(path) as database:
            database.execute("UPDATE accounts SET balance_cents = ?", (balance_cents,))
        result = bank.account_balance(AccountQuery(customer_id=DEMO), context(1))
        assert (result["whole"], result["cents"]) == told

    def test_a_repetition_changes_nothing(self) -> None:
        bank = Bank()
        query = CardQuery(customer_id=DEMO, card_last_four="4271")
        first = bank.block_card(query, context())
        assert first == {"status": "blocked", "was": "shipped"}
        assert bank.block_card(query, context()) == first
        assert bank.block_card(query, context(1)) == {"status": "blocked", "was": "blocked"}
        with pytest.raises(ToolError, match="other arguments") as error:
            bank.block_card(CardQuery(customer_id="C-1002", card_last_four="5938"), context())
        assert error.value.code == "invalid_argument"

    def test_what_is_recorded(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "bank.db"
        bank = Bank(str(path), now_us=lambda: 42)
        bank.verify_customer(VerifyCustomer(card_last_four="0000"), context())
        bank.account_balance(AccountQuery(customer_id=DEMO), context(1))
        bank.close()
        rows = sqlite3.connect(path).execute("SELECT * FROM transactions ORDER BY transaction_id").fetchall()
        assert rows[0][:5] == ("call-1-0", "call", "", "AUTHENTICATION", "FAILED")
        assert rows[1][:5] == ("call-1-1", "call", DEMO, "BALANCE_CHECK", "VERIFIED")
        assert msgspec.json.decode(rows[1][6])["whole"] == 1250
        assert rows[1][7] == 42

    def test_a_file_is_shared_and_outlives_its_worker(self, tmp_path: Path) -> None:
        path = str(tmp_path / "bank.db")
        one, two = Bank(path), Bank(path)
        query = CardQuery(customer_id=DEMO, card_last_four="4271")
        one.block_card(query, context())
        # The successor repeats the call with the same id.
        assert two.block_card(query, context())["was"] == "shipped"
        one.close()
        assert Bank(path).card_status(query, context(5))["status"] == "blocked"

    def test_threads(self) -> None:
        bank = Bank()
        query = CardQuery(customer_id=DEMO, card_last_four="4271")
        with ThreadPoolExecutor(4) as threads:
            results = list(threads.map(lambda n: bank.block_card(query, context(n % 4)), range(40)))
        assert sum(result["was"] == "shipped" for result in results) == 10

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        path = tmp_path / "bank.db"
        path.write_text("this is no database, and it is long enough to be looked at " * 10)
        with pytest.raises(ToolError, match=r"\[llm\] database = .*bank.db.* can't be used"):
            create_tools(settings_with(database=str(path)).llm)
        with pytest.raises(ToolError, match="can't be used"):
            Bank(str(path / "below" / "a" / "file"))


class TestToolbox:
    async def test_arguments_are_checked_before_anything_runs(self) -> None:
        ran: list[Any] = []

        def run(arguments: Any, context: ToolContext) -> dict[str, Any]:
            ran.append(arguments)
            return {}

        box = Toolbox([ToolSpec("look", "Looks", VerifyCustomer, run)], executor=InlineExecutor())
        for arguments in (
            {},
            {"card_last_four": "42711"},
            {"card_last_four": 4271},
            {"card_last_four": "4271", "x": 1},
        ):
            outcome = await box.call("look", arguments, context())
            assert outcome.error == "invalid_argument"
            assert "look" in outcome.detail
            assert "42711" not in outcome.detail
        assert not ran
        outcome = await box.call("jump", {}, context())
        assert (outcome.error, outcome.detail) == (
            "invalid_argument",
            "there is no tool of the name asked for; there are: look",
        )
        assert (await box.call("look", {"card_last_four": "4271"}, context())).error == ""

    async def test_what_is_told_of_wrong_arguments_quotes_none(self) -> None:
        class Choice(msgspec.Struct, forbid_unknown_fields=True):
            kind: Literal["credit", "debit"] = "credit"

        box = Toolbox([ToolSpec("look", "Looks", Choice, lambda arguments, context: {})], executor=InlineExecutor())
        for name, arguments in (
            ("look", {"kind": "it's 4271 `or` - at 42"}),
            ("look", {"it's 4271 `or` - at 42": 1}),
            ("it's 4271", {}),
        ):
            outcome = await box.call(name, arguments, context())
            assert outcome.error == "invalid_argument"
            assert "42" not in outcome.detail
        assert (await box.call("look", {"kind": 5}, context())).detail.endswith(
            "Expected `str`, got `int` - at `$.kind`"
        )

    async def test_what_a_tool_raises_becomes_an_outcome(self) -> None:
        def refuse(arguments: Any, context: ToolContext) -> dict[str, Any]:
            raise ToolError("closed", "not_supported")

        def crash(arguments: Any, context: ToolContext) -> dict[str, Any]:
            raise ValueError("secret 4271")

        box = Toolbox(
            [ToolSpec("refuse", "", VerifyCustomer, refuse), ToolSpec("crash", "", VerifyCustomer, crash)],
            executor=InlineExecutor(),
        )
        refused = await box.call("refuse", {"card_last_four": "4271"}, context())
        assert (refused.error, refused.detail) == ("not_supported", "tool 'refuse': closed")
        crashed = await box.call("crash", {"card_last_four": "4271"}, context())
        assert (crashed.error, crashed.detail) == ("tool_failed", "tool 'crash' raised ValueError")

    async def test_a_tool_off_the_loop_has_a_deadline(self) -> None:
        clock, hold = ManualClock(), threading.Event()

        def hang(arguments: Any, context: ToolContext) -> dict[str, Any]:
            hold.wait(10)
            return {}

        with ThreadPoolExecutor(1) as threads:
            box = Toolbox([ToolSpec("hang", "", VerifyCustomer, hang)], executor=threads, clock=clock, deadline_ms=500)
            task = asyncio.create_task(box.call("hang", {"card_last_four": "4271"}, context()))
            await clock.advance(499)
            assert not task.done()
            await clock.advance(1)
            outcome = await task
            hold.set()
        assert outcome.error == "tool_failed"
        assert outcome.detail == "tool 'hang' gave no answer within 500 ms"
        assert outcome.duration_ms == 500

    def test_models_are_told(self) -> None:
        spec = next(spec for spec in Bank().tools() if spec.name == "verify_customer")
        told = describe(spec)
        assert told["name"] == "verify_customer"
        assert told["parameters"]["required"] == ["card_last_four"]
        assert told["parameters"]["properties"]["card_last_four"]["pattern"] == "^[0-9]{4}$"

    def test_who_identifies(self) -> None:
        assert Toolbox(Bank().tools()).identifying == {"verify_customer"}

    @pytest.mark.parametrize("reference", ["nowhere:create", "services.llm.bank:nothing", "services.llm.bank"])
    def test_loading(self, reference: str) -> None:
        settings = settings_with().llm
        assert load_tools("", settings) == []
        assert len(load_tools("services.llm.bank:create_tools", settings)) == 4
        with pytest.raises(ToolError, match="must be module:function"):
            load_tools(reference, settings)


class TestDeadline:
    async def test_in_time(self) -> None:
        clock = ManualClock()
        async with Deadline(clock, 100):
            await asyncio.sleep(0)
        await clock.advance(200)

    async def test_too_late(self) -> None:
        clock = ManualClock()

        async def wait() -> str:
            try:
                async with Deadline(clock, 100):
                    await asyncio.Event().wait()
            except TimeoutError as error:
                return str(error)
            return ""

        task = asyncio.create_task(wait())
        await clock.advance(100)
        assert await task == "no answer within 100 ms"

    async def test_a_cancellation_from_outside_stays_one(self) -> None:
        clock = ManualClock()

        async def wait() -> None:
            async with Deadline(clock, 100):
                await asyncio.Event().wait()

        task = asyncio.create_task(wait())
        await clock.advance(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_a_pause(self) -> None:
        clock = ManualClock()
        task = asyncio.create_task(pause(clock, 50))
        await clock.advance(49)
        assert not task.done()
        await clock.advance(1)
        assert task.done()
