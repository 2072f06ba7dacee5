"""Documents say what is true: links lead somewhere, commands exist, decisions have a number and a status."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ops.main import COMMANDS
from schemas.subjects import EVENT_BY_NAME

pytestmark = pytest.mark.contract

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *ROOT.glob("services/*/README.md"),
]
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
COMMAND = re.compile(r"\bcallbus ([a-z]+)\b")
MACHINE = re.compile(r"/(root|home|work|tmp/[a-z])[/\w]*")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
class TestEveryPage:
    def test_links_lead_somewhere(self, page: Path) -> None:
        targets = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
        missing = [target for target in targets if not (page.parent / target).exists()]
        assert not missing

    def test_commands_exist(self, page: Path) -> None:
        named = set()
        for block in re.findall(r"`+[^`]*`+", page.read_text(encoding="utf-8")):
            named |= set(COMMAND.findall(block))
        assert named <= set(COMMANDS), f"no such command: {sorted(named - set(COMMANDS))}"

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
    known = set(EVENT_BY_NAME) | {"rec.in", "rec.out", "audio.in", "audio.out"}
    for page in PAGES:
        for name in re.findall(r"`([a-z]+\.[a-z_]+)`", page.read_text(encoding="utf-8")):
            if name.split(".")[0] in domains - {"call", "tts", "asr", "llm", "turn"} or name in known:
                assert name in known, f"{page.name} names {name}"


def test_readme_opens_with_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.index("make demo") < text.index("make test") < text.index("## Your own calls")
