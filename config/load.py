"""Read settings: defaults, then ``app.ini``, then the environment (``CALLBUS_<SECTION>__<KEY>``).

The file is the one that ``CALLBUS_CONFIG`` names, else ``config/app.ini`` beside this module. ``NATS_URL`` is a second
name of ``CALLBUS_NATS__URL``, because every NATS tool knows it.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import msgspec

from config.section import Section, shown
from config.settings import Settings

DEFAULT_FILE = Path(__file__).with_name("app.ini")
PREFIX = "CALLBUS_"


class ConfigError(ValueError):
    """A setting that can't be used; the text names section, key, value, and what is allowed."""


class Row(NamedTuple):
    """One setting as it stands: ``source`` is ``default``, the file's path, or the variable's name."""

    section: str
    key: str
    type_text: str
    default: Any
    value: Any
    source: str
    help: str


def load(environment: Mapping[str, str] | None = None, file: Path | None = None) -> Settings:
    """All settings.

    Raises:
        ConfigError: the file can't be read, or a section, key or value is not allowed.
    """
    return _convert(_collect(environment, file))


def rows(environment: Mapping[str, str] | None = None, file: Path | None = None) -> Iterator[Row]:
    """Every setting with its value and where that came from.

    Raises:
        ConfigError: as :func:`load`.
    """
    given = _collect(environment, file)
    settings = _convert(given)
    for section_field in msgspec.structs.fields(Settings):
        section = getattr(settings, section_field.name)
        for field in msgspec.structs.fields(type(section)):
            source = given.get(section_field.name, {}).get(field.name, ("", "default"))[1]
            yield Row(
                section_field.name,
                field.name,
                describe_type(field.type),
                field.default,
                shown(field.name, getattr(section, field.name)),
                source,
                _help(field.type),
            )


def describe_type(annotation: Any) -> str:
    """What a setting allows, in words: ``int from 0 to 65535``, ``one of debug, info``."""
    low = high = None
    while get_origin(annotation) is not None and get_origin(annotation) is not Literal:
        base, *metas = get_args(annotation)
        for meta in metas:
            low = meta.ge if meta.ge is not None else low
            high = meta.le if meta.le is not None else high
        annotation = base
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(annotation))
    name = {"str": "text", "bool": "true or false"}.get(annotation.__name__, annotation.__name__)
    if low is not None and high is not None:
        return f"{name} from {low} to {high}"
    return f"{name} of at least {low}" if low is not None else name


Given = dict[str, dict[str, tuple[str, str]]]


def _collect(environment: Mapping[str, str] | None, file: Path | None) -> Given:
    environment = os.environ if environment is None else environment
    named = environment.get(PREFIX + "CONFIG")
    path = file or (Path(named) if named else DEFAULT_FILE)
    given: Given = {}
    if path.exists():
        _read_file(path, given)
    elif path != DEFAULT_FILE:
        raise ConfigError(f"settings file {path} does not exist; mend CALLBUS_CONFIG or create the file")
    for name, value in environment.items():
        if name.startswith(PREFIX) and "__" in name:
            section, key = name[len(PREFIX) :].lower().split("__", 1)
            given.setdefault(section, {})[key] = (value, name)
    if environment.get("NATS_URL") and f"{PREFIX}NATS__URL" not in environment:
        given.setdefault("nats", {})["url"] = (environment["NATS_URL"], "NATS_URL")
    return given


def _read_file(path: Path, given: Given) -> None:
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=(";",))
    try:
        parser.read_string(path.read_text(encoding="utf-8"), source=str(path))
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise ConfigError(f"settings file {path} can't be read: {error}") from error
    for section in parser.sections():
        for key, value in parser.items(section):
            given.setdefault(section, {})[key] = (value, str(path))


def _convert(given: Given) -> Settings:
    sections = {field.name: type(field.default) for field in msgspec.structs.fields(Settings)}
    values: dict[str, Any] = {}
    for section, entries in given.items():
        if section not in sections:
            source = next(iter(entries.values()))[1]
            raise ConfigError(f"[{section}] ({source}) is no section; there are: {', '.join(sections)}")
        values[section] = _convert_section(section, sections[section], entries)
    return Settings(**values)


def _convert_section(section: str, section_type: type[Section], entries: dict[str, tuple[str, str]]) -> Section:
    fields = {field.name: field for field in msgspec.structs.fields(section_type)}
    converted: dict[str, Any] = {}
    for key, (text, source) in entries.items():
        if key not in fields:
            raise ConfigError(f"[{section}] {key} ({source}) is no setting; [{section}] has: {', '.join(fields)}")
        try:
            converted[key] = msgspec.convert(text, fields[key].type, strict=False)
        except msgspec.ValidationError:
            allowed = describe_type(fields[key].type)
            raise ConfigError(f"[{section}] {key} = {text!r} ({source}) is not allowed; it must be {allowed}") from None
    return section_type(**converted)


def _help(annotation: Any) -> str:
    while get_origin(annotation) is not None and get_origin(annotation) is not Literal:
        base, *metas = get_args(annotation)
        for meta in metas:
            if meta.description:
                return str(meta.description)
        annotation = base
    return ""
