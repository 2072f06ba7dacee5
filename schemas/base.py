"""What every message on the bus shares: identifiers, tags, and the two families.

Two families, never mixed:

* **Recorded events** (``call.<tenant>.<call>.<domain>.<event>``): past tense, JSON, kept in order in the stream CALLS.
* **Live traffic** (``rt.<tenant>.<call>.*``): audio frames (``schemas.audio``) and commands (``schemas.control``),
  imperative, never recorded.

Evolution rules (msgspec's own): a new field always has a default, a field never changes its type or its meaning, a
message that must break gets a new tag version and is served beside the old one for a release.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

TOKEN_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"

Token = Annotated[str, msgspec.Meta(pattern=TOKEN_PATTERN)]
"""One subject token: letters, digits, ``_`` and ``-`` (NATS ADR-6). Never a SIP Call-ID or a phone number."""

CallId = Token
"""Our own time-sortable identifier of a call: a UUIDv7 written as 32 hexadecimal digits."""

NonNegative = Annotated[int, msgspec.Meta(ge=0)]
Ratio = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]

DEFAULT_TENANT = "default"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every recorded event: something that happened in one call.

    Attributes:
        tenant: who owns the call; ``default`` where nobody set one.
        call_id: the call.
        at_us: wall clock of the sender when it happened, microseconds since 1970.
        epoch: ownership epoch of the sender's stage for this call; 0 where the sender needs no ownership (the edge).
            A reader ignores an event of a lower epoch than the highest it has seen from that stage.
    """

    call_id: CallId
    at_us: NonNegative
    tenant: Token = DEFAULT_TENANT
    epoch: NonNegative = 0

    #: Names of the fields that, with call and subject, say "the same event again". Empty: at most one per call.
    identity: ClassVar[tuple[str, ...]] = ()

    @property
    def dedupe_id(self) -> str:
        """``Nats-Msg-Id`` of this event: equal for a retry and for a successor's repetition, unequal otherwise."""
        parts = [self.call_id, type_name(type(self))]
        parts += [str(getattr(self, name)) for name in self.identity]
        return ":".join(parts)


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every command: imperative, request/reply, jumps every queue, answered with a ``ControlReply``.

    Attributes:
        tenant: who owns the call.
        call_id: the call.
        reason: why, as a short token for the record; never caller content.
    """

    call_id: CallId
    tenant: Token = DEFAULT_TENANT
    reason: str = ""


def tag_of(message_type: type[msgspec.Struct]) -> str:
    """Type tag with its version, for example ``asr.final.v1``."""
    tag = message_type.__struct_config__.tag
    if not isinstance(tag, str):
        raise TypeError(f"{message_type.__name__} has no string tag; declare it as tag='domain.event.v1'")
    return tag


def type_name(message_type: type[msgspec.Struct]) -> str:
    """Tag without its version: ``asr.final``. For events this is also the end of the subject."""
    return tag_of(message_type).rsplit(".v", 1)[0]
