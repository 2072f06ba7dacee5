"""One file over real HTTP: it goes on where it was cut, never joins two versions, and says in words why it gives up."""

from __future__ import annotations

import shutil
import urllib.request
from collections import namedtuple
from pathlib import Path

import pytest

from ops.models.download import Download, DownloadError, Fetched, Limits, SafeRedirects, Wanted, hash_file
from tests.fakes.model_server import ModelServer
from tests.ops.models.conftest import QUICK, noise, sha256

pytestmark = pytest.mark.integration

DATA = noise(100_000)


def fetch(server: ModelServer, part: Path, *, sha256: str = "", size: int = 0, limits: Limits = QUICK) -> Fetched:
    return Download(Wanted(server.address("/model"), size, sha256), part, limits=limits).run()


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "model.part"


def test_a_file_comes_whole_with_its_checksum_and_its_progress(server: ModelServer, part: Path) -> None:
    server.put("/model", DATA)
    seen: list[tuple[int, int]] = []
    wanted = Wanted(server.address("/model"), len(DATA), sha256(DATA))
    fetched = Download(wanted, part, limits=QUICK, progress=lambda done, total: seen.append((done, total))).run()
    assert fetched == Fetched(len(DATA), sha256(DATA)) == hash_file(part)
    assert part.read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    server.asked.clear()
    assert Download(wanted, part, limits=QUICK).run() == fetched
    assert server.asked == [], "it is here"


def test_a_cut_connection_goes_on_at_the_very_byte(server: ModelServer, part: Path) -> None:
    server.put("/model", DATA, cuts=[10_000, 20_001, 5])
    assert fetch(server, part).sha256 == sha256(DATA)
    assert [asked.range for asked in server.asked] == ["", "bytes=10000-", "bytes=30001-", "bytes=30006-"]
    assert [asked.if_range for asked in server.asked] == ["", '"1"', '"1"', '"1"']


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(server: ModelServer, part: Path) -> None:
    served = server.put("/model", DATA, cuts=[40_000], ranges=True)
    served.statuses = []
    with pytest.raises(DownloadError, match="cut"):
        fetch(server, part, limits=QUICK._replace(attempts=1))
    assert part.read_bytes() == DATA[:40_000]
    assert fetch(server, part).sha256 == sha256(DATA)
    assert server.asked[-1].range == "bytes=40000-"


def test_a_server_without_ranges_starts_anew(server: ModelServer, part: Path) -> None:
    server.put("/model", DATA, cuts=[10_000], ranges=False)
    assert fetch(server, part).sha256 == sha256(DATA)
    assert part.read_bytes() == DATA


def test_a_file_that_has_changed_meanwhile_is_fetched_anew(server: ModelServer, part: Path) -> None:
    server.put("/model", DATA, cuts=[10_000])
    with pytest.raises(DownloadError):
        fetch(server, part, limits=QUICK._replace(attempts=1))
    other = noise(90_000, seed=2)
    server.put("/model", other, etag='"2"')
    assert fetch(server, part).sha256 == sha256(other)
    assert part.read_bytes() == other


def test_a_server_that_ignores_if_range_does_not_join_two_versions(server: ModelServer, part: Path) -> None:
    server.put("/model", DATA, cuts=[10_000])
    with pytest.raises(DownloadError):
        fetch(server, part, limits=QUICK._replace(attempts=1))
    other = noise(90_000, seed=2)
    server.put("/model", other, etag='"2"', careless=True)
    assert fetch(server, part).sha256 == sha256(other)
    assert [asked.range for asked in server.asked] == ["", "bytes=10000-", ""]


def test_a_part_whose_version_nobody_named_is_not_trusted(server: ModelServer, part: Path) -> None:
    server.put("/model", DATA, etag="", cuts=[10_000])
    assert fetch(server, part).sha256 == sha256(DATA)
    assert [asked.range for asked in server.asked] == ["", ""]


def test_a_checksum_makes_a_nameless_version_good_to_go_on_with(server: ModelServer, part: Path) -> None:
    server.put("/model", DATA, etag="", cuts=[10_000])
    assert fetch(server, part, sha256=sha256(DATA)).sha256 == sha256(DATA)
    assert [asked.range for asked in server.asked] == ["", "bytes=10000-"]


def test_a_weak_etag_gives_way_to_the_date(server: ModelServer, part: Path) -> None:
    date = "Mon, 01 Jan 2024 00:00:00 GMT"
    server.put("/model", DATA, etag='W/"1"', last_modified=date, cuts=[10_000])
    assert fetch(server, part).sha256 == sha256(DATA)
    assert server.asked[1].if_range == date


def test_a_part_of_another_address_is_thrown_away(server: ModelServer, part: Path) -> None:
    server.put("/other", noise(50_000, seed=3), cuts=[20_000])
    with pytest.raises(DownloadError):
        Download(Wanted(server.address("/other")), part, limits=QUICK._replace(attempts=1)).run()
    server.put("/model", DATA)
    assert fetch(server, part).sha256 == sha256(DATA)


def test_a_part_that_is_whole_already_asks_for_nothing_more(server: ModelServer, part: Path) -> None:
    server.put("/model", DATA, cuts=[len(DATA)])
    with pytest.raises(DownloadError, match="should have"):
        fetch(server, part, sha256="0" * 64)
    server.put("/model", DATA)
    server.asked.clear()
    part.write_bytes(DATA)
    part.with_name(part.name + ".json").write_text(f'{{"url": "{server.address("/model")}", "etag": "\\"1\\""}}')
    assert fetch(server, part, sha256=sha256(DATA)).size_bytes == len(DATA)
    assert server.asked[0].range == f"bytes={len(DATA)}-", "answered by 416 with the length that is here"
    assert fetch(server, part, size=len(DATA)).size_bytes == len(DATA)


def test_a_part_longer_than_the_file_is_thrown_away(server: ModelServer, part: Path) -> None:
    server.put("/model", DATA[:1000])
    part.write_bytes(DATA)
    part.with_name(part.name + ".json").write_text(f'{{"url": "{server.address("/model")}", "etag": "\\"1\\""}}')
    assert fetch(server, part).size_bytes == 1000
    assert part.read_bytes() == DATA[:1000]


def test_a_wrong_range_is_not_joined(server: ModelServer, part: Path) -> None:
    served = server.put("/model", DATA, cuts=[10_000], wrong_range=True)
    assert fetch(server, part).sha256 == sha256(DATA)
    assert part.read_bytes() == DATA
    assert served.cuts == []


def test_another_content_than_the_checksum_says_is_removed_and_said(server: ModelServer, part: Path) -> None:
    server.put("/model", DATA)
    with pytest.raises(DownloadError, match=f"{sha256(DATA)}.*removed") as caught:
        fetch(server, part, sha256="a" * 64)
    assert "--sha256" in str(caught.value)
    assert not list(part.parent.iterdir())


def test_a_damaged_part_of_before_is_thrown_away_and_fetched_anew(server: ModelServer, part: Path) -> None:
    server.put("/model", DATA, cuts=[10_000])
    with pytest.raises(DownloadError):
        fetch(server, part, sha256=sha256(DATA), limits=QUICK._replace(attempts=1))
    part.write_bytes(bytes(10_000))
    assert fetch(server, part, sha256=sha256(DATA)).sha256 == sha256(DATA)
    assert part.read_bytes() == DATA


def test_another_size_is_said_before_anything_is_fetched(server: ModelServer, part: Path) -> None:
    server.put("/model", DATA)
    with pytest.raises(DownloadError, match="has 100000 bytes, and should have 99"):
        fetch(server, part, size=99)
    assert not part.exists()


@pytest.mark.parametrize("length", [{}, {"Content-Length": "many"}])
def test_a_length_that_nobody_said_is_found_by_the_checksum(
    length: dict[str, str], server: ModelServer, part: Path
) -> None:
    server.put("/model", DATA, lengthless=True, headers=length)
    assert fetch(server, part, sha256=sha256(DATA)).size_bytes == len(DATA)


def test_what_could_be_cut_unseen_is_not_fetched(server: ModelServer, part: Path) -> None:
    server.put("/model", DATA, lengthless=True, cuts=[10_000])
    with pytest.raises(DownloadError, match=r"how long the file is.*--sha256"):
        fetch(server, part)
    assert not part.exists()


def test_too_little_without_a_length_is_found_by_the_size(server: ModelServer, part: Path) -> None:
    server.put("/model", DATA, lengthless=True, cuts=[10_000])
    assert fetch(server, part, size=len(DATA)).sha256 == sha256(DATA)
    assert server.asked[1].range == "bytes=10000-"


def test_a_redirect_is_followed_with_the_part_that_is_asked_for(server: ModelServer, part: Path) -> None:
    server.put("/model", b"", redirect=server.address("/elsewhere"))
    server.put("/elsewhere", DATA, cuts=[10_000])
    assert fetch(server, part).sha256 == sha256(DATA)
    assert [asked.range for asked in server.asked if asked.path == "/elsewhere"] == ["", "bytes=10000-"]


def test_a_redirect_in_a_circle_ends(server: ModelServer, part: Path) -> None:
    server.put("/model", b"", redirect=server.address("/model"))
    with pytest.raises(DownloadError, match=r"30[0-9]"):
        fetch(server, part)


def test_a_redirect_from_https_to_less_is_not_followed() -> None:
    request = urllib.request.Request("https://example.org/model")
    for target in ("http://example.org/model", "ftp://example.org/model"):
        with pytest.raises(DownloadError, match="not https"):
            SafeRedirects().redirect_request(request, None, 302, "Found", {}, target)
    assert SafeRedirects().redirect_request(request, None, 302, "Found", {}, "https://cdn.example.org/m") is not None


@pytest.mark.parametrize(
    ("status", "words"), [(404, "no such file"), (401, "account"), (403, "by hand"), (410, "--from URL"), (418, "418")]
)
def test_a_refusal_is_said_at_once_and_with_what_mends_it(
    server: ModelServer, part: Path, status: int, words: str
) -> None:
    server.put("/model", DATA, statuses=[status] * 9)
    with pytest.raises(DownloadError, match=words):
        fetch(server, part)
    assert len(server.asked) == 1


def test_a_server_in_trouble_is_asked_again_a_few_times(server: ModelServer, part: Path) -> None:
    server.put("/model", DATA, statuses=[500, 503])
    assert fetch(server, part).sha256 == sha256(DATA)
    server.put("/model", DATA, statuses=[502] * 9)
    server.asked.clear()
    part.unlink()
    with pytest.raises(DownloadError, match="502"):
        fetch(server, part)
    assert len(server.asked) == QUICK.attempts


def test_progress_renews_the_patience(server: ModelServer, part: Path) -> None:
    cuts = [QUICK.step_bytes] * 20
    server.put("/model", DATA, cuts=cuts)
    assert fetch(server, part).sha256 == sha256(DATA)
    assert len(server.asked) == 21


def test_a_trickle_of_cuts_without_progress_ends(server: ModelServer, part: Path) -> None:
    server.put("/model", DATA, cuts=[10] * 50)
    with pytest.raises(DownloadError, match="cut"):
        fetch(server, part)
    assert len(server.asked) == QUICK.attempts
    assert part.stat().st_size == 10 * QUICK.attempts, "what came is kept"


def test_the_pauses_grow_and_what_the_server_asks_for_is_kept(
    server: ModelServer, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("ops.models.download.time.sleep", pauses.append)
    server.put("/model", DATA, statuses=[500, 500, 500, 429], headers={"Retry-After": "9"})
    said: list[str] = []
    limits = Limits(attempts=6, pause_s=1.0, longest_pause_s=10.0)
    Download(Wanted(server.address("/model")), part, limits=limits, say=said.append).run()
    assert pauses == [9.0, 9.0, 9.0, 9.0]
    assert "answers 429" in said[-1]
    pauses.clear()
    part.unlink()
    server.put("/model", DATA, statuses=[500] * 5)
    Download(Wanted(server.address("/model")), part, limits=limits).run()
    assert pauses == [1.0, 2.0, 4.0, 8.0, 10.0]


def test_a_stalled_server_is_left_after_the_deadline(server: ModelServer, part: Path) -> None:
    server.put("/model", DATA, stall_after=20_000)
    with pytest.raises(DownloadError, match=r"cut|in time|sent"):
        fetch(server, part, limits=QUICK._replace(attempts=1, stall_s=0.3))
    assert part.stat().st_size == 20_000


def test_a_trickle_is_a_stall_too(server: ModelServer, part: Path) -> None:
    # 4 kB every 20 ms, and wanted is 1 MB in 0.2 s.
    server.put("/model", DATA, pace_s=0.02)
    with pytest.raises(DownloadError, match="bytes in"):
        fetch(server, part, limits=QUICK._replace(attempts=1, stall_s=0.2, step_bytes=1 << 20))


def test_a_login_page_is_not_a_model(server: ModelServer, part: Path) -> None:
    server.put("/model", b"<html>", content_type="text/html; charset=utf-8")
    with pytest.raises(DownloadError, match="web page"):
        fetch(server, part)
    assert not part.exists()


def test_encoded_content_is_refused(server: ModelServer, part: Path) -> None:
    server.put("/model", DATA, headers={"Content-Encoding": "gzip"})
    with pytest.raises(DownloadError, match="encoded"):
        fetch(server, part)


def test_no_server_is_said_to_be_unreachable(tmp_path: Path) -> None:
    wanted = Wanted("http://127.0.0.1:9/model")
    with pytest.raises(DownloadError, match=r"no connection to 127\.0\.0\.1:9") as caught:
        Download(wanted, tmp_path / "part", limits=QUICK).run()
    assert caught.value.unreachable


def test_a_disk_too_small_is_said_before_anything_is_fetched(
    server: ModelServer, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 50, 50))
    server.put("/model", DATA)
    with pytest.raises(DownloadError, match="are free"):
        fetch(server, part)
    assert not part.exists() or part.stat().st_size == 0


def test_a_folder_that_cannot_be_written_is_no_fault_of_the_network(server: ModelServer, part: Path) -> None:
    server.put("/model", DATA)
    part.mkdir()
    with pytest.raises(DownloadError, match="can't be written"):
        fetch(server, part)
    assert len(server.asked) <= 1
