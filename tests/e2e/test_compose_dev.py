"""docker-compose.dev.yml with a real engine: new code serves within seconds, and the call that runs does not notice."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.demonstration import caller_side
from ops.hearing import Judge
from tests.e2e.compose_stack import PROCESSES, ROOT, Stack, busy, free_port, running
from tests.e2e.test_compose import BANK, conversation

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), pytest.mark.xdist_group("compose")]

COPIED = ("bus", "config", "edge", "ops", "schemas", "services", "pyproject.toml", "README.md", "LICENSE", "nats.conf")
RELOAD_S = 5.0
WAIT_S = 60.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A copy of the source, because it is changed here; its owner is nobody of the container."""
    folder = tmp_path_factory.mktemp("source")
    folder.chmod(0o755)
    for name in (*COPIED, "Dockerfile", ".dockerignore", "docker-compose.yml", "docker-compose.dev.yml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
            (folder / name).chmod(0o644)
    extra = {"NATS_PORT": str(free_port()), "NATS_MONITOR_PORT": str(free_port())}
    with running(Stack(folder=folder, files=("docker-compose.yml", "docker-compose.dev.yml"), extra=extra)) as up:
        yield up


def served(stack: Stack, service: str) -> list[float]:
    """Seconds of each reload so far, as the service says them."""
    said = stack.logs(service)
    return [float(text) for text in re.findall(rf"callbus dev {service}: new code serves after ([\d.]+) s", said)]


def change(stack: Stack, file: str, text: str) -> None:
    """Save a file as an editor does: a new one in its place."""
    path = stack.folder / file
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    draft.chmod(0o644)
    os.replace(draft, path)


async def until_served(stack: Stack, service: str, count: int) -> float:
    """Seconds from now until the service says for the ``count``-th time that new code serves."""
    began = time.monotonic()
    while len(await asyncio.to_thread(served, stack, service)) < count:
        assert time.monotonic() - began < WAIT_S, stack.logs(service)[-3000:]
        await asyncio.sleep(0.1)
    return time.monotonic() - began


def test_it_says_that_it_is_development(stack: Stack) -> None:
    for service in ("edge", "asr", "llm", "tts"):
        assert f"callbus dev {service}: DEVELOPMENT MODE, not for production" in stack.logs(service)


async def test_new_code_of_every_stage_takes_over_in_mid_call(stack: Stack) -> None:
    calling = asyncio.create_task(conversation(stack.sip_port))
    await asyncio.sleep(4)
    for service in ("asr", "llm", "tts"):
        file = f"services/{service}/worker.py"
        text = (stack.folder / file).read_text(encoding="utf-8")
        change(stack, file, text + "\nprint('the new code', flush=True)\n")
        seconds = await until_served(stack, service, 1)
        print(f"{service}: new code serves {seconds:.1f} s after the save (itself says {served(stack, service)})")
        assert seconds <= RELOAD_S * busy()
        assert "the new code" in stack.logs(service)
    report = await calling
    assert report.succeeded, report.reason
    verdict = Judge(BANK).judge(caller_side(report))
    assert verdict.missing == (), f"{verdict.utterances}\n{stack.logs(*PROCESSES)[-9000:]}"


async def test_a_mistake_changes_nothing(stack: Stack) -> None:
    before = len(served(stack, "tts"))
    good = (stack.folder / "services/tts/worker.py").read_text(encoding="utf-8")
    change(stack, "services/tts/worker.py", good + "\ndef broken(:\n")
    began = time.monotonic()
    while "the new code can't start, see above; the old process goes on" not in stack.logs("tts"):
        assert time.monotonic() - began < WAIT_S
        await asyncio.sleep(0.2)
    assert "SyntaxError" in stack.logs("tts")
    assert stack.compose("exec", "-T", "tts", "callbus", "health", "tts")
    change(stack, "services/tts/worker.py", good)
    await until_served(stack, "tts", before + 1)


async def test_the_edge_is_replaced_when_its_calls_are_over(stack: Stack) -> None:
    text = (stack.folder / "edge/text.py").read_text(encoding="utf-8")
    change(stack, "edge/text.py", text + "\n# changed\n")
    seconds = await until_served(stack, "edge", 1)
    print(f"edge: new code serves {seconds:.1f} s after the save, without a call (itself says {served(stack, 'edge')})")
    assert seconds <= RELOAD_S * busy()
    report = await conversation(stack.sip_port)
    assert report.succeeded, report.reason


def test_the_scripted_caller_calls(stack: Stack) -> None:
    stack.compose("--profile", "caller", "run", "--rm", "-T", "caller", "--say", "no thank you", timeout_s=90)
    path = Path(stack.folder)
    assert not list(path.rglob("__pycache__")), "the source is only read"
