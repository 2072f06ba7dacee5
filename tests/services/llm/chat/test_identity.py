"""What a model may take for told by the caller, and what for verified."""

from __future__ import annotations

import pytest

from schemas.session import Exchange, Speaker
from services.llm.chat.calls import Identity
from services.llm.engine import Request
from services.llm.verified import says_verified

pytestmark = pytest.mark.unit


def identity(*turns: str, now: str = "", keys: str = "") -> Identity:
    history = tuple(Exchange(speaker=Speaker.CALLER, text=text, turn=turn) for turn, text in enumerate(turns, 1))
    return Identity(Request("c", "t", len(turns) + 1, now, keys, history=history), 3, "en")


def test_digits_of_one_turn_or_of_two_that_follow_each_other() -> None:
    assert identity(now="it is four two seven one").told("4271")
    assert identity("four two", now="seven one").told("4271")
    assert identity("hello", keys="4271").told("4271")


def test_digits_from_here_and_there_are_no_number() -> None:
    assert not identity("i was born in fifty nine", "where is my card", "i have thirty eight minutes").told("5938")
    assert not identity("hello", now="where is my card").told("5938")


@pytest.mark.parametrize("said", ["false", "true", 1, [True], {}, None, False])
def test_only_true_verifies(said: object) -> None:
    assert not says_verified({"verified": said})
    assert says_verified({"verified": True})
    assert not says_verified({})
