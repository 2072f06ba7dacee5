"""The house keeps its own rules: sizes of rooms, one docstring each, no leftovers of a machine in what is committed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.contract

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("schemas", "config", "bus", "edge", "services", "ops")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MARKERS = {"unit", "contract", "bus", "integration", "e2e"}


def production_files() -> Iterator[Path]:
    for room in ROOMS:
        yield from sorted((ROOT / room).rglob("*.py"))


def test_every_file_is_one_room() -> None:
    too_long = {
        str(path.relative_to(ROOT)): lines
        for path in production_files()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_FILE_LINES
    }
    assert not too_long, f"files over {MAX_FILE_LINES} lines: {too_long}"


def test_every_function_fits_on_a_page() -> None:
    too_long = []
    for path in production_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    too_long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} is {length} lines")
    assert not too_long, "\n".join(too_long)


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in production_files()
        if path.read_text(encoding="utf-8").strip()
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent, f"modules without a docstring: {silent}"


def test_no_room_of_odds_and_ends() -> None:
    names = {path.name for path in production_files()}
    assert not names & {"utils.py", "helpers.py", "common.py", "misc.py"}


def test_every_test_module_declares_its_category() -> None:
    undeclared = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        declared = {name for name in MARKERS if f"pytest.mark.{name}" in text}
        if not declared:
            undeclared.append(str(path.relative_to(ROOT)))
    assert not undeclared, f"test modules without one of the markers {sorted(MARKERS)}: {undeclared}"


def test_every_package_is_installed() -> None:
    listed = set(
        re.findall(r'^    "([a-z_.]+)",$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    )
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in production_files() if path.name == "__init__.py"}
    assert found <= listed, f"packages missing from pyproject.toml: {sorted(found - listed)}"


def test_lock_files_name_no_index() -> None:
    for path in (ROOT / "ops" / "requirements").glob("*.txt"):
        text = path.read_text(encoding="utf-8")
        assert "://" not in text, f"{path.name} names a host"
        assert "--hash=sha256:" in text, f"{path.name} has no hashes"
