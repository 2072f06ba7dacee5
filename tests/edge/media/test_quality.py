"""The E-model against published values: ITU-T G.107, G.109, G.113 appendix I, and the usual fit of its delay curve."""

from __future__ import annotations

import pytest

from edge.media import quality
from edge.media.quality import BPL_CONCEALED, BPL_SILENT, Loss, burst_ratio, mos, mos_of, rating

pytestmark = pytest.mark.unit

NO_LOSS = Loss(0.0)


def test_with_default_values_alone_it_is_what_the_recommendation_says() -> None:
    """G.107 section 7.7: R = 93.2; annex B: MOS 4.41."""
    assert round(rating(NO_LOSS, 0, BPL_SILENT), 1) == 93.2
    assert round(mos(NO_LOSS, 0, BPL_SILENT), 2) == 4.41


@pytest.mark.parametrize(("r", "score"), [(93.2, 4.41), (90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58)])
def test_scores_of_ratings(r: float, score: float) -> None:
    """G.107 annex B table B.1 (the same in G.109), which rounds some of them up."""
    assert mos_of(r) == pytest.approx(score, abs=0.01)


@pytest.mark.parametrize(("r", "score"), [(-20, 1.0), (0, 1.0), (3, 1.0), (100, 4.5), (120, 4.5)])
def test_ends_of_the_scale(r: float, score: float) -> None:
    assert mos_of(r) == score


@pytest.mark.parametrize(
    ("percent", "silent", "concealed"),
    [(0, 0.0, 0.0), (1, 17.9, 3.6), (2, 30.2, 7.0), (5, 51.1, 15.8), (10, 66.4, 27.1), (100, 91.1, 75.9)],
)
def test_random_loss_of_g711(percent: float, silent: float, concealed: float) -> None:
    """Ie,eff = 95 Ppl / (Ppl + Bpl), Bpl of G.113 appendix I."""
    loss = Loss(percent / 100)
    assert quality.equipment_impairment(loss, BPL_SILENT) == pytest.approx(silent, abs=0.05)
    assert quality.equipment_impairment(loss, BPL_CONCEALED) == pytest.approx(concealed, abs=0.05)


@pytest.mark.parametrize(
    ("percent", "silent", "concealed"), [(1, 3.83, 4.33), (2, 3.26, 4.24), (5, 2.17, 3.92), (10, 1.48, 3.41)]
)
def test_scores_of_random_loss(percent: float, silent: float, concealed: float) -> None:
    assert round(mos(Loss(percent / 100), 0, BPL_SILENT), 2) == silent
    assert round(mos(Loss(percent / 100), 0, BPL_CONCEALED), 2) == concealed


@pytest.mark.parametrize(("percent", "tabulated"), [(1, 5), (2, 7), (3, 10), (5, 15), (7, 20), (10, 25)])
def test_it_agrees_with_the_table_that_was_measured(percent: float, tabulated: float) -> None:
    """Ie of G.711 with concealment and random loss as G.113 appendix I (2002) tabulated it, in steps of about 5."""
    assert quality.equipment_impairment(Loss(percent / 100), BPL_CONCEALED) == pytest.approx(tabulated, abs=2.2)


@pytest.mark.parametrize("one_way_ms", [50, 100, 150, 177, 200, 250, 300])
def test_delay_follows_the_usual_fit(one_way_ms: float) -> None:
    """Cole and Rosenbluth, Voice over IP performance monitoring (2001): Id = 0.024 d + 0.11 (d - 177.3) beyond it."""
    fitted = 0.024 * one_way_ms + 0.11 * max(0.0, one_way_ms - 177.3)
    found = rating(NO_LOSS, 0, BPL_SILENT) - rating(NO_LOSS, one_way_ms, BPL_SILENT)
    assert found == pytest.approx(fitted, abs=1.5)


def test_more_loss_or_more_delay_never_sounds_better() -> None:
    shares = [rating(Loss(percent / 100), 40, BPL_SILENT) for percent in range(101)]
    delays = [rating(NO_LOSS, delay, BPL_CONCEALED) for delay in range(0, 1000, 10)]
    assert shares == sorted(shares, reverse=True)
    assert delays == sorted(delays, reverse=True)


def test_loss_in_bursts_sounds_worse_than_random_loss() -> None:
    assert mos(Loss(0.05, 2.0), 0, BPL_SILENT) < mos(Loss(0.05), 0, BPL_SILENT)


@pytest.mark.parametrize(
    ("share", "lost", "holes", "ratio"),
    [(0.0, 0, 0, 1.0), (0.05, 10, 10, 1.0), (0.1, 20, 10, 1.8), (0.1, 500, 2, 2.0), (0.1, -3, 1, 1.0)],
)
def test_how_far_loss_is_from_random(share: float, lost: int, holes: int, ratio: float) -> None:
    assert burst_ratio(share, lost, holes) == pytest.approx(ratio)


def test_what_is_assumed_of_a_call_that_nobody_measured() -> None:
    """Network 20 ms; inwards a packet of 20 ms; outwards the telephone's buffer of 40 ms besides."""
    assert quality.incoming_mos(NO_LOSS, None) == mos(NO_LOSS, 40, BPL_SILENT)
    assert quality.outgoing_mos(NO_LOSS, None) == mos(NO_LOSS, 80, BPL_CONCEALED)
    assert quality.outgoing_mos(NO_LOSS, 400.0) == mos(NO_LOSS, 260, BPL_CONCEALED)
    assert quality.incoming_mos(NO_LOSS, 400.0) < quality.incoming_mos(NO_LOSS, None)
