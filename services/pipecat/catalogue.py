"""A pipecat service by the name of its class, with arguments from JSON."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import json
import os
import re
import string
import types
import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bus.logs import get_logger
from config.engine_sections import PipecatSection
from services.packages import installed
from services.pipecat.errors import ServiceChoiceError
from services.pipecat.quiet import keep_quiet

log = get_logger(__name__)

Kind = Literal["stt", "llm", "tts"]

EXTRA = "pipecat"
SESSION = "aiohttp_session"
"""Argument of services that want an HTTP session made for them."""
SHORTEST_SECRET = 4
_SECRET = re.compile(r"key|token|secret|password|credentials", re.IGNORECASE)
"""Names of arguments that hold one, whether from a variable or not."""

_BASES = {
    "stt": ("pipecat.services.stt_service", "STTService", "pipecat.services.deepgram.stt:DeepgramSTTService"),
    "llm": ("pipecat.services.llm_service", "LLMService", "pipecat.services.groq.llm:GroqLLMService"),
    "tts": ("pipecat.services.tts_service", "TTSService", "pipecat.services.cartesia.tts:CartesiaTTSService"),
}


class Recipe(NamedTuple):
    """How to make one instance of a service.

    Attributes:
        setting: what names it, for error texts: ``[pipecat] stt``.
        service: its class.
        arguments: of its constructor, with the variables put in.
        secrets: values that came from variables, or that arguments of such names have, and these names.
        wants_session: it must be given an HTTP session.
    """

    setting: str
    service: Any
    arguments: dict[str, Any]
    secrets: dict[str, str]
    wants_session: bool

    @property
    def name(self) -> str:
        return str(self.service.__name__)

    def make(self, **more: Any) -> Any:
        """A new instance; call it where an event loop runs.

        Raises:
            ServiceChoiceError: the constructor refuses its arguments.
        """
        try:
            return self.service(**copy.deepcopy(self.arguments), **more)
        except Exception as error:
            text = self.without_secrets(str(error))
            raise ServiceChoiceError(f"{self.setting}: {self.name} refuses its arguments: {text}") from None

    def without_secrets(self, text: str) -> str:
        """The text with the name of each secret in place of it."""
        for value, variable in self.secrets.items():
            if len(value) >= SHORTEST_SECRET:
                text = text.replace(value, f"${variable}")
        return text


def load_recipe(kind: Kind, section: PipecatSection) -> Recipe:
    """The service that ``[pipecat] <kind>`` names.

    Raises:
        ServiceChoiceError: there is no such class, it is of another kind, its arguments are not a JSON object, or a
            variable is not set.
        MissingPackageError: pipecat, or a package of the service, is not installed.
    """
    setting = f"[pipecat] {kind}"
    keep_quiet()
    installed("pipecat", {"pipecat": EXTRA})
    service = _find_class(kind, getattr(section, kind), setting)
    secrets: dict[str, str] = {}
    plain = _read_arguments(getattr(section, f"{kind}_arguments"), f"{setting}_arguments")
    filled: dict[str, Any] = _fill(plain, f"{setting}_arguments", secrets)
    parameters = _parameters(service)
    if unknown := sorted(filled.keys() - parameters.keys()):
        log.warning("pipecat_arguments_unknown", message=f"{setting}: {service.__name__} knows no {', '.join(unknown)}")
    arguments = {
        name: _shape(value, name, parameters.get(name), service, f"{setting}_arguments")
        for name, value in filled.items()
    }
    session = parameters.get(SESSION)
    wants_session = session is not None and session.default is session.empty and SESSION not in arguments
    return Recipe(setting, service, arguments, secrets, wants_session)


def _find_class(kind: Kind, name: str, setting: str) -> Any:
    base_module, base_name, example = _BASES[kind]
    module_name, _, class_name = name.partition(":")
    if not module_name or not class_name:
        raise ServiceChoiceError(f"{setting} = {name!r}: give module:Class, such as {example}")
    base = getattr(importlib.import_module(base_module), base_name)
    module = _import(module_name, f"{setting} = {name!r}")
    found = getattr(module, class_name, None)
    if inspect.isclass(found) and issubclass(found, base):
        return found
    fitting = sorted(
        each
        for each, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, base) and value.__module__ == module_name
    )
    choices = f"; it has {', '.join(fitting)}" if fitting else ""
    what = f"has no class {class_name}" if found is None else f"has {class_name}, which is no {base_name}"
    raise ServiceChoiceError(f"{setting} = {name!r}: {module_name} {what}{choices}")


def _import(module_name: str, what: str) -> types.ModuleType:
    try:
        return importlib.import_module(module_name)
    except Exception as error:
        absent = _absent_module(error)
        if absent is None:
            raise ServiceChoiceError(f"{what}: {module_name} can't be imported: {type(error).__name__}") from error
        if module_name == absent or module_name.startswith(f"{absent}."):
            raise ServiceChoiceError(f"{what}: there is no module {absent}") from error
        raise ServiceChoiceError(
            f"{what} needs the package {absent.partition('.')[0]!r}, which is not installed{_remedy(module_name)}"
        ) from error


def _absent_module(error: BaseException | None) -> str | None:
    """The module whose absence is the reason, however often the error was raised anew."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            return error.name
        error = error.__cause__ or error.__context__
    return None


def _remedy(module_name: str) -> str:
    """The extra of pipecat that a module of its catalogue needs: it bears the name of the provider."""
    parts = module_name.split(".")
    try:
        extras = metadata("pipecat-ai").get_all("Provides-Extra") or []
    except PackageNotFoundError:
        extras = []
    fitting = [extra for extra in extras if len(parts) > 2 and extra.replace("-", "_") == parts[2]]
    return f": pip install 'pipecat-ai[{fitting[0]}]'" if parts[0] == "pipecat" and fitting else ""


def _read_arguments(text: str, setting: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        # Without the text itself: somebody may have written a key into it.
        raise ServiceChoiceError(f"{setting} is no JSON: {error.msg} at character {error.pos}") from None
    if not isinstance(arguments, dict):
        raise ServiceChoiceError(f"{setting} must be a JSON object, with a name for each argument")
    return arguments


def _fill(value: Any, setting: str, secrets: dict[str, str]) -> Any:
    """Variables put in for ``$NAME`` and ``${NAME}``, at any depth; ``$$`` is a dollar."""
    if isinstance(value, dict):
        plain = ((name, each) for name, each in value.items() if isinstance(each, str) and "$" not in each)
        secrets.update((each, name) for name, each in plain if _SECRET.search(name))
        return {name: _fill(each, setting, secrets) for name, each in value.items()}
    if isinstance(value, list):
        return [_fill(each, setting, secrets) for each in value]
    if not isinstance(value, str):
        return value
    template = string.Template(value)
    if not template.is_valid():
        raise ServiceChoiceError(f"{setting}: a dollar that begins no variable's name is written $$")
    for variable in template.get_identifiers():
        if variable not in os.environ:
            raise ServiceChoiceError(f"{setting}: the environment variable {variable} is not set")
        secrets[os.environ[variable]] = variable
    return template.substitute(os.environ)


def _parameters(service: Any) -> Mapping[str, inspect.Parameter]:
    """All names that a service's constructor takes: its own, and those that it hands on to its bases."""
    found: dict[str, inspect.Parameter] = {}
    for each in inspect.getmro(service):
        if "__init__" in vars(each) and each is not object:
            for name, parameter in inspect.signature(vars(each)["__init__"]).parameters.items():
                if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                    found.setdefault(name, parameter)
    return found


def _shape(value: Any, name: str, parameter: inspect.Parameter | None, service: Any, setting: str) -> Any:
    """A JSON object as the class that the constructor wants: ``Settings`` of the service, or a model of pydantic. A
    text as a path or as one of some words, where nothing else is wanted."""
    annotation = parameter.annotation if parameter is not None else None
    if name == "settings" and hasattr(service, "Settings"):
        # The annotation of a base class may stand in the signature; the service's own settings know more.
        annotation = service.Settings
    try:
        return _as_class(value, annotation)
    except TypeError as error:
        raise ServiceChoiceError(f"{setting}: {name}: {error}") from None
    except ValueError as error:
        # Not pydantic's own text: it quotes what it was given.
        raise ServiceChoiceError(f"{setting}: {name} can't be used: {type(error).__name__}") from None


def _as_class(value: Any, annotation: Any) -> Any:
    candidates = list(_classes(annotation))
    if isinstance(value, str) and str not in candidates:
        for candidate in candidates:
            if issubclass(candidate, Enum | Path):
                return candidate(value)
    if isinstance(value, dict):
        for candidate in candidates:
            fields = _fields(candidate)
            if fields is not None:
                return candidate(**{name: _as_class(each, fields.get(name)) for name, each in value.items()})
    return value


def _classes(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        yield annotation
    for each in typing.get_args(annotation):
        yield from _classes(each)


def _fields(candidate: type) -> dict[str, Any] | None:
    """Annotations of the fields of a dataclass or of a pydantic model; None: it is neither."""
    if not dataclasses.is_dataclass(candidate) and not hasattr(candidate, "model_fields"):
        return None
    try:
        return typing.get_type_hints(candidate)
    except Exception:
        return {}
