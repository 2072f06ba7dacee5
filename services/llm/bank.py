"""The example bank: a small SQLite database and the four tools that the banking agent has.

Each tool call leaves one row in ``transactions`` whose key is the id of the tool call, written in the same transaction
as the change it records. A repetition with the same id reads the row and changes nothing.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from config.settings import LlmSection
from schemas.session import AuthenticationStatus
from services.llm.tools import ToolContext, ToolError, ToolSpec

BUSY_TIMEOUT_S = 2.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS customers (
    customer_id TEXT PRIMARY KEY,
    name        TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS cards (
    last_four       TEXT PRIMARY KEY,
    customer_id     TEXT NOT NULL REFERENCES customers,
    kind            TEXT NOT NULL,
    status          TEXT NOT NULL CHECK (status IN ('in_production', 'shipped', 'delivered', 'blocked')),
    shipped_on      TEXT NOT NULL DEFAULT '',
    tracking_number TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS accounts (
    customer_id   TEXT PRIMARY KEY REFERENCES customers,
    balance_cents INTEGER NOT NULL,
    currency      TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS transactions (
    transaction_id        TEXT PRIMARY KEY,
    session_id            TEXT NOT NULL,
    customer_id           TEXT NOT NULL,
    transaction_type      TEXT NOT NULL,
    authentication_status TEXT NOT NULL,
    query_parameters      TEXT NOT NULL,
    response_data         TEXT NOT NULL,
    created_at_us         INTEGER NOT NULL
);
"""

SEED = (
    ("INSERT OR IGNORE INTO customers VALUES (?, ?)", [("C-1001", "Alex Morgan"), ("C-1002", "Sam Carter")]),
    (
        "INSERT OR IGNORE INTO cards VALUES (?, ?, ?, ?, ?, ?)",
        [
            ("4271", "C-1001", "credit card", "shipped", "2026-11-16", "EX20318831"),
            ("5938", "C-1002", "debit card", "in_production", "", ""),
        ],
    ),
    ("INSERT OR IGNORE INTO accounts VALUES (?, ?, ?)", [("C-1001", 125_040, "dollars"), ("C-1002", 98_00, "dollars")]),
)
"""Card 4271 belongs to the customer of the demo; its shipping date is a Monday."""

OWNER = ("customer_id",)
"""The argument that says whose card or account it is."""

LastFour = Annotated[str, Meta(pattern=r"^[0-9]{4}$", description="Last four digits of the card")]
CustomerId = Annotated[str, Meta(pattern=r"^C-[0-9]{1,12}$", description="Customer id, as verify_customer tells it")]


class VerifyCustomer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of ``verify_customer``."""

    card_last_four: LastFour


class CardQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of ``card_status`` and ``block_card``: a card and the verified customer who asks."""

    customer_id: CustomerId
    card_last_four: LastFour


class AccountQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of ``account_balance``."""

    customer_id: CustomerId


class Bank:
    """The database. Its methods block, and may be called from any thread.

    Args:
        path: SQLite file, created with its seed where it is absent; empty: a database of this process, in memory.
        now_us: wall clock, microseconds since 1970.

    Raises:
        ToolError: the file can't be opened or is no database.
    """

    def __init__(self, path: str = "", now_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._lock = threading.Lock()
        self._now_us = now_us
        try:
            if path:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                path or ":memory:", check_same_thread=False, isolation_level=None, timeout=BUSY_TIMEOUT_S
            )
            self._database.row_factory = sqlite3.Row
            if path:
                self._database.execute("PRAGMA journal_mode = WAL")
            self._database.executescript("BEGIN IMMEDIATE;" + SCHEMA)
            for statement, rows in SEED:
                self._database.executemany(statement, rows)
            self._database.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise ToolError(f"[llm] database = {path!r} can't be used: {error}") from error

    def close(self) -> None:
        """Close the database; no call may follow."""
        with self._lock:
            self._database.close()

    def tools(self) -> list[ToolSpec]:
        """The tools over this database."""
        return [
            ToolSpec(
                "verify_customer",
                "Check who the caller is by the last four digits of their card",
                VerifyCustomer,
                self.verify_customer,
                identifies=True,
                told_digits=("card_last_four",),
            ),
            ToolSpec(
                "card_status",
                "Where a card is: in production, shipped, delivered",
                CardQuery,
                self.card_status,
                verified_arguments=OWNER,
            ),
            ToolSpec(
                "account_balance",
                "The balance of the customer's account",
                AccountQuery,
                self.account_balance,
                verified_arguments=OWNER,
            ),
            ToolSpec(
                "block_card",
                "Block a lost card and order a new one",
                CardQuery,
                self.block_card,
                verified_arguments=OWNER,
            ),
        ]

    def verify_customer(self, arguments: VerifyCustomer, context: ToolContext) -> dict[str, Any]:
        """``verified``, and where it is true ``customer_id`` and ``name``."""

        def query() -> dict[str, Any]:
            row = self._database.execute(
                "SELECT customer_id, name FROM customers JOIN cards USING (customer_id) WHERE last_four = ?",
                (arguments.card_last_four,),
            ).fetchone()
            return {"verified": True, **dict(row)} if row else {"verified": False}

        return self._transact("AUTHENTICATION", arguments, context, query)

    def card_status(self, arguments: CardQuery, context: ToolContext) -> dict[str, Any]:
        """``status``, ``kind``, and for a shipped card ``shipped_on``, ``shipped_weekday`` and ``tracking_tail``."""

        def query() -> dict[str, Any]:
            card = self._card(arguments)
            result = {"status": card["status"], "kind": card["kind"]}
            if card["status"] == "shipped":
                result["shipped_on"] = card["shipped_on"]
                result["shipped_weekday"] = date.fromisoformat(card["shipped_on"]).strftime("%A")
                result["tracking_tail"] = card["tracking_number"][-4:]
            return result

        return self._transact("CARD_INQUIRY", arguments, context, query)

    def account_balance(self, arguments: AccountQuery, context: ToolContext) -> dict[str, Any]:
        """``whole`` and ``cents`` of the balance, and ``currency``. Of a debt the first that is not 0 is negative."""

        def query() -> dict[str, Any]:
            row = self._database.execute(
                "SELECT balance_cents, currency FROM accounts WHERE customer_id = ?", (arguments.customer_id,)
            ).fetchone()
            if row is None:
                raise ToolError("the customer has no account")
            whole, cents = divmod(abs(row["balance_cents"]), 100)
            if row["balance_cents"] < 0:
                whole, cents = (-whole, cents) if whole else (0, -cents)
            return {"whole": whole, "cents": cents, "currency": row["currency"]}

        return self._transact("BALANCE_CHECK", arguments, context, query)

    def block_card(self, arguments: CardQuery, context: ToolContext) -> dict[str, Any]:
        """``status``, which is ``blocked`` now, and ``was``, what it was before."""

        def change() -> dict[str, Any]:
            card = self._card(arguments)
            self._database.execute("UPDATE cards SET status = 'blocked' WHERE last_four = ?", (card["last_four"],))
            return {"status": "blocked", "was": card["status"]}

        return self._transact("CARD_BLOCK", arguments, context, change)

    def _card(self, arguments: CardQuery) -> sqlite3.Row:
        row = self._database.execute(
            "SELECT * FROM cards WHERE last_four = ? AND customer_id = ?",
            (arguments.card_last_four, arguments.customer_id),
        ).fetchone()
        if row is None:
            raise ToolError("the customer has no such card")
        assert isinstance(row, sqlite3.Row)
        return row

    def _transact(
        self, kind: str, arguments: msgspec.Struct, context: ToolContext, work: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Do ``work`` and record it under the id of the tool call, both or neither; a repetition reads the record."""
        parameters = msgspec.json.encode(arguments).decode()
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                row = self._database.execute(
                    "SELECT query_parameters, response_data FROM transactions WHERE transaction_id = ?",
                    (context.tool_call_id,),
                ).fetchone()
                if row is None:
                    result = work()
                    self._record(kind, parameters, context, arguments, result)
                elif row["query_parameters"] != parameters:
                    raise ToolError("this tool call id was used before with other arguments", "invalid_argument")
                else:
                    result = msgspec.json.decode(row["response_data"], type=dict[str, Any])
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")
            return result

    def _record(
        self, kind: str, parameters: str, context: ToolContext, arguments: msgspec.Struct, result: dict[str, Any]
    ) -> None:
        customer_id = result.get("customer_id") or getattr(arguments, "customer_id", "")
        verified = result.get("verified", True)
        status = AuthenticationStatus.VERIFIED if verified else AuthenticationStatus.FAILED
        self._database.execute(
            "INSERT INTO transactions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                context.tool_call_id,
                context.call_id,
                customer_id,
                kind,
                status,
                parameters,
                msgspec.json.encode(result).decode(),
                self._now_us(),
            ),
        )


def create_tools(settings: LlmSection) -> list[ToolSpec]:
    """The bank's tools over the database that the settings name."""
    return Bank(settings.database).tools()
