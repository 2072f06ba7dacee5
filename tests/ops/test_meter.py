"""The meter that hears nothing but a recording, against sound whose times are known."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from ops.commands.meter import meter as command
from ops.meter import Metering, Overlap, Stretch, answers_of, barge_ins_of, meter
from services.audio.wav import build_wav, interleave, write_wav

pytestmark = pytest.mark.unit

RATE = 8000
Spans = Sequence[tuple[int, int]]


def tone(spans: Spans, length_ms: int = 10_000, level_dbfs: float = -20, rate: int = RATE, hiss: int = 0) -> bytes:
    """A tone of that level within the spans (ms), silence or a faint hiss around them."""
    amplitude = 32767 * 10 ** (level_dbfs / 20) * math.sqrt(2)
    samples = [hiss if number % 2 else -hiss for number in range(length_ms * rate // 1000)]
    for start_ms, end_ms in spans:
        for number in range(start_ms * rate // 1000, end_ms * rate // 1000):
            samples[number] = int(amplitude * math.cos(2 * math.pi * 400 * number / rate))
    return struct.pack(f"<{len(samples)}h", *samples)


def measured(caller: Spans, agent: Spans) -> Metering:
    return meter(tone(caller), tone(agent), RATE)


def near(stretches: Sequence[Stretch], spans: Spans) -> None:
    assert len(stretches) == len(spans)
    for stretch, (start_ms, end_ms) in zip(stretches, spans, strict=True):
        assert stretch == pytest.approx((start_ms, end_ms), abs=2.0)


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_stretches_are_found_to_the_sample(rate: int) -> None:
    spans = [(1003, 2007), (4001, 4500)]
    found = meter(tone(spans, rate=rate), b"", rate)
    near(found.caller, spans)
    assert found.agent == ()
    assert found.duration_ms == pytest.approx(10_000)


def test_a_short_silence_is_within_a_stretch_and_a_click_is_none() -> None:
    near(measured([(1000, 1500), (1740, 2000)], []).caller, [(1000, 2000)])
    near(measured([(1000, 1500), (1770, 2000)], []).caller, [(1000, 1500), (1770, 2000)])
    near(measured([(1000, 1020)], []).caller, [])


def test_the_threshold_lies_over_the_noise_of_its_side() -> None:
    noisy = tone([(1000, 2000)], hiss=200)
    found = meter(noisy, tone([], hiss=0), RATE)
    assert found.caller_dbfs == pytest.approx(20 * math.log10(200 / 32768) + 12, abs=0.1)
    assert found.agent_dbfs == -60.0
    near(found.caller, [(1000, 2000)])
    assert meter(tone([(0, 10_000)]), b"", RATE).caller_dbfs == -30.0
    assert meter(tone([(1000, 2000)], level_dbfs=-50), b"", RATE).caller == ()


def test_an_answer_is_from_the_last_voiced_sample_to_the_first() -> None:
    found = measured([(1000, 2000), (5000, 6000)], [(0, 800), (2530, 4000), (6700, 8000)])
    assert [each.latency_ms for each in found.answers] == pytest.approx([530, 700], abs=2)
    assert found.barge_ins == ()


def test_what_is_no_answer() -> None:
    still_speaking = answers_of([Stretch(1000, 2000)], [Stretch(500, 2400)])
    spoke_again = answers_of([Stretch(1000, 2000), Stretch(2500, 3000)], [Stretch(3400, 4000)])
    assert still_speaking == []
    assert [each.caller_end_ms for each in spoke_again] == [3000]
    assert answers_of([Stretch(1000, 2000)], []) == []


def test_a_barge_in_is_from_the_first_voiced_sample_to_the_agents_last() -> None:
    found = measured([(3000, 4500)], [(1000, 3260), (5100, 7000)])
    (each,) = found.barge_ins
    assert each.latency_ms == pytest.approx(260, abs=2)
    assert each.outcome is Overlap.STOPPED
    assert [answer.latency_ms for answer in found.answers] == pytest.approx([600], abs=2)


def test_a_short_sound_after_which_the_agent_speaks_again_only_paused_it() -> None:
    found = measured([(3000, 3300)], [(1000, 3260), (3900, 7000)])
    (each,) = found.of(Overlap.PAUSED)
    assert each.agent_back_ms == pytest.approx(3900, abs=2)
    alone = barge_ins_of([Stretch(3000, 3300)], [Stretch(1000, 3260)])
    assert alone[0].outcome is Overlap.STOPPED


def test_an_agent_that_speaks_on() -> None:
    found = measured([(3000, 4000)], [(1000, 7000)])
    assert [each.outcome for each in found.barge_ins] == [Overlap.SPOKE_ON]
    assert found.of(Overlap.STOPPED) == []


def test_silence_and_nothing() -> None:
    assert measured([], []).answers == ()
    assert meter(b"", b"", RATE).duration_ms == 0


class TestCommand:
    """``callbus meter``."""

    @pytest.fixture
    def wav(self, tmp_path: Path) -> Path:
        path = tmp_path / "call.wav"
        caller = tone([(3000, 4500), (8000, 8200), (9000, 9900)], 16_000)
        agent = tone([(1000, 3260), (5100, 8150), (8750, 9200), (9300, 15_000)], 16_000)
        path.write_bytes(build_wav(interleave(caller, agent), RATE, channels=2))
        return path

    def test_text(self, wav: Path) -> None:
        result = CliRunner().invoke(command, [str(wav)])
        assert result.exit_code == 0
        for words in (
            "voiced over -45 dBFS (caller)", "3.00 s  the caller begins; the agent is silent after 260 ms",
            "5.10 s  the agent answers after 600 ms", "8.00 s  a sound; the agent is silent after 150 ms, for 0.6 s",
            "9.00 s  the caller begins; the agent speaks on", "barge-in", "pause",
        ):  # fmt: skip
            assert words in result.output, words

    def test_json(self, wav: Path) -> None:
        found = json.loads(CliRunner().invoke(command, [str(wav), "--json"]).output)
        assert [each["outcome"] for each in found["barge_ins"]] == ["stopped", "paused", "spoke_on"]
        assert found["answers"][0]["latency_ms"] == pytest.approx(600, abs=2)

    def test_what_it_can_not_measure(self, tmp_path: Path) -> None:
        mono, text = tmp_path / "mono.wav", tmp_path / "text.wav"
        write_wav(mono, tone([]), RATE)
        text.write_text("no sound")
        for path, words in ((mono, "one channel"), (text, "not a WAV file"), (tmp_path / "none.wav", "can't be read")):
            result = CliRunner().invoke(command, [str(path)])
            assert result.exit_code == 1
            assert words in result.output

    def test_silence_has_no_figures(self, tmp_path: Path) -> None:
        path = tmp_path / "silence.wav"
        path.write_bytes(build_wav(interleave(tone([]), tone([])), RATE, channels=2))
        assert "latency" not in CliRunner().invoke(command, [str(path)]).output
