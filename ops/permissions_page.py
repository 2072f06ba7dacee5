"""The table of rights as Markdown, for docs/security.md and ``callbus keys rights``."""

from __future__ import annotations

from collections.abc import Iterator

from bus import permissions
from bus.permissions import Right, User

BEGIN = "<!-- rights: made by `callbus keys rights` -->"
END = "<!-- end of rights -->"


def document() -> str:
    """One section a user; a row says why, and on what subjects."""
    return "\n".join([BEGIN, "", *(line for user in permissions.users() for line in _section(user)), END])


def _section(user: User) -> Iterator[str]:
    yield f"### {user.name}"
    yield ""
    yield f"{user.what[0].upper()}{user.what[1:]}."
    yield ""
    yield "| may | subjects | for |"
    yield "|---|---|---|"
    yield from _rows("publish", user.publish)
    yield from _rows("subscribe", user.subscribe)
    yield from _rows("never publish", user.denied)
    yield ""


def _rows(verb: str, rights: tuple[Right, ...]) -> Iterator[str]:
    grouped: dict[str, list[str]] = {}
    for right in rights:
        grouped.setdefault(right.why, []).append(right.subject)
    for why, found in grouped.items():
        names = ", ".join(f"`{subject}`" for subject in dict.fromkeys(found))
        yield f"| {verb} | {names} | {why} |"
