"""The yardstick beside the edge: aiortp, a session per call, every frame sent back, paced. A process of its own.

Reads the callers' ports from standard input, prints its own in the same order, then echoes until it is ended.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from functools import partial

import uvloop
from aiortp import RTPSession
from aiortp.codecs import get_codec

HOST = "127.0.0.1"
PCMU = 0
PORTS = range(20_000, 60_000, 2)


async def main() -> None:
    """Echo the callers that standard input names."""
    callers = [int(port) for port in sys.stdin.readline().split()]
    free = iter(PORTS)
    own = [await echo(caller, free) for caller in callers]
    sys.stdout.write(" ".join(str(port) for port in own) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def send_back(session: RTPSession, pcm: bytes, timestamp: int) -> None:
    """Every frame goes back as it came."""
    session.send_audio_pcm_auto(pcm)


async def echo(caller: int, free: Iterator[int]) -> int:
    """Echo one caller on the next port that can be had (aiortp takes the one above it for RTCP); that port."""
    for port in free:
        try:
            session = await RTPSession.create(
                local_addr=(HOST, port),
                remote_addr=(HOST, caller),
                payload_type=PCMU,
                codec=get_codec(PCMU),
                paced=True,
            )
        except OSError:
            continue
        session.on_audio = partial(send_back, session)
        return port
    raise SystemExit("no free port for aiortp's echo")


if __name__ == "__main__":
    uvloop.run(main())
