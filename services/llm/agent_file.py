"""The file that describes a scripted agent: read, checked as a whole, and made ready to be played.

Every mistake is found when the file is loaded and is told with the file, the place in it, and what is allowed there.
The format is explained in ``docs/agents.md``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from schemas.llm import ListenFor
from services.llm.matching import DEFAULT_IGNORED, DEFAULT_THRESHOLD, Matcher

AGENTS = Path(__file__).resolve().parents[2] / "config" / "agents"
GOAL = "@goal"
"""As a next state: the state that asked for verification, or whatever else was put off."""

FIELD = re.compile(r"\{([a-z][a-z0-9_]*)(?:\|([a-z]+))?\}")
"""``{slot}`` or ``{slot|digits}`` in a sentence."""

FILTERS = ("digits",)
Section = TypeVar("Section", bound=msgspec.Struct)

Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*$")]
Sentences = tuple[Annotated[str, Meta(min_length=1, max_length=300)], ...]


class AgentFileError(ValueError):
    """An agent file that can't be used; the text names file, place, and what is allowed."""


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[agent].

    Attributes:
        retry: said when the caller was not understood, where a state has no words of its own for it.
        fillers, away, away_goodbye: as in [llm], where the agent has words of its own for it.
    """

    name: Name
    start: Name
    language: str = "en"
    tools: str = ""
    retry: Sentences = ("I did not catch that.",)
    retries: Annotated[int, Meta(ge=0, le=10)] = 2
    give_up: Name
    fillers: Sentences = ()
    away: Annotated[str, Meta(max_length=300)] = ""
    away_goodbye: Annotated[str, Meta(max_length=300)] = ""


class Matching(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[matching]: how tolerant the agent is."""

    threshold: Annotated[float, Meta(gt=0.0, le=1.0)] = DEFAULT_THRESHOLD
    ignore: tuple[str, ...] = DEFAULT_IGNORED


class Intent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[intents.<name>]: what a caller may want. With ``go`` it becomes the subject of the conversation."""

    phrases: Annotated[tuple[str, ...], Meta(min_length=1)]
    go: str = ""


class Collect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``collect`` of a state: digits, by voice or keys, that fill a slot."""

    slot: Name
    digits: Annotated[int, Meta(ge=1, le=20)]
    go: str
    phrases: tuple[str, ...] = ()


class ToolUse(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``tool`` of a state: what to call, what to keep of the result, and where each result leads.

    Attributes:
        arguments: argument -> text, which may hold ``{slot}``.
        keep: slot -> field of the result.
        decide: field of the result that chooses among ``cases``; empty: ``cases."*"``.
        cases: value of that field -> state; ``*`` stands for any other value.
        failed: state where the tool fails.
    """

    name: str
    arguments: dict[str, str] = {}
    keep: dict[str, str] = {}
    decide: str = ""
    cases: Annotated[dict[str, str], Meta(min_length=1)]
    failed: str


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[states.<name>]: a place in the script. It says ``say``, and then it is one of four kinds.

    It waits for the caller (``listen``, ``collect``, ``keys``), uses a ``tool``, goes on to ``go``, or hangs up.

    Attributes:
        listen: intents, and groups of them, that are understood here.
        on: intent -> state, where it is not the intent's own ``go``.
        keys: key of the phone -> intent.
        requires, otherwise: while this slot is empty the state is put off and ``otherwise`` is entered instead.
        limit, over: after so many visits ``over`` is entered instead.
        retry, retries, give_up: as in [agent], for this state.
    """

    say: Sentences = ()
    listen: tuple[str, ...] = ()
    on: dict[str, str] = {}
    keys: dict[Annotated[str, Meta(pattern=r"^[0-9*#]$")], str] = {}
    collect: Collect | None = None
    tool: ToolUse | None = None
    go: str = ""
    hang_up: bool = False
    requires: str = ""
    otherwise: str = ""
    limit: Annotated[int, Meta(ge=0, le=100)] = 0
    over: str = ""
    retry: Sentences = ()
    retries: Annotated[int, Meta(ge=0, le=10)] | None = None
    give_up: str = ""

    @property
    def waits(self) -> bool:
        """Whether the caller speaks next."""
        return bool(self.listen or self.collect or self.keys)


class Agent(NamedTuple):
    """An agent that is ready to be played.

    Attributes:
        intents_of: state -> the intents understood there, groups resolved.
        listen_for: state -> what asr may expect there.
    """

    path: str
    head: Head
    intents: Mapping[str, Intent]
    states: Mapping[str, State]
    intents_of: Mapping[str, tuple[str, ...]]
    listen_for: Mapping[str, ListenFor]
    matcher: Matcher


class Document(NamedTuple):
    """The sections of a file, each of its type, not yet checked against each other."""

    path: str
    head: Head
    matching: Matching
    rules: dict[str, str]
    groups: dict[str, tuple[str, ...]]
    intents: dict[str, Intent]
    states: dict[str, State]


def find_agent(name: str) -> Path:
    """The file of an agent: a name in ``config/agents``, or a path.

    Raises:
        AgentFileError: there is no such file.
    """
    path = Path(name) if name.endswith(".toml") else AGENTS / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in AGENTS.glob("*.toml")))
        raise AgentFileError(f"[llm] agent = {name!r}: {path} does not exist; there are {known}, or a path to a .toml")
    return path


def read_document(path: Path) -> Document:
    """Read a file and check each section for itself.

    Raises:
        AgentFileError: not TOML, or a section, key or value that is not allowed.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise AgentFileError(f"{path}: can't be read as TOML: {error}") from error
    allowed = ("agent", "matching", "rules", "groups", "intents", "states")
    for name, value in raw.items():
        if name not in allowed or not isinstance(value, dict):
            raise AgentFileError(f"{path}: [{name}] is no section; there are: {', '.join(allowed)}")
    for name in ("agent", "intents", "states"):
        if not raw.get(name):
            raise AgentFileError(f"{path}: section [{name}] is missing")
    return Document(
        str(path),
        _section(path, "[agent]", raw["agent"], Head),
        _section(path, "[matching]", raw.get("matching", {}), Matching),
        _plain(path, "[rules]", raw.get("rules", {}), dict[str, str]),
        _plain(path, "[groups]", raw.get("groups", {}), dict[str, tuple[str, ...]]),
        {name: _section(path, f"[intents.{name}]", value, Intent) for name, value in _named(path, raw, "intents")},
        {name: _section(path, f"[states.{name}]", value, State) for name, value in _named(path, raw, "states")},
    )


def _named(path: Path, raw: dict[str, Any], section: str) -> list[tuple[str, Any]]:
    for name in raw[section]:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise AgentFileError(
                f"{path}: [{section}.{name}]: a name may hold small letters, digits and '_', and begins with a letter"
            )
    return list(raw[section].items())


def _section(path: Path, place: str, value: Any, section_type: type[Section]) -> Section:
    try:
        return msgspec.convert(value, section_type)
    except msgspec.ValidationError as error:
        keys = ", ".join(field.encode_name for field in msgspec.structs.fields(section_type))
        raise AgentFileError(f"{path}: {place}: {error}; keys are: {keys}") from None


def _plain(path: Path, place: str, value: Any, wanted: Any) -> Any:
    try:
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        raise AgentFileError(f"{path}: {place}: {error}") from None
