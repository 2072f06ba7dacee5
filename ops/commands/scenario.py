"""``callbus scenario``: conversations as files, run in virtual time or over real SIP."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import time
from pathlib import Path

import click

from config.load import ConfigError
from ops.scenario import ablation
from ops.scenario.document import Scenario, Way, load_scenario, scenario_files
from ops.scenario.mistakes import ScenarioError
from ops.scenario.report import Result, around, by_rule, facts, timeline
from ops.scenario.virtual import run_virtual
from ops.session import as_json_text, fail, json_option

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

paths_argument = click.argument(
    "paths", metavar="FILE|DIRECTORY...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)
filter_option = click.option(
    "--filter", "text", default="", metavar="TEXT", help="Only those with TEXT in title, rule or path."
)


@click.group()
def scenario() -> None:
    """Conversations as files: what a caller does, and what must happen within how many milliseconds.

    docs/scenarios.md says how to write one.
    """


@scenario.command("run")
@paths_argument
@click.option("--sip", is_flag=True, help="Over real SIP and RTP, in real time, with services of its own.")
@filter_option
@click.option(
    "--record", type=click.Path(path_type=Path), metavar="DIRECTORY", help="With --sip: keep a WAV of each call."
)
@click.option("--verbose", is_flag=True, help="The timeline of every conversation, not only where one failed.")
@json_option
def run_command(
    paths: tuple[Path, ...], sip: bool, text: str, record: Path | None, verbose: bool, as_json: bool
) -> None:
    """Run scenarios in virtual time, or with --sip over real calls.

    Exit code 0: all passed. 1: one failed. 2: a file has a mistake.
    """
    way: Way = "sip" if sip else "virtual"
    if record is not None and not sip:
        raise click.UsageError("--record needs --sip: nothing is to be heard in virtual time")
    chosen = [each for each in _load(paths, text) if way in each.runs]
    if not chosen:
        fail(f"none of these scenarios runs in the way {way!r} (key `runs`)" + (f" and has {text!r}" if text else ""))
    began = time.perf_counter()
    results: list[Result] = []
    try:
        if sip:
            asyncio.run(_run_sip(chosen, results, record, as_json, verbose))
        else:
            for each in chosen:
                _take(run_virtual(each), results, as_json, verbose)
    except ConfigError as error:
        fail(str(error), EXIT_USAGE)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    if as_json:
        click.echo(as_json_text([facts(result, events=verbose) for result in results]))
    else:
        _summarise(results, time.perf_counter() - began)
    sys.exit(1 if any(result.failures for result in results) else 0)


@scenario.command("list")
@paths_argument
@filter_option
@json_option
def list_command(paths: tuple[Path, ...], text: str, as_json: bool) -> None:
    """List scenarios: rule, side, ways to run, title."""
    found = _load(paths, text)
    if as_json:
        rows = [
            {"path": str(each.path), "rule": each.rule, "side": each.side, "runs": each.runs, "title": each.title}
            for each in found
        ]
        click.echo(as_json_text(rows))
        return
    width = max((len(each.rule) for each in found), default=0)
    for each in found:
        click.echo(f"{each.rule:{width}}  {each.side:18}  {' '.join(each.runs):11}  {each.title}")


@scenario.command("check")
@paths_argument
@json_option
def check_command(paths: tuple[Path, ...], as_json: bool) -> None:
    """Check scenario files without running them; exit 1 with every mistake."""
    files = _files(paths)
    mistakes: list[str] = []
    for file in files:
        try:
            load_scenario(file)
        except ScenarioError as error:
            mistakes += str(error).splitlines()
    if as_json:
        click.echo(as_json_text({"scenarios": len(files), "mistakes": mistakes}))
    elif not mistakes:
        click.echo(f"{_counted(len(files))}, no mistakes")
    else:
        click.echo("\n".join(mistakes), err=True)
    sys.exit(1 if mistakes else 0)


@scenario.command("ablate")
@paths_argument
@filter_option
@json_option
def ablate_command(paths: tuple[Path, ...], text: str, as_json: bool) -> None:
    """Run scenarios in virtual time with one mechanism of turn taking off at a time: a table of what gets worse."""
    rows = ablation.ablate(_load(paths, text))
    if as_json:
        click.echo(as_json_text([dataclasses.asdict(row) for row in rows]))
        return
    for line in (*ablation.HEAD_LINES, *map(ablation.line, rows)):
        click.echo(line)


async def _run_sip(
    scenarios: list[Scenario], results: list[Result], record: Path | None, as_json: bool, verbose: bool
) -> None:
    from ops.scenario.line import run_scenarios

    async for result in run_scenarios(scenarios, progress=lambda text: click.echo(text, err=True), record=record):
        _take(result, results, as_json, verbose)


def _files(paths: tuple[Path, ...]) -> list[Path]:
    try:
        return [file for path in paths for file in scenario_files(path)]
    except ScenarioError as error:
        fail(str(error), EXIT_USAGE)


def _load(paths: tuple[Path, ...], text: str) -> list[Scenario]:
    try:
        found = [load_scenario(file) for file in _files(paths)]
    except ScenarioError as error:
        fail(str(error), EXIT_USAGE)
    wanted = text.lower()
    return [each for each in found if wanted in f"{each.title} {each.rule} {each.path}".lower()]


def _take(result: Result, results: list[Result], as_json: bool, verbose: bool) -> None:
    results.append(result)
    if not as_json:
        _show(result, verbose)


def _show(result: Result, verbose: bool) -> None:
    """One line; why it failed and what happened then."""
    title = result.scenario.title
    verdict = "skip" if result.skipped else "FAIL" if result.failures else "pass"
    click.echo(f"{verdict}  {title}  ({result.duration_ms / 1000:.1f} s)")
    if result.skipped:
        click.echo(f"      {result.skipped}")
    for failure in result.failures:
        click.echo(f"      {failure}")
    if result.recording:
        click.echo(f"      recorded in {result.recording}")
    if verbose:
        _show_lines(timeline(result))
    elif result.failures:
        click.echo(f"      {result.scenario.path}; what happened then:")
        _show_lines(around(result, result.failures[0]))


def _show_lines(lines: list[str]) -> None:
    for line in lines:
        click.echo(f"      {line}")


def _summarise(results: list[Result], wall_s: float) -> None:
    click.echo()
    rows = by_rule(results)
    width = max(len(rule) for rule, *_ in rows)
    for rule, passed, failed, skipped in rows:
        trouble = (f"  {failed} failed" if failed else "") + (f"  {skipped} skipped" if skipped else "")
        click.echo(f"{rule:{width}}  {passed:>3} passed{trouble}")
    failed = sum(1 for result in results if result.failures)
    skipped = sum(1 for result in results if result.skipped)
    media_s = sum(result.duration_ms for result in results) / 1000
    told = f"{_counted(len(results))}, {failed} failed, {skipped} skipped"
    click.echo(f"\n{told}; {media_s:.0f} s of conversation in {wall_s:.1f} s")


def _counted(scenarios: int) -> str:
    return f"{scenarios} scenario{'' if scenarios == 1 else 's'}"
