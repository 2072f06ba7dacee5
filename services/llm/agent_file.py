"""The file that describes an agent: the script of one, or what a language model is told that plays it, or both.

Every mistake is found when the file is loaded and is told with the file, the place in it, and what is allowed there.
The format is explained in ``docs/agents.md``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

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
        start, give_up: of the script, which can't do without them.
        retry: said when the caller was not understood, where a state has no words of its own for it.
        fillers, away, away_goodbye: as in [llm], where the agent has words of its own for it.
    """

    name: Name
    start: Name = ""
    language: str = "en"
    tools: str = ""
    retry: Sentences = ("I did not catch that.",)
    retries: Annotated[int, Meta(ge=0, le=10)] = 2
    give_up: Name = ""
    fillers: Sentences = ()
    away: Annotated[str, Meta(max_length=300)] = ""
    away_goodbye: Annotated[str, Meta(max_length=300)] = ""


class Matching(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[matching]: how tolerant the agent is."""

    threshold: Annotated[float, Meta(gt=0.0, le=1.0)] = DEFAULT_THRESHOLD
    ignore: tuple[str, ...] = DEFAULT_IGNORED


class Intent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[intents.<name>]: what a caller may want. With ``go`` it becomes the subject of the conversation.

    ``title``: its name in a menu of keys (``services.llm.menu``); empty: made of its name.
    """

    phrases: Annotated[tuple[str, ...], Meta(min_length=1)]
    go: str = ""
    title: Annotated[str, Meta(max_length=100)] = ""


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


class DigitsHint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[model.digits.<name>]: digits that the agent may ask the caller for, by voice or keys.

    Attributes:
        count: how many.
        asked: words by which an answer of the agent asks for them; one of them is enough.
        phrases: ways of saying them beside the bare digits.
    """

    count: Annotated[int, Meta(ge=1, le=20)]
    asked: Annotated[tuple[Annotated[str, Meta(min_length=2)], ...], Meta(min_length=1)]
    phrases: tuple[str, ...] = ()


class ModelSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[model]: what a language model is told that plays the agent.

    Attributes:
        instructions: who the agent is and how it behaves; none of it is ever spoken.
        facts: what the agent may tell callers, and in which words it likes.
        greeting: said when the call is answered; empty: the model makes one.
        goodbye: the call ends after an answer whose last words are one of these.
        farewell: said where the model ends the call without a word of its own.
        tools: whether the model is told of tools; not, where it can't use them.
        hang_up: whether the model may end the call.
        transfer: whom the model may hand callers to, as a SIP URI or a number; empty: nobody.
        transfer_text: said where the model hands a caller over without a word of its own.
        refusal: said in place of what may not be spoken.
        phrases: what asr may listen for; absent: the phrases of all intents; empty: anything.
        style: how the caller's words are told from everything else; ``plain``: by their role alone.
        history_exchanges, history_characters: how much of the conversation the model is reminded of.
        caller_characters: longest turn of a caller; the rest is cut.
        verify_attempts: failed verifications after which none is tried any more in this call.
    """

    instructions: Annotated[str, Meta(min_length=1, max_length=20_000)]
    facts: Annotated[str, Meta(max_length=20_000)] = ""
    greeting: Sentences = ()
    goodbye: tuple[Annotated[str, Meta(min_length=2)], ...] = ("goodbye", "bye")
    farewell: Sentences = ("Goodbye.",)
    tools: bool = True
    hang_up: bool = True
    transfer: Annotated[str, Meta(max_length=255)] = ""
    transfer_text: Sentences = ("One moment, please.",)
    refusal: Annotated[Sentences, Meta(min_length=1)] = ("I am sorry, I can not help you with that.",)
    phrases: tuple[str, ...] | None = None
    digits: dict[Name, DigitsHint] = {}
    style: Literal["delimited", "plain"] = "delimited"
    history_exchanges: Annotated[int, Meta(ge=0, le=200)] = 40
    history_characters: Annotated[int, Meta(ge=0, le=200_000)] = 12_000
    caller_characters: Annotated[int, Meta(ge=100, le=20_000)] = 2000
    verify_attempts: Annotated[int, Meta(ge=1, le=20)] = 3


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
    """The sections of a file, each of its type, not yet checked against each other. ``states`` may be empty where there
    is a ``model``."""

    path: str
    head: Head
    matching: Matching
    rules: dict[str, str]
    groups: dict[str, tuple[str, ...]]
    intents: dict[str, Intent]
    states: dict[str, State]
    model: ModelSection | None = None


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
    allowed = ("agent", "matching", "rules", "groups", "intents", "states", "model")
    for name, value in raw.items():
        if name not in allowed or not isinstance(value, dict):
            raise AgentFileError(f"{path}: [{name}] is no section; there are: {', '.join(allowed)}")
    for name in ("agent",) if raw.get("model") else ("agent", "intents", "states"):
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
        _section(path, "[model]", raw["model"], ModelSection) if "model" in raw else None,
    )


def _named(path: Path, raw: dict[str, Any], section: str) -> list[tuple[str, Any]]:
    for name in raw.get(section, {}):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise AgentFileError(
                f"{path}: [{section}.{name}]: a name may hold small letters, digits and '_', and begins with a letter"
            )
    return list(raw.get(section, {}).items())


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
