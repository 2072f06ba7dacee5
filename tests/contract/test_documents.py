"""Documents say what is true: links lead somewhere, events exist, decisions have a number and a status."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from config.settings import Settings
from schemas.subjects import EVENT_BY_NAME
from tests.contract.documented import FENCE, PAGES, ROOT

pytestmark = pytest.mark.contract

LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
MACHINE = re.compile(r"/(root|home|work|tmp/[a-z])[/\w]*")


def links_of(page: Path) -> list[str]:
    """Links to files of ours and to headings."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [target for target in LINK.findall(text) if "://" not in target]


def anchors_of(page: Path) -> set[str]:
    """The anchors that readers of Markdown make of headings; the second of a name gets -1."""
    found: list[str] = []
    for heading in HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w -]", "", words.strip().lower()).replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return set(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
class TestEveryPage:
    def test_links_lead_somewhere(self, page: Path) -> None:
        missing = [target for target in links_of(page) if not (page.parent / target.split("#")[0]).exists()]
        assert not missing

    def test_anchors_are_headings(self, page: Path) -> None:
        for target in links_of(page):
            path, _, anchor = target.partition("#")
            other = page.parent / path if path else page
            if anchor and other.suffix == ".md" and other.exists():
                assert anchor in anchors_of(other), f"{target}: {other.name} has no such heading"

    def test_no_path_of_a_machine(self, page: Path) -> None:
        assert not MACHINE.findall(page.read_text(encoding="utf-8"))


def test_decisions_are_numbered_and_decided() -> None:
    pages = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {int(page.name[:4])}. "), page.name
        assert re.search(r"^Status: (accepted|superseded by \d+)$", text, re.MULTILINE), page.name


def test_the_events_that_pages_name_exist() -> None:
    domains = {name.split(".")[0] for name in EVENT_BY_NAME}
    settings = {
        f"{section.name}.{field.name}"
        for section in msgspec.structs.fields(Settings)
        if isinstance(section.type, type) and issubclass(section.type, msgspec.Struct)
        for field in msgspec.structs.fields(section.type)
    }
    known = set(EVENT_BY_NAME) | {"rec.in", "rec.out", "audio.in", "audio.out"} | settings
    for page in PAGES:
        for name in re.findall(r"`([a-z]+\.[a-z_]+)`", page.read_text(encoding="utf-8")):
            if name.split(".")[0] in domains - {"call", "edge", "tts", "asr", "llm", "turn"} or name in known:
                assert name in known, f"{page.name} names {name}"


def test_readme_opens_with_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.index("make demo") < text.index("make test") < text.index("## Your own calls")
