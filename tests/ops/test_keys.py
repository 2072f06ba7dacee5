"""``callbus keys``: files, modes, what is kept and what is made anew, and no seed in any word."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from bus.identity import read_seed
from ops.keys import NAMES, KeyFileError, KeyFolder
from ops.main import cli
from ops.permissions_page import BEGIN, END, document

pytestmark = pytest.mark.unit

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.md"


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["keys", *map(str, words)])


def seeds(folder: Path) -> dict[str, str]:
    return {name: read_seed(KeyFolder(folder).seed_file(name)) for name in NAMES}


def test_every_user_gets_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    done = run("create", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {str(file.relative_to(tmp_path)) for file in files} == {
        *(f"{name}/{name}.nk" for name in NAMES), "nats/users.conf", "nats/cluster.conf",
    }  # fmt: skip
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert all(f"{name}.nk" in done.output for name in NAMES)
    assert len(set(seeds(tmp_path).values())) == len(NAMES)
    for seed in seeds(tmp_path).values():
        assert seed not in done.output
        assert seed not in (tmp_path / "nats" / "users.conf").read_text()


def test_keys_that_are_there_are_not_replaced_unless_that_is_said(tmp_path: Path) -> None:
    run("create", "--out", tmp_path)
    before, users = seeds(tmp_path), (tmp_path / "nats" / "users.conf").read_text()
    again = run("create", "--out", tmp_path)
    assert again.exit_code == 1
    assert "--if-missing" in again.output
    assert "--force" in again.output
    kept = run("create", "--out", tmp_path, "--if-missing")
    assert kept.exit_code == 0
    assert "kept the key of asr" in kept.output
    assert (seeds(tmp_path), (tmp_path / "nats" / "users.conf").read_text()) == (before, users)
    assert run("create", "--out", tmp_path, "--force").exit_code == 0
    assert not set(before.values()) & set(seeds(tmp_path).values())
    assert (tmp_path / "nats" / "users.conf").read_text() != users
    assert run("create", "--out", tmp_path, "--force", "--if-missing").exit_code == 2


def test_one_key_is_rotated_and_rights_are_renewed(tmp_path: Path) -> None:
    run("create", "--out", tmp_path)
    before, conf = seeds(tmp_path), tmp_path / "nats" / "users.conf"
    store_key = next(line for line in conf.read_text().splitlines() if line.startswith("JETSTREAM_KEY"))
    (tmp_path / "asr" / "asr.nk").unlink()
    # As an earlier version wrote it, with other rights.
    conf.write_text(conf.read_text().replace('"trace.keep"\n', ""))
    done = run("create", "--out", tmp_path, "--if-missing")
    assert "made a key for asr" in done.output
    assert "renewed users and permissions, and kept the store's key" in done.output
    after = seeds(tmp_path)
    assert {name for name in NAMES if before[name] != after[name]} == {"asr"}
    assert store_key in conf.read_text()
    assert '"trace.keep"' in conf.read_text()
    assert run("show", "--out", tmp_path).exit_code == 0


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    run("create", "--out", tmp_path)
    (tmp_path / "tts" / "tts.nk").chmod(0o644)
    (tmp_path / "llm" / "llm.nk").unlink()
    (tmp_path / "asr" / "asr.nk").write_text("hello\n")
    shown = run("show", "--out", tmp_path)
    assert shown.exit_code == 1
    assert "tts: " in shown.output
    assert "can be read by others (mode 644)" in shown.output
    assert "llm.nk is no file" in shown.output
    assert "asr.nk holds no seed" in shown.output
    failed = run("create", "--out", tmp_path, "--if-missing")
    assert failed.exit_code == 1
    assert "asr.nk holds no seed" in failed.output
    (tmp_path / "asr" / "asr.nk").unlink()
    assert run("create", "--out", tmp_path, "--if-missing").exit_code == 0
    assert stat.S_IMODE((tmp_path / "tts" / "tts.nk").stat().st_mode) == 0o600, "closed again"
    assert run("show", "--out", tmp_path).exit_code == 0


def test_a_key_of_another_folder_is_not_taken_for_known(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run("create", "--out", tmp_path / name)
    (tmp_path / "one" / "asr" / "asr.nk").write_text((tmp_path / "two" / "asr" / "asr.nk").read_text())
    shown = run("show", "--out", tmp_path / "one", "--json")
    assert shown.exit_code == 1
    rows = msgspec.json.decode(shown.stdout.splitlines()[0])
    assert [row["name"] for row in rows if row["defect"]] == ["asr"]
    assert "does not know this key" in next(row["defect"] for row in rows if row["defect"])
    for seed in seeds(tmp_path / "one").values():
        assert seed not in shown.output


@pytest.mark.parametrize("left", ["# emptied\n", ""])
def test_the_key_of_the_store_is_never_replaced_in_passing(left: str, tmp_path: Path) -> None:
    """Empty is how a power cut may leave a file."""
    folder = KeyFolder(tmp_path)
    folder.create()
    folder.users_file.write_text(left)
    with pytest.raises(KeyFileError, match="names no JETSTREAM_KEY"):
        folder.create(if_missing=True)


def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a file is in the way")
    done = run("create", "--out", tmp_path / "keys" / "below")
    assert done.exit_code == 1
    assert "can't be written" in done.output


def test_the_page_shows_the_table_as_it_is() -> None:
    text = PAGE.read_text(encoding="utf-8")
    shown = text[text.index(BEGIN) : text.index(END) + len(END)]
    assert shown == document(), "docs/security.md: put in what `callbus keys rights` prints"
    assert run("rights").output.strip() == document().strip()
