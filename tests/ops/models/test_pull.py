"""A model comes whole or not at all: archives, several files, origins, what is here by hand, and what is damaged."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.synchronize
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ops.models.manifest import Model, ModelFile, problem_of
from ops.models.pull import Puller, PullError, Watcher, by_hand, pinned_to, unknown_model
from ops.models.store import PARTS, RECORDS, Store, StoreError
from tests.fakes.model_server import ModelServer
from tests.ops.models.conftest import QUICK, noise, one_file, sha256, zipped

pytestmark = pytest.mark.integration

DATA = noise(60_000)
ROOT = Path(__file__).resolve().parents[3]
VOSK = {"vosk-model/am/final.mdl": noise(3000), "vosk-model/conf/mfcc.conf": b"--sample-frequency=8000\n"}


def pull(store: Store, model: Model, origin: str = "", watcher: Watcher = Watcher()) -> bool:  # noqa: B008
    with store.changing():
        return Puller(store, watcher, QUICK).pull(model, origin)


def archive_model(server: ModelServer, data: bytes, pinned: bool = False) -> Model:
    server.put("/vosk.zip", data)
    file = ModelFile(url=server.address("/vosk.zip"), sha256=sha256(data) if pinned else "")
    return Model(name="vosk-model", engine="vosk", files=(file,), unpack="zip")


def voice(server: ModelServer) -> Model:
    server.put("/v/voice.onnx", DATA)
    server.put("/v/voice.onnx.json", b"{}")
    files = (ModelFile(url=server.address("/v/voice.onnx")), ModelFile(url=server.address("/v/voice.onnx.json")))
    return Model(name="voice", engine="piper", files=files)


def nothing_is_seen(store: Store, name: str) -> bool:
    return not store.path_of(name).exists()


def two_of_one_name(server: ModelServer) -> Model:
    files = []
    for number, language in enumerate(("en", "de")):
        data = noise(5000, seed=number)
        server.put(f"/{language}/model.onnx", data)
        url = server.address(f"/{language}/model.onnx")
        files.append(ModelFile(url=url, sha256=sha256(data), path=f"{language}/model.onnx"))
    return Model(name="two", engine="piper", files=tuple(files))


@pytest.mark.parametrize("by", ["its addresses", "an address", "a folder"])
def test_two_files_of_one_name_stay_two_files(by: str, server: ModelServer, store: Store, tmp_path: Path) -> None:
    origin = {"its addresses": "", "an address": server.url + "/", "a folder": str(tmp_path / "brought")}[by]
    for number, language in enumerate(("en", "de")):
        (tmp_path / "brought" / language).mkdir(parents=True)
        (tmp_path / "brought" / language / "model.onnx").write_bytes(noise(5000, seed=number))
    assert pull(store, two_of_one_name(server), origin)
    placed = [store.path_of("two") / language / "model.onnx" for language in ("en", "de")]
    assert [path.read_bytes() for path in placed] == [noise(5000, seed=0), noise(5000, seed=1)]


def test_a_model_of_one_file_is_that_file(server: ModelServer, store: Store) -> None:
    model = one_file(server, DATA)
    assert pull(store, model)
    assert store.path_of(model.name).read_bytes() == DATA
    assert not (store.folder / PARTS / model.name).exists()
    assert store.verify(model.name, store.records()[model.name]) == []
    server.asked.clear()
    assert not pull(store, model)
    assert server.asked == []


def test_a_model_of_several_files_is_a_folder(server: ModelServer, store: Store) -> None:
    model = voice(server)
    assert pull(store, model)
    assert (store.path_of("voice") / "voice.onnx").read_bytes() == DATA
    assert (store.path_of("voice") / "voice.onnx.json").read_bytes() == b"{}"
    record = json.loads((store.folder / RECORDS).read_text())["models"]["voice"]
    assert record["files"]["voice.onnx"] == {"size_bytes": len(DATA), "sha256": sha256(DATA)}
    assert record["sources"][model.files[1].url]["size_bytes"] == 2


def test_a_disk_without_links_is_no_hindrance(
    server: ModelServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert pull(store, voice(server))
    assert (store.path_of("voice") / "voice.onnx").read_bytes() == DATA


def test_an_archive_is_unpacked(server: ModelServer, store: Store) -> None:
    said: list[str] = []
    assert pull(store, archive_model(server, zipped(VOSK)), watcher=Watcher(say=said.append))
    assert (store.path_of("vosk-model") / "am/final.mdl").read_bytes() == VOSK["vosk-model/am/final.mdl"]
    assert said == ["unpacking vosk.zip"]
    assert store.size_of("vosk-model") == sum(len(data) for data in VOSK.values())


@pytest.mark.parametrize("data", [zipped({"m/a": b"1", "../evil": b"2"}), noise(1000)], ids=["evil", "no archive"])
def test_a_bad_archive_leaves_nothing(server: ModelServer, store: Store, data: bytes) -> None:
    with pytest.raises(PullError, match=r"vosk\.zip"):
        pull(store, archive_model(server, data))
    assert nothing_is_seen(store, "vosk-model")
    left = {path.name for path in store.folder.rglob("*") if path.is_file()}
    assert not left & {"evil", "a", "vosk.zip.part"}


def test_files_that_came_before_a_failure_are_not_fetched_again(server: ModelServer, store: Store) -> None:
    model = voice(server)
    served = server.files.pop("/v/voice.onnx.json")
    with pytest.raises(PullError, match="404"):
        pull(store, model)
    assert nothing_is_seen(store, "voice")
    server.files["/v/voice.onnx.json"] = served
    server.asked.clear()
    assert pull(store, model)
    assert [(asked.path, asked.range) for asked in server.asked] == [
        ("/v/voice.onnx", f"bytes={len(DATA)}-"),
        ("/v/voice.onnx.json", ""),
    ]


def test_a_cut_pull_goes_on_in_the_next_one(server: ModelServer, store: Store) -> None:
    model = one_file(server, DATA)
    server.files["/files/weights.gguf"].cuts = [25_000, 1, 1]
    with pytest.raises(PullError, match="cut"):
        pull(store, model)
    assert nothing_is_seen(store, model.name)
    assert pull(store, model)
    assert server.asked[-1].range == "bytes=25002-"


def test_a_wrong_checksum_leaves_nothing(server: ModelServer, store: Store) -> None:
    model = pinned_to(one_file(server, DATA), "b" * 64)
    with pytest.raises(PullError, match="removed"):
        pull(store, model)
    assert nothing_is_seen(store, model.name)
    assert not list((store.folder / PARTS / model.name).iterdir())


def test_what_came_first_is_what_must_come_later(server: ModelServer, store: Store) -> None:
    model = one_file(server, DATA, pinned=False)
    assert pull(store, model)
    store.path_of(model.name).unlink()
    server.put("/files/weights.gguf", noise(60_000, seed=9), etag='"9"')
    with pytest.raises(PullError, match=f"should have {sha256(DATA)}"):
        pull(store, model)
    assert pull(store, pinned_to(model, sha256(noise(60_000, seed=9))))


def test_a_damaged_model_is_pulled_again(server: ModelServer, store: Store) -> None:
    model = voice(server)
    pull(store, model)
    record = store.records()["voice"]
    (store.path_of("voice") / "voice.onnx").write_bytes(b"damaged")
    (store.path_of("voice") / "voice.onnx.json").unlink()
    assert [(problem.path, problem.what) for problem in store.verify("voice", record)] == [
        ("voice.onnx", "is not as it was put here"),
        ("voice.onnx.json", "is missing"),
    ]
    assert pull(store, model)
    assert store.verify("voice", record) == []
    assert not list((store.folder / PARTS).glob("*.old"))


def test_a_model_put_here_by_hand_is_noted_and_then_verified(server: ModelServer, store: Store) -> None:
    model = one_file(server, DATA)
    store.folder.mkdir()
    store.path_of(model.name).write_bytes(DATA)
    said: list[str] = []
    assert not pull(store, model, watcher=Watcher(say=said.append))
    assert "by hand" in said[0]
    assert server.asked == []
    store.path_of(model.name).write_bytes(b"damaged")
    assert store.verify(model.name, store.records()[model.name])


def test_another_model_put_here_by_hand_is_not_taken_for_it(server: ModelServer, store: Store) -> None:
    model = one_file(server, DATA)
    store.folder.mkdir()
    store.path_of(model.name).write_bytes(b"something else")
    with pytest.raises(PullError, match="by hand and is not the manifest's"):
        pull(store, model)
    other = voice(server)
    store.path_of("voice").mkdir()
    with pytest.raises(PullError, match=r"lacks voice\.onnx"):
        pull(store, other)


class TestOrigins:
    def test_a_file(self, server: ModelServer, store: Store, tmp_path: Path) -> None:
        (tmp_path / "brought.gguf").write_bytes(DATA)
        model = one_file(server, DATA)
        assert pull(store, model, str(tmp_path / "brought.gguf"))
        assert store.path_of(model.name).read_bytes() == DATA
        assert (tmp_path / "brought.gguf").exists(), "it is copied"
        assert server.asked == []

    def test_an_address_with_a_password(self, server: ModelServer, store: Store) -> None:
        with pytest.raises(PullError, match="no password") as error:
            pull(store, one_file(server, DATA), "https://me:planted@example.org/m.gguf")
        assert "planted" not in str(error.value)

    def test_a_file_that_is_another(self, server: ModelServer, store: Store, tmp_path: Path) -> None:
        (tmp_path / "brought.gguf").write_bytes(noise(60_000, seed=4))
        with pytest.raises(PullError, match="should have"):
            pull(store, one_file(server, DATA), str(tmp_path / "brought.gguf"))
        (tmp_path / "brought.gguf").write_bytes(b"short")
        with pytest.raises(PullError, match="has 5 bytes"):
            pull(store, one_file(server, DATA), str(tmp_path / "brought.gguf"))
        with pytest.raises(PullError, match="there is no file"):
            pull(store, one_file(server, DATA), str(tmp_path / "nothing.gguf"))

    def test_a_folder_of_files(self, server: ModelServer, store: Store, tmp_path: Path) -> None:
        stick = tmp_path / "stick"
        stick.mkdir()
        (stick / "voice.onnx").write_bytes(DATA)
        (stick / "voice.onnx.json").write_bytes(b"{}")
        assert pull(store, voice(server), str(stick))
        assert (store.path_of("voice") / "voice.onnx").read_bytes() == DATA
        with pytest.raises(PullError, match="2 files"):
            pull(Store(tmp_path / "other"), voice(server), str(stick / "voice.onnx"))

    def test_a_folder_that_is_the_model(self, server: ModelServer, store: Store, tmp_path: Path) -> None:
        model = archive_model(server, zipped(VOSK))
        with pytest.raises(PullError, match=r"no file .*vosk.zip; if .* unpacked, copy it .* as vosk-model"):
            pull(store, model, str(tmp_path))
        with pytest.raises(PullError, match=r"in no manifest, and .* is a folder"):
            unknown_model("mine", str(tmp_path))

    def test_another_address(self, server: ModelServer, store: Store) -> None:
        server.put("/mirror/other-name.gguf", DATA)
        model = one_file(server, DATA)
        assert pull(store, model, server.address("/mirror/other-name.gguf"))
        assert [asked.path for asked in server.asked] == ["/mirror/other-name.gguf"]

    def test_an_address_of_several_files_ends_with_a_stroke(self, server: ModelServer, store: Store) -> None:
        model = voice(server)
        server.files["/mirror/voice.onnx"] = server.files.pop("/v/voice.onnx")
        server.files["/mirror/voice.onnx.json"] = server.files.pop("/v/voice.onnx.json")
        with pytest.raises(PullError, match="end the address"):
            pull(store, model, server.address("/mirror"))
        assert pull(store, model, server.address("/mirror/"))

    def test_a_model_that_stands_in_no_manifest(self, server: ModelServer, store: Store, tmp_path: Path) -> None:
        server.put("/my.tar.gz", b"")
        assert unknown_model("mine", server.address("/my.tar.gz?x=1")).unpack == "tar.gz"
        assert unknown_model("mine", "/somewhere/my.gguf").is_one_file
        assert problem_of(unknown_model("mine", "/somewhere/my own #1.gguf")) == ""
        (tmp_path / "my.zip").write_bytes(zipped(VOSK))
        assert pull(store, unknown_model("mine", str(tmp_path / "my.zip")), str(tmp_path / "my.zip"))
        assert (store.path_of("mine") / "am/final.mdl").exists()


def test_how_to_bring_it_by_hand_names_every_address(server: ModelServer, store: Store) -> None:
    text = "\n".join(by_hand(voice(server), store))
    assert server.address("/v/voice.onnx.json") in text
    assert "--from FOLDER" in text
    assert str(store.path_of("voice")) in text


def test_a_checksum_for_several_files_is_no_use(server: ModelServer) -> None:
    with pytest.raises(PullError, match="a model of one"):
        pinned_to(voice(server), "a" * 64)


def _hold(folder: str, held: multiprocessing.synchronize.Event, let_go: multiprocessing.synchronize.Event) -> None:
    with Store(Path(folder)).changing():
        held.set()
        let_go.wait(30)


def test_a_second_pull_at_the_same_time_is_told_so(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    held, let_go = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(store.folder), held, let_go))
    other.start()
    try:
        assert held.wait(30)
        with pytest.raises(StoreError, match=f"process {other.pid}"), store.changing():
            pass
    finally:
        let_go.set()
        other.join(30)
    with store.changing():
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"\[models\] folder"), Store(tmp_path / "file" / "models").changing():
        pass


def test_a_record_that_cannot_be_read_is_named(store: Store) -> None:
    store.folder.mkdir()
    (store.folder / RECORDS).write_text("{rubbish")
    with pytest.raises(StoreError, match=RECORDS):
        store.records()


class TestAProcessThatIsStopped:
    """``callbus models pull`` itself, ended in the middle of a slow download."""

    def started(self, server: ModelServer, store: Store, tmp_path: Path) -> subprocess.Popen[str]:
        model = one_file(server, DATA)
        server.files["/files/weights.gguf"].pace_s = 0.5
        manifest = tmp_path / "models.toml"
        file = model.files[0]
        manifest.write_text(
            f'[[model]]\nname = "{model.name}"\nengine = "llama_cpp"\n'
            f'files = [{{ url = "{file.url}", sha256 = "{file.sha256}" }}]\n'
        )
        self.environment = {
            **os.environ,
            "CALLBUS_MODELS__FOLDER": str(store.folder),
            "CALLBUS_MODELS__MANIFEST": str(manifest),
            "no_proxy": "*",
        }
        process = self.run_it()
        part = store.folder / PARTS / model.name / "weights.gguf.part"
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size > 4096):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.01)
        return process

    def run_it(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "ops.main", "models", "pull", "small.gguf"]
        return subprocess.Popen(
            command,
            env=self.environment,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A shell that runs the tests in the background has SIGINT ignored, which its children inherit.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
    def test_nothing_half_is_seen_and_the_next_one_goes_on(
        self, how: signal.Signals, server: ModelServer, store: Store, tmp_path: Path
    ) -> None:
        process = self.started(server, store, tmp_path)
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
        assert process.returncode == (130 if how is signal.SIGINT else -how)
        assert nothing_is_seen(store, "small.gguf")
        if how is signal.SIGINT:
            assert "goes on from there" in said
        server.files["/files/weights.gguf"].pace_s = 0.0
        server.asked.clear()
        again = self.run_it()
        out, said = again.communicate(timeout=60)
        assert again.returncode == 0, said
        assert "pulled" in out
        assert store.path_of("small.gguf").read_bytes() == DATA
        assert server.asked[0].range.startswith("bytes=") and server.asked[0].range != "bytes=0-"
