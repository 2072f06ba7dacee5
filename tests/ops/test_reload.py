"""``callbus dev``: new code takes over when it works, and only then."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ops.reload import DevelopmentPlan, Reloader, differences, free_port, says_ready, snapshot

pytestmark = pytest.mark.integration

SERVICE = """
import http.server, os, signal, sys
VERSION = {version!r}
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(VERSION.encode())
    def log_message(self, *_): pass
def stop(*_):
    open(sys.argv[1], "a").write("stopped " + VERSION + "\\n"); os._exit(0)
signal.signal(signal.SIGTERM, stop)
http.server.HTTPServer(("127.0.0.1", int(os.environ["CALLBUS_METRICS__PORT"])), Page).serve_forever()
"""
WAIT_S = 20.0


class Bench:
    """A service in a folder, a reloader that runs it, and what it says."""

    def __init__(self, folder: Path, *, trial: bool) -> None:
        self.source = folder / "code" / "service.py"
        self.source.parent.mkdir()
        self.stops = folder / "stops"
        self.said: list[str] = []
        self.port = free_port()
        self.write(SERVICE.format(version="one"))
        self.plan = DevelopmentPlan(
            service="asr",
            command=(sys.executable, str(self.source), str(self.stops)),
            trial=(sys.executable, "-m", "py_compile", str(self.source)) if trial else (),
            folders=[self.source.parent],
            port=self.port,
            drain_s=2.0,
            say=self.said.append,
        )

    def write(self, text: str) -> None:
        draft = self.source.with_suffix(".draft")
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, self.source)

    async def version(self) -> str:
        """What answers on the port of the pages."""
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            answer = await reader.read()
            writer.close()
            return answer.rpartition(b"\r\n\r\n")[2].decode()
        return ""

    async def until_version(self, wanted: str) -> None:
        async with asyncio.timeout(WAIT_S):
            while await self.version() != wanted:
                await asyncio.sleep(0.05)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0.05)

    def heard(self, words: str) -> bool:
        return any(words in line for line in self.said)


@contextlib.asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    task = asyncio.create_task(Reloader(bench.plan).run(stopping))
    try:
        await bench.until_version("one")
        yield
    finally:
        stopping.set()
        await asyncio.wait_for(task, WAIT_S)


@pytest.mark.parametrize("trial", [False, True], ids=["beside the old one", "after the old one"])
async def test_a_change_brings_a_new_process_and_stops_the_old_one(tmp_path: Path, trial: bool) -> None:
    bench = Bench(tmp_path, trial=trial)
    async with running(bench):
        bench.write(SERVICE.format(version="two"))
        await bench.until_version("two")
        await bench.until(lambda: bench.stops.exists())
        assert bench.stops.read_text() == "stopped one\n"
        await bench.until(lambda: bench.heard("new code serves"))
    assert bench.stops.read_text() == "stopped one\nstopped two\n", "the end stops the process that runs"


@pytest.mark.parametrize("trial", [False, True], ids=["beside the old one", "after the old one"])
async def test_code_with_a_mistake_leaves_the_old_process_alone(tmp_path: Path, trial: bool) -> None:
    bench = Bench(tmp_path, trial=trial)
    async with running(bench):
        bench.write("def broken(:\n")
        await bench.until(lambda: bench.heard("the old process goes on"))
        assert await bench.version() == "one"
        assert not bench.stops.exists()
        bench.write(SERVICE.format(version="mended"))
        await bench.until_version("mended")


async def test_a_trial_that_hangs_leaves_the_old_process_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, trial=True)
    bench.plan = dataclasses.replace(bench.plan, trial=(sys.executable, "-c", "import time; time.sleep(60)"))
    async with running(bench):
        monkeypatch.setattr("ops.reload.READY_TIMEOUT_S", 0.2)
        bench.write(SERVICE.format(version="two"))
        await bench.until(lambda: bench.heard("the old process goes on"))
        assert await bench.version() == "one"
        assert not bench.stops.exists()


async def test_a_process_that_dies_is_started_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trial=False)
    bench.write(
        SERVICE.format(version="one").replace(
            "self.send_response(200)", "os._exit(3) if self.path == '/die' else self.send_response(200)"
        )
    )
    async with running(bench):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", bench.port)
            writer.write(b"GET /die HTTP/1.0\r\n\r\n")
            await writer.drain()
        await bench.until(lambda: bench.heard("exit status 3"))
        await bench.until_version("one")


async def test_nobody_is_ready_where_nothing_listens() -> None:
    assert not await says_ready(free_port())


def test_only_source_counts(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "room.py").write_text("")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "room.py").write_text("1")
    (tmp_path / "bank.toml").write_text("")
    (tmp_path / "tts").mkdir()
    (tmp_path / "tts" / "voice.py").write_text("")
    assert {Path(path).name for path in snapshot([tmp_path])} == {"room.py", "bank.toml", "voice.py"}
    before = snapshot([tmp_path], frozenset({"tts"}))
    assert {Path(path).name for path in before} == {"room.py", "bank.toml"}
    (tmp_path / "bank.toml").unlink()
    os.utime(tmp_path / "room.py", ns=(1, 1))
    (tmp_path / "fresh.py").write_text("")
    assert differences(before, snapshot([tmp_path], frozenset({"tts"}))) == ["bank.toml", "fresh.py", "room.py"]
