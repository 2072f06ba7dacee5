"""What an edge counts of real calls: how they came and ended, their packets, and how they sounded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from bus.memory import MemoryServer
from bus.metrics.media import PACER_BUCKETS_S
from bus.metrics.registry import REGISTRY
from edge.media.rtcp import ReceiverReport, ReportBlock, SourceDescription, build_compound
from edge.media.rtp import parse_packet
from edge.media.wheel import LATENESS_BOUNDS_MS
from edge.sip.dtmf_info import DTMF_RELAY, build_dtmf_relay
from schemas import call
from tests.edge.harness import Edge, running_edge, settings, until
from tests.fakes.caller import HOST, Caller, tone

pytestmark = pytest.mark.integration


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    server = MemoryServer()
    async with running_edge(server.connect("edge"), server.connect("observer")) as running:
        yield running


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"callbus_{name}", labels) or 0.0


class Grown:
    """What has been counted since."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for family in REGISTRY.collect():
            for sample in family.samples:
                self._before[sample.name, tuple(sorted(sample.labels.items()))] = sample.value

    def __call__(self, name: str, **labels: str) -> float:
        return value(name, **labels) - self._before.get((f"callbus_{name}", tuple(sorted(labels.items()))), 0.0)


async def test_a_call_is_counted_from_its_offer_to_its_end(edge: Edge) -> None:
    grown = Grown()
    async with Caller() as caller:
        await caller.dial(edge.port)
        await caller.talk(tone(n) for n in range(60))
        assert value("calls_active") == 1
        await caller.info(DTMF_RELAY, build_dtmf_relay("7", 120))
        await caller.hold()
        assert value("calls_held") == 1
        await caller.hold_off()
        assert value("calls_held") == 0
        caller.hang_up()
        ended = await edge.observer.wait_for(call.CallEnded)
    assert (value("calls_active"), grown("calls_offered_total")) == (0, 1)
    assert grown("calls_ended_total", result="completed", reason="caller_hung_up") == 1
    assert grown("call_duration_seconds_count") == grown("call_setup_seconds_count") == 1
    assert grown("call_duration_seconds_sum") == pytest.approx(ended.duration_ms / 1000)
    assert grown("dtmf_total", source="info") == 1
    assert grown("rtp_packets_total", direction="in") == ended.media.packets_received == 60
    assert grown("rtp_packets_total", direction="out") == ended.media.packets_sent > 0
    assert grown("rtp_lost_total") == ended.media.lost == 0
    assert grown("rtp_jitter_seconds_count") == 1
    assert (grown("call_mos_count", direction="in"), grown("call_mos_count", direction="out")) == (1, 0)
    assert ended.media.mos_in == pytest.approx(4.39, abs=0.02)
    assert ended.media.mos_out is ended.media.round_trip_ms is None


async def test_refused_calls_are_offered_and_ended_too() -> None:
    server = MemoryServer()
    grown = Grown()
    section = settings(max_calls=0)
    async with running_edge(server.connect("edge"), server.connect("observer"), section) as full, Caller() as caller:
        await caller.refused(full.port)
    assert grown("calls_offered_total") == grown("calls_refused_total", reason="over_limit") == 1
    assert grown("calls_ended_total", result="rejected", reason="over_limit") == 1


async def test_lost_packets_are_heard_in_the_score(edge: Edge) -> None:
    grown = Grown()
    async with Caller() as caller:
        await caller.dial(edge.port)
        for number in range(100):
            if number % 20 == 10:  # one in twenty is lost on its way
                caller.sequence += 1
                caller.timestamp += 160
                continue
            await caller.talk([tone(number)])
        await asyncio.sleep(0.1)
        caller.hang_up()
        ended = await edge.observer.wait_for(call.CallEnded)
    assert ended.media.lost == grown("rtp_lost_total") == 5
    assert ended.media.loss_share == pytest.approx(0.05, abs=0.001)
    assert ended.media.mos_in == pytest.approx(2.15, abs=0.1)


async def test_what_the_telephone_reports_is_the_score_of_the_other_way(edge: Edge) -> None:
    grown = Grown()
    async with Caller() as caller:
        media = await caller.dial(edge.port)
        await caller.talk(tone(n) for n in range(70))
        await until(lambda: len(caller.rtp_in) > 60)
        sent = parse_packet(caller.rtp_in[0][0])
        middle = int((time.time() + 2_208_988_800 - 0.120) * 65536) & 0xFFFFFFFF
        block = ReportBlock(sent.ssrc, cumulative_lost=3, jitter=80, last_report=middle, delay=int(0.020 * 65536))
        report = build_compound((ReceiverReport(caller.ssrc, (block,)), SourceDescription(caller.ssrc, "caller")))
        caller.rtcp.sendto(report, (HOST, media.remote_port + 1))
        await asyncio.sleep(0.1)
        caller.hang_up()
        ended = await edge.observer.wait_for(call.CallEnded)
    assert grown("call_mos_count", direction="out") == 1
    assert ended.media.mos_out is not None
    assert 3.6 < ended.media.mos_out < 4.3
    assert ended.media.out_loss_share == pytest.approx(3 / len(caller.rtp_in), abs=0.02)
    assert ended.media.out_jitter_ms == 10.0
    assert ended.media.round_trip_ms == pytest.approx(100, abs=40)


async def test_messages_that_are_no_sip_are_counted(edge: Edge) -> None:
    grown = Grown()
    async with Caller() as caller:
        caller.signalling._udp.sendto(b"INVITE no\r\n\r\n", (HOST, edge.port))  # type: ignore[union-attr]
        await until(lambda: grown("sip_defects_total") >= 1)


def test_the_pacer_counts_in_the_buckets_that_are_told() -> None:
    assert tuple(bound / 1000 for bound in LATENESS_BOUNDS_MS) == PACER_BUCKETS_S


async def test_the_pacers_lateness_is_whole(edge: Edge) -> None:
    async with Caller() as caller:
        await caller.dial(edge.port)
        await caller.talk(tone(n) for n in range(25))
        figures = edge.board.pacer.take_figures()
        caller.hang_up()
    assert sum(figures.buckets) == figures.turns > 0
    assert len(figures.buckets) == len(PACER_BUCKETS_S) + 1
    assert figures.total_ms >= 0
