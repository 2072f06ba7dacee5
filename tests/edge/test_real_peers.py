"""Telephones that are not ours, from Debian's packages: sipp and baresip against a real edge process."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import socket
import struct
import subprocess
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bus.client import connect
from bus.provision import apply
from bus.server import NatsServerProcess
from config.settings import NatsSection, StreamsSection
from schemas import call, playout, subjects
from schemas.audio import AudioFlag, Codec, pack_audio, segment_sequence, unpack_audio
from services.audio import g711
from tests.edge.harness import Observer, until
from tests.edge.processes import EdgeProgram
from tests.fakes import pcap
from tests.fakes.caller import HOST, tone

pytestmark = [pytest.mark.e2e, pytest.mark.bus, pytest.mark.timeout(180)]

needs_sipp = pytest.mark.skipif(shutil.which("sipp") is None, reason="sipp is not installed (Debian: sip-tester)")
needs_raw_sockets = pytest.mark.skipif(os.geteuid() != 0, reason="sipp plays a pcap through a raw socket: root only")
needs_baresip = pytest.mark.skipif(shutil.which("baresip") is None, reason="baresip is not installed (Debian: baresip)")


@pytest.fixture
async def server_url(fresh_nats: Callable[..., NatsServerProcess]) -> str:
    server = fresh_nats()
    connection = await connect("provision", NatsSection(url=server.url))
    await apply(connection, StreamsSection())
    await connection.close()
    return server.url


@pytest.fixture
def edge(server_url: str, tmp_path: Path) -> Iterator[EdgeProgram]:
    with EdgeProgram(server_url, tmp_path) as running:
        yield running


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def sipp(port: int, directory: Path, *options: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run sipp's caller against the edge; its exit code is 0 only if no call failed."""
    command = [
        "sipp", f"{HOST}:{port}", "-i", HOST, "-p", str(free_udp_port()), "-mi", HOST, "-nostdin", "-trace_err",
        "-error_file", str(directory / "sipp-errors.log"), *options,
    ]  # fmt: skip
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=timeout_s, check=False)


@needs_sipp
async def test_200_calls_at_20_a_second(edge: EdgeProgram, tmp_path: Path) -> None:
    port = await asyncio.to_thread(lambda: edge.port)
    done = await asyncio.to_thread(sipp, port, tmp_path, "-sn", "uac", "-r", "20", "-m", "200", "-d", "200")
    assert done.returncode == 0, done.stdout[-3000:]
    await until(lambda: len(edge.of("call_summary")) == 200)
    assert {line["result"] for line in edge.of("call_summary")} == {"completed"}


@needs_sipp
async def test_200_calls_over_tcp(edge: EdgeProgram, tmp_path: Path) -> None:
    port = await asyncio.to_thread(lambda: edge.port)
    done = await asyncio.to_thread(sipp, port, tmp_path, "-sn", "uac", "-t", "t1", "-r", "50", "-m", "200", "-d", "100")
    assert done.returncode == 0, done.stdout[-3000:]
    await until(lambda: len(edge.of("call_summary")) == 200)


@needs_sipp
@needs_raw_sockets
async def test_rtp_out_of_a_pcap_is_recorded_byte_for_byte(server_url: str, edge: EdgeProgram, tmp_path: Path) -> None:
    port = await asyncio.to_thread(lambda: edge.port)
    frames = [tone(n, 240) for n in range(100)]  # 30 ms each, as sipp's own recording has them
    (tmp_path / "pcap").mkdir()
    (tmp_path / "pcap" / "g711a.pcap").write_bytes(pcap.pcap(pcap.audio(frames, 8), 30))
    dtmf = pcap.keys("1", 101, sequence=200, timestamp=4000 + 240 * 300)
    (tmp_path / "pcap" / "dtmf_2833_1.pcap").write_bytes(pcap.pcap(dtmf, 20))
    options = ("-sn", "uac_pcap", "-r", "5", "-m", "5")
    done = await asyncio.to_thread(sipp, port, tmp_path, *options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    await until(lambda: len(edge.of("call_summary")) == 5)
    assert {line["result"] for line in edge.of("call_summary")} == {"completed"}
    connection = await connect("reader", NatsSection(url=server_url))
    try:
        for line in edge.of("call_summary"):
            stored = connection.read(subjects.recording("in", line["call_id"]))
            chunks = [unpack_audio(message.data) async for message in stored]
            assert {chunk.codec for chunk in chunks} == {Codec.PCMA}
            assert [frame for chunk in chunks for frame in chunk.frames()] == frames
            assert [chunk.sequence for chunk in chunks] == list(range(0, 100, chunks[0].frame_count))
            pressed = connection.read(subjects.event_subject(call.DtmfIn, line["call_id"]))
            assert len([message async for message in pressed]) == 1
    finally:
        await connection.close()


def baresip_home(directory: Path) -> Path:
    """A configuration for one G.711 call: a file for a microphone, what is heard goes to a file."""
    home = directory / "baresip"
    home.mkdir()
    with wave.open(str(home / "says.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"".join(struct.pack("<h", round(8000 * math.sin(n / 3))) for n in range(80_000)))
    (home / "config").write_text(
        f"module_path /usr/lib/baresip/modules\nsip_listen {HOST}:{free_udp_port()}\nsnd_path {home}\n"
        f"audio_player aufile,{home}/played.wav\naudio_source aufile,{home}/says.wav\naudio_alert none,nil\n"
        "audio_srate 8000\naudio_channels 1\naudio_buffer 20-160\n"
        "module g711.so\nmodule aufile.so\nmodule sndfile.so\nmodule_tmp account.so\nmodule_app menu.so\n"
    )
    (home / "accounts").write_text(f"<sip:tester@{HOST}>;regint=0;audio_codecs=PCMU/8000/1\n")
    (home / "contacts").write_text("")
    return home


async def say(observer: Observer, words: list[bytes]) -> None:
    """An utterance of one sentence, five frames a message, as tts sends it."""
    subject = subjects.live_audio("out", observer.call_id)
    for start in range(0, len(words), 5):
        part = words[start : start + 5]
        flags = AudioFlag.SEGMENT_END if start + 5 >= len(words) else AudioFlag.NONE
        data = pack_audio(b"".join(part), sequence=segment_sequence(0, start), frame_count=len(part), flags=flags)
        observer.connection.publish(subject, data)
    observer.connection.publish(subject, pack_audio(b"", sequence=1 << 20, frame_count=0, flags=AudioFlag.END))
    await observer.wait_for(playout.PlayoutFinished, timeout_s=15)


@needs_baresip
async def test_baresip_hears_the_agent_and_is_heard(server_url: str, edge: EdgeProgram, tmp_path: Path) -> None:
    port = await asyncio.to_thread(lambda: edge.port)
    home = baresip_home(tmp_path)
    connection = await connect("observer", NatsSection(url=server_url))
    observer = Observer(connection)
    await observer.start()
    phone = await asyncio.create_subprocess_exec(
        "baresip", "-f", str(home), "-e", f"/dial sip:bank@{HOST}:{port}", "-t", "6",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    words = [tone(0x1020 + n) for n in range(100)]
    try:
        await observer.wait_for(call.CallAnswered, timeout_s=15)
        await asyncio.sleep(0.5)
        await say(observer, words)
        ended = await observer.wait_for(call.CallEnded, timeout_s=30)
    finally:
        if phone.returncode is None:
            phone.terminate()
        output, _ = await phone.communicate()
        await connection.close()
    assert ended.result == "completed", output
    assert ended.media.packets_received > 100, output
    assert ended.media.rejected == 0
    heard = b"".join(path.read_bytes() for path in home.glob("dump-*-dec.wav"))
    found = sum(g711.decode(word, Codec.PCMU) in heard for word in words)
    assert found >= 95, f"{found} of 100 frames in {sorted(home.iterdir())}: {output!r}"
