"""docs/command-line.md names every command and every option, in the words of ``--help``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ops.main import COMMANDS, cli

pytestmark = pytest.mark.contract

PAGE = Path(__file__).resolve().parents[2] / "docs" / "command-line.md"


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and the commands below it, by its words."""
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {below}", command.commands[below]) for below in sorted(command.commands))


def row_of(option: click.Option, command: click.Command) -> str:
    """The option's row of the table."""
    record = option.get_help_record(click.Context(command))
    assert record is not None
    words, text = record
    assert text, f"{words} has no help"
    # A bar would end the cell of the table.
    return "| `{}` | {} |".format(*(part.replace("|", "\\|") for part in (words, " ".join(text.split()))))


def section_of(name: str) -> str:
    """The part of the page about one command."""
    parts = PAGE.read_text(encoding="utf-8").split("\n## callbus ")
    (found,) = [part for part in parts[1:] if words_of(part.splitlines()[0]) == name]
    return found


def words_of(heading: str) -> str:
    return " ".join(word for word in heading.split() if word.islower())


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda value: str(value)[:20])
def test_every_option_stands_on_the_page(name: str, command: click.Command) -> None:
    section = section_of(name)
    wanted = [row_of(option, command) for option in command.params if isinstance(option, click.Option)]
    there = [line for line in section.splitlines() if line.startswith("| `-")]
    assert there == wanted, "docs/command-line.md: the table is not what --help says"


def test_the_page_names_no_command_that_does_not_exist() -> None:
    headings = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("## callbus ")]
    assert [words_of(heading.removeprefix("## callbus ")) for heading in headings] == [name for name, _ in commands()]


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda value: str(value)[:20])
def test_every_command_says_what_it_does(name: str, command: click.Command) -> None:
    assert command.help, name
    assert len(command.get_short_help_str(200)) > 20, name
