"""What surrounds a scenario's call: its system, its sounds, its times, and what the caller hears and sends."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.caller.media import Span
from ops.scenario import line, sound
from ops.scenario.document import Scenario, load_scenario
from ops.scenario.sip_caller import AGENT_SILENT_MS, Ears, SipCaller, Surroundings
from schemas.base import Event
from schemas.call import CallAnswered
from schemas.playout import PlayoutFlushed, PlayoutPaused
from services.audio import level

pytestmark = pytest.mark.unit

FRAME = 160
LOUD = sound.hum(20, -20.0)
QUIET = sound.silence(20)


def scenario_of(folder: Path, name: str, *tables: str, steps: str = "wait_ms = 100") -> Scenario:
    path = folder / f"{name}.toml"
    head = f'title = "{name}"\nrule = "r"\nside = "must wait"\nruns = ["sip"]\n'
    tail = (
        f'[[caller]]\nname = "first"\n{steps}\n[[expect]]\nevent = "call.ended"\nnot_before_ms = 50\nwithin_ms = 900\n'
    )
    path.write_text(head + "\n".join(tables) + "\n" + tail)
    return load_scenario(path)


class TestSystems:
    def test_settings_and_agent_are_the_systems_environment(self, tmp_path: Path) -> None:
        (tmp_path / "agents").mkdir()
        (tmp_path / "agents" / "a.toml").write_text("")
        tables = ("[settings.turn]\nvad_start_ms = 150", '[agent]\nfile = "agents/a.toml"')
        found = line.environment_of(scenario_of(tmp_path, "one", *tables))
        assert found["CALLBUS_TURN__VAD_START_MS"] == "150"
        assert found["CALLBUS_LLM__AGENT"] == str(tmp_path / "agents" / "a.toml")
        assert found["CALLBUS_EDGE__SIP_PORT"] == "0"

    def test_equal_ones_share_a_system(self, tmp_path: Path) -> None:
        other = "[settings.turn]\nvad_start_ms = 150"
        one, two = scenario_of(tmp_path, "one"), scenario_of(tmp_path, "two", other)
        three, four = scenario_of(tmp_path, "three"), scenario_of(tmp_path, "four", other)
        groups = [[each.path.stem for each in group] for group in line.grouped([one, two, three, four])]
        assert groups == [["one", "three"], ["two", "four"]]


class TestSounds:
    async def test_every_sound_is_as_loud_as_its_step_says(self, tmp_path: Path) -> None:
        scenario = scenario_of(tmp_path, "one", steps="noise_ms = 200\nlevel_dbfs = -40")
        sounds = await line.sounds_of(scenario)
        assert level.dbfs(sounds["first"]) == pytest.approx(-40.0, abs=0.5)

    @pytest.mark.parametrize("steps", ["wait_ms = 10", 'keys = "1"', "hold_ms = 100", "echo_ms = 100"])
    async def test_what_is_no_sound_of_the_callers_has_none(self, tmp_path: Path, steps: str) -> None:
        assert await line.sounds_of(scenario_of(tmp_path, "one", steps=steps)) == {}

    async def test_a_file_that_is_no_sound_fails_the_scenario(self, tmp_path: Path) -> None:
        (tmp_path / "text.wav").write_text("no sound")
        scenario = scenario_of(tmp_path, "one", steps='wav = "text.wav"')
        result = await line.run_scenario(scenario, system=object())  # type: ignore[arg-type]
        assert len(result.failures) == 1
        assert "text.wav" in result.failures[0]

    async def test_recordings_that_are_not_here_are_a_reason_to_skip(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("CALLBUS_TEST_SPEECH", raising=False)
        scenario = scenario_of(tmp_path, "one", steps='wav = "speech:yes.wav"')
        (result,) = [each async for each in line.run_scenarios([scenario])]
        assert "CALLBUS_TEST_SPEECH" in result.skipped
        assert not result.failures


class TestTimes:
    EPOCH_US = 1_000_000_000

    def test_expectations_are_wider_by_the_tolerance(self, tmp_path: Path) -> None:
        (expect,) = line.tolerant(scenario_of(tmp_path, "one"), 100).expect
        assert (expect.not_before_ms, expect.within_ms) == (0, 1000)

    def test_events_and_steps_lie_on_the_edges_media_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def base(at_ms: int) -> dict[str, object]:
            return {"call_id": "c", "at_us": self.EPOCH_US + at_ms * 1000}

        events: list[Event] = [
            CallAnswered(edge="e", codec="PCMU", media_epoch_us=self.EPOCH_US, **base(0)),
            PlayoutPaused(utterance_id=0, media_time_ms=700, **base(712)),
            PlayoutFlushed(utterance_id=0, media_time_ms=700, **base(1100)),
        ]
        caller = SipCaller(scenario_of(tmp_path, "one"), {}, None, lambda text: None)
        caller.started_at = 50.0
        caller.spans["first"] = Span(8000, 8800)
        # Ten seconds after the caller's tick 0, which came 30 ms after the edge's answer.
        monkeypatch.setattr(line.time, "monotonic", lambda: 60.0)
        monkeypatch.setattr(line, "wall_us", lambda: self.EPOCH_US + 10_030_000)
        happened, steps = line.timed(events, caller)
        assert [(event.name, event.at_ms) for event in happened[1:]] == [
            ("playout.paused", 700),
            ("playout.flushed", 1100),
        ]
        assert steps["first"] == (1030 - line.ROUNDING_MS, 1130 - line.ROUNDING_MS)


class TestEars:
    def test_the_first_sound_from_a_moment_on(self) -> None:
        ears = Ears()
        for number, pcm in enumerate([QUIET, LOUD, LOUD, QUIET, QUIET, LOUD]):
            ears.hear(number * FRAME, pcm)
        assert ears.sound_after(0) == FRAME
        assert ears.sound_after(FRAME + 40) == FRAME + 40
        assert ears.sound_after(3 * FRAME) == 5 * FRAME
        assert ears.sound_after(6 * FRAME) is None
        assert ears.last_sound == 6 * FRAME

    def test_a_late_frame_takes_its_place(self) -> None:
        ears = Ears()
        for number in (3, 1):
            ears.hear(number * FRAME, LOUD)
        assert ears.sound_after(0) == FRAME
        assert ears.last_sound == 4 * FRAME

    def test_the_pause_between_two_sentences_is_no_end(self) -> None:
        assert 300 < AGENT_SILENT_MS < 1000


class TestSurroundings:
    def test_noise_lies_under_silence_too(self) -> None:
        surroundings = Surroundings(sound.Background(sound.noise(500), sound.rms_of(-20.0), 10))
        assert level.dbfs(surroundings.mix(0, sound.silence(200))) == pytest.approx(-30.0, abs=1.0)

    def test_without_noise_and_echo_everything_leaves_as_it_is(self) -> None:
        assert Surroundings(None).mix(0, LOUD) == LOUD

    def test_the_echo_is_mixed_in_while_it_is_on(self) -> None:
        surroundings = Surroundings(None)
        for number in range(20):
            surroundings.hear(number * FRAME, LOUD)
        assert not any(surroundings.mix(10 * FRAME, QUIET))
        surroundings.echo.level_dbfs = -40.0
        assert level.dbfs(surroundings.mix(10 * FRAME, QUIET)) == pytest.approx(-40.0, abs=2.0)
