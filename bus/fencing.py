"""Header names of JetStream's storing rules, and telling a retry of one's own from a stale write.

nats-server (2.15.1, measured) checks the expected sequence before the dedupe id. So when a fenced message was stored
but its acknowledgement got lost, the retry is refused with error 10071, as if somebody else had written. The newest
message of the subject tells the two apart: same dedupe id and same bytes is the retry's own message. A successor's
repetition of the same event differs in its bytes, because the ownership epoch stands in the body.
"""

from __future__ import annotations

from bus.errors import BusError, StaleWrite
from bus.interface import Headers, StoreAck, StoredMessage

MESSAGE_ID = "Nats-Msg-Id"
EXPECTED_STREAM = "Nats-Expected-Stream"
EXPECTED_SUBJECT_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_SEQUENCE = "Nats-Expected-Last-Sequence"
INCREMENT = "Nats-Incr"


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
