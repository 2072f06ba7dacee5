"""The caller's sounds: the same each time, as loud and as long as asked, with the pauses where they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.caller.recording import SAMPLE_BYTES
from ops.scenario import sound
from ops.scenario.grammar import parse_say
from services.audio import level
from services.audio.wav import write_wav

pytestmark = pytest.mark.unit


def duration_ms(pcm: bytes) -> int:
    return len(pcm) // SAMPLE_BYTES // sound.SAMPLES_PER_MS


def longest_silence_ms(pcm: bytes) -> int:
    """The longest digital silence, in steps of 10 ms."""
    step = 10 * sound.SAMPLES_PER_MS * SAMPLE_BYTES
    longest = run = 0
    for start in range(0, len(pcm), step):
        run = 0 if any(pcm[start : start + step]) else run + 10
        longest = max(longest, run)
    return longest


class TestSoundsWithoutWords:
    @pytest.mark.parametrize("make", [sound.cough, sound.noise, sound.hum])
    def test_length_and_level_are_as_asked_and_the_same_each_time(self, make) -> None:
        pcm = make(350, -25.0)
        assert duration_ms(pcm) == 350
        assert level.dbfs(pcm) == pytest.approx(-25.0, abs=0.5)
        assert make(350, -25.0) == pcm

    def test_another_seed_is_another_noise(self) -> None:
        assert sound.noise(100, seed=1) != sound.noise(100, seed=2)

    def test_a_long_cough_is_several(self) -> None:
        assert longest_silence_ms(sound.cough(300)) == 0
        assert longest_silence_ms(sound.cough(800)) >= sound.BURST_GAP_MS - 20
        assert duration_ms(sound.cough(800)) == 800

    def test_a_cough_begins_at_once_and_dies_down(self) -> None:
        pcm = sound.cough(300)
        third = len(pcm) // 3 // 2 * 2
        assert level.rms(pcm[:third]) > level.rms(pcm[-third:])

    def test_pink_noise_is_lower_than_white(self) -> None:
        def crossings(pcm: bytes) -> int:
            return sound.audioop.cross(pcm, SAMPLE_BYTES)

        assert crossings(sound.noise(500, colour="pink")) < 0.7 * crossings(sound.noise(500))


class TestLevels:
    def test_pauses_do_not_count_as_speech(self) -> None:
        tone = sound.hum(400, -20.0)
        assert sound.active_rms([tone + sound.silence(2000)]) == pytest.approx(sound.rms_of(-20.0), rel=0.1)

    def test_a_level_is_that_of_the_speech_without_its_pauses(self) -> None:
        pcm = sound.at_level(sound.hum(400, -30.0) + sound.silence(800), -20.0)
        assert sound.active_rms([pcm]) == pytest.approx(sound.rms_of(-20.0), rel=0.02)
        assert sound.at_level(sound.silence(100), -20.0) == sound.silence(100)

    def test_nobody_speaks(self) -> None:
        assert sound.active_rms([sound.silence(200), b""]) == 0.0

    @pytest.mark.parametrize("snr_db", [20, 10, 5])
    def test_background_lies_as_far_under_the_speech_as_asked(self, snr_db: int) -> None:
        speech_rms = sound.active_rms([sound.hum(400, -20.0)])
        background = sound.Background(sound.background_noise("white"), speech_rms, snr_db)
        assert speech_rms / background.rms == pytest.approx(10 ** (snr_db / 20), rel=0.02)

    def test_background_repeats_without_a_hole(self) -> None:
        pcm = sound.noise(50)
        background = sound.Background(pcm, sound.rms_of(-20.0), 20)
        first = background.next(400)
        assert background.next(160) + background.next(240) == first

    def test_background_where_nobody_speaks_has_a_level_too(self) -> None:
        assert sound.Background(sound.noise(100), 0.0, 10).rms == pytest.approx(sound.rms_of(-30.0), rel=0.02)


class TestFiles:
    def test_silence_around_a_recording_is_left_out(self, tmp_path: Path) -> None:
        write_wav(tmp_path / "hum.wav", sound.silence(300) + sound.hum(200) + sound.silence(100), 8000)
        assert 150 < duration_ms(sound.recording(tmp_path / "hum.wav")) <= 200

    @pytest.mark.parametrize("read", [sound.recording, sound.background_noise])
    def test_a_file_that_is_no_sound_is_named(self, tmp_path: Path, read) -> None:
        (tmp_path / "text.wav").write_text("no sound")
        with pytest.raises(sound.SoundError, match=r"text\.wav"):
            read(tmp_path / "text.wav")
        with pytest.raises(sound.SoundError, match=r"absent\.wav"):
            read(tmp_path / "absent.wav")

    def test_a_silent_background_is_refused(self, tmp_path: Path) -> None:
        write_wav(tmp_path / "silent.wav", sound.silence(100), 8000)
        with pytest.raises(sound.SoundError, match="silent"):
            sound.background_noise(tmp_path / "silent.wav")


class TestEcho:
    FRAME = 160

    def frames(self, pcm: bytes) -> list[bytes]:
        size = self.FRAME * SAMPLE_BYTES
        return [pcm[start : start + size] for start in range(0, len(pcm), size)]

    def run(self, echo: sound.Echo, heard: bytes) -> bytes:
        back = b""
        for number, frame in enumerate(self.frames(heard)):
            echo.feed(number * self.FRAME, frame)
            back += echo.at(number * self.FRAME, self.FRAME)
        return back

    def test_nothing_comes_back_unless_it_is_switched_on(self) -> None:
        assert not any(self.run(sound.Echo(), sound.hum(400)))

    def test_it_comes_back_later_and_as_loud_as_asked(self) -> None:
        echo = sound.Echo(delay_ms=80)
        echo.level_dbfs = -45.0
        heard = sound.hum(600, -18.0)
        back = self.run(echo, heard)
        delay = 80 * sound.SAMPLES_PER_MS * SAMPLE_BYTES
        assert not any(back[:delay])
        assert level.dbfs(back[delay:]) == pytest.approx(-45.0, abs=1.0)

    def test_frames_that_lie_between_two_of_the_senders_are_put_together(self) -> None:
        echo = sound.Echo(delay_ms=20)
        echo.level_dbfs = 0.0
        echo.feed(0, b"\x10\x00" * self.FRAME)
        echo.feed(self.FRAME, b"\x20\x00" * self.FRAME)
        values = sound._values(echo.at(self.FRAME + 60, self.FRAME))
        assert values[0] > 0
        assert values[99] < values[100]


class TestSpeech:
    async def say(self, *texts: str) -> list[bytes]:
        return await sound.speech([parse_say(text) for text in texts])

    @pytest.fixture
    def texts(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What eSpeak NG is asked for; each text becomes 200 ms of sound in silence."""
        asked: list[str] = []

        async def prepare(steps, voice: str, speed: float) -> dict[int, bytes]:
            asked.extend(step.text for step in steps)
            pcm = sound.silence(50) + sound.noise(200) + sound.silence(50)
            return dict.fromkeys(range(len(steps)), pcm)

        monkeypatch.setattr(sound, "prepare", prepare)
        return asked

    async def test_a_pause_is_silence_of_its_length(self, texts: list[str]) -> None:
        (pcm,) = await self.say("My number is [pause 700] four two.")
        assert texts == ["My number is,", "four two"]
        assert duration_ms(pcm) == pytest.approx(1100, abs=10)
        assert longest_silence_ms(pcm) == pytest.approx(700, abs=20)

    async def test_who_goes_on_is_spoken_so(self, texts: list[str]) -> None:
        await self.say("I would like to...", "Where is my card?")
        assert texts == ["I would like to,", "Where is my card?"]

    async def test_a_text_of_digits_is_spoken(self, texts: list[str]) -> None:
        await self.say("4271", "4 2 [pause 300] 7 1")
        assert texts == ["4271", "4 2,", "7 1"]

    async def test_each_text_gets_its_own_sound(self, texts: list[str]) -> None:
        first, second = await self.say("[pause 400]", "hello")
        assert first == sound.silence(400)
        assert duration_ms(second) == pytest.approx(200, abs=5)

    async def test_a_mumble_has_only_low_sounds(self, texts: list[str]) -> None:
        pcm = await sound.mumble(500, -24.0)
        assert duration_ms(pcm) == 500
        assert level.dbfs(pcm) == pytest.approx(-24.0, abs=0.5)
        assert sound.audioop.cross(pcm, SAMPLE_BYTES) < 0.3 * sound.audioop.cross(sound.noise(500), SAMPLE_BYTES)
