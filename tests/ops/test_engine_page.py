"""docs/engines.md says of an engine what it says itself: what it can, what installs it, how large its model is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest

from config.engine_sections import (
    ElevenlabsSection,
    FasterWhisperSection,
    KokoroSection,
    OllamaSection,
    OpenaiSection,
    PiperSection,
    VoskSection,
)
from config.settings import AsrSection, LlmSection, Settings
from ops.bench import engine_page
from ops.bench.engine_figures import AUDIO, CALLS, Figures, Task, unmeasured
from ops.bench.engine_page import BEGIN, END, render, with_tables
from ops.bench.engine_subjects import TEST_ENGINE
from ops.engines import ENGINE_PACKAGES, STAGES, lacking, names
from ops.models.manifest import DEFAULT_MANIFEST, read_manifest
from ops.models.showing import size_text
from services.asr.engine import load_engine as load_asr
from services.llm.engine import load_engine as load_llm
from services.tts.engine import load_engine as load_tts
from tests.services.pipecat.making import OWN, settings_for

pytestmark = pytest.mark.contract

PAGE = Path(__file__).resolve().parents[2] / "docs" / "engines.md"
TEXT = PAGE.read_text(encoding="utf-8")
HEADINGS = {"asr": "Speech recognition", "llm": "Language models", "tts": "Speech synthesis"}
COLUMNS = {"streams": "streaming", "partials": "partials", "word times": "word_times", "grammar": "grammars"}
COLUMNS |= {"tools": "tools"}
"""Title of a column -> the capability that it tells."""
RATES = ("sample_rates_hz", "sample_rate_hz")
KEY = "a-key-of-the-tests"


def table(stage: str) -> dict[str, dict[str, str]]:
    """The table of a stage's engines: engine -> title of a column -> cell."""
    _, _, section = TEXT.partition(f"\n## {HEADINGS[stage]}\n")
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    titles, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): dict(zip(titles, row, strict=True)) for row in rows}


ENGINES = [(stage, name) for stage in STAGES for name in names(stage) if name != TEST_ENGINE]


@pytest.mark.parametrize("stage", STAGES)
def test_every_engine_has_a_row(stage: str) -> None:
    assert set(table(stage)) == {name for each, name in ENGINES if each == stage}


@pytest.mark.parametrize(("stage", "name"), ENGINES)
def test_what_installs_it(stage: str, name: str) -> None:
    cell, extra = table(stage)[name]["install"], ENGINE_PACKAGES[stage, name].extra
    assert re.findall(r"`callbus\[(\w+)\]`", cell) == ([extra] if extra else [])


@pytest.mark.parametrize(("stage", "name"), ENGINES)
def test_how_much_is_fetched(stage: str, name: str) -> None:
    cell = table(stage)[name]["model to fetch"]
    if ENGINE_PACKAGES[stage, name].model:
        model = read_manifest(DEFAULT_MANIFEST)[getattr(Settings(), name).model]
        assert cell == size_text(model.size_bytes)
    else:
        assert not re.search(r"\d", cell)


Variants = Callable[[Path], list[Any]]


def _asr_pocketsphinx(folder: Path) -> list[Any]:
    return [load_asr("pocketsphinx", AsrSection()).capabilities]


def _asr_vosk(folder: Path) -> list[Any]:
    from tests.tiny_models import kaldi

    found = []
    for rate_hz, grammars, language in ((8000, True, "en"), (16000, False, "de")):
        model = kaldi.build(
            folder / language, "one two", sample_rate_hz=rate_hz, grammars=grammars, word_times=grammars
        )
        settings = Settings(vosk=VoskSection(model=str(model)), asr=AsrSection(language=language))
        found.append(load_asr("vosk", settings.asr, settings).capabilities)
    return found


def _asr_faster_whisper(folder: Path) -> list[Any]:
    from tests.tiny_models import whisper

    found = []
    for multilingual in (False, True):
        model = whisper.build(folder / str(multilingual), "one two", multilingual=multilingual)
        settings = Settings(faster_whisper=FasterWhisperSection(model=str(model)))
        found.append(load_asr("faster_whisper", settings.asr, settings).capabilities)
    return found


def _asr_pipecat(folder: Path) -> list[Any]:
    found = []
    for service, rate_hz in (("Listener", 8000), ("Segments", 16000)):
        settings = settings_for("stt", f"{OWN}:{service}", {}, sample_rate_hz=rate_hz)
        found.append(load_asr("pipecat", settings.asr, settings).capabilities)
    return found


def _llm(name: str) -> Variants:
    settings = Settings(openai=OpenaiSection(api_key=KEY), ollama=OllamaSection())
    return lambda folder: [load_llm(name, settings.llm, settings).capabilities]


def _llm_scripted(folder: Path) -> list[Any]:
    german = folder / "agent.toml"
    german.write_text(
        '[agent]\nname = "g"\nlanguage = "de"\nstart = "a"\ngive_up = "b"\n[states.a]\nsay = ["Hallo."]\n'
        'listen = ["x"]\n[states.b]\nsay = ["Ende."]\nhang_up = true\n[intents.x]\nphrases = ["ja"]\ngo = "b"\n',
        encoding="utf-8",
    )
    agents = ("bank", str(german))
    return [load_llm("scripted", LlmSection(agent=agent)).capabilities for agent in agents]


def _llm_llama_cpp(folder: Path) -> list[Any]:
    # Of the class: no file is read, and the package is compiled for minutes.
    from services.llm.engines.llama_cpp import LlamaCppModel

    return [LlamaCppModel.capabilities]


def _llm_pipecat(folder: Path) -> list[Any]:
    from services.llm.engines.pipecat import PipecatModel

    return [PipecatModel.capabilities]


def _tts_espeak(folder: Path) -> list[Any]:
    return [load_tts("espeak", Settings().tts).capabilities]


async def _spoken(name: str, *settings: Settings) -> list[Any]:
    found = []
    for each in settings:
        engine = load_tts(name, each.tts, each)
        await engine.warm()
        found.append(engine.capabilities)
        await engine.close()
    return found


def _tts_piper(folder: Path) -> Any:
    from services.tts.engines import piper
    from tests.tiny_models.piper import build_piper_voice

    voices = [
        build_piper_voice(folder, f"v{rate_hz}", sample_rate_hz=rate_hz, aligned=aligned)
        for rate_hz, aligned in ((22050, True), (16000, False))
    ]

    async def spoken() -> list[Any]:
        # Voices are changed to tell their times only where the package onnx is installed.
        with mock.patch.object(piper, "model_with_alignment", lambda path: path):
            sections = [PiperSection(model=str(voice), threads=1) for voice in voices]
            return await _spoken("piper", *(Settings(piper=section) for section in sections))

    return spoken()


def _tts_kokoro(folder: Path) -> Any:
    from tests.tiny_models.kokoro import build_kokoro_model

    for timed in (False, True):
        build_kokoro_model(folder / str(timed), timed=timed)
    sections = (KokoroSection(model=str(folder / str(timed)), threads=1) for timed in (False, True))
    return _spoken("kokoro", *(Settings(kokoro=section) for section in sections))


def _tts_elevenlabs(folder: Path) -> list[Any]:
    found = []
    for rate_hz, timed in ((8000, True), (24000, False)):
        section = ElevenlabsSection(api_key=KEY, sample_rate_hz=rate_hz, word_times=timed)  # type: ignore[arg-type]
        settings = Settings(elevenlabs=section)
        found.append(load_tts("elevenlabs", settings.tts, settings).capabilities)
    return found


def _tts_pipecat(folder: Path) -> list[Any]:
    found = []
    for rate_hz in (8000, 16000):
        settings = settings_for("tts", f"{OWN}:Voice", {}, sample_rate_hz=rate_hz)
        found.append(load_tts("pipecat", settings.tts, settings).capabilities)
    # What a service knows of its words shows when it has spoken once.
    return [found[0], found[1]._replace(word_times=True)]


MADE: dict[tuple[str, str], Callable[[Path], Any]] = {
    ("asr", "pocketsphinx"): _asr_pocketsphinx,
    ("asr", "vosk"): _asr_vosk,
    ("asr", "faster_whisper"): _asr_faster_whisper,
    ("asr", "pipecat"): _asr_pipecat,
    ("llm", "scripted"): _llm_scripted,
    ("llm", "llama_cpp"): _llm_llama_cpp,
    ("llm", "openai"): _llm("openai"),
    ("llm", "ollama"): _llm("ollama"),
    ("llm", "pipecat"): _llm_pipecat,
    ("tts", "espeak"): _tts_espeak,
    ("tts", "piper"): _tts_piper,
    ("tts", "kokoro"): _tts_kokoro,
    ("tts", "elevenlabs"): _tts_elevenlabs,
    ("tts", "pipecat"): _tts_pipecat,
}
"""Engine -> its capabilities with unlike models: what differs between them must not stand on the page as certain."""
BRINGS = {"vosk": "numpy", "faster_whisper": "tokenizers", "piper": "onnx", "kokoro": "onnx"}
"""What the tests build a model with."""


@pytest.mark.parametrize(("stage", "name"), ENGINES)
async def test_what_it_can_do(stage: str, name: str, tmp_path: Path) -> None:
    missing = [] if (stage, name) == ("llm", "llama_cpp") else lacking(stage, name)
    if missing:
        pytest.skip(f"{name} needs {', '.join(missing)}: pip install 'callbus[{ENGINE_PACKAGES[stage, name].extra}]'")
    if name in BRINGS:
        pytest.importorskip(BRINGS[name], reason=f"{BRINGS[name]} is missing, which builds the test's model")
    made = MADE[stage, name](tmp_path)
    found = made if isinstance(made, list) else await made
    row = table(stage)[name]
    for title, attribute in COLUMNS.items():
        if title in row:
            assert says(row[title], {getattr(each, attribute) for each in found}), f"{title}: {row[title]}"
    if "audio" in row:
        rates = {getattr(each, next(rate for rate in RATES if hasattr(each, rate))) for each in found}
        assert says_rate(row["audio"], rates), row["audio"]
    if stage != "tts":
        assert says_languages(row["languages"], {each.languages for each in found}), row["languages"]


def says(cell: str, values: set[bool]) -> bool:
    """Whether a cell is true of engines with these values."""
    if len(values) > 1:
        return cell.startswith("as the ")
    return cell == ("yes" if True in values else "no")


def says_rate(cell: str, values: set[Any]) -> bool:
    if len(values) > 1:
        return cell.startswith("as the ")
    (value,) = values
    rate_hz = value[0] if isinstance(value, tuple) else value
    return cell == f"{rate_hz:,} Hz"


def says_languages(cell: str, values: set[tuple[str, ...]]) -> bool:
    if len(values) > 1:
        return cell.startswith("as the ")
    (value,) = values
    return cell == (", ".join(value) or "any")


def test_the_page_can_say_something_wrong() -> None:
    assert not says("yes", {True, False})
    assert not says("no", {True})
    assert not says("as the model", {True})
    assert not says_rate("8,000 Hz", {(16000,)})
    assert not says_languages("any", {("en",)})


def test_kokoros_languages_are_those_of_its_voices() -> None:
    from services.tts.engines.kokoro import LANGUAGES

    spoken = {code.partition("-")[0] for code in LANGUAGES.values()}
    assert set(table("tts")["kokoro"]["languages"].split(", ")) == spoken


def test_every_engine_that_can_be_advised_exists() -> None:
    _, _, section = TEXT.partition("\n## For what\n")
    named = set(re.findall(r"\| (?:`(\w+)`)", section.partition("\n## ")[0]))
    assert named <= {name for _, name in ENGINES}
    assert named


def results(stage: str, label: str, reason: str = "") -> dict[str, Any]:
    """What the bench writes of one engine, as JSON comes back."""

    figures = Figures(Task(stage=stage, engine="", label=label, seconds=0))
    figures.spread(AUDIO, [120.0, 240.0])
    figures.speech_work(0.1, 0.2, 1.0, 0.4, streams=True)
    made = [unmeasured(stage, label, reason)] if reason else figures.made
    document = {"at": "2027-01-02T03:04:05", "machine": {"cores": 2, "load": [0.5, 0.4, 0.3]}, "figures": made}
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
    return found


class TestMeasured:
    def test_the_page_has_a_place_for_the_tables(self) -> None:
        assert with_tables(TEXT, "x").count(f"{BEGIN}\nx\n{END}") == 1

    def test_a_row(self) -> None:
        text = render([results("tts", "piper (random-medium)"), results("tts", "kokoro", "its model is not here")])
        assert "Measured on 2027-01-02, 2 cores, mean load 0.4." in text
        assert "| `piper`, medium (random weights: cost only) | 120, 240 ms | 0.10, 0.20 s | 25 |" in text
        assert "- tts `kokoro`: its model is not here" in text

    def test_a_later_run_counts_and_one_model_is_enough(self) -> None:
        text = render([results("tts", "piper", "no model"), results("tts", "piper"), results("tts", "piper (a)")])
        assert "no model" not in text
        assert text.count("`piper`") == 2

    def test_a_model_that_could_not_be_measured_is_told_beside_those_that_could(self) -> None:
        text = render([results("tts", "piper (a)"), results("tts", "piper (b)", "no figures within 600 s")])
        assert "- tts `piper (b)`: no figures within 600 s" in text

    def test_tables_are_written_between_the_marks_alone(self) -> None:
        page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
        assert with_tables(page, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
        for wrong in ("nothing", f"{BEGIN}\nno end", page + page):
            with pytest.raises(ValueError, match="once each"):
                with_tables(wrong, "new")

    def test_the_command(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

        page, file = tmp_path / "page.md", tmp_path / "results.json"
        page.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
        file.write_bytes(msgspec.json.encode(results("tts", "espeak")))
        monkeypatch.setattr(engine_page, "PAGE", page)
        engine_page.main([str(file)])
        assert "`espeak`" in page.read_text(encoding="utf-8")

    def test_calls_per_core_are_no_more_exact_than_they_are(self) -> None:
        row = engine_page.Row("tts", "it", {})
        for value, text in ((1500.0, "over 1,000"), (123.4, "123"), (0.86, "0.9")):
            row.figures[CALLS] = {"value": value}
            assert engine_page._calls(row) == text
