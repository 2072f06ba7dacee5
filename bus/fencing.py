"""Header names of JetStream's storing rules, and telling a retry of one's own from a stale write.

nats-server (2.15.1, measured) checks the expected sequence before the dedupe id. So when a fenced message was stored
but its acknowledgement got lost, the retry is refused with error 10071, as if somebody else had written. The newest
message of the subject tells the two apart: same dedupe id and same bytes is the retry's own message. A successor's
repetition of the same event differs in its bytes, because the ownership epoch stands in the body.

A stream with replicas checks the dedupe id first (measured too): a stale write that repeats what a successor has stored
is acknowledged there as a duplicate, with the successor's sequence. So the sequence of a duplicate proves nothing, and
whoever gets one looks at what was stored last before he writes on.

What the agent says in a call stands behind one fence: its sentences and the ends of its utterances, whichever comes
next (``EXPECTED_ON``). Were each subject a fence of its own, a predecessor that wakes late could end an utterance of
which its successor has said a sentence, and the record would keep that end in place of the successor's, because both
have one dedupe id.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from bus.errors import BusError, StaleWrite
from bus.interface import Connection, Headers, StoreAck, StoredMessage
from schemas import subjects

MESSAGE_ID = "Nats-Msg-Id"
EXPECTED_STREAM = "Nats-Expected-Stream"
EXPECTED_SUBJECT_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_ON = "Nats-Expected-Last-Subject-Sequence-Subject"
"""With it the expected sequence is that of all subjects that match this pattern (server 2.11 and later)."""
EXPECTED_SEQUENCE = "Nats-Expected-Last-Sequence"
INCREMENT = "Nats-Incr"

FENCED_TOGETHER = ("llm.sentence", "llm.done")
"""Every event of the domain ``llm``: the pattern of their fence matches nothing that is stored without a fence."""

LOOK_S = 0.3
"""A server that hangs answers nobody for seconds, and a replica of it may have been asked."""


class Fence(NamedTuple):
    """Subjects on which the last word decides who may say the next; ``pattern`` matches these and no others."""

    pattern: str
    members: tuple[str, ...]

    def expect(self, subject: str, sequence: int) -> Headers:
        """Headers with which a message on ``subject`` is stored only if ``sequence`` is still the last of the fence."""
        headers = {EXPECTED_SUBJECT_SEQUENCE: str(sequence)}
        return headers if self.pattern == subject else {**headers, EXPECTED_ON: self.pattern}

    async def newest(self, connection: Connection) -> StoredMessage | None:
        """The last message behind the fence; None: nobody has written there. Raises ``BusError``."""
        found = await asyncio.gather(*(connection.last(member) for member in self.members))
        return max(filter(None, found), key=lambda message: message.stream_sequence, default=None)


@lru_cache(maxsize=4096)
def fence_of(subject: str) -> Fence:
    """The fence of a call's event: its own subject, or that of those which are fenced together."""
    call = subjects.parse_subject(subject)
    if call.name not in FENCED_TOGETHER:
        return Fence(subject, (subject,))
    members = tuple(subjects.event_subject(name, call.call_id, call.tenant) for name in FENCED_TOGETHER)
    return Fence(subjects.event_subject("llm.*", call.call_id, call.tenant), members)


async def last_sequences(connection: Connection, fences: Iterable[Fence]) -> dict[Fence, int]:
    """The last sequence behind each fence, of those that are known within ``LOOK_S``: who asks has a caller waiting."""
    known: dict[Fence, int] = {}

    async def look(fence: Fence) -> None:
        with contextlib.suppress(BusError):
            newest = await fence.newest(connection)
            known[fence] = newest.stream_sequence if newest else 0

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LOOK_S):
            await asyncio.gather(*map(look, dict.fromkeys(fences)))
    return known


def own_retry(
    refusal: BusError, newest: StoredMessage | None, stream: str, data: bytes, headers: Headers
) -> StoreAck | None:
    """The acknowledgement that got lost, if ``newest`` is the very message that was refused now; else None."""
    message_id = headers.get(MESSAGE_ID)
    if not isinstance(refusal, StaleWrite) or newest is None or not message_id:
        return None
    if newest.headers.get(MESSAGE_ID) != message_id or newest.data != data:
        return None
    return StoreAck(stream, newest.stream_sequence, True)
