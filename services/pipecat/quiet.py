"""What pipecat and the libraries under it say of their work is kept from the log: it quotes callers.

pipecat logs with loguru, straight to standard error, and much of it holds transcripts and texts to be spoken; so do the
debug lines of the libraries that its services stand on. Of all that, only where a line came from is passed on.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from typing import Any

from bus.logs import get_logger

log = get_logger(__name__)

THREAD_PREFIX = "pipecat"
"""Names of the threads in which services run begin so."""
OURS = "services"
WITHHELD = "a line of a library is withheld: it may hold what was said"
HEARD_LEVEL = "WARNING"
"""Below this, pipecat's lines are not even made."""


@functools.cache
def keep_quiet() -> None:
    """Take over the output of this process's loguru, and of other libraries in pipecat's threads. Before pipecat is
    imported: it greets whoever imports it."""
    from loguru import logger

    # The handler that loguru has from the start; whoever removed it already has a reason.
    with contextlib.suppress(ValueError):
        logger.remove(0)
    logger.add(_pass_on, level=HEARD_LEVEL, format=lambda _: "", catch=False)
    make = logging.getLogRecordFactory()

    def make_discreet(name: str, *arguments: Any, **named: Any) -> logging.LogRecord:
        record = make(name, *arguments, **named)
        if threading.current_thread().name.startswith(THREAD_PREFIX) and name.partition(".")[0] != OURS:
            record.msg, record.args, record.exc_info, record.stack_info = WITHHELD, (), None, None
        return record

    logging.setLogRecordFactory(make_discreet)


def _pass_on(message: Any) -> None:
    """A line of loguru as one of ours: its place and the kind of its exception, never its words."""
    record = message.record
    exception = record["exception"]
    kind = f", {exception.type.__name__}" if exception is not None and exception.type is not None else ""
    tell = log.info if record["level"].name in ("ERROR", "CRITICAL") else log.debug
    tell("pipecat_log", message=f"{record['level'].name} at {record['name']}:{record['line']}{kind}")
