"""The HTTP pages of a process, and what they say of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bus import pages
from bus.health import STUCK_S, Health
from config.settings import MetricsSection

pytestmark = pytest.mark.unit


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, path: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read())


class Time:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def served() -> Iterator[tuple[Health, int, Time]]:
    clock = Time()
    health = Health("asr", "asr-1", clock)
    port = free_port()
    close = pages.serve(MetricsSection(port=port), health)
    yield health, port, clock
    close()


def test_a_starting_process_lives_and_says_what_it_waits_for(served: tuple[Health, int, Time]) -> None:
    health, port, _ = served
    health.waits_for = "asr waits for NATS at nats://x:4222"
    assert ask(port, "/health") == (
        200, {"ok": True, "ready": False, "why": "", "service": "asr", "instance": "asr-1"},
    )  # fmt: skip
    status, answer = ask(port, "/ready")
    assert (status, answer["ready"], answer["why"]) == (503, False, "asr waits for NATS at nats://x:4222")


def test_ready_draining_and_what_is_lacking(served: tuple[Health, int, Time]) -> None:
    health, port, _ = served
    health.is_ready = True
    assert ask(port, "/ready") == (
        200, {"ok": True, "ready": True, "why": "", "service": "asr", "instance": "asr-1"},
    )  # fmt: skip
    lacking = "NATS is gone"
    health.checks += [lambda: "", lambda: lacking]
    health.beat()
    assert (ask(port, "/ready")[1]["why"], ask(port, "/health")[0]) == ("NATS is gone", 200)
    lacking = ""
    health.beat()
    assert ask(port, "/ready")[0] == 200
    health.draining = True
    status, answer = ask(port, "/ready")
    assert (status, answer["ok"]) == (503, True)
    assert "is draining" in answer["why"]


def test_a_loop_that_does_not_turn_is_seen_on_both_pages(served: tuple[Health, int, Time]) -> None:
    health, port, clock = served
    health.is_ready = True
    clock.now += STUCK_S + 0.5
    for path in ("/health", "/ready"):
        status, answer = ask(port, path)
        assert (status, answer["ok"], answer["ready"]) == (503, False, False)
        assert "has not turned for 2.5 s" in answer["why"]
        assert "restart" in answer["why"]
    health.beat()
    assert ask(port, "/health")[0] == 200


async def test_a_real_loop_that_is_held_up_is_seen_and_answers_come_at_once() -> None:
    health = Health("asr", "asr-1")
    port = free_port()
    close = pages.serve(MetricsSection(port=port), health)
    beats = asyncio.create_task(health.beat_forever())
    await asyncio.sleep(0.05)
    found: list[tuple[int, float]] = []

    def look() -> None:
        for wait_s in (0.1, STUCK_S):
            time.sleep(wait_s)
            begun = time.monotonic()
            found.append((ask(port, "/health")[0], time.monotonic() - begun))

    thread = threading.Thread(target=look)
    thread.start()
    time.sleep(STUCK_S + 0.5)  # noqa: ASYNC251  (the loop is held up on purpose)
    thread.join()
    beats.cancel()
    close()
    assert [status for status, _ in found] == [200, 503]
    assert max(took_s for _, took_s in found) < 1.0


def test_figures_other_pages_and_heads(served: tuple[Health, int, Time]) -> None:
    _, port, _ = served
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        assert b"process_resident_memory_bytes" in answer.read()
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
    head = urllib.request.Request(f"http://127.0.0.1:{port}/health", method="HEAD")
    with urllib.request.urlopen(head, timeout=5) as answer:
        assert (answer.status, answer.read()) == (200, b"")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)


def test_clients_that_say_nothing_do_not_use_the_server_up(served: tuple[Health, int, Time]) -> None:
    _, port, _ = served
    with contextlib.ExitStack() as silent:
        for _ in range(pages.CLIENTS - 1):
            silent.enter_context(socket.create_connection(("127.0.0.1", port)))
        time.sleep(0.1)
        assert ask(port, "/health")[0] == 200


def test_nothing_is_bound_where_no_port_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_Server", None)
    close: Callable[[], None] = pages.serve(MetricsSection(), Health("asr", "asr-1"))
    close()


def test_a_port_that_is_taken_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        pages.serve(MetricsSection(port=taken.getsockname()[1]), Health("asr", "asr-1"))()
    assert "CALLBUS_METRICS__PORT" in capsys.readouterr().out
