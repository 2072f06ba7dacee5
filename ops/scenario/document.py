"""A scenario file: one conversation in TOML. What each key means for writers stands in ``docs/scenarios.md``.

The structs here hold what a file says; :func:`load_scenario` reads one and finds every mistake that can be found
without running it. All times are milliseconds.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from config.load import load
from config.settings import Settings
from ops.scenario.grammar import ACTIONS, SPEECH_PREFIX, SPEECH_VARIABLE, Phrase, parse_say
from ops.scenario.mistakes import ScenarioError, find_mistakes, settings_environment, translate

SUFFIX = ".toml"
DEFAULT_LEVELS_DBFS = {
    "say": -20.0,
    "wav": -20.0,
    "cough_ms": -18.0,
    "noise_ms": -30.0,
    "mumble_ms": -24.0,
    "hum_ms": -24.0,
    "echo_ms": -50.0,
}

Milliseconds = Annotated[int, Meta(ge=0, le=600_000)]
Length = Annotated[int, Meta(ge=1, le=600_000)]
Level = Annotated[float, Meta(ge=-96.0, le=0.0)]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
When = Literal["now", "agent speaks", "agent silent", "call begins"]
Way = Literal["virtual", "sip"]
Side = Literal["must interrupt", "must not interrupt", "must wait", "must answer"]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every table of a file."""


class Agent(Table, frozen=True, kw_only=True):
    """The agent's side.

    Attributes:
        says: virtual: the greeting, then one text per turn; the last repeats. An empty one: the agent says nothing.
        answer_ms: virtual: end of turn to first audio; a list has one per text of ``says``, the last repeats.
        silent_turns: virtual: the llm stage gives nothing for these turns (0: the greeting).
        mute_turns: virtual: the tts stage gives nothing for these turns.
        expects_digits: virtual: so many digits are expected after each text of ``says``; none after the last of these.
        file: sip: an agent file, relative to the scenario; empty: the configured agent.
    """

    says: Annotated[tuple[str, ...], Meta(min_length=1)] = ("Hello. How can I help you?", "Thank you.")
    answer_ms: Milliseconds | tuple[Milliseconds, ...] = 50
    silent_turns: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    mute_turns: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    expects_digits: tuple[Annotated[int, Meta(ge=0, le=24)], ...] = ()
    file: str = ""


class Background(Table, frozen=True, kw_only=True):
    """sip: noise under everything that the caller sends.

    ``noise``: one of :data:`NOISES`, or a WAV file; ``snr_db``: the caller's speech over it.
    """

    noise: str
    snr_db: Annotated[float, Meta(ge=-20.0, le=60.0)] = 20.0


class Step(Table, frozen=True, kw_only=True):
    """One thing that the caller does; exactly one of :data:`ACTIONS` is set.

    Attributes:
        name: label for expectations; a loaded scenario has one on every step.
        when: what ``after_ms`` is counted from: ``now``, the end of the step before; ``agent speaks``, the first moment
            from there on at which an utterance plays; ``agent silent``, the agent has spoken (it speaks by then, or
            begins later) and its utterance is over; ``call begins``, media time 0.
        say: words. ``[pause 700]`` in them is silence; what ends with ``...`` sounds unfinished.
        wav: a file, relative to the scenario, or ``speech:`` and a path below ``$CALLBUS_TEST_SPEECH``.
        level_dbfs: loudness of the sound; see :data:`DEFAULT_LEVELS_DBFS`.
        done: virtual: what the turn model says after each part of this sound.
        hears: virtual: what the recogniser makes of the sound; default: the words of ``say``, else nothing.
        key_gap_ms: from one key to the next.
    """

    name: str = ""
    when: When = "now"
    after_ms: Milliseconds = 0
    say: str | None = None
    wav: str | None = None
    cough_ms: Length | None = None
    noise_ms: Length | None = None
    mumble_ms: Length | None = None
    hum_ms: Length | None = None
    echo_ms: Length | None = None
    keys: Annotated[str, Meta(pattern="^[0-9*#A-D]+$")] | None = None
    hold_ms: Length | None = None
    wait_ms: Milliseconds | None = None
    hang_up: bool = False
    level_dbfs: Level | None = None
    done: Probability | None = None
    hears: str | None = None
    key_gap_ms: Length = 250

    @property
    def action(self) -> str:
        """The one of :data:`ACTIONS` that is set; empty where none is."""
        return next((name for name in ACTIONS if getattr(self, name) not in (None, False)), "")

    @property
    def level(self) -> float:
        """Loudness of its sound, dBFS."""
        return DEFAULT_LEVELS_DBFS.get(self.action, -96.0) if self.level_dbfs is None else self.level_dbfs

    @property
    def phrases(self) -> tuple[Phrase, ...]:
        """The parts of ``say``, in order."""
        return parse_say(self.say or "")


class Expect(Table, frozen=True, kw_only=True):
    """An event that must come: the first one of this name and these fields, counted from ``after``, lies between
    ``not_before_ms`` and ``within_ms`` (None: any time). ``count``: so many of them from ``after`` on, no more."""

    event: str
    after: str = ""
    within_ms: Milliseconds | None = None
    not_before_ms: Milliseconds = 0
    count: Annotated[int, Meta(ge=1)] | None = None
    fields: dict[str, Any] = {}


class Never(Table, frozen=True, kw_only=True):
    """An event that must not come from ``after`` (begin of the call) to ``until`` (its end)."""

    event: str
    after: str = ""
    until: str = ""
    fields: dict[str, Any] = {}


class Outcome(Table, frozen=True, kw_only=True):
    """What the conversation's context holds at the end; None: not looked at.

    ``agent_heard``, ``interrupted``: the agent's lines in order, and which of them were cut. ``caller_said``: the
    caller's.
    """

    agent_heard: tuple[str, ...] | None = None
    interrupted: tuple[bool, ...] | None = None
    caller_said: tuple[str, ...] | None = None


class Faults(Table, frozen=True, kw_only=True):
    """virtual: events that are lost, or come twice, on their way to the turn machine: ``playout.started#2`` is the
    second of the call, without a number all of them."""

    drop: tuple[str, ...] = ()
    duplicate: tuple[str, ...] = ()


class Document(Table, frozen=True, kw_only=True):
    """A whole file. ``linger_ms``: after the last step the caller hangs up once nothing has happened for so long."""

    title: str
    rule: str
    side: Side
    runs: Annotated[tuple[Way, ...], Meta(min_length=1)] = ("virtual",)
    linger_ms: Milliseconds = 4000
    settings: dict[str, dict[str, str | int | float | bool]] = {}
    agent: Agent = Agent()
    background: Background | None = None
    caller: tuple[Step, ...] = ()
    expect: tuple[Expect, ...] = ()
    never: tuple[Never, ...] = ()
    outcome: Outcome = Outcome()
    faults: Faults = Faults()


class Scenario(Document, frozen=True, kw_only=True):
    """A document and the file it came from."""

    path: Path

    def file(self, name: str, environment: Mapping[str, str] | None = None) -> Path | None:
        """Where ``name`` of this scenario lies; None: under a speech folder that nobody named."""
        if not name.startswith(SPEECH_PREFIX):
            return self.path.parent / name
        folder = (os.environ if environment is None else environment).get(SPEECH_VARIABLE)
        return Path(folder) / name.removeprefix(SPEECH_PREFIX) if folder else None

    def lacks(self, environment: Mapping[str, str] | None = None) -> str:
        """Why this scenario can't run on this machine; empty where it can."""
        given = os.environ if environment is None else environment
        names = [step.wav for step in self.caller if step.wav is not None]
        if self.background is not None:
            names.append("speech:office" if self.background.noise == "office" else self.background.noise)
        if any(name.startswith(SPEECH_PREFIX) for name in names) and not given.get(SPEECH_VARIABLE):
            return f"it plays recordings; set {SPEECH_VARIABLE} to the folder that holds them"
        return ""


def settings_of(scenario: Document, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings that a scenario runs with: its own over those of app.ini and the environment.

    Raises:
        ConfigError: the environment or app.ini is wrong; what the scenario says was checked when it was loaded.
    """
    base = dict(os.environ if environment is None else environment)
    return load(base | settings_environment(scenario.settings))


def load_scenario(path: Path, environment: Mapping[str, str] | None = None) -> Scenario:
    """Read one file.

    Raises:
        ScenarioError: the file, or what it says, can't be used; one line per mistake.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(path, [f"it can't be read: {error.strerror}"]) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ScenarioError(path, [f"it is no TOML: {error}"]) from error
    try:
        document = msgspec.convert(data, Document)
    except msgspec.ValidationError as error:
        raise ScenarioError(path, _mistakes_of_shape(data, str(error))) from error
    named = tuple(
        step if step.name else msgspec.structs.replace(step, name=f"step {number}")
        for number, step in enumerate(document.caller, start=1)
    )
    values = {field.name: getattr(document, field.name) for field in msgspec.structs.fields(Document)}
    scenario = Scenario(**(values | {"caller": named}), path=path)
    mistakes = find_mistakes(scenario, os.environ if environment is None else environment)
    if mistakes:
        raise ScenarioError(path, mistakes)
    return scenario


_PLAIN: Mapping[str, Mapping[str, Any]] = {"caller": {"wait_ms": 0}, "expect": {"event": ""}, "never": {"event": ""}}


def _mistakes_of_shape(data: Mapping[str, Any], first: str) -> list[str]:
    """What does not fit the tables, at most one mistake of each table or step.

    msgspec stops at the first: each part is converted for itself, with plain ones before it, so that it keeps its
    number.
    """
    head = {"title": "", "rule": "", "side": "must wait"}
    parts: list[dict[str, Any]] = []
    for key, value in data.items():
        if key in _PLAIN and isinstance(value, list):
            parts += [{**head, key: [*[_PLAIN[key]] * number, item]} for number, item in enumerate(value)]
        else:
            parts.append({**head, key: value})
    found = []
    for part in ({key: data[key] for key in head if key in data}, *parts):
        try:
            msgspec.convert(part, Document)
        except msgspec.ValidationError as error:
            found.append(translate(str(error), Document, part))
    return list(dict.fromkeys(found)) or [translate(first, Document, data)]


def load_scenarios(path: Path, environment: Mapping[str, str] | None = None) -> list[Scenario]:
    """One file, or every ``*.toml`` below a folder that is a scenario, in the order of their paths.

    A folder named ``agents`` holds agent files and is passed over.

    Raises:
        ScenarioError: as :func:`load_scenario`, for the first file with mistakes; or there is none.
    """
    return [load_scenario(file, environment) for file in scenario_files(path)]


def scenario_files(path: Path) -> list[Path]:
    """The scenario files at or below ``path``, sorted.

    Raises:
        ScenarioError: there is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ScenarioError(path, ["there is no such file or folder"])
    found = sorted(file for file in path.rglob(f"*{SUFFIX}") if "agents" not in file.relative_to(path).parts[:-1])
    if not found:
        raise ScenarioError(path, [f"no scenario lies in this folder: they end with {SUFFIX}"])
    return found
