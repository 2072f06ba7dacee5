"""Keys, TLS and encryption of a real nats-server, and what is said to who is turned away."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from bus.client import NatsConnection, connect
from bus.errors import BusError, BusRefused, BusUnavailable
from bus.log_levels import LevelControl
from bus.micro import MicroService
from bus.provision import apply
from bus.server import ROOT, SECURED_CONFIG, nats_server_binary
from bus.service_query import Round
from config.settings import NatsSection, StreamsSection
from ops.commands.log_level import _ask
from ops.keys import KeyFolder
from schemas import subjects
from schemas.log_level import LogLevelOrder
from tests.bus.behaviours.worlds import until
from tests.bus.secured import CALL, Secured, secured_server

pytestmark = pytest.mark.bus

SERVICES = ("edge", "asr", "llm", "tts")
USERS = (*SERVICES, "ops", "inspect")
WORDS = b"my password is swordfish"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_server(tmp_path_factory.mktemp("keys")) as server:
        yield server


@pytest.fixture(scope="module")
def with_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_server(tmp_path_factory.mktemp("tls"), "tls") as server:
        yield server


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_server(tmp_path_factory.mktemp("mutual"), "mutual") as server:
        yield server


def changed(section: NatsSection, **settings: str) -> NatsSection:
    return msgspec.structs.replace(section, **settings)


@pytest.mark.parametrize("variant", ["nats.conf", "tls.conf", "mutual-tls.conf"])
def test_the_configuration_is_valid(variant: str, tmp_path: Path) -> None:
    """As the containers have it: /etc/nats beside /keys."""
    etc = tmp_path / "etc" / "nats"
    etc.mkdir(parents=True)
    KeyFolder(tmp_path / "keys").create()
    for file in (SECURED_CONFIG, *(ROOT / "ops" / "nats").glob("*.conf")):
        text = file.read_text(encoding="utf-8").replace('"/keys/', f'"{tmp_path}/keys/')
        (etc / file.name).write_text(text, encoding="utf-8")
    subprocess.run([ROOT / "ops/nats/development-ca", tmp_path / "keys"], check=True, capture_output=True)
    command = [str(nats_server_binary()), "-t", "-c", str(etc / variant)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("lost", ["asr/asr.pem", "tls/server.pem", "tls/route.pem"])
def test_a_certificate_that_was_not_finished_is_made_again(lost: str, tmp_path: Path) -> None:
    """The script was stopped between a key and its certificate."""
    make = [ROOT / "ops/nats/development-ca", tmp_path]
    subprocess.run(make, check=True, capture_output=True)
    (tmp_path / lost).write_text("")
    kept = (tmp_path / "llm" / "llm.pem").read_text()
    subprocess.run(make, check=True, capture_output=True)
    verify = ["openssl", "verify", "-CAfile", str(tmp_path / "ca" / "ca.pem"), str(tmp_path / lost)]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "llm" / "llm.pem").read_text() == kept


@pytest.mark.parametrize("user", USERS)
async def test_each_user_connects_by_its_key(user: str, secured: Secured) -> None:
    connection = await secured.connect(user, "callbus-cli")
    assert connection.connected
    assert connection.inbox_prefix == f"_INBOX_{user}", "the key's name, whatever the connection is called"
    await connection.close()


async def test_who_shows_no_key_is_refused(secured: Secured) -> None:
    with pytest.raises(BusRefused, match=r"refuses 'asr', which shows no key; set \[nats\] nkey_file"):
        await connect("asr-1", NatsSection(url=secured.server.url), wait=False)


async def test_a_key_that_the_server_does_not_know_is_refused(secured: Secured, tmp_path: Path) -> None:
    stranger = KeyFolder(tmp_path)
    stranger.create()
    section = changed(secured.section("asr"), nkey_file=str(stranger.seed_file("asr")))
    public = next(key.public_key for key in stranger.show() if key.name == "asr")
    with pytest.raises(BusRefused, match=f"refuses user 'asr' with the public key {public}.*users.conf"):
        await connect("asr-1", section, wait=False)


async def test_who_waits_says_that_it_is_refused_and_comes_in_once_it_may(secured: Secured, tmp_path: Path) -> None:
    stranger = KeyFolder(tmp_path)
    stranger.create()
    file = stranger.seed_file("asr")
    section = changed(secured.section("asr"), nkey_file=str(file), reconnect_wait_ms=50)  # type: ignore[arg-type]
    with capture_logs() as logs:
        waiting = asyncio.create_task(connect("asr-1", section))
        await until(lambda: any(line["event"] == "bus_refused" for line in logs), 5)
        await asyncio.sleep(0.3)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    said = [line for line in logs if line["event"] == "bus_refused"]
    assert len(said) == 1, "once every five seconds"
    assert "refuses user 'asr'" in said[0]["message"]
    assert said[0]["log_level"] == "error"
    seed = file.read_text().strip()
    assert seed not in str(logs)


async def test_a_right_that_is_missing_is_named_in_the_log(secured: Secured) -> None:
    connection = await secured.connect("tts")
    with capture_logs() as logs:
        connection.publish(f"rt.default.{CALL}.control.edge.hangup", b"{}")
        await connection.flush()
        await until(lambda: logs)
    assert "user 'tts' lacks this right" in logs[0]["message"]
    assert "hangup" in logs[0]["message"]
    assert connection.connected
    await connection.close()


async def test_an_end_over_tls_is_no_warning(with_tls: Secured, caplog: pytest.LogCaptureFixture) -> None:
    connection = await with_tls.connect("asr")
    with_tls.server.stop()
    await until(lambda: not connection.connected, 5)
    with_tls.server.start()
    await until(lambda: connection.connected, 10)
    await connection.close()
    assert "eof_received" not in caplog.text


@pytest.mark.parametrize("user", ["ops", "inspect"])
async def test_people_hear_how_each_process_is(user: str, secured: Secured) -> None:
    """`callbus health` over the bus: processes answer people where they may, not where only JetStream does."""
    processes = [await secured.connect(name) for name in SERVICES]
    for name, connection in zip(SERVICES, processes, strict=True):
        answer = {"ok": True, "ready": True, "why": "", "instance": f"{name}-1"}
        service = MicroService(connection, name=name, version="1", instance=f"{name}-1", health=answer.copy)
        await service.start()
    person = await secured.connect(user, "callbus-cli")
    heard = await Round(person, "").run(asyncio.get_running_loop().time() + 5)
    assert [(each["instance"], each["ready"]) for each in heard] == [(f"{name}-1", True) for name in sorted(SERVICES)]
    for connection in (person, *processes):
        await connection.close()


@pytest.mark.parametrize("stage", SERVICES)
async def test_each_process_tells_ops_its_log_level(stage: str, secured: Secured) -> None:
    process, ops = await secured.connect(stage), await secured.connect("ops", "callbus-cli")
    control = LevelControl(process, stage, f"{stage}-1", "info")
    await control.start()
    await process.flush()
    replies = await _ask(ops, stage, LogLevelOrder(level="configured"))
    assert [(each.instance, each.error) for each in replies] == [(f"{stage}-1", "")]
    await control.stop()
    await process.close()
    await ops.close()


def _none(path: Path) -> str:
    return str(path / "none.nk")


def _text(path: Path) -> str:
    (path / "text.nk").write_text("hello\n")
    return str(path / "text.nk")


def _public(path: Path) -> str:
    (path / "public.nk").write_text("U" + "A" * 55)
    return str(path / "public.nk")


@pytest.mark.parametrize(
    ("make", "text"),
    [(_none, "is no file; make it with: callbus keys create"), (_text, "holds no seed"), (_public, "holds no seed")],
)
async def test_a_file_that_is_no_key(make: Callable[[Path], str], text: str, tmp_path: Path) -> None:
    with pytest.raises(BusError, match=text) as caught:
        await connect("asr-1", NatsSection(nkey_file=make(tmp_path)))
    assert "[nats] nkey_file" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"nkey_file": "a", "credentials_file": "b"}, "name two users"),
        ({"tls_ca_file": "c", "tls_certificate_file": "a"}, "tls_key_file is empty"),
        ({"tls_ca_file": "c", "tls_key_file": "a"}, "tls_certificate_file is empty"),
        ({"tls_certificate_file": "a", "tls_key_file": "b"}, "name the servers' authority too"),
        ({"tls_ca_file": "/none.pem"}, "tls_ca_file = '/none.pem' can't be read"),
    ],
)
async def test_settings_that_do_not_go_together(settings: dict[str, str], text: str) -> None:
    with pytest.raises(BusError, match=text):
        await connect("asr-1", NatsSection(**settings))  # type: ignore[arg-type]


async def test_a_file_that_is_no_certificate(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nothing")
    with pytest.raises(BusError, match=r"tls_ca_file = .* is not what it should be"):
        await connect("asr-1", NatsSection(tls_ca_file=str(file)))


# --- TLS -------------------------------------------------------------------------------------------------------------


def spoken(server: Secured, version: ssl.TLSVersion) -> str:
    """The TLS version that a plain client gets when it offers no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(server.section("ops").tls_ca_file)
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", server.server.port), timeout=5) as plain:
        assert plain.recv(4096).startswith(b"INFO ")
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped:
            return str(wrapped.version())


def test_tls_1_3_is_accepted_and_1_2_is_refused(with_tls: Secured) -> None:
    assert spoken(with_tls, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.raises(ssl.SSLError):
        spoken(with_tls, ssl.TLSVersion.TLSv1_2)


async def test_work_over_tls(with_tls: Secured) -> None:
    ops = await with_tls.connect("ops")
    await apply(ops, StreamsSection())
    await ops.close()
    asr = await with_tls.connect("asr")
    await asr.store(subjects.event_subject("asr.final", CALL), WORDS)
    assert (await asr.last(subjects.event_subject("asr.final", CALL))).data == WORDS  # type: ignore[union-attr]
    with_tls.server.kill()
    await until(lambda: not asr.connected)
    with_tls.server.start()
    await asr.ready(5000)
    assert (await asr.last(subjects.event_subject("asr.final", CALL))).data == WORDS  # type: ignore[union-attr]
    await asr.close()


async def test_a_server_of_another_authority_is_not_trusted(with_tls: Secured, mutual: Secured) -> None:
    section = changed(with_tls.section("asr"), tls_ca_file=mutual.section("asr").tls_ca_file)
    with pytest.raises(BusRefused, match=r"certificate is not vouched for by .*ca\.pem"):
        await connect("asr-1", section, wait=False)


async def test_a_server_whose_authority_nobody_named_is_not_trusted(with_tls: Secured) -> None:
    with pytest.raises(BusRefused, match="set tls_ca_file"):
        await connect("asr-1", changed(with_tls.section("asr"), tls_ca_file=""), wait=False)


async def test_where_tls_is_asked_for_nothing_goes_in_the_clear(secured: Secured, with_tls: Secured) -> None:
    section = changed(secured.section("asr"), tls_ca_file=with_tls.section("asr").tls_ca_file)
    with pytest.raises(BusRefused, match="offers no TLS"):
        await connect("asr-1", section, wait=False)


async def test_mutual_tls_refuses_who_shows_no_certificate(mutual: Secured) -> None:
    connection = await mutual.connect("tts")
    assert connection.connected
    await connection.close()
    section = changed(mutual.section("tts"), tls_certificate_file="", tls_key_file="")
    with pytest.raises((BusRefused, BusUnavailable)):
        await connect("tts-1", section, wait=False)


async def test_mutual_tls_refuses_a_certificate_of_another_authority(mutual: Secured, with_tls: Secured) -> None:
    other = with_tls.keys.folder / "tts"
    section = changed(
        mutual.section("tts"), tls_certificate_file=str(other / "tts.pem"), tls_key_file=str(other / "tts.key")
    )
    with pytest.raises((BusRefused, BusUnavailable)):
        await connect("tts-1", section, wait=False)


# --- at rest ---------------------------------------------------------------------------------------------------------


def holds(folder: Path, words: bytes) -> bool:
    return any(words in file.read_bytes() for file in folder.rglob("*") if file.is_file())


async def write_words(connection: NatsConnection) -> None:
    await connection.store(subjects.event_subject("asr.final", CALL), WORDS)
    await connection.store(subjects.recording("in", CALL), WORDS)
    await (await connection.bucket("context")).put(CALL, WORDS)
    await connection.close()


async def test_the_store_holds_no_word_in_the_clear(tmp_path: Path, fresh_nats: Callable[..., object]) -> None:
    with secured_server(tmp_path / "secured") as secured:
        ops = await secured.connect("ops")
        await apply(ops, StreamsSection())
        await ops.close()
        asr, llm = await secured.connect("asr"), await secured.connect("llm")
        await asr.store(subjects.event_subject("asr.final", CALL), WORDS)
        await (await llm.bucket("context")).put(CALL, WORDS)
        await asr.close()
        await llm.close()
        secured.server.stop()
        assert any(file.stat().st_size for file in secured.store.rglob("*.blk"))
        assert not holds(secured.store, WORDS)
        assert not holds(secured.store, CALL.encode()), "nor a subject"
        # The same words are found where nothing is encrypted: so this test can find them.
        plain = fresh_nats()
        connection = await connect("test", NatsSection(url=plain.url), wait=False)  # type: ignore[attr-defined]
        await apply(connection, StreamsSection())
        await write_words(connection)
        plain.stop()  # type: ignore[attr-defined]
        assert holds(plain.store_dir, WORDS)  # type: ignore[attr-defined]
        # With its key the store is read again, with another it is not.
        secured.server.start()
        asr = await secured.connect("asr")
        assert (await asr.last(subjects.event_subject("asr.final", CALL))).data == WORDS  # type: ignore[union-attr]
        await asr.close()


async def test_without_its_key_a_store_is_lost(tmp_path: Path) -> None:
    with secured_server(tmp_path / "one") as one:
        ops = await one.connect("ops")
        await apply(ops, StreamsSection())
        await ops.close()
        one.server.stop()
        thief = Secured(tmp_path / "two")
        shutil.copytree(one.store, thief.store)
        try:
            thief.server.start()
            ops = await thief.connect("ops")
            assert not (await ops.api("STREAM.NAMES"))["streams"]
            await ops.close()
            assert "decrypt" in thief.server.log_file.read_text().lower()
        finally:
            thief.server.close()
