"""Typed KV: a bucket whose values are structs of ``schemas.session``, with compare-and-set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import msgspec

from bus.errors import DecodeError, RevisionConflict
from bus.interface import Bucket, BucketEntry, Connection, Subscription
from bus.logs import get_logger

log = get_logger(__name__)

T = TypeVar("T", bound=msgspec.Struct)


class TypedEntry(NamedTuple, Generic[T]):
    """A value and the revision that an update must name."""

    value: T
    revision: int


class TypedBucket(Generic[T]):
    """One bucket, one struct. Errors of the bucket pass through; bytes that are no ``T`` raise ``DecodeError``."""

    def __init__(self, bucket: Bucket, name: str, value_type: type[T]) -> None:
        self._bucket = bucket
        self._name = name
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(value_type)

    @classmethod
    async def open(cls, connection: Connection, name: str, value_type: type[T]) -> TypedBucket[T]:
        """Bind the bucket. Raises ``NotProvisioned``."""
        return cls(await connection.bucket(name), name, value_type)

    async def get(self, key: str) -> TypedEntry[T] | None:
        entry = await self._bucket.get(key)
        return None if entry is None or entry.value is None else self._typed(key, entry.value, entry.revision)

    async def put(self, key: str, value: T) -> int:
        """Write whatever was there; the new revision."""
        return await self._bucket.put(key, self._encoder.encode(value))

    async def create(self, key: str, value: T) -> int:
        """Write where nothing is. Raises ``RevisionConflict``."""
        return await self._bucket.create(key, self._encoder.encode(value))

    async def update(self, key: str, value: T, revision: int) -> int:
        """Write over ``revision``. Raises ``RevisionConflict``."""
        return await self._bucket.update(key, self._encoder.encode(value), revision)

    async def modify(self, key: str, change: Callable[[T | None], T], attempts: int = 20) -> T:
        """Read, change, write back where nobody else wrote meanwhile; else again with the new value.

        ``change`` gets None where the key is absent. It may be called several times.

        Raises:
            RevisionConflict: others were faster ``attempts`` times.
        """
        for attempt in range(attempts):
            entry = await self.get(key)
            value = change(entry.value if entry else None)
            try:
                if entry is None:
                    await self.create(key, value)
                else:
                    await self.update(key, value, entry.revision)
            except RevisionConflict:
                if attempt == attempts - 1:
                    raise
                continue
            return value
        raise ValueError(f"attempts must be 1 or more, not {attempts}")

    async def delete(self, key: str) -> None:
        await self._bucket.delete(key)

    async def keys(self) -> list[str]:
        return await self._bucket.keys()

    async def watch(self, handler: Callable[[str, TypedEntry[T] | None], None], pattern: str = ">") -> Subscription:
        """``handler(key, entry)`` for each present value, then each change; None: deleted or expired.

        A value that does not decode is logged and left out.
        """

        def typed(entry: BucketEntry) -> None:
            if entry.value is None:
                handler(entry.key, None)
                return
            try:
                value = self._typed(entry.key, entry.value, entry.revision)
            except DecodeError as error:
                log.error("kv_value_unreadable", message=str(error))
                return
            handler(entry.key, value)

        return await self._bucket.watch(typed, pattern)

    def _typed(self, key: str, data: bytes, revision: int) -> TypedEntry[T]:
        try:
            return TypedEntry(self._decoder.decode(data), revision)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DecodeError(f"key {key!r} of bucket {self._name!r} (revision {revision}): {error}") from error
