"""``callbus health`` without a bus: pages, their absence, and its sentences."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner

from bus import pages
from bus.health import Health
from config.settings import MetricsSection
from ops import health, probe
from ops.health import Instance
from ops.main import cli

pytestmark = pytest.mark.unit


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Health, int]]:
    """The page of an asr process on this machine, and its port in the settings."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    monkeypatch.setenv("CALLBUS_METRICS__PORT", str(port))
    monkeypatch.setenv("CALLBUS_METRICS__HOST", "0.0.0.0")
    asr = Health("asr", "asr-1f3a90c2")
    close = pages.serve(MetricsSection(port=port), asr)
    yield asr, port
    close()


def callbus(*words: str) -> tuple[int, str]:
    found = CliRunner().invoke(cli, ["health", *words])
    return found.exit_code, found.output.strip()


@pytest.fixture
def listening() -> Iterator[Callable[[bytes], int]]:
    """A port that answers every connection with these bytes; none: it takes them and says nothing."""
    sockets: list[socket.socket] = []

    def listen(answer: bytes) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        sockets.append(server)

        def serve() -> None:
            try:
                while True:
                    client, _ = server.accept()
                    sockets.append(client)
                    if answer:
                        client.recv(4096)
                        client.sendall(answer)
                        client.close()
            except OSError:
                return

        threading.Thread(target=serve, daemon=True).start()
        return int(server.getsockname()[1])

    yield listen
    for each in sockets:
        each.close()


def test_ready_and_not_ready(page: tuple[Health, int]) -> None:
    asr, _ = page
    asr.waits_for = "asr waits for NATS at nats://x:4222: start nats-server there, or mend NATS_URL"
    assert callbus("asr") == (1, asr.waits_for)
    asr.is_ready = True
    assert callbus("asr") == (0, "asr asr-1f3a90c2 takes work")
    code, text = callbus("asr", "--json")
    assert (code, json.loads(text)) == (
        0,
        {
            "ok": True,
            "service": "asr",
            "sentence": "asr asr-1f3a90c2 takes work",
            "instances": [{"service": "asr", "instance": "asr-1f3a90c2", "ok": True, "ready": True, "why": ""}],
        },
    )


def test_the_page_of_another_service(page: tuple[Health, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """With --url that is wrong; where only a port of the settings leads there, the bus is asked."""
    _, port = page
    assert callbus("tts", "--url", f"http://127.0.0.1:{port}") == (
        1, f"127.0.0.1:{port} is the page of asr, not of tts: mend --url or CALLBUS_METRICS__PORT",
    )  # fmt: skip
    monkeypatch.setattr(
        health, "over_the_bus", lambda service, *_: health.Found(ok=True, service=service, sentence="b")
    )
    assert callbus("tts") == (0, "b")
    assert callbus("asr")[1] != "b"


def test_nobody_listens() -> None:
    assert callbus("asr", "--url", "http://127.0.0.1:1") == (
        1, "asr is not there: nothing listens at 127.0.0.1:1; start it, or see in its log why it ended",
    )  # fmt: skip


def test_a_process_that_says_nothing_is_waited_for_no_longer_than_allowed(listening: Callable[[bytes], int]) -> None:
    port = listening(b"")
    begun = time.monotonic()
    found = health.check("asr", f"http://127.0.0.1:{port}", 0.3)
    assert time.monotonic() - begun < 0.6
    assert not found.ok
    assert found.sentence.startswith(f"asr does not answer at 127.0.0.1:{port} in time: its process is stopped")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nhello", "answers 200 and no health of callbus"),
        (b"220 mail.example ready\r\n", "answers no HTTP"),
        (b"\x00", "answers no HTTP"),
    ],
)
def test_somebody_else_listens(listening: Callable[[bytes], int], answer: bytes, said: str) -> None:
    found = health.check("asr", f"http://127.0.0.1:{listening(answer)}", 2.0)
    assert not found.ok
    assert said in found.sentence


def test_the_monitoring_port_of_nats(listening: Callable[[bytes], int]) -> None:
    well = listening(b'HTTP/1.0 200 OK\r\n\r\n{"status":"ok"}')
    ill = listening(
        b'HTTP/1.0 503 Service Unavailable\r\n\r\n{"status":"unavailable","error":"JetStream has not started"}'
    )
    assert health.check("nats", f"http://127.0.0.1:{well}", 2.0).ok
    found = health.check("nats", f"http://127.0.0.1:{ill}", 2.0)
    assert (found.ok, found.sentence) == (
        False,
        "nats-server says that it is not healthy (HTTP 503): JetStream has not started; see its log",
    )
    assert "nothing listens" in health.check("nats", "http://127.0.0.1:1", 2.0).sentence


def test_wrong_usage_is_two() -> None:
    assert callbus("postgres")[0] == 2
    assert callbus()[0] == 2
    assert callbus("asr", "--timeout-ms", "1")[0] == 2


def test_several_instances_in_one_sentence() -> None:
    ready = Instance(service="asr", instance="asr-1", ok=True, ready=True)
    late = Instance(service="asr", instance="asr-2", ok=True, why="asr is starting")
    assert health.sentence_of([ready, ready], "asr") == "2 of 2 asr take work"
    assert health.sentence_of([ready, late], "asr") == "1 of 2 asr take work; asr-2: asr is starting"
    assert health.sentence_of([], "asr").startswith("no asr answers on NATS")
    assert health.sentence_of([Instance(service="asr")], "asr") == "asr takes no work"


def test_the_time_of_the_start_counts() -> None:
    assert 0 < probe.process_age_s() < 86_400
    assert probe.time_left_s(100) == 0.1, "a start that took longer than half: the whole time is left for asking"
    assert probe.time_left_s(1_000_000_000) > 1000


def test_packages_that_are_left_out_come_back() -> None:
    name = "wave"
    sys.modules.pop(name, None)
    with health._without(name, "json"):
        assert sys.modules[name] is None
        assert sys.modules["json"] is json
    assert name not in sys.modules


def test_the_quick_way_says_the_same(page: tuple[Health, int], capsys: pytest.CaptureFixture[str]) -> None:
    asr, port = page
    asr.waits_for = "asr waits for NATS"
    for ready in (False, True):
        asr.is_ready = ready
        code = probe.quick(["health", "asr"], str(port), "0.0.0.0")
        assert (code, capsys.readouterr().out.strip()) == callbus("asr")
    assert probe.quick(["health", "asr"], "1", "127.0.0.1") == 1
    assert "nothing listens at 127.0.0.1:1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["health"], ["health", "all"], ["health", "nats"], ["health", "asr", "--json"], ["calls"], []]
)
def test_the_quick_way_leaves_all_else_to_the_command_line(words: list[str]) -> None:
    assert probe.quick(words, "1", "") is None


def test_the_quick_way_knows_whose_page_it_is(page: tuple[Health, int], listening: Callable[[bytes], int]) -> None:
    assert probe.quick(["health", "tts"], str(page[1]), "") is None
    for answer in (b"HTTP/1.0 200 OK\r\n\r\nhello", b"HTTP/1.0 200 OK\r\n\r\n[]", b"HTTP/1.0 200 OK\r\n\r\n{}"):
        assert probe.quick(["health", "asr"], str(listening(answer)), "") is None
    for port in ("", "0", "http", "70000"):
        assert probe.quick(["health", "asr"], port, "") is None


def test_the_console_script_takes_the_quick_way_and_loads_nothing_for_it(page: tuple[Health, int]) -> None:
    page[0].is_ready = True
    text = (
        "import sys; sys.argv = ['callbus', 'health', 'asr']\nfrom ops.probe import main\n"
        "try: main()\nfinally: print(sorted({'click', 'msgspec', 'email', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["asr asr-1f3a90c2 takes work", "[]"])
    other = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['callbus', 'health', 'x']; from ops.probe import main; main()"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (other.returncode, "Invalid value" in other.stderr) == (2, True)
