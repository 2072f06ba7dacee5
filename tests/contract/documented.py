"""The commands that the pages name: found in blocks and between backticks, and split as a shell would."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *ROOT.glob("CONTRIBUTING.md"),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(ROOT.glob("services/*/README.md")),
    *sorted(ROOT.glob("ops/**/README.md")),
]
PROGRAMS = ("callbus", "make", "docker", "nats", "pip", "curl")
SHELL_LANGUAGES = ("", "sh", "bash", "console", "shell")
ENDS_COMMAND = ("|", "||", "&&", ";", ">", ">>", "<", "&", "(", ")")
FENCE = re.compile(r"^```([a-z]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
ASSIGNMENT = re.compile(r"^[A-Z_][A-Z0-9_]*=")


class Documented(NamedTuple):
    """One command of a page.

    Attributes:
        words: as a shell hands them over, the program first.
        whole: it stands in a block, to be typed as it is; else it is named in a sentence and may lack its arguments.
        environment: assignments before the program.
    """

    page: Path
    words: tuple[str, ...]
    whole: bool
    environment: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def program(self) -> str:
        return self.words[0]


def commands_of(page: Path) -> list[Documented]:
    """Every command of one page."""
    text = page.read_text(encoding="utf-8")
    found = [command for language, block in FENCE.findall(text) for command in _of_block(page, language, block)]
    prose = FENCE.sub("", text)
    for span in INLINE.findall(prose):
        if span.split(maxsplit=1)[:1] and _begins(span):
            found += _split(page, " ".join(span.split()), whole=False)
    return found


def all_commands(*programs: str) -> list[Documented]:
    """Every command of every page, or only those of some programs."""
    found = [command for page in PAGES for command in commands_of(page)]
    return [command for command in found if not programs or command.program in programs]


def _begins(text: str) -> bool:
    words = [word for word in text.split() if not ASSIGNMENT.match(word)]
    return bool(words) and words[0] in PROGRAMS


def _of_block(page: Path, language: str, block: str) -> Iterator[Documented]:
    if language not in SHELL_LANGUAGES:
        return
    lines = block.replace("\\\n", " ").splitlines()
    # Where a block shows commands behind a prompt, everything else in it is output.
    prompted = any(line.startswith("$ ") for line in lines)
    for number, line in enumerate(lines):
        if prompted and not line.startswith("$ "):
            continue
        command = line.removeprefix("$ ").strip()
        after = number + 1
        while command.count("'") % 2 and after < len(lines):
            command += f" {lines[after].strip()}"
            after += 1
        if _begins(command) or "&& " in command:
            yield from _split(page, command, whole=True)


def _split(page: Path, line: str, *, whole: bool) -> Iterator[Documented]:
    """The commands of a line, one for each part between the shell's signs; a comment ends it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    try:
        words = list(lexer)
    except ValueError:
        return
    part: list[str] = []
    for word in [*words, ";"]:
        if word not in ENDS_COMMAND:
            part.append(word)
            continue
        environment = [each for each in part if ASSIGNMENT.match(each)]
        rest = part[len(environment) :]
        if rest and rest[0] in PROGRAMS:
            yield Documented(page, tuple(rest), whole, tuple(environment))
        if word in (">", ">>", "<"):
            return
        part = []
