"""Archives of others: what leads out of the folder, is no file, or fills the disk is refused, and nothing is left."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from ops.models import archive as archive_module
from ops.models.archive import ArchiveError, unpack
from tests.ops.models.conftest import noise, zipped

pytestmark = pytest.mark.unit


def tarred(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = b"" if isinstance(content, tarfile.TarInfo) else content
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def put(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "archive"
    path.write_bytes(data)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(("kind", "packed"), [("zip", zipped), ("tar.gz", tarred)])
class TestBothKinds:
    def test_the_top_folder_is_left_out(self, kind: str, packed: object, tmp_path: Path) -> None:
        assert callable(packed)
        data = packed({"vosk-model/am/final.mdl": b"model", "vosk-model/README": b"words"})
        unpack(put(tmp_path, data), kind, tmp_path / "out")
        assert (tmp_path / "out/am/final.mdl").read_bytes() == b"model"
        assert (tmp_path / "out/README").read_bytes() == b"words"

    def test_without_one_top_folder_nothing_is_left_out(self, kind: str, packed: object, tmp_path: Path) -> None:
        assert callable(packed)
        unpack(put(tmp_path, packed({"am/final.mdl": b"model", "README": b"words"})), kind, tmp_path / "out")
        assert (tmp_path / "out/am/final.mdl").exists()
        assert (tmp_path / "out/README").exists()

    @pytest.mark.parametrize(
        "name", ["../evil", "/etc/evil", "model/../../evil", "C:/evil", "model\\..\\evil", "..", "model/.."]
    )
    def test_a_member_that_leads_out_is_refused(self, kind: str, packed: object, name: str, tmp_path: Path) -> None:
        assert callable(packed)
        with pytest.raises(ArchiveError, match="leads out"):
            unpack(put(tmp_path, packed({"model/good": b"good", name: b"evil"})), kind, tmp_path / "out")
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["archive"]

    def test_a_file_in_a_file_is_refused(self, kind: str, packed: object, tmp_path: Path) -> None:
        assert callable(packed)
        with pytest.raises(ArchiveError, match="folder that is a file"):
            unpack(put(tmp_path, packed({"m/a": b"1", "m/a/b": b"2"})), kind, tmp_path / "out")

    def test_rubbish_is_no_archive(self, kind: str, packed: object, tmp_path: Path) -> None:
        with pytest.raises(ArchiveError, match="no good"):
            unpack(put(tmp_path, noise(5000)), kind, tmp_path / "out")

    def test_a_cut_archive_is_no_archive(self, kind: str, packed: object, tmp_path: Path) -> None:
        assert callable(packed)
        data = packed({"m/a": noise(50_000), "m/b": noise(50_000, seed=2)})
        with pytest.raises(ArchiveError, match="no good"):
            unpack(put(tmp_path, data[: len(data) // 2]), kind, tmp_path / "out")

    def test_nothing_in_it_is_refused(self, kind: str, packed: object, tmp_path: Path) -> None:
        assert callable(packed)
        with pytest.raises(ArchiveError, match="no file"):
            unpack(put(tmp_path, packed({})), kind, tmp_path / "out")

    def test_what_would_fill_the_disk_is_refused(
        self, kind: str, packed: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert callable(packed)
        monkeypatch.setattr(archive_module, "MIN_LIMIT_BYTES", 1 << 20)
        bomb = packed({"m/zeros": bytes(20 << 20)})
        assert len(bomb) < 100_000
        with pytest.raises(ArchiveError, match="is not a model"):
            unpack(put(tmp_path, bomb), kind, tmp_path / "out")

    def test_too_many_members_are_refused(
        self, kind: str, packed: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert callable(packed)
        monkeypatch.setattr(archive_module, "MAX_MEMBERS", 3)
        with pytest.raises(ArchiveError, match="more than 3"):
            unpack(put(tmp_path, packed({f"m/{n}": b"" for n in range(5)})), kind, tmp_path / "out")


@pytest.mark.parametrize(
    ("kind", "target"),
    [(tarfile.SYMTYPE, "/etc/passwd"), (tarfile.SYMTYPE, "good"), (tarfile.LNKTYPE, "good"), (tarfile.FIFOTYPE, "")],
)
def test_a_link_or_device_in_a_tar_is_refused(kind: bytes, target: str, tmp_path: Path) -> None:
    data = tarred({"m/good": b"good", "m/link": special("m/link", kind, target)})
    with pytest.raises(ArchiveError, match="link or a device"):
        unpack(put(tmp_path, data), "tar.gz", tmp_path / "out")


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("m/good", b"good")
        link = zipfile.ZipInfo("m/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ArchiveError, match="link or a device"):
        unpack(put(tmp_path, out.getvalue()), "zip", tmp_path / "out")


def test_a_member_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("m/a", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("m/a", b"2")
    with pytest.raises(ArchiveError, match="twice"):
        unpack(put(tmp_path, out.getvalue()), "zip", tmp_path / "out")


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped({"m/a": b"secret", "m/b": b"plain"}))
    for at in (data.find(b"PK\x03\x04") + 6, data.find(b"PK\x01\x02") + 8):
        data[at] |= 1
    with pytest.raises(ArchiveError, match="encrypted"):
        unpack(put(tmp_path, bytes(data)), "zip", tmp_path / "out")


def test_a_damaged_member_of_any_compression_is_refused(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            archive.writestr("m/a", b"words " * 1000)
        data = bytearray(out.getvalue())
        data[45:75] = bytes(30)
        with pytest.raises(ArchiveError, match="no good"):
            unpack(put(tmp_path, bytes(data)), "zip", tmp_path / f"out{method}")


def test_unpacked_files_are_plain_files_of_ours(tmp_path: Path) -> None:
    info = tarfile.TarInfo("m/a")
    info.mode = 0o4777
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.addfile(info, io.BytesIO(b""))
    unpack(put(tmp_path, out.getvalue()), "tar.gz", tmp_path / "out")
    assert not (tmp_path / "out/a").stat().st_mode & 0o6111
