"""The quick way of ``callbus health STAGE`` in a container: one page asked, without loading the command line.

A probe runs every few seconds in every container, so what it loads costs more than what it asks. Nothing but the
standard library's smallest parts is imported here.
"""

from __future__ import annotations

import os
import socket
import sys
import time

STAGES = ("edge", "asr", "llm", "tts")
TIMEOUT_MS = 1000
ANSWER_BYTES = 65_536
ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def main() -> None:
    """Entry of the console script: a probe where that is all that is asked, else the command line."""
    code = quick(sys.argv[1:], os.environ.get("CALLBUS_METRICS__PORT", ""), os.environ.get("CALLBUS_METRICS__HOST", ""))
    if code is None:
        from ops.main import main as command_line

        command_line()
    sys.exit(code)


def quick(words: list[str], port: str, host: str) -> int | None:
    """Exit code of ``health STAGE``, its sentence printed; None where it is something else that is asked, or another
    process's page that answers."""
    if (
        len(words) != 2
        or words[0] != "health"
        or words[1] not in STAGES
        or not port.isdecimal()
        or not 0 < int(port) < 65536
    ):
        return None
    service = words[1]
    status, body, why = fetch(ANY_HOST.get(host, host), int(port), "/ready", time.monotonic() + time_left_s(TIMEOUT_MS))
    if not status:
        if not host:
            return None  # app.ini may name the host
        print(f"{service} {why}")
        return 1
    import json

    try:
        answer = json.loads(body)
        if answer["service"] != service:
            return None
        ready, sentence = answer["ready"] is True, answer["why"] or f"{service} {answer['instance']} takes work"
    except (ValueError, KeyError, TypeError):
        return None
    print(sentence)
    return 0 if ready else 1


def time_left_s(timeout_ms: int) -> float:
    """Of ``timeout_ms`` since this process was started. A start that took more than half of it says that the machine is
    overloaded: asking then gets the whole time, lest what is well be called ill."""
    whole_s = timeout_ms / 1000
    left_s = whole_s - process_age_s()
    return left_s if left_s >= whole_s / 2 else whole_s


def process_age_s() -> float:
    """Seconds since the system started this process; 0 where it does not tell."""
    try:
        with open("/proc/self/stat", encoding="ascii") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def fetch(host: str, port: int, path: str, deadline: float) -> tuple[int, bytes, str]:
    """GET by a plain socket: status, body, and where nothing came (status 0) why not, without a subject.

    The HTTP client of the library takes longer to import than the answer to come. ``deadline``: monotonic seconds.
    """
    where = f"{host}:{port}"
    received = b""
    try:
        with socket.create_connection((host, port), timeout=left(deadline)) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {where}\r\n\r\n".encode())
            while len(received) < ANSWER_BYTES:
                connection.settimeout(left(deadline))
                part = connection.recv(ANSWER_BYTES)
                if not part:
                    break
                received += part
    except TimeoutError:
        return (
            0,
            b"",
            (
                f"does not answer at {where} in time: its process is stopped, or the machine is overloaded; restart it "
                "if this stays"
            ),
        )
    except ConnectionRefusedError:
        return 0, b"", f"is not there: nothing listens at {where}; start it, or see in its log why it ended"
    except OSError as error:
        return 0, b"", f"can't be asked at {where}: {error.strerror or error}"
    head, _, body = received.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if not head.startswith(b"HTTP/") or not status or not status[0].isdigit():
        return 0, b"", f"answers no HTTP at {where}: is that its port of the pages?"
    return int(status[0]), body, ""


def left(deadline: float) -> float:
    """Seconds, never 0: a socket would take that for "do not wait"."""
    return max(0.001, deadline - time.monotonic())
