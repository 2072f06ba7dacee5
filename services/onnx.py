"""onnxruntime, told to report to nobody, and sessions of it that leave the machine to others and can be stopped."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.packages import installed

FATAL = 4
"""onnxruntime's level of severity above that of errors."""


def onnxruntime(name: str, extra: str) -> Any:
    """The module. ``name``: the engine that needs it; ``extra``: what installs it.

    Raises:
        MissingPackageError: it is not installed.
    """
    report_to_nobody()
    return installed(name, {"onnxruntime": extra})["onnxruntime"]


def report_to_nobody() -> None:
    """To be called before anything that may import onnxruntime.

    onnxruntime reports its use to its maker and leaves a session file behind unless it is told not to, before it is
    imported. Whoever answers a bank's telephone tells nobody.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def own_choice_of_threads() -> int:
    """Threads of a model where the settings name none: those of this machine, and four at most."""
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def open_session(name: str, model: Path | bytes, *, extra: str, threads: int = 1) -> Any:
    """An ``onnxruntime.InferenceSession`` on the processor. ``model``: a file, or what would be in it.

    Raises:
        MissingPackageError: onnxruntime is not installed.
    """
    runtime = onnxruntime(name, extra)
    options = runtime.SessionOptions()
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads
    # A thread that waits for work would turn in a circle for milliseconds: time that the calls' frames need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = model if isinstance(model, bytes) else str(model)
    return runtime.InferenceSession(source, providers=["CPUExecutionProvider"], sess_options=options)


class StopToken:
    """Stops whatever runs under it, from any thread."""

    def __init__(self, runtime: Any) -> None:
        self.options = runtime.RunOptions()
        # A run that is stopped is no error: it is not for the log.
        self.options.log_severity_level = FATAL
        self.stopped = False

    def stop(self) -> None:
        """A run under way ends after the operator that it is at, with an error of onnxruntime's."""
        self.stopped = True
        self.options.terminate = True


class StoppableSession:
    """An ``InferenceSession`` for a library that calls ``run`` itself and knows of no stopping."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._of_thread = threading.local()

    @contextmanager
    def under(self, token: StopToken) -> Iterator[None]:
        """Runs that this thread begins in here end when the token is stopped."""
        self._of_thread.token = token
        try:
            yield
        finally:
            self._of_thread.token = None

    def run(self, names: Any, inputs: Any) -> Any:
        """As ``InferenceSession.run``."""
        token: StopToken | None = getattr(self._of_thread, "token", None)
        return self._session.run(names, inputs, token.options if token else None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)
