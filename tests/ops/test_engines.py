"""The table of engines holds every engine, and choosing one that is not there says so before anything starts."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from config.load import ConfigError, load
from config.settings import Settings
from ops import engine_checks, engines
from ops.engine_checks import check_choices, check_models, check_others, problems
from ops.engines import ENGINE_PACKAGES, FOLDERS, STAGES, choices, lacking, models_wanted, names, overrides
from ops.models.store import Store
from tests.ops.conftest import Command

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HEAVY = ("vosk", "faster_whisper", "ctranslate2", "av", "piper", "kokoro_onnx", "llama_cpp", "pipecat", "onnxruntime")


def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None)


def everything_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: object())


@pytest.mark.parametrize("what", FOLDERS)
def test_every_file_of_an_engine_has_a_row(what: str) -> None:
    assert set(names(what)) == {name for kind, name in ENGINE_PACKAGES if kind == what}


def test_every_extra_of_the_table_is_one_and_brings_the_packages() -> None:
    extras = PROJECT["optional-dependencies"]
    for (what, name), needs in ENGINE_PACKAGES.items():
        assert bool(needs.packages) == bool(needs.extra), (what, name)
        if not needs.extra:
            continue
        brought = {re.split(r"[\[<>=;]", each)[0].replace("-", "_") for each in extras[needs.extra]}
        distributions = importlib.metadata.packages_distributions()
        for package in needs.packages:
            known = {each.replace("-", "_") for each in distributions.get(package, [package])}
            assert known & brought or package in brought or f"{package}_python" in brought, (what, name, package)


@pytest.mark.parametrize("key", [key for key in ENGINE_PACKAGES if key[0] in STAGES], ids="-".join)
def test_the_row_names_what_the_engine_imports(key: tuple[str, str]) -> None:
    what, name = key
    text = (FOLDERS[what] / f"{name}.py").read_text(encoding="utf-8")
    asked = set(re.findall(r"installed\(\s*\"\w+\",\s*\{\"(\w+)\"", text))
    assert asked <= set(ENGINE_PACKAGES[key].packages), f"{name} imports {asked}"


def test_the_section_of_a_model_has_one() -> None:
    for (_, name), needs in ENGINE_PACKAGES.items():
        if needs.model:
            assert getattr(Settings(), name).model


def test_nothing_heavy_is_imported_to_look() -> None:
    code = (
        "import sys; from config.load import load; from ops.engine_checks import *; s = load({});"
        "check_choices(s); check_others(s); check_models(s); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, timeout=60)
    assert not set(HEAVY) & set(done.stdout.decode().split())


def test_choices_are_the_engine_its_fallbacks_and_what_listens() -> None:
    settings = load({"CALLBUS_ASR__ENGINE": "vosk", "CALLBUS_ASR__FALLBACKS": "faster_whisper, pocketsphinx"})
    assert [(choice.title, choice.engine) for choice in choices(settings)] == [
        ("asr engine", "vosk"),
        ("asr fallback 1", "faster_whisper"),
        ("asr fallback 2", "pocketsphinx"),
        ("llm engine", "scripted"),
        ("tts engine", "espeak"),
        ("vad engine", "silero"),
        ("turn model", "smart_turn"),
    ]
    assert [wanted.name for wanted in models_wanted(settings)] == [settings.vosk.model, settings.faster_whisper.model]


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_installed(monkeypatch)
    settings = load({"CALLBUS_ASR__FALLBACKS": "vosk"})
    found = {check.name: check for check in check_choices(settings)}
    assert found["asr engine"].mend == "pip install 'callbus[pocketsphinx]'"
    assert found["asr fallback 1"].finding == "vosk needs vosk"
    assert found["llm engine"].state == "ok", "scripted needs nothing"
    assert lacking("tts", "kokoro") == ["kokoro_onnx", "soxr"]
    assert "tts engine: espeak needs espeakng_loader, soxr: pip install 'callbus[espeak]'" in problems(settings)


def test_a_model_that_is_missing_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    everything_installed(monkeypatch)
    folder = {"CALLBUS_MODELS__FOLDER": str(tmp_path)}
    settings = load({"CALLBUS_TTS__ENGINE": "piper", **folder})
    (found,) = [check for check in check_choices(settings) if check.state != "ok"]
    assert (found.name, found.mend) == ("piper model", "callbus models pull en_US-ljspeech-medium")
    (tmp_path / "en_US-ljspeech-medium").mkdir()
    assert problems(settings) == []
    by_path = load({"CALLBUS_TTS__ENGINE": "piper", "CALLBUS_PIPER__MODEL": str(tmp_path / "none"), **folder})
    assert "no such file" in problems(by_path)[0]
    empty = load({"CALLBUS_TTS__ENGINE": "piper", "CALLBUS_PIPER__MODEL": "", **folder})
    assert "is empty" in problems(empty)[0]


def test_an_engine_that_is_none_is_named_and_an_own_class_is_let_be() -> None:
    wrong = load({"CALLBUS_LLM__ENGINE": "llama"})
    (found,) = [check for check in check_choices(wrong) if check.state != "ok"]
    assert "there is no 'llama' in services/llm/engines" in found.finding
    assert "scripted" in found.mend
    own = load({"CALLBUS_LLM__ENGINE": "my.bank:Engine"})
    assert [check.state for check in check_choices(own)] == ["ok"] * len(choices(own))


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, True),
        ({"CALLBUS_ELEVENLABS__API_KEY": "secret"}, False),
        ({"CALLBUS_ELEVENLABS__API_KEY_FILE": "/no/such/file"}, True),
    ],
)
def test_a_key_that_is_missing_is_named_and_never_shown(
    given: dict[str, str], missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything_installed(monkeypatch)
    monkeypatch.delenv("ELEVENLABS_API_KEY", raising=False)
    settings = load({"CALLBUS_TTS__ENGINE": "elevenlabs", **given})
    found = [check for check in check_choices(settings) if check.name == "tts key"]
    assert bool(found) == missing
    assert "secret" not in repr(check_choices(settings))
    monkeypatch.setenv("ELEVENLABS_API_KEY", "secret")
    unreadable = "CALLBUS_ELEVENLABS__API_KEY_FILE" in given
    assert bool(problems(settings)) == unreadable, "a file that is named must be there"


def test_a_server_of_ones_own_needs_no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    everything_installed(monkeypatch)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    own = {"CALLBUS_LLM__ENGINE": "openai", "CALLBUS_OPENAI__BASE_URL": "http://127.0.0.1:8000/v1"}
    assert problems(load(own)) == []
    assert "OPENAI_API_KEY" in problems(load({"CALLBUS_LLM__ENGINE": "openai"}))[0]
    key = tmp_path / "key"
    key.write_text("secret")
    named = {"CALLBUS_LLM__ENGINE": "openai", "CALLBUS_OPENAI__API_KEY_FILE": str(key)}
    assert problems(load(named)) == []


def test_every_engine_is_listed_as_installed_or_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_installed(monkeypatch)
    found = check_others(load({"CALLBUS_TTS__ENGINE": "piper"}))
    assert [check.finding for check in found if check.state == "ok"] == [
        "installed: instant",
        "installed: instant, scripted (chosen)",
        "installed: instant",
    ]
    commands = {check.mend for check in found if check.state == "optional"}
    assert "pip install 'callbus[llama_cpp]'" in commands or "llama_cpp" not in names("llm")
    assert "pip install 'callbus[piper]'" not in commands, "it is chosen, and said to be missing above"


def test_models_are_listed_with_their_state(tmp_path: Path) -> None:
    settings = load({"CALLBUS_MODELS__FOLDER": str(tmp_path / "models")})
    (none,) = check_models(settings)
    assert "none in" in none.finding
    store = Store(tmp_path / "models")
    with store.changing():
        for name in ("good", "damaged", "by-hand", "vosk-model-small-en-us-0.15"):
            store.path_of(name).write_bytes(b"x" * 2000)
            if name != "by-hand":
                store.record(name, {})
    store.path_of("damaged").write_bytes(b"")
    store.path_of("vosk-model-small-en-us-0.15").unlink()
    found = {check.finding.split(",")[0].split(":")[0]: check for check in check_models(settings)}
    assert found["good"].finding == "good, 2 kB, as it was pulled"
    assert (found["damaged"].state, found["damaged"].mend) == ("optional", "callbus models pull damaged")
    assert "by hand" in found["by-hand"].finding
    used = load({"CALLBUS_MODELS__FOLDER": str(tmp_path / "models"), "CALLBUS_ASR__ENGINE": "vosk"})
    assert [check.state for check in check_models(used) if "vosk" in check.finding] == ["missing"]
    (tmp_path / "models" / "models.lock.json").write_text("rubbish")
    assert check_models(settings)[0].state == "missing"


def test_options_become_variables_and_wrong_ones_list_the_names(tmp_path: Path) -> None:
    assert overrides() == {}
    assert overrides("vosk", "my.bank:Engine", "piper", "bank") == {
        "CALLBUS_ASR__ENGINE": "vosk",
        "CALLBUS_LLM__ENGINE": "my.bank:Engine",
        "CALLBUS_TTS__ENGINE": "piper",
        "CALLBUS_LLM__AGENT": "bank",
    }
    with pytest.raises(ConfigError, match=r"--asr vosc: .* instant, .*vosk, or module:Class"):
        overrides(asr="vosc")
    with pytest.raises(ConfigError, match=r"--agent shop: .* bank, or the path"):
        overrides(agent="shop")
    (tmp_path / "shop.toml").write_text("")
    assert overrides(agent=str(tmp_path / "shop.toml"))["CALLBUS_LLM__AGENT"].endswith("shop.toml")
    with pytest.raises(ConfigError):
        overrides(agent=str(tmp_path / "none.toml"))


@pytest.mark.parametrize("command", ["demo", "up"])
class TestBeforeAnythingStarts:
    def test_an_unknown_engine_lists_the_names(self, command: str, callbus: Command) -> None:
        with pytest.raises(ConfigError, match="espeak, instant"):
            callbus(command, "--tts", "esspeak")

    def test_a_missing_model_is_named_with_its_command(
        self, command: str, callbus: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        everything_installed(monkeypatch)
        monkeypatch.setenv("CALLBUS_MODELS__FOLDER", str(tmp_path / "models"))
        monkeypatch.chdir(tmp_path)
        found = callbus(command, "--asr", "vosk", "--tts", "piper")
        assert found.exit_code == 1
        assert "callbus models pull vosk-model-small-en-us-0.15" in found.stderr
        assert "callbus models pull en_US-ljspeech-medium" in found.stderr
        assert "nothing was started" in found.stderr
        assert list(tmp_path.iterdir()) == []

    def test_a_missing_package_is_named_with_its_command(
        self, command: str, callbus: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engine_checks, "lacking", lambda what, name: ["piper"] if name == "piper" else [])
        found = callbus(command, "--tts", "piper")
        assert found.exit_code == 1
        assert "pip install 'callbus[piper]'" in found.stderr
