"""The bench of engines: what can be measured, what is counted, and that no engine takes the bench along."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from config.engine_sections import ModelsSection, PiperSection, VoskSection
from config.settings import LlmSection, Settings, TtsSection
from ops.bench import engine_subjects
from ops.bench.engine_figures import Figures, Sound, Task, unmeasured
from ops.bench.engine_subjects import Subject, subjects
from ops.bench.engines import run_task
from ops.bench.engines_asr import Clock, count_words, hear, hear_all, plain_words
from ops.bench.engines_llm import CALLS_AT_LEAST, QUESTIONS, Turn, Watched, figures_of, talk_all
from ops.bench.engines_tts import speak_all
from ops.bench.results import Figure, table_lines
from ops.commands.bench import BENCHES
from ops.engines import STAGES, names
from schemas.llm import ListenFor
from services.asr.engine import Capabilities, Transcript
from services.llm.engine import load_engine as load_llm
from services.tts.engine import load_engine as load_tts
from tests.services.llm.chat.model import FakeModel, agent_section, says

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
FRAME = bytes(320)


def task(stage: str, engine: str = "", **given: object) -> Task:
    return Task(stage=stage, engine=engine, label=engine or "it", seconds=0.0, **given)  # type: ignore[arg-type]


def statistics_of(figures: Sequence[Figure]) -> dict[str, dict[str, float]]:
    return {figure.name.split(": ")[1]: figure.statistics for figure in figures}


class VirtualTime:
    """A clock that only moves where somebody waits or works."""

    def __init__(self) -> None:
        self.at = 0.0
        self.worked = 0.0

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        self.at += seconds

    def work(self, seconds: float) -> None:
        self.at += seconds
        self.worked += seconds

    def clock(self) -> Clock:
        return Clock(lambda: self.at, lambda: self.worked, self.wait)


class SlowEngine:
    """Needs ``accept_s`` for each piece and ``finish_s`` at the end; its partial comes with the third piece."""

    name = "slow"

    def __init__(self, time: VirtualTime, accept_s: float, finish_s: float, text: str, rate_hz: int = 8000) -> None:
        self.time, self.accept_s, self.finish_s, self.text = time, accept_s, finish_s, text
        self.capabilities = Capabilities(sample_rates_hz=(rate_hz,))
        self.pieces: list[int] = []

    def warm(self) -> None: ...

    def open(self, listen_for: ListenFor) -> SlowEngine:
        assert listen_for.phrases
        self.pieces = []
        return self

    def accept(self, pcm: bytes) -> str | None:
        self.time.work(self.accept_s)
        self.pieces.append(len(pcm))
        return "yes" if len(self.pieces) >= 3 else None

    def finish(self) -> Transcript:
        self.time.work(self.finish_s)
        return Transcript(self.text)

    def cancel(self) -> None: ...


class TestHearing:
    def test_an_engine_in_time_gets_audio_as_it_comes(self) -> None:
        time = VirtualTime()
        engine = SlowEngine(time, 0.001, 0.030, "yes")
        heard = hear(engine, FRAME * 50, time.clock())
        assert set(engine.pieces[:-1]) == {960}
        assert sum(engine.pieces) == 50 * 320
        # The third batch of 60 ms, 300 ms of which is before the onset: so early nobody hears; the figure is honest.
        assert heard.partial_ms == pytest.approx(180 + 1 - 300, abs=0.5)
        assert heard.final_ms == pytest.approx(31, abs=0.5)
        assert heard.busy_s == pytest.approx(0.001 * len(engine.pieces) + 0.030)

    def test_an_engine_behind_its_audio_is_late_at_the_end(self) -> None:
        time = VirtualTime()
        engine = SlowEngine(time, 0.200, 0.0, "yes")
        heard = hear(engine, FRAME * 50, time.clock())
        assert max(engine.pieces) == 1600
        assert sum(engine.pieces) == 50 * 320
        assert heard.final_ms > 1000
        assert time.at == pytest.approx(1.0 + heard.final_ms / 1000)

    def test_another_rate_is_made_of_the_telephones(self) -> None:
        time = VirtualTime()
        engine = SlowEngine(time, 0.0, 0.0, "", 16000)
        hear(engine, FRAME * 50, time.clock())
        assert sum(engine.pieces) == 50 * 640

    def test_the_figures(self) -> None:
        time = VirtualTime()
        engine = SlowEngine(time, 0.003, 0.010, "Yes.")
        sounds = (Sound("yes thank you", FRAME * 60), Sound("no", FRAME * 60))
        found = hear_all(engine, task("asr", sounds=sounds), time.clock())
        figures = statistics_of(found.made)
        work = figures["work per second of speech"]
        assert [work["cpu"], work["wall"]] == pytest.approx([(20 * 0.003 + 0.010) / 1.2] * 2)
        assert work["speech_s"] == pytest.approx(12 * 1.2)
        assert figures["calls per core"]["value"] == pytest.approx(1 / work["cpu"] / 0.4)
        assert figures["words right"] == {"value": pytest.approx(25.0), "n": 24, "too_many": 6}
        assert figures["final after the end of the audio"]["n"] == 12
        assert [figure.within for figure in found.made if figure.limits] == [True]

    def test_who_does_not_stream_has_no_limit_and_who_gives_no_partials_no_figure_of_them(self) -> None:
        time = VirtualTime()
        engine = SlowEngine(time, 0.2, 0.010, "")
        engine.capabilities = Capabilities(streaming=False, partials=False)
        engine.accept = lambda pcm: time.work(0.1)  # type: ignore[method-assign, assignment, func-returns-value]
        found = hear_all(engine, task("asr", sounds=(Sound("no", FRAME * 60),)), time.clock())
        assert "first partial after the onset of speech" not in statistics_of(found.made)
        assert not [figure for figure in found.made if figure.limits]


@pytest.mark.parametrize(
    ("said", "heard", "counts"),
    [
        ("four two seven one", "4271.", (4, 4, 0)),
        ("where is my card", "Where is my old card?", (4, 4, 1)),
        ("no thank you", "thank no", (1, 3, 1)),
        ("no thank you", "", (0, 3, 0)),
        ("i don't know", "I don't know!", (3, 3, 0)),
    ],
)
def test_words_are_counted_as_they_were_said(said: str, heard: str, counts: tuple[int, int, int]) -> None:
    assert count_words(said, heard) == counts


def test_plain_words() -> None:
    assert plain_words("It's 42, Alex-Morgan!") == ["it's", "four", "two", "alex", "morgan"]


class TestSubjects:
    def test_every_engine_is_there_and_those_that_can_not_be_measured_say_why(self, tmp_path: Path) -> None:
        found = subjects(Settings(models=ModelsSection(folder=str(tmp_path))))
        for stage in STAGES:
            assert {each.engine for each in found if each.stage == stage} == set(names(stage))
        reasons = {(each.stage, each.engine): each.reason for each in found}
        assert reasons["asr", "instant"]
        assert reasons["tts", "kokoro"] == "its model is not here: callbus models pull kokoro-v1.0"
        assert reasons["tts", "espeak"] == reasons["llm", "scripted"] == ""
        assert str(tmp_path) not in str(reasons)

    def test_nothing_is_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engine_subjects, "lacking", lambda stage, engine: ["x"] if engine == "piper" else [])
        (piper,) = [each for each in subjects(Settings()) if each.engine == "piper"]
        assert piper.reason == "not installed: pip install 'callbus[piper]'"

    def test_the_settings_model_those_of_the_list_and_the_trained_ones(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trained = tmp_path / "trained" / "vosk-tiny-bank-en-8k"
        for folder in (trained, tmp_path / "models" / "vosk-model-small-de-0.15", tmp_path / "own"):
            folder.mkdir(parents=True)
        monkeypatch.setenv("CALLBUS_TEST_MODELS", str(trained.parent))
        monkeypatch.setattr(engine_subjects, "lacking", lambda stage, engine: [])
        settings = Settings(
            models=ModelsSection(folder=str(tmp_path / "models")), vosk=VoskSection(model=str(tmp_path / "own"))
        )
        found = [each for each in subjects(settings) if each.engine == "vosk"]
        assert [each.label for each in found] == [
            "vosk (own)", "vosk (vosk-model-small-de-0.15)", "vosk (vosk-tiny-bank-en-8k)",
        ]  # fmt: skip
        assert [set(each.environment) for each in found] == [{"CALLBUS_VOSK__MODEL"}] * 3

    def test_a_path_that_leads_nowhere_is_told_as_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engine_subjects, "lacking", lambda stage, engine: [])
        found = subjects(Settings(piper=PiperSection(model="./none.onnx")))
        (piper,) = [each for each in found if each.engine == "piper"]
        assert piper.reason == "[piper] model = './none.onnx': there is no such file or folder"

    def test_a_class_of_ones_own(self) -> None:
        found = subjects(Settings(tts=TtsSection(engine="my.module:Voice")))
        assert found[-1] == Subject("tts", "my.module:Voice")


class TestTalking:
    async def test_the_scripted_agent_answers(self) -> None:
        calls = await talk_all(load_llm("scripted", LlmSection()), task("llm"))
        assert [len(call) for call in calls] == [len(QUESTIONS)] * CALLS_AT_LEAST
        assert all(turn.sentence_ms for call in calls for turn in call)
        figures = statistics_of(figures_of(task("llm"), calls, None).made)
        assert "time to the first token" not in figures
        assert figures["calls per core"]["value"] > 0

    async def test_a_model_is_watched(self, tmp_path: Path) -> None:
        from services.llm.chat.engine import ChatEngine

        model = FakeModel(says("Your card is on its way. It will arrive on Monday."))
        engine = ChatEngine(model, agent_section(tmp_path))
        engine.model = watched = Watched(model)
        await engine.warm()
        calls = await talk_all(engine, task("llm"))
        # This agent has no greeting of its own, so the model makes one.
        assert len(watched.rates) == CALLS_AT_LEAST * (1 + len(QUESTIONS))
        # What was said stands in the next prompt.
        assert any("It will arrive" in message.text for message in model.requests[-1].messages)
        assert all(turn.token_ms is not None for call in calls for turn in call)

    def test_what_is_prepared_counts_by_itself(self) -> None:
        calls = [
            [Turn(first, None, 0.1, 0.02), Turn(later, None, 0.1, 0.02)] for first, later in ((900, 50), (200, 40))
        ]
        figures = statistics_of(figures_of(task("llm"), calls, None).made)
        assert figures["time to the first token"] == {"first_ever": 900, "new_call": 200, "later_turn": 45}
        assert figures["calls per core"]["value"] == pytest.approx(10 / 0.02)

    def test_of_a_server_only_our_own_work_is_told(self) -> None:
        calls = [[Turn(1, 2, 0.1, 0.02)]]
        found = figures_of(task("llm", remote=True), calls, None).made
        assert "calls per core" not in statistics_of(found)
        assert [figure.note for figure in found if "work" in figure.name] == [
            "cpu is that of this process; the model's is the server's"
        ]


async def test_speech_is_measured() -> None:
    engine = load_tts("instant", TtsSection())
    figures = statistics_of((await speak_all(engine, task("tts"), ("Hello there.",))).made)
    assert figures["time to the first audio"]["n"] == 2
    assert figures["work per second of speech"]["speech_s"] > 0


async def test_an_engine_without_a_sound_has_failed() -> None:
    with pytest.raises(RuntimeError, match="gave no sound"):
        await speak_all(load_tts("instant", TtsSection()), task("tts", remote=True), ())


class TestProcess:
    @pytest.mark.parametrize(
        ("engine", "reason"),
        [
            ("Dies", r"its process ended with status 3: the library says why"),
            ("Refuses", r"\[odd\] setting: not like this"),
            ("Fails", r"ValueError: no"),
        ],
    )
    async def test_an_engine_that_fails_takes_only_its_process_along(
        self, engine: str, reason: str, tmp_path: Path
    ) -> None:
        outcome = await run_task(task("asr", f"tests.ops.bench.odd_engines:{engine}"), {}, tmp_path, 60)
        assert re.fullmatch(reason, outcome.reason)

    async def test_an_engine_that_hangs_is_given_up(self, tmp_path: Path) -> None:
        started = time.monotonic()
        outcome = await run_task(task("asr", "tests.ops.bench.odd_engines:Hangs"), {}, tmp_path, 3)
        assert outcome.reason == "no figures within 3 s"
        assert time.monotonic() - started < 30

    async def test_figures_come_out_of_a_process(self, tmp_path: Path) -> None:
        outcome = await run_task(task("llm", "scripted"), {}, tmp_path, 60)
        assert not outcome.reason
        assert "memory over a bare worker" in statistics_of(outcome.figures)


def test_a_row_without_figures_can_be_shown() -> None:
    figure = unmeasured("tts", "kokoro", "its model is not here")
    (line,) = table_lines([figure])
    assert line.split("  ")[0] == "engines: tts kokoro: not measured"
    assert line.endswith("its model is not here")
    assert json.dumps(figure.statistics) == "{}"


def test_an_engine_slower_than_speech_is_over_its_limit() -> None:
    figures = Figures(task("tts"))
    figures.speech_work(3.0, 3.0, 2.0, 0.4, streams=True)
    assert [figure.within for figure in figures.made] == [False, None]


class TestMake:
    @staticmethod
    def would_run(*words: str) -> list[str]:
        made = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=True)
        return [line.split("/")[-1] for line in made.stdout.splitlines() if "bin/callbus" in line]

    def test_make_bench_engines_measures_and_installs_no_engine(self) -> None:
        assert self.would_run("bench", "engines") == ["callbus bench engines"]
        assert self.would_run("bench", "BENCH=engines") == ["callbus bench engines"]
        assert self.would_run("bench", "hop", "vad") == ["callbus bench hop vad"]

    def test_make_engines_still_installs_them(self) -> None:
        made = subprocess.run(
            ["make", "-n", "-W", "pyproject.toml", "engines"], cwd=ROOT, capture_output=True, text=True
        )
        assert "requirements/engines.txt" in made.stdout or "up to date" in made.stdout + made.stderr
        assert "callbus bench" not in made.stdout

    def test_the_makefile_knows_the_benches(self) -> None:
        (line,) = re.findall(r"^BENCHES := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(line.split()) == set(BENCHES)
