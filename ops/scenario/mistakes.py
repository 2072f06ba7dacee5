"""What can be wrong with a scenario file, said with the table, the key, and what is allowed."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import msgspec

from config.load import PREFIX, ConfigError, load
from ops.scenario.grammar import ACTIONS, NOISES, SOUNDS, SPEECH_PREFIX, SPEECH_VARIABLE, parse_reference
from schemas.base import Event
from schemas.subjects import EVENT_BY_NAME

if TYPE_CHECKING:
    from ops.scenario.document import Expect, Never, Scenario, Step

_AT = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>\$[^`]*)`)?", re.DOTALL)
_PIECE = re.compile(r"\.(?P<key>[^.\[]+)|\[(?P<index>\d+|\.\.\.)\]")
_FIELD = re.compile(r"field `(?P<name>[^`]+)`")


class ScenarioError(ValueError):
    """A scenario that can't be used. ``mistakes``: one sentence each; the text begins each with the file."""

    def __init__(self, path: Path, mistakes: Collection[str]) -> None:
        super().__init__("\n".join(f"{path}: {mistake}" for mistake in mistakes))
        self.path = path
        self.mistakes = tuple(mistakes)


# What msgspec says, in the words of the file.


def translate(error: str, document: type[msgspec.Struct], data: Mapping[str, Any]) -> str:
    """A validation error of msgspec in the file's words: table, key, what is wrong, what is allowed."""
    found = _AT.fullmatch(error)
    what, path = (found["what"], found["path"] or "$") if found else (error, "$")
    field = _FIELD.search(what)
    keys, annotation = _walk(path, document)
    if field is not None:
        table = _table(keys)
        allowed = _keys_of(annotation)
        name = field["name"]
        if "missing" in what:
            return f"{table} lacks the key {name!r} ({describe(_type_of(annotation, name))})"
        return f"{table} has no key {name!r}{_guess(name, allowed)}; its keys are {', '.join(allowed)}"
    value = _value(data, keys)
    given = "" if value is None else f" = {value!r}"
    return f"{_table(keys[:-1])} {_last(keys)}{given} is not allowed; it must be {describe(annotation)}"


def describe(annotation: Any) -> str:
    """What a key allows, in words."""
    low = high = pattern = None
    while get_origin(annotation) is typing.Annotated:
        annotation, *metas = get_args(annotation)
        for meta in metas:
            low, high, pattern = meta.ge, meta.le, meta.pattern
    origin = get_origin(annotation)
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " or ".join(describe(option) for option in get_args(annotation) if option is not type(None))
    if origin is tuple:
        return f"a list, each {describe(get_args(annotation)[0])}"
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)):
        return "a table"
    name = {"str": "text", "bool": "true or false", "int": "a whole number", "float": "a number"}.get(
        getattr(annotation, "__name__", ""), "any value"
    )
    if pattern is not None:
        return f"{name} of {pattern.strip('^$+')}"
    if low is None:
        return name
    return f"{name} of at least {low}" if high is None else f"{name} from {low} to {high}"


def _walk(path: str, annotation: Any) -> tuple[list[str | int], Any]:
    keys: list[str | int] = []
    for piece in _PIECE.finditer(path):
        annotation = _bare(annotation)
        if piece["key"] is not None:
            keys.append(piece["key"])
            annotation = _type_of(annotation, piece["key"])
        else:
            keys.append(-1 if piece["index"] == "..." else int(piece["index"]))
            arguments = get_args(annotation)
            annotation = arguments[1] if get_origin(annotation) is dict else arguments[0] if arguments else str
    return keys, annotation


def _bare(annotation: Any) -> Any:
    while get_origin(annotation) is typing.Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        options = [_bare(option) for option in get_args(annotation) if option is not type(None)]
        annotation = next((option for option in options if get_args(option)), options[0])
    return annotation


def _type_of(annotation: Any, key: str) -> Any:
    annotation = _bare(annotation)
    hints = typing.get_type_hints(annotation, include_extras=True) if isinstance(annotation, type) else {}
    return hints.get(key, str)


def _keys_of(annotation: Any) -> list[str]:
    annotation = _bare(annotation)
    is_struct = isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)
    return [field.name for field in msgspec.structs.fields(annotation)] if is_struct else []


def _table(keys: list[str | int]) -> str:
    """``[[caller]] number 2``, ``[settings.turn]``, ``the file``."""
    if not keys:
        return "the file"
    if isinstance(keys[-1], int) and keys[-1] >= 0:
        return f"[[{'.'.join(str(key) for key in keys[:-1])}]] number {keys[-1] + 1},"
    return f"[{'.'.join(str(key) for key in keys if key != -1)}]"


def _last(keys: list[str | int]) -> str:
    return f"entry {keys[-1] + 1}" if isinstance(keys[-1], int) else str(keys[-1]) if keys else ""


def _value(data: Any, keys: list[str | int]) -> Any:
    for key in keys:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return None
    return data if isinstance(data, str | int | float | bool) else None


def _guess(name: str, allowed: Collection[str]) -> str:
    close = difflib.get_close_matches(name, allowed, n=1)
    return f" (is {close[0]!r} meant?)" if close else ""


# What only the whole file can tell.


def settings_environment(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The settings of a scenario as the environment variables that ``config.load`` reads."""
    return {
        f"{PREFIX}{section.upper()}__{key.upper()}": str(value).lower() if isinstance(value, bool) else str(value)
        for section, keys in settings.items()
        for key, value in keys.items()
    }


def find_mistakes(scenario: Scenario, environment: Mapping[str, str]) -> list[str]:
    """Everything that is wrong with a scenario, in the order of its tables."""
    return [
        *_in_settings(scenario),
        *_in_surroundings(scenario, environment),
        *_in_steps(scenario, environment),
        *_in_expectations(scenario),
        *_in_faults(scenario),
        *_in_outcome(scenario),
    ]


def _in_settings(scenario: Scenario) -> Iterator[str]:
    for section, keys in scenario.settings.items():
        for key, value in keys.items():
            variables = settings_environment({section: {key: value}})
            try:
                load(variables)
            except ConfigError as error:
                text = str(error).replace(f" ({next(iter(variables))})", "")
                yield f"[settings.{section}] {key}: {text}"


def _in_surroundings(scenario: Scenario, environment: Mapping[str, str]) -> Iterator[str]:
    agent, background = scenario.agent, scenario.background
    if agent.answer_ms == ():
        yield "[agent] answer_ms: the list is empty; it needs one time at least"
    if agent.file:
        file = scenario.file(agent.file, environment)
        if file is not None and not file.is_file():
            yield f"[agent] file: there is no file {file}; the path is relative to the scenario"
    if background is not None and background.noise not in NOISES:
        file = scenario.file(background.noise, environment)
        if file is not None and not file.is_file():
            yield f"[background] noise: there is no file {file}; it must be {', '.join(NOISES)}, or a WAV file"


def _in_steps(scenario: Scenario, environment: Mapping[str, str]) -> Iterator[str]:
    if not scenario.caller:
        yield "[[caller]] is missing: a scenario needs at least one step of the caller (`wait_ms` does nothing)"
    seen: set[str] = set()
    for number, step in enumerate(scenario.caller, start=1):
        table = f"[[caller]] number {number} ({step.name!r}),"
        if step.name in seen:
            yield f"{table} name: another step has the same name; names say which step is meant"
        seen.add(step.name)
        if step.name.startswith("event ") or step.name.endswith(" end") or " + " in step.name or " - " in step.name:
            yield f"{table} name: it may not begin with 'event ', end with ' end' or hold ' + ' or ' - '"
        if step.hang_up and number < len(scenario.caller):
            yield f"{table} hang_up: nothing can follow the end of the call; make it the last step"
        yield from (f"{table} {mistake}" for mistake in _in_step(scenario, step, environment))


def _in_step(scenario: Scenario, step: Step, environment: Mapping[str, str]) -> Iterator[str]:
    given = [name for name in ACTIONS if getattr(step, name) not in (None, False)]
    if len(given) != 1:
        count = "none" if not given else " and ".join(given)
        yield f"exactly one action is needed, it has {count}; actions are {', '.join(ACTIONS)}"
        return
    if step.action not in SOUNDS:
        for key in ("level_dbfs", "done", "hears"):
            if getattr(step, key) is not None:
                yield f"{key}: {step.action} makes no sound; sounds are {', '.join(SOUNDS)}"
    if step.say is not None and not any(phrase.text for phrase in step.phrases):
        yield "say: there are no words in it; use wait_ms for silence"
    if step.wav is not None:
        file = scenario.file(step.wav, environment)
        if file is not None and not file.is_file():
            yield (
                f"wav: there is no file {file}; a path is relative to the scenario, or below ${SPEECH_VARIABLE} "
                f"with {SPEECH_PREFIX!r} before it"
            )


def _in_expectations(scenario: Scenario) -> Iterator[str]:
    if not (scenario.expect or scenario.never or any(value is not None for value in _outcome(scenario))):
        yield "nothing is expected: write [[expect]], [[never]] or [outcome]"
    for number, expect in enumerate(scenario.expect, start=1):
        table = f"[[expect]] number {number},"
        yield from (f"{table} {mistake}" for mistake in _in_event(scenario, expect))
        if expect.within_ms is not None and expect.within_ms < expect.not_before_ms:
            yield f"{table} within_ms = {expect.within_ms} lies before not_before_ms = {expect.not_before_ms}"
    for number, never in enumerate(scenario.never, start=1):
        table = f"[[never]] number {number},"
        yield from (f"{table} {mistake}" for mistake in _in_event(scenario, never))
        yield from (f"{table} until: {mistake}" for mistake in _in_reference(scenario, never.until))


def _in_event(scenario: Scenario, expected: Expect | Never) -> Iterator[str]:
    event_type = EVENT_BY_NAME.get(expected.event)
    if event_type is None:
        yield f"event: {_no_event(expected.event)}"
    else:
        allowed = [field.name for field in msgspec.structs.fields(event_type) if field.name not in _base_fields()]
        for name in expected.fields:
            if name not in allowed:
                yield (
                    f"fields: {expected.event} has no field {name!r}{_guess(name, allowed)}; "
                    f"its fields are {', '.join(allowed)}"
                )
    yield from (f"after: {mistake}" for mistake in _in_reference(scenario, expected.after))


def _in_reference(scenario: Scenario, text: str) -> Iterator[str]:
    reference = parse_reference(text)
    labels = [step.name for step in scenario.caller]
    if reference is None:
        yield f"{text!r} is no point of time; it must be NAME, 'NAME end' or 'event turn.ended#2', or that ' + 300'"
    elif reference.event and reference.event not in EVENT_BY_NAME:
        yield _no_event(reference.event)
    elif reference.label and reference.label not in labels:
        yield f"no step is named {reference.label!r}{_guess(reference.label, labels)}; there are {', '.join(labels)}"


def _in_faults(scenario: Scenario) -> Iterator[str]:
    for key in ("drop", "duplicate"):
        for text in getattr(scenario.faults, key):
            name, _, number = text.partition("#")
            if name not in EVENT_BY_NAME:
                yield f"[faults] {key}: {_no_event(name)}"
            elif number and not (number.isdigit() and int(number)):
                yield f"[faults] {key}: {text!r}: what follows '#' must be a number from 1 on"


def _in_outcome(scenario: Scenario) -> Iterator[str]:
    heard, interrupted = scenario.outcome.agent_heard, scenario.outcome.interrupted
    if heard is not None and interrupted is not None and len(heard) != len(interrupted):
        yield (
            f"[outcome] interrupted has {len(interrupted)} entries and agent_heard {len(heard)}: "
            "they need one per line of the agent"
        )


def _outcome(scenario: Scenario) -> tuple[object, ...]:
    outcome = scenario.outcome
    return (outcome.agent_heard, outcome.interrupted, outcome.caller_said)


def _no_event(name: str) -> str:
    return f"there is no event {name!r}{_guess(name, EVENT_BY_NAME)}; events are {', '.join(sorted(EVENT_BY_NAME))}"


def _base_fields() -> set[str]:
    return {field.name for field in msgspec.structs.fields(Event)}
