"""The yardstick beside the edge: aiortp, a session per call, every frame sent back, paced. A process of its own.

Reads the callers' ports from standard input, prints its own in the same order, then echoes until it is ended.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiortp import RTPSession
from aiortp.codecs import get_codec

HOST = "127.0.0.1"
PCMU = 0
FIRST_PORT = 20_000


async def main() -> None:
    """Echo the callers that standard input names."""
    ports = [int(port) for port in sys.stdin.readline().split()]
    sessions = []
    for number, port in enumerate(ports):
        session = await RTPSession.create(
            local_addr=(HOST, FIRST_PORT + 2 * number), remote_addr=(HOST, port), payload_type=PCMU,
            codec=get_codec(PCMU), paced=True,
        )  # fmt: skip
        session.on_audio = lambda pcm, timestamp, session=session: session.send_audio_pcm_auto(pcm)
        sessions.append(session)
    sys.stdout.write(" ".join(str(FIRST_PORT + 2 * number) for number in range(len(ports))) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
