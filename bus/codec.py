"""Bytes of a message and back: one encoder, one decoder per type. JSON, so that the ``nats`` command line shows it."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Any, TypeVar, cast

import msgspec

from bus.errors import DecodeError
from bus.interface import StoredMessage
from schemas import subjects
from schemas.base import Event

T = TypeVar("T")

_ENCODER = msgspec.json.Encoder()


class UnknownEventError(DecodeError):
    """A recorded subject whose event this program does not know: said by a newer peer, or a recording."""


def encode(message: msgspec.Struct) -> bytes:
    """JSON of a message."""
    return _ENCODER.encode(message)


def decode(data: bytes, message_type: type[T]) -> T:
    """The message that ``data`` holds. ``message_type`` may be a union of tagged structs.

    Raises:
        DecodeError: not JSON, another tag, or a field that is missing or not allowed.
    """
    try:
        return cast(T, _decoder(cast(Hashable, message_type)).decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError(_defect(error, message_type)) from error


def decode_event(subject: str, data: bytes) -> Event:
    """The event that travels on ``subject``.

    Raises:
        UnknownEventError: no event of that name is known here.
        DecodeError: the subject is none of a call's, the bytes are not that event, or its identifiers are not those
            of the subject.
    """
    try:
        call = subjects.parse_subject(subject)
    except subjects.SubjectError as error:
        raise DecodeError(str(error)) from error
    event_type = subjects.EVENT_BY_NAME.get(call.name) if call.root == "call" else None
    if event_type is None:
        raise UnknownEventError(f"no event of this program travels on {subjects.template_of(subject)}")
    event = decode(data, event_type)
    if event.call_id != call.call_id or event.tenant != call.tenant:
        raise DecodeError(f"the body of {subjects.template_of(subject)} names another call or tenant than its subject")
    return event


def epoch_of(message: StoredMessage) -> int:
    """Epoch of a stored event's sender; 0 where it can't be read."""
    try:
        return decode_event(message.subject, message.data).epoch
    except DecodeError:
        return 0


@lru_cache(maxsize=256)
def _decoder(message_type: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(message_type)


def _defect(error: Exception, message_type: Any) -> str:
    """What is wrong, in msgspec's words: it names path and expectation, and quotes no value but a wrong tag."""
    name = getattr(message_type, "__name__", str(message_type))
    return f"not a {name}: {error}"
