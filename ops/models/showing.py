"""What ``callbus models pull`` shows: a bar on a terminal, a line now and then elsewhere, JSON lines for programs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ops.models.pull import Watcher

LINE_EVERY_S = 10.0


class Shown(Protocol):
    """Shows the pulls of one command; a context manager."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def begin_model(self, name: str) -> None: ...
    def end_model(self, name: str, fresh: bool, path: Path, size_bytes: int) -> None: ...
    def say(self, text: str) -> None: ...
    def watcher(self) -> Watcher: ...


def shown_for(*, as_json: bool) -> Shown:
    """What fits to where the output goes."""
    if as_json:
        return JsonLines()
    return Bar() if sys.stderr.isatty() else Lines()


class Lines:
    """Plain lines, one every ten seconds while a file comes."""

    def __init__(self) -> None:
        self._file = ""
        self._said = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def begin_model(self, name: str) -> None:
        """Nothing: the files are told."""

    def end_model(self, name: str, fresh: bool, path: Path, size_bytes: int) -> None:
        """Where it lies."""
        click.echo(f"{name}: {'pulled' if fresh else 'is here'}, {size_text(size_bytes)}, {path}")

    def say(self, text: str) -> None:
        """A sentence, on standard error."""
        click.echo(text, err=True)

    def watcher(self) -> Watcher:
        """Hears of one model's files."""
        return Watcher(self._begin, self._progress, self.say)

    def _begin(self, file: str, size: int) -> None:
        self._file, self._said = file, time.monotonic()
        self.say(f"fetching {file}" + (f" ({size_text(size)})" if size else ""))

    def _progress(self, done: int, total: int) -> None:
        if time.monotonic() - self._said >= LINE_EVERY_S:
            self._said = time.monotonic()
            share = f" of {size_text(total)} ({100 * done // total} %)" if total else ""
            self.say(f"{self._file}: {size_text(done)}{share}")


class Bar(Lines):
    """A bar per file, on standard error."""

    def __init__(self) -> None:
        super().__init__()
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def end_model(self, name: str, fresh: bool, path: Path, size_bytes: int) -> None:
        """Where it lies, above the bars."""
        self._bar.console.print(
            f"{name}: {'pulled' if fresh else 'is here'}, {size_text(size_bytes)}, {path}",
            highlight=False,
            soft_wrap=True,
        )

    def say(self, text: str) -> None:
        """A sentence, above the bars."""
        self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _begin(self, file: str, size: int) -> None:
        self._task = self._bar.add_task(file, total=size or None)

    def _progress(self, done: int, total: int) -> None:
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total or None)


class JsonLines(Lines):
    """Each thing that happens, as a JSON object on a line of standard output."""

    def __init__(self) -> None:
        super().__init__()
        self._model = ""
        self._percent = -1

    def begin_model(self, name: str) -> None:
        """The model whose files come now."""
        self._model = name

    def end_model(self, name: str, fresh: bool, path: Path, size_bytes: int) -> None:
        """Where it lies."""
        self._line(event="here", fresh=fresh, path=str(path), size_bytes=size_bytes)

    def say(self, text: str) -> None:
        """A sentence."""
        self._line(event="note", text=text)

    def _begin(self, file: str, size: int) -> None:
        self._file, self._percent = file, -1
        self._line(event="file", file=file, size_bytes=size)

    def _progress(self, done: int, total: int) -> None:
        percent = 100 * done // total if total else done >> 20
        if percent != self._percent:
            self._percent = percent
            self._line(event="progress", file=self._file, done_bytes=done, size_bytes=total)

    def _line(self, **facts: object) -> None:
        click.echo(msgspec.json.encode({"model": self._model, **facts}).decode())


def size_text(size_bytes: int) -> str:
    """``41 MB``; ``?`` where the size is not known."""
    if size_bytes >= 1_000_000_000:
        return f"{size_bytes / 1_000_000_000:.1f} GB"
    if size_bytes >= 1_000_000:
        return f"{size_bytes / 1_000_000:.0f} MB"
    return f"{max(1, size_bytes // 1000)} kB" if size_bytes else "?"
