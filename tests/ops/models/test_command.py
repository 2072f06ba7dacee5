"""``callbus models`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result

from ops.models import showing
from ops.models.download import Limits
from ops.models.pull import Puller
from tests.fakes.model_server import ModelServer
from tests.ops.conftest import Command
from tests.ops.models.conftest import noise, sha256

pytestmark = pytest.mark.integration

DATA = noise(50_000)


@pytest.fixture
def folder(tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models' folder, a manifest with two models of a local server, and settings that name one of them."""
    server.put("/mine.gguf", DATA)
    server.put("/loose.onnx", b"voice")
    manifest = tmp_path / "models.toml"
    manifest.write_text(
        f'[[model]]\nname = "mine.gguf"\nengine = "llama_cpp"\nlanguage = "en"\nlicence = "MIT"\n'
        f'files = [{{ url = "{server.address("/mine.gguf")}", size_bytes = {len(DATA)}, sha256 = "{sha256(DATA)}" }}]\n'
        f'[[model]]\nname = "loose"\nengine = "piper"\nlanguage = "de"\nlicence = "MIT"\n'
        f'files = [{{ url = "{server.address("/loose.onnx")}", path = "loose.onnx" }}]\n'
    )
    monkeypatch.setenv("CALLBUS_MODELS__FOLDER", str(tmp_path / "models"))
    monkeypatch.setenv("CALLBUS_MODELS__MANIFEST", str(manifest))
    monkeypatch.setenv("CALLBUS_LLM__ENGINE", "llama_cpp")
    monkeypatch.setenv("CALLBUS_LLAMA_CPP__MODEL", "mine.gguf")
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "models"


def rows(result: Result) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in json.loads(result.stdout)}


def test_the_list_says_what_is_here_what_is_used_and_what_is_not_pinned(callbus: Command, folder: Path) -> None:
    found = callbus("models", "list")
    assert found.exit_code == 0
    mine = next(line for line in found.stdout.splitlines() if line.startswith("mine.gguf"))
    assert mine.split() == ["mine.gguf", "llama_cpp", "en", "50", "kB", "MIT", "not", "here,", "in", "use"]
    assert "not pinned" in next(line for line in found.stdout.splitlines() if line.startswith("loose"))
    assert str(folder) in found.stdout
    assert callbus("models", "pull", "mine.gguf", "loose").exit_code == 0
    there = rows(callbus("models", "list", "--json"))
    assert there["mine.gguf"]["here"] and there["mine.gguf"]["in_use"] and there["mine.gguf"]["pinned"]
    assert there["loose"]["size_bytes"] == 5, "what is here has a size"


def test_the_list_can_be_of_one_engine(callbus: Command, folder: Path) -> None:
    assert {row["engine"] for row in rows(callbus("models", "list", "--engine", "piper", "--json")).values()} == {
        "piper"
    }
    wrong = callbus("models", "list", "--engine", "pipper")
    assert wrong.exit_code != 0
    assert "there are models for" in wrong.output


def test_a_pull_without_a_name_pulls_what_the_settings_name(callbus: Command, folder: Path) -> None:
    found = callbus("models", "pull")
    assert found.exit_code == 0
    assert f"mine.gguf: pulled, 50 kB, {folder / 'mine.gguf'}" in found.stdout
    assert "fetching mine.gguf (50 kB)" in found.stderr
    assert not (folder / "loose").exists()
    assert "is here" in callbus("models", "pull").stdout


def test_settings_that_need_no_model_pull_none(
    callbus: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, server: ModelServer
) -> None:
    monkeypatch.setenv("CALLBUS_LLM__ENGINE", "scripted")
    found = callbus("models", "pull")
    assert found.exit_code == 0
    assert "need no model" in found.stdout
    assert server.asked == []


def test_a_model_of_the_settings_that_is_a_path_is_not_pulled(
    callbus: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLBUS_LLAMA_CPP__MODEL", "/somewhere/my.gguf")
    assert "need no model" in callbus("models", "pull").stdout


def test_a_fallbacks_model_is_pulled_too(callbus: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBUS_LLM__ENGINE", "scripted")
    monkeypatch.setenv("CALLBUS_LLM__FALLBACKS", "openai, llama_cpp")
    assert "mine.gguf: pulled" in callbus("models", "pull").stdout


def test_a_pull_as_json_is_lines_of_it(callbus: Command, folder: Path) -> None:
    found = callbus("models", "pull", "mine.gguf", "--json")
    events = [json.loads(line) for line in found.stdout.splitlines()]
    assert [event["event"] for event in events if event["event"] != "progress"] == ["file", "here"]
    assert events[-2] == {
        "model": "mine.gguf",
        "event": "progress",
        "file": "mine.gguf",
        "done_bytes": len(DATA),
        "size_bytes": len(DATA),
    }
    assert events[-1]["path"] == str(folder / "mine.gguf")


def test_on_a_terminal_there_is_a_bar(callbus: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.commands.models.shown_for", lambda as_json: showing.Bar())
    found = callbus("models", "pull", "mine.gguf", "loose")
    assert found.exit_code == 0, found.output
    assert "mine.gguf" in found.stderr and "50.0/50.0 kB" in found.stderr
    assert str(folder / "mine.gguf") in found.stderr


def test_what_takes_long_is_told_now_and_then(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = showing.Lines()
    watcher = shown.watcher()
    watcher.begin("weights.bin", 0)
    watcher.progress(1_000_000, 4_000_000)
    assert "25 %" not in capsys.readouterr().err
    shown._said -= showing.LINE_EVERY_S
    watcher.progress(1_000_000, 4_000_000)
    assert "weights.bin: 1 MB of 4 MB (25 %)" in capsys.readouterr().err


def test_an_unknown_name_says_where_names_are(callbus: Command, folder: Path) -> None:
    found = callbus("models", "pull", "nothing")
    assert found.exit_code == 2
    assert "callbus models list" in found.output


def test_a_wrong_file_is_an_error_of_one_sentence(callbus: Command, folder: Path, server: ModelServer) -> None:
    server.put("/mine.gguf", noise(len(DATA), seed=7))
    found = callbus("models", "pull", "mine.gguf")
    assert found.exit_code == 1
    assert f"should have {sha256(DATA)}" in found.stderr
    assert not (folder / "mine.gguf").exists()


def test_without_a_network_it_says_how_to_bring_the_files(
    callbus: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://127.0.0.1:9/mine.gguf"
    (tmp_path / "models.toml").write_text(
        f'[[model]]\nname = "mine.gguf"\nengine = "llama_cpp"\nfiles = [{{ url = "{url}" }}]\n'
    )
    quick = Limits(attempts=1)
    monkeypatch.setattr("ops.commands.models.Puller", lambda store, watcher: Puller(store, watcher, quick))
    found = callbus("models", "pull", "mine.gguf")
    assert found.exit_code == 1
    assert url in found.stderr
    assert "callbus models pull mine.gguf --from FOLDER" in found.stderr
    brought = tmp_path / "brought"
    brought.mkdir()
    (brought / "mine.gguf").write_bytes(DATA)
    assert callbus("models", "pull", "mine.gguf", "--from", str(brought)).exit_code == 0
    assert (folder / "mine.gguf").read_bytes() == DATA


def test_from_and_sha256_go_with_one_name(callbus: Command, folder: Path, tmp_path: Path, server: ModelServer) -> None:
    assert callbus("models", "pull", "mine.gguf", "loose", "--from", "x").exit_code == 2
    assert callbus("models", "pull", "mine.gguf", "loose", "--sha256", "a" * 64).exit_code == 2
    other = noise(10, seed=5)
    server.put("/mine.gguf", other)
    assert callbus("models", "pull", "mine.gguf", "--sha256", sha256(other).upper()).exit_code == 0
    wrong = callbus("models", "pull", "new", "--from", server.address("/mine.gguf"), "--sha256", "b" * 64)
    assert wrong.exit_code == 1
    assert callbus("models", "pull", "new", "--from", server.address("/mine.gguf"), "--sha256", "beef").exit_code == 2
    assert callbus("models", "pull", "../new", "--from", server.address("/mine.gguf")).exit_code == 2


def test_verify_finds_what_is_damaged_missing_or_not_here(callbus: Command, folder: Path) -> None:
    assert "no model was pulled" in callbus("models", "verify").stdout
    callbus("models", "pull", "mine.gguf", "loose")
    found = callbus("models", "verify")
    assert found.exit_code == 0
    assert found.stdout.splitlines() == ["ok        loose", "ok        mine.gguf"]
    (folder / "mine.gguf").write_bytes(DATA[:-1])
    (folder / "loose" / "loose.onnx").unlink()
    found = callbus("models", "verify", "mine.gguf", "loose", "nothing")
    assert found.exit_code == 1
    assert "loose.onnx is missing" in found.stdout
    assert "mine.gguf is not as it was put here" in found.stdout
    assert "nothing is not here" in found.stdout
    assert "mend: callbus models pull mine.gguf" in found.stdout
    there = rows(callbus("models", "verify", "--json"))
    assert [there[name]["ok"] for name in ("loose", "mine.gguf")] == [False, False]
    assert callbus("models", "verify", "mine.gguf", "--json").exit_code == 1


def test_verify_says_what_was_put_here_by_hand(callbus: Command, folder: Path) -> None:
    folder.mkdir()
    (folder / "by-hand").write_bytes(b"x")
    found = callbus("models", "verify", "by-hand")
    assert found.exit_code == 1
    assert "by hand" in found.stdout


def test_a_record_that_cannot_be_read_is_one_sentence(callbus: Command, folder: Path) -> None:
    folder.mkdir()
    (folder / "models.lock.json").write_text("rubbish")
    for words in (["verify"], ["list"], ["pull", "mine.gguf"]):
        found = callbus("models", *words)
        assert found.exit_code == 1, words
        assert "remove it" in found.stderr


def test_path_prints_where_a_model_is(callbus: Command, folder: Path) -> None:
    missing = callbus("models", "path", "mine.gguf")
    assert missing.exit_code == 1
    assert "callbus models pull mine.gguf" in missing.stderr
    callbus("models", "pull", "mine.gguf")
    assert callbus("models", "path", "mine.gguf").stdout.strip() == str(folder / "mine.gguf")
    assert callbus("models", "path", "../models.toml").exit_code == 1


def test_a_model_beside_the_manifests_is_listed(callbus: Command, folder: Path, server: ModelServer) -> None:
    callbus("models", "pull", "new", "--from", server.address("/mine.gguf"))
    assert rows(callbus("models", "list", "--json"))["new"]["here"]


@pytest.mark.parametrize(
    ("size", "text"), [(0, "?"), (5, "1 kB"), (2000, "2 kB"), (41_205_931, "41 MB"), (1_117_320_736, "1.1 GB")]
)
def test_sizes_are_said_as_the_hosts_say_them(size: int, text: str) -> None:
    assert showing.size_text(size) == text
