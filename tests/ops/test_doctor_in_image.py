"""``callbus doctor`` in a container: what its user may not ask is no fault, and what it proposes can be done there."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bus.provision import apply
from config.load import load
from config.settings import Settings, StreamsSection
from edge.net.udp import PortTakenError
from ops import engines
from ops.check import Check
from ops.checks import Bus, check_nats, check_sip_port, look_at_bus
from ops.engine_checks import check_choices
from schemas.session import Stage, WorkerRecord
from services.packages import IMAGE
from tests.bus.secured import Secured, secured_server
from tests.ops.conftest import Command

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

STAGES = ("asr", "llm", "tts")
IMAGES = ("cli", "edge", *STAGES)


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_server(tmp_path_factory.mktemp("keys")) as server:
        asyncio.run(_fill(server))
        yield server


async def _fill(server: Secured) -> None:
    ops = await server.connect("ops")
    await apply(ops, StreamsSection())
    edge = WorkerRecord(stage=Stage.EDGE, worker="edge-1", figures={"sip_port": 5060})
    await (await ops.bucket("workers")).put("edge.edge-1", msgspec.json.encode(edge))
    await ops.close()


def settings_of(server: Secured, user: str) -> Settings:
    return msgspec.structs.replace(load({}), nats=server.section(user))


@pytest.mark.parametrize("user", ["edge", *STAGES])
async def test_what_a_service_may_not_ask_is_no_fault(user: str, provisioned: Secured) -> None:
    began = time.monotonic()
    bus = await look_at_bus(settings_of(provisioned, user))
    assert (bus.forbidden_to, bus.error, bus.unprovisioned) == (user, "", "")
    assert time.monotonic() - began < 3, "it does not wait for an answer that never comes"
    (_, topology) = check_nats(bus, named=True)
    assert (topology.state, topology.finding) == ("note", f"may not be asked by user {user!r}: ask with ops")


@pytest.mark.parametrize("user", ["ops", "inspect"])
async def test_people_may_ask(user: str, provisioned: Secured) -> None:
    bus = await look_at_bus(settings_of(provisioned, user))
    assert bus == Bus(provisioned.server.url, "", sip_ports=(5060,))
    assert [check.state for check in check_nats(bus, named=True)] == ["ok", "ok"]


async def test_a_key_in_a_file_of_another_name_is_told(provisioned: Secured, tmp_path: Path) -> None:
    """Answers go to the inbox of the file's name, where another user may not listen."""
    shutil.copy(provisioned.keys.seed_file("ops"), tmp_path / "key_of_ops")
    section = msgspec.structs.replace(provisioned.section("ops"), nkey_file=str(tmp_path / "key_of_ops"))
    bus = await look_at_bus(msgspec.structs.replace(load({}), nats=section))
    (_, topology) = check_nats(bus, named=True)
    assert (topology.state, "answers to 'key_of_ops' are refused" in topology.finding) == ("missing", True)


def test_whose_port_it_is_may_not_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: object, **__: object) -> None:
        raise PortTakenError("0.0.0.0:5060: taken")

    monkeypatch.setattr("ops.checks.bind_sip", taken)
    found = check_sip_port(load({}), Bus("nats://x", "", forbidden_to="asr"))
    assert (found.state, found.mend) == ("note", "callbus health edge")


@pytest.mark.parametrize("image", IMAGES)
def test_doctor_in_each_image(
    image: str, callbus: Command, provisioned: Secured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As compose has it: the cli with the key of ops, a service with its own; other stages' packages are not there."""
    if image not in STAGES:
        monkeypatch.setattr(engines, "find_spec", lambda name: None)
    monkeypatch.setenv(IMAGE, image)
    monkeypatch.setenv("NATS_URL", provisioned.server.url)
    monkeypatch.setenv("CALLBUS_MODELS__FOLDER", str(tmp_path))
    user = "ops" if image == "cli" else image
    monkeypatch.setenv("CALLBUS_NATS__NKEY_FILE", str(provisioned.keys.seed_file(user)))
    result = callbus("doctor", "--json")
    assert result.exit_code == 0, result.stdout
    found = [Check(**check) for check in json.loads(result.stdout)]
    states = {check.name: check.state for check in found}
    assert states["topology"] == ("ok" if image == "cli" else "note")
    assert {name for name in states if name.endswith(" engine")} == {
        "asr": {"asr engine", "vad engine"}, "llm": {"llm engine"}, "tts": {"tts engine"},
    }.get(image, set())  # fmt: skip
    assert ("engines" in states) == (image not in STAGES)
    assert not {"sip port", "sipp", "baresip", "kamailio"} & set(states)
    text = callbus("doctor").stdout
    assert f"this container has what the image {image} needs" in text
    assert "pip install" not in text and "apt-get" not in text
    if image != "cli":
        assert "ask: docker compose run --rm cli doctor" in text


def test_what_is_missing_is_mended_by_a_line_and_a_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    monkeypatch.setenv(IMAGE, "tts")
    monkeypatch.delenv("ELEVENLABS_API_KEY", raising=False)
    given = {
        "CALLBUS_TTS__ENGINE": "piper",
        "CALLBUS_TTS__FALLBACKS": "kokoro",
        "CALLBUS_MODELS__FOLDER": str(tmp_path),
    }
    found = {check.name: check.mend for check in check_choices(load(given), ("tts",))}
    assert found["tts engine"] == "CALLBUS_TTS__ENGINE=piper in .env, then docker compose up -d --build --wait"
    assert "{tts: {build: {args: {ENGINES: 'kokoro'}}}}" in found["tts fallback 1"]
    assert found["piper model"] == "docker compose run --rm models pull en_US-ljspeech-medium"
    (wrong,) = check_choices(load({"CALLBUS_TTS__ENGINE": "pieper"}), ("tts",))
    assert "piper" in wrong.mend and wrong.mend.endswith("CALLBUS_TTS__ENGINE in .env")
    monkeypatch.setattr(engines, "find_spec", lambda name: object())
    (key,) = [c for c in check_choices(load({"CALLBUS_TTS__ENGINE": "elevenlabs"}), ("tts",)) if c.name == "tts key"]
    assert "CALLBUS_ELEVENLABS__API_KEY_FILE" in key.mend


def test_what_is_wrong_with_nats_is_mended_by_compose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(IMAGE, "cli")
    url = "nats://nats:4222"
    (away,) = check_nats(Bus(url, "no answer"), named=True)
    assert away.mend.startswith("docker compose up -d --wait nats")
    (_, due) = check_nats(Bus(url, "", ("create stream CALLS",)), named=True)
    assert (due.state, due.mend) == ("missing", "docker compose run --rm cli provision")
