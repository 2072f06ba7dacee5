"""One child process: its log, its end in order and by force, and that it never outlives its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from bus.server import NatsServerProcess, ending_with_parent
from ops.process import ChildProcess, State, readable, resident_mb

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
OBEDIENT = "import time; print('up', flush=True); time.sleep(60)"


def child_of(folder: Path, program: str) -> ChildProcess:
    (folder / "fakechild.py").write_text(program, encoding="utf-8")
    return ChildProcess("fake-1", "fakechild", {**os.environ, "PYTHONPATH": str(folder)}, folder / "fake.log")


async def until_up(child: ChildProcess) -> None:
    async with asyncio.timeout(10):
        while "up" not in child.log_tail():
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def gone_within(seconds: float, pid: int) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


async def test_starts_and_stops_in_order(tmp_path: Path) -> None:
    child = child_of(tmp_path, OBEDIENT)
    assert (child.pid, child.state, child.return_code, child.resident_mb()) == (0, State.STOPPED, None, None)
    assert await child.stop(1.0), "one that never ran has stopped"
    await child.start()
    assert child.state is State.STARTING
    await until_up(child)
    child.mark_ready()
    assert (child.state, child.ready_ms is not None and child.ready_ms > 0) == (State.READY, True)
    assert (child.resident_mb() or 0) > 1
    assert os.getsid(child.pid) != os.getsid(0), "Ctrl-C at the terminal must not reach it"
    assert await child.stop(5.0)
    assert (child.pid, child.state, child.return_code) == (0, State.STOPPED, -signal.SIGTERM)


async def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    child = child_of(tmp_path, STUBBORN)
    await child.start()
    await until_up(child)
    assert not await child.stop(0.1)
    assert child.return_code == -signal.SIGKILL


async def test_a_frozen_one_ends_too(tmp_path: Path) -> None:
    child = child_of(tmp_path, OBEDIENT)
    await child.start()
    await until_up(child)
    os.kill(child.pid, signal.SIGSTOP)
    assert await child.stop(5.0)


async def test_the_log_tail_is_of_the_last_run_and_in_sentences(tmp_path: Path) -> None:
    (tmp_path / "fake.log").write_text("words of a run before\n", encoding="utf-8")
    child = child_of(tmp_path, """print('{"level": "error", "message": "no such voice"}'); raise SystemExit(3)""")
    assert child.log_tail() == "  words of a run before"
    await child.start()
    assert await child.wait() == 3
    assert child.log_tail() == "  error: no such voice"
    (tmp_path / "fake.log").unlink()
    assert child.log_tail() == ""


def test_lines_of_other_programs_stay_as_they_are() -> None:
    assert readable('{"level": "info", "message": "ready", "event": "ready"}') == "info: ready"
    for line in ("Traceback (most recent call last):", "[1, 2]", '{"level": 1}', "7", ""):
        assert readable(line) == line


def test_memory_of_a_process_that_is_not_there() -> None:
    assert resident_mb(2**22 + 1) is None


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's word for it is Linux's")
def test_children_and_nats_server_end_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "fakechild.py").write_text(OBEDIENT, encoding="utf-8")
    program = textwrap.dedent(
        f"""
        import asyncio, os, time
        from pathlib import Path
        from bus.server import NatsServerProcess
        from ops.process import ChildProcess

        async def main():
            folder = Path({str(tmp_path)!r})
            server = NatsServerProcess(folder / "store", log_file=folder / "nats.log")
            server.start()
            child = ChildProcess("c", "fakechild", {{**os.environ, "PYTHONPATH": str(folder)}}, folder / "c.log")
            await child.start()
            print(server.pid, child.pid, flush=True)
            await asyncio.sleep(60)

        asyncio.run(main())
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    try:
        assert all(alive(pid) for pid in pids)
        parent.kill()
        assert [gone_within(5, pid) for pid in pids] == [True, True]
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        for pid in filter(alive, pids):
            os.kill(pid, signal.SIGKILL)


async def test_what_a_thread_starts_is_not_tied_to_the_thread() -> None:
    assert await asyncio.to_thread(ending_with_parent) is None
    server = NatsServerProcess()
    try:
        await asyncio.to_thread(server.start)
        assert server.running
    finally:
        await asyncio.to_thread(server.close)
