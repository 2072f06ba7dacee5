"""Finding an engine or a detector by its name in the settings."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from config.factories import make
from config.load import ConfigError
from config.settings import AsrSection, Settings


class EngineChoiceError(ConfigError):
    """The name in the settings can't be used; the text says which can."""


def load(room: str, name: str, section: AsrSection, setting: str, settings: Settings | None = None) -> Any:
    """What ``<room>.<name>.create(section)`` makes, or ``Class(section)`` where ``name`` is ``module:Class``. Both may
    take all ``settings`` as a second argument.

    Args:
        room: package that holds one file per engine.
        name: value of the setting.
        setting: its name, for error texts: ``[asr] engine``.

    Raises:
        EngineChoiceError: there is no such file, module or class.
        MissingPackageError: it needs a package that is not installed.
    """
    if ":" in name:
        return _load_class(name, section, setting, settings)
    modules = pkgutil.iter_modules(importlib.import_module(room).__path__)
    known = [module.name for module in modules if not module.name.startswith("_")]
    if name not in known:
        raise EngineChoiceError(
            f"{setting} = {name!r}: there is no such one; there are {', '.join(sorted(known))}, "
            "or module:Class of your own"
        )
    return make(importlib.import_module(f"{room}.{name}").create, section, settings)


def _load_class(name: str, section: AsrSection, setting: str, settings: Settings | None) -> Any:
    module_name, _, class_name = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, ValueError) as error:
        raise EngineChoiceError(f"{setting} = {name!r}: module {module_name!r} can't be imported: {error}") from error
    except AttributeError as error:
        raise EngineChoiceError(f"{setting} = {name!r}: module {module_name!r} has no {class_name!r}") from error
    return make(factory, section, settings)
