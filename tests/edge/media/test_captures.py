"""Real captures (sipp's own) through the receiver."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.media.dtmf import DtmfPressed, DtmfReleased
from edge.media.frames import MediaEvent, ReceivedFrame
from edge.media.receiver import MediaReceiver
from tests.edge.media.captures import CapturedDatagram, read_pcap

pytestmark = pytest.mark.unit


def capture(name: str) -> list[CapturedDatagram]:
    folder = os.environ.get("CALLBUS_TEST_SPEECH")
    if not folder:
        pytest.skip("CALLBUS_TEST_SPEECH is not set: no captures here")
    return read_pcap(Path(folder) / "dtmf" / name)


def through(receiver: MediaReceiver, datagrams: list[CapturedDatagram], start: float) -> list[MediaEvent]:
    receiver.expect(datagrams[0].source, start)
    events: list[MediaEvent] = []
    for datagram in datagrams:
        now = start + datagram.at
        events += receiver.handle_deadline(now)
        events += receiver.receive(datagram.data, datagram.source, now)
    return events


def test_a_law_of_30_ms() -> None:
    datagrams = capture("g711a.pcap")
    receiver = MediaReceiver([8])
    receiver.start(0.0)
    events = through(receiver, datagrams, 1.0)
    frames = [event for event in events if isinstance(event, ReceivedFrame)]
    assert len(frames) == len(datagrams) == 236
    assert [frame.payload for frame in frames] == [datagram.data[12:] for datagram in datagrams]
    assert {len(frame.payload) for frame in frames} == {240}
    times = [frame.media_time for frame in frames]
    assert times == [8000 + number * 240 for number in range(236)]
    assert (receiver.lost, receiver.counts.resyncs, receiver.counts.rejected_total) == (0, 0, 0)
    assert 0 < receiver.statistics.jitter_ms < 5


def test_a_key_as_telephone_event() -> None:
    datagrams = capture("dtmf_2833_1.pcap")
    receiver = MediaReceiver([8], 101)
    receiver.start(0.0)
    events = through(receiver, datagrams, 1.0)
    assert events == [DtmfPressed("1", 8000), DtmfReleased("1", 8000, 280, complete=True)]
    assert receiver.counts.events == 10


def test_speech_then_a_key_with_another_ssrc_as_sipp_sends_them() -> None:
    speech, key = capture("g711a.pcap"), capture("dtmf_2833_1.pcap")
    receiver = MediaReceiver([8], 101)
    receiver.start(0.0)
    frames = through(receiver, speech, 1.0)
    events = through(receiver, key, 8.5)
    assert len(frames) == 236
    assert [type(event) for event in events] == [DtmfPressed, DtmfReleased]
    assert receiver.counts.ssrc_changes == 0
