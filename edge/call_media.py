"""The media of one call: its two sockets, what comes in to the bus, what goes out from the bus, and the ledger."""

from __future__ import annotations

import asyncio
import math
import random
import secrets
import time
from typing import Protocol

from bus.logs import get_logger
from config.settings import EdgeSection
from edge.audio_messages import pack_chunk, replay_messages
from edge.call_bus import CallBus
from edge.media.dtmf import DtmfReleased
from edge.media.frames import MediaEvent, ReceivedFrame, RtcpReceived
from edge.media.playout import Playout
from edge.media.receiver import MediaReceiver
from edge.media.recording import Chunk, ChunkBuilder
from edge.media.reports import RtcpReporter
from edge.media.ring import FrameRing
from edge.media.sender import MediaSender
from edge.media_tally import MediaTally, counts_of, observe_quality
from edge.net.addresses import is_literal
from edge.net.pacer import Pacer
from edge.net.ports import PortPair, PortPool
from edge.net.udp import Address, open_datagram
from edge.outbox import Outbox
from edge.playout_events import event_of
from edge.sip.negotiation import NegotiatedMedia
from schemas.audio import FRAME_HEADER, FRAME_VERSION, AudioFlag, AudioFrame, Codec, split_segment_sequence
from schemas.call import MediaCounts
from schemas.control import ReplayReply

log = get_logger(__name__)

FRAME_MS = 20
FRAME_BYTES = 160
TICKS_PER_MS = 8
_UNSPECIFIED = ("", "0.0.0.0", "::")


class MediaOwner(Protocol):
    """The call, as its media sees it."""

    def pressed(self, digit: str, duration_ms: int, media_time_ms: int) -> None:
        """A key came up."""

    def media_timed_out(self) -> None:
        """Nothing came for too long."""


class CallMedia:
    """Receiver, playout, sender, ring, recording and reports of one call, on two sockets.

    Life: ``open`` before the answer, ``start`` with it, ``change`` at a re-INVITE, ``close`` once at the end.
    """

    def __init__(
        self,
        pair: PortPair,
        ports: PortPool,
        pacer: Pacer,
        outbox: Outbox,
        bus: CallBus,
        settings: EdgeSection,
    ) -> None:
        self.frame_ms = FRAME_MS
        self._pair = pair
        self._ports = ports
        self._pacer = pacer
        self._spoke_at = -math.inf
        self._outbox = outbox
        self._bus = bus
        self._settings = settings
        self._owner: MediaOwner | None = None
        self._rtp: asyncio.DatagramTransport | None = None
        self._rtcp: asyncio.DatagramTransport | None = None
        self._receiver = MediaReceiver((), None, reorder_wait_ms=settings.reorder_wait_ms)
        self._ring = FrameRing(settings.replay_ring_ms)
        self._chunks_in = ChunkBuilder()
        self._chunks_out = ChunkBuilder()
        self._codec = Codec.PCMU
        self._codec_number = int(self._codec)
        self._playout = Playout(prefill=settings.prefill_frames, limit_ms=settings.playout_limit_ms)
        self._sender = MediaSender(
            ssrc=secrets.randbits(32), sequence=secrets.randbits(15), timestamp=secrets.randbits(31)
        )
        self._tally = MediaTally(self._receiver, self._sender)
        self._reporter: RtcpReporter | None = None
        self._epoch = 0.0
        self._held = False
        self._closed = False
        self._target: Address | None = None
        self._reachable = False
        self._late_max_ms = 0.0
        self._wrong_codec = 0
        self._silent = True

    # -- life -------------------------------------------------------------------------------------------------------

    async def open(self, owner: MediaOwner) -> None:
        """Listen on both sockets.

        Raises:
            OSError: the system refuses.
        """
        self._owner = owner
        rtp = await open_datagram(self._pair.rtp, self._on_rtp)
        rtcp = await open_datagram(self._pair.rtcp, self._on_rtcp)
        if self._closed:
            rtp.close()
            rtcp.close()
            return
        self._rtp, self._rtcp = rtp, rtcp

    def start(self, agreed: NegotiatedMedia, now: float) -> None:
        """The call is answered: ``now`` is media time 0 of both directions."""
        self._codec = Codec[agreed.codec]
        self._codec_number = int(self._codec)
        self._epoch = now
        self._playout = Playout(
            frame_bytes=FRAME_BYTES,
            silence=self._codec.silence,
            prefill=self._settings.prefill_frames,
            limit_ms=self._settings.playout_limit_ms,
        )
        self._receiver.start(now)
        self._reporter = RtcpReporter(
            self._receiver, self._sender, cname=self._bus.call_id, wall_offset_s=time.time() - now, now=now
        )
        self.change(agreed, now)
        self._pacer.add(self)

    def change(self, agreed: NegotiatedMedia, now: float) -> None:
        """Addresses, payload types or hold are others from now on."""
        self._receiver.accept((agreed.payload_type,), agreed.telephone_event_payload_type)
        self._receiver.hold(agreed.held_by_peer, now)
        self._sender.configure(agreed.payload_type, agreed.telephone_event_payload_type, self._codec.silence)
        self._held = agreed.held_by_peer
        if agreed.remote_address not in _UNSPECIFIED:
            self._receiver.expect((agreed.remote_address, agreed.remote_port), now)

    def close(self, now: float) -> MediaCounts:
        """Tell what is left to tell, give the ports back; the counts of the whole call."""
        if not self._closed:
            self._closed = True
            self._pacer.remove(self)
            if self._reporter is not None:
                self._finish(self._reporter, now)
            for transport in (self._rtp, self._rtcp):
                if transport is not None:
                    transport.close()
            if self._rtp is None:
                self._pair.close()
            self._ports.release(self._pair.port, now)
            self._tally.tell(last=True)
            observe_quality(self._counts())
        return self._counts()

    def _finish(self, reporter: RtcpReporter, now: float) -> None:
        self._deliver(self._receiver.finish(), now)
        playout = self._playout
        if playout.playing is not None or playout.held is not None or playout.queued_ms:
            playout.flush(None, self._sender.media_time, "call_ended")
        self._tell_ledger()
        for way, builder in (("in", self._chunks_in), ("out", self._chunks_out)):
            chunk = builder.flush()
            if chunk is not None:
                self._record(way, chunk)
        self._send_rtcp(reporter.goodbye(now))

    # -- from the caller --------------------------------------------------------------------------------------------

    def _on_rtp(self, datagram: bytes, source: Address) -> None:
        now = time.monotonic()
        events = self._receiver.receive(datagram, source, now)
        if events:
            self._deliver(events, now)

    def _deliver(self, events: list[MediaEvent], now: float) -> None:
        for event in events:
            if type(event) is ReceivedFrame:
                self._frame(event)
            elif type(event) is DtmfReleased and self._owner is not None:
                self._owner.pressed(event.digit, event.duration_ms, event.media_time // TICKS_PER_MS)
            elif type(event) is RtcpReceived and self._reporter is not None:
                self._reporter.receive(event.datagram, now)

    def _frame(self, frame: ReceivedFrame) -> None:
        payload, _, media_time, lost, resync = frame
        flags = 0
        if lost or resync:
            flags = (AudioFlag.GAP if lost else 0) | (AudioFlag.RESYNC if resync else 0)
        codec = self._codec_number
        sequence = self._ring.append(media_time, payload, codec, flags)
        header = FRAME_HEADER.pack(FRAME_VERSION, codec, flags, 1, sequence, 0, media_time & 0xFFFFFFFF)
        self._outbox.pending.append((self._bus.audio_in, header + payload))
        chunk = self._chunks_in.add(sequence, media_time, payload, codec, flags=flags)
        if chunk is not None:
            self._record("in", chunk)

    def _on_rtcp(self, datagram: bytes, source: Address) -> None:
        if self._reporter is not None and not self._closed and self._receiver.is_peer_host(source):
            self._reporter.receive(datagram, time.monotonic())

    def _record(self, way: str, chunk: Chunk) -> None:
        for data in pack_chunk(chunk):
            self._bus.record_chunk(way, data)

    # -- to the caller ----------------------------------------------------------------------------------------------

    def offer_audio(self, frame: AudioFrame) -> None:
        """A message of ``audio.out``."""
        if self._closed:
            return
        if frame.codec is not self._codec and frame.payload:
            self._refuse_codec(frame.codec)
            return
        segment, number = split_segment_sequence(frame.sequence)
        flags = frame.flags
        payloads = frame.frames() if frame.frame_count != 1 else (frame.payload,)
        if flags is AudioFlag.NONE:
            self._playout.offer(frame.utterance, segment, number, payloads)
        else:
            self._playout.offer(
                frame.utterance,
                segment,
                number,
                payloads,
                segment_end=AudioFlag.SEGMENT_END in flags,
                end=AudioFlag.END in flags,
            )
        self._speak_soon()

    def _speak_soon(self) -> None:
        """The first packet of an answer, or after a pause, does not wait for this call's place in the revolution (ADR
        0006). What is held leaves later, and its silence in the usual place."""
        playout = self._playout
        if self._silent and playout.held is None and playout.queued_ms >= FRAME_MS:
            self._silent = False
            self._pacer.hasten(self)

    def _refuse_codec(self, codec: Codec) -> None:
        self._wrong_codec += 1
        if self._wrong_codec == 1:
            self._bus.fail("bad_message", detail=f"audio.out in {codec.name}, the call speaks {self._codec.name}")

    def turn(self, now: float, late_ms: float, skipped: int) -> None:
        """Send the packet that is due (``edge.net.pacer.Paced``)."""
        if self._closed:
            return
        sender, receiver, playout = self._sender, self._receiver, self._playout
        if late_ms > self._late_max_ms:
            self._late_max_ms = late_ms
        if sender.packets == 0 and not self._held:
            sender.media_time = int((now - self._epoch) * 1000) * TICKS_PER_MS
        elif skipped:
            sender.skip(skipped)
        deadline = receiver.next_deadline()
        if deadline is not None and deadline <= now:
            self._deliver(receiver.handle_deadline(now), now)
        if self._held:
            sender.skip(1)
            return
        target = receiver.target
        if target is not self._target:
            self._aim(target)
        if not self._reachable or target is None or self._rtp is None:
            sender.skip(1)
            return
        media_time = sender.media_time
        payload = None if sender.sending_digits else playout.next_frame(media_time)
        if payload is None and not self._silent:
            self._silent = True
            self._pacer.relax(self)
        datagram = sender.next_datagram(payload)
        if datagram is not None:
            self._rtp.sendto(datagram, target)
        if payload is not None:
            self._silent = False
            self._spoke_at = now
            chunk = self._chunks_out.add(
                playout.counts.sent - 1, media_time, payload, self._codec_number, utterance=playout.last_utterance
            )
            if chunk is not None:
                self._record("out", chunk)
        if playout.ledger:
            self._tell_ledger()

    def _aim(self, target: Address | None) -> None:
        """Another address to send to: one that no socket of ours can reach gets nothing."""
        self._target = target
        self._reachable = (
            target is not None
            and target[0] not in _UNSPECIFIED
            and target[1] > 0
            and is_literal(target[0])
            and (":" in target[0]) == (":" in self._settings.host)
        )

    def _tell_ledger(self) -> None:
        # The packets came first: a subscriber who hears "finished" has the recording of it before the call goes on.
        for entry in self._playout.take_ledger():
            event_type, fields = event_of(entry)
            self._bus.say(event_type, **fields)

    # -- what others ask --------------------------------------------------------------------------------------------

    def flush(self, utterance: int | None, why: str) -> bool:
        """Drop an utterance before its next frame; False where there is nothing to drop."""
        return self._command(self._playout.flush(utterance, self._sender.media_time, why))

    def pause(self, utterance: int | None, limit_ms: int, why: str) -> bool:
        """Hold an utterance from its next frame on, for ``limit_ms`` at most (0: no limit); False where there is none.

        Its audio and its place are kept while the caller has the call on hold, too; a limit that is over by then ends
        the pause with the first packet after the hold.
        """
        if self._closed:
            return False
        return self._command(self._playout.pause(utterance, limit_ms, self._sender.media_time, why))

    def resume(self, utterance: int | None, why: str) -> bool:
        """Go on where ``pause`` stopped; False where that is not held."""
        return self._command(self._playout.resume(utterance, self._sender.media_time, why))

    def _command(self, done: bool) -> bool:
        """Tell of a command before it is answered; what may leave now leaves soon."""
        self._tell_ledger()
        self._speak_soon()
        return done

    def send_keys(self, digits: str) -> bool:
        """Send keys as RFC 4733 events; False where the caller's telephone takes none."""
        try:
            self._sender.send_digits(digits)
        except ValueError:
            return False
        return True

    def replay(self, from_sequence: int) -> tuple[ReplayReply, list[bytes]]:
        """Frames of the ring for a stage that asks for them."""
        return replay_messages(self._ring, from_sequence)

    def agent_silent_s(self) -> float:
        """Since when nothing of the agent has left for the caller."""
        return time.monotonic() - self._spoke_at

    def media_time_ms(self) -> int:
        """The caller's media time now."""
        return self._receiver.media_time_at(time.monotonic()) // TICKS_PER_MS

    # -- once a second ----------------------------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Reports and the media timeout (``edge.net.pacer.Paced``)."""
        if self._closed or self._reporter is None:
            return
        self._tally.tell()
        if not self._held:
            self._tally.tell_heard(self._receiver.silent_for(now))
        if now >= self._reporter.next_deadline():
            self._send_rtcp(self._reporter.report(now, random.random()))
        timeout_ms = self._settings.media_timeout_ms
        if timeout_ms and self._owner is not None and self._receiver.silent_for(now) * 1000 > timeout_ms:
            self._owner.media_timed_out()

    def _send_rtcp(self, report: bytes) -> None:
        target = self._receiver.target
        if self._rtcp is not None and self._reachable and target is not None:
            self._rtcp.sendto(report, (target[0], target[1] + 1))

    def _counts(self) -> MediaCounts:
        peer = self._reporter.peer if self._reporter is not None else None
        return counts_of(self._receiver, self._sender, self._playout.counts, peer, self._late_max_ms)
