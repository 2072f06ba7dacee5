"""Where messages go that could not be read, with the defect beside them."""

from __future__ import annotations

from bus.interface import Connection
from bus.logs import about_subject, get_logger
from bus.metrics.process import DEAD_LETTERS
from bus.tracing import figures_of
from schemas import subjects

log = get_logger(__name__)

REASON_HEADER = "Callbus-Reason"
SUBJECT_HEADER = "Callbus-Subject"
MAX_REASON = 500
MAX_BYTES = 60_000
"""Beginning of a message that is kept: the stream takes 64 KiB with headers, and what is too large is lost unseen."""


def bury(connection: Connection, service: str, subject: str, data: bytes, reason: str) -> None:
    """Publish ``data`` as it came on ``dead_letter.<service>``, with reason and subject in the headers; count and log.

    ``reason`` names the defect, never content.
    """
    template = subjects.template_of(subject)
    text = " ".join(reason.split())[:MAX_REASON]
    figures_of(f"{service} dead_letter").count += 1
    DEAD_LETTERS.inc(service=service)
    with about_subject(subject):
        log.warning("dead_letter", message=f"a message on {template} can't be read: {text}", subject=template)
    connection.publish(subjects.dead_letter(service), data[:MAX_BYTES], {REASON_HEADER: text, SUBJECT_HEADER: subject})
