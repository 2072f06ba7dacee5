"""The table of rights as Markdown, for docs/security.md and ``callbus keys rights``."""

from __future__ import annotations

from collections.abc import Iterator

from bus import accounts, permissions
from bus.accounts import Crossing
from bus.permissions import Right, User

BEGIN = "<!-- rights: made by `callbus keys rights` -->"
END = "<!-- end of rights -->"


def document() -> str:
    """One section a user, and one for what passes between accounts; a row says why, and on what subjects."""
    return "\n".join([BEGIN, "", *(line for user in permissions.users() for line in _section(user)), *_between(), END])


def _section(user: User) -> Iterator[str]:
    yield f"### {user.name}"
    yield ""
    yield f"{user.what[0].upper()}{user.what[1:]}. Account `{user.account}`."
    yield ""
    yield "| may | subjects | for |"
    yield "|---|---|---|"
    yield from _rows("publish", user.publish)
    yield from _rows("subscribe", user.subscribe)
    yield from _rows("never publish", user.denied)
    yield ""


def _between() -> Iterator[str]:
    yield "### Between the accounts"
    yield ""
    yield "| what passes | subjects | for |"
    yield "|---|---|---|"
    for giver, taker, crossings in (
        (accounts.STORE, accounts.LIVE, accounts.given_by_store()),
        (accounts.LIVE, accounts.STORE, accounts.given_by_services()),
    ):
        yield from _rows(f"said in `{taker}`, heard and answered in `{giver}`", _of(crossings, "service"))
        yield from _rows(f"said in `{giver}`, heard in `{taker}` too", _of(crossings, "stream"))
    yield ""


def _of(crossings: tuple[Crossing, ...], kind: str) -> tuple[Right, ...]:
    return tuple(Right(each.subject, each.why) for each in crossings if each.kind == kind)


def _rows(verb: str, rights: tuple[Right, ...]) -> Iterator[str]:
    grouped: dict[str, list[str]] = {}
    for right in rights:
        grouped.setdefault(right.why, []).append(right.subject)
    for why, found in grouped.items():
        names = ", ".join(f"`{subject}`" for subject in dict.fromkeys(found))
        yield f"| {verb} | {names} | {why} |"
