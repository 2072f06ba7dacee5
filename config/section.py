"""What the sections of the settings are made of."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta

Port = Annotated[int, Meta(ge=0, le=65535)]
Milliseconds = Annotated[int, Meta(ge=0, le=86_400_000)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Seconds = Annotated[int, Meta(ge=0, le=86_400)]

HIDDEN = "(hidden)"
"""Stands for a secret that is set."""

SECRETS = frozenset({"api_key"})
"""Keys whose value is never shown, written or logged."""

_PARTS = (
    re.compile(r"(?<=://)[^/@\s]+(?=@)"),
    re.compile(
        r"(?i)(?<=\")(?P<key>[^\"]*(?:key|token|secret|password|credential)[^\"]*\"\s*:\s*\")[^$\"](?:\\.|[^\"\\])*"
    ),
)
"""User and password of an address, and what an engine's arguments hold under such a name, but for ``$NAME``."""


def shown(name: str, value: object) -> object:
    """The value of a key as it may be shown."""
    if not isinstance(value, str):
        return value
    if name in SECRETS:
        return HIDDEN if value else value
    for part in _PARTS:
        value = part.sub(lambda match: f"{match.groupdict().get('key', '')}{HIDDEN}", value)
    return value


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a section. Its text, in a log or a traceback, shows no secret."""

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={shown(name, getattr(self, name))!r}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({values})"
