"""Which engines can be measured on this machine, with which models, and why the others can not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from config.load import ConfigError
from config.settings import Settings
from ops.engines import ENGINE_PACKAGES, STAGES, install_command, lacking, names
from ops.models.manifest import load_manifest
from ops.models.store import Store
from services.models import MissingModelError, find_model, is_path, models_folder

TEST_ENGINE = "instant"
REMOTE = frozenset({("llm", "openai"), ("llm", "ollama"), ("tts", "elevenlabs")})
"""Engines whose work is done by a server. Services of pipecat, too, but for some that are models on this machine."""
TRAINED_VARIABLE = "CALLBUS_TEST_MODELS"
TRAINED = {"vosk": ("vosk-tiny-bank-en-8k",), "llama_cpp": ("llm/bank-tiny-2m-q8_0.gguf",)}
"""Engine -> the trained models that the tests use, in the folder that the variable names."""

SMALL_AGENT = """
[agent]
name = "small"

[model]
style = "plain"
instructions = "You are the assistant of a bank."
greeting = ["Welcome to Example Bank."]
tools = false
hang_up = false
history_exchanges = 4
"""
"""For the trained language model: it has room for 256 tokens and knows one form of prompt."""


class Subject(NamedTuple):
    """An engine with a model.

    Attributes:
        model: the name of its model; empty: it has none, or somebody else has.
        environment: variables that choose that model.
        agent: the text of an agent file, where the setting's can not be used.
        reason: why it can't be measured; empty: it can, as far as one can see from here.
    """

    stage: str
    engine: str
    model: str = ""
    environment: dict[str, str] = {}
    agent: str = ""
    reason: str = ""

    @property
    def label(self) -> str:
        """For figures: ``vosk (vosk-model-small-en-us-0.15)``."""
        return f"{self.engine} ({self.model})" if self.model else self.engine

    @property
    def remote(self) -> bool:
        """Whether it asks a server."""
        return (self.stage, self.engine) in REMOTE or self.engine == "pipecat"


def subjects(settings: Settings) -> list[Subject]:
    """Every engine of callbus, one by one with each of its models that is here, and those of your own that the settings
    name; none is left out.

    Raises:
        ManifestError: the list of models can't be read.
    """
    found: list[Subject] = []
    for stage in STAGES:
        for engine in names(stage):
            found += _of_engine(stage, engine, settings)
        chosen = getattr(settings, stage).engine
        if ":" in chosen:
            found.append(Subject(stage, chosen))
    return found


def _of_engine(stage: str, engine: str, settings: Settings) -> list[Subject]:
    if engine == TEST_ENGINE:
        return [Subject(stage, engine, reason="answers at once, for tests: nothing to measure")]
    if lacking(stage, engine):
        return [Subject(stage, engine, reason=f"not installed: {install_command(stage, engine)}")]
    if not ENGINE_PACKAGES[stage, engine].model:
        return [Subject(stage, engine)]
    found, reason = _models(engine, settings)
    return [
        Subject(stage, engine, name, {f"CALLBUS_{engine.upper()}__MODEL": place}, agent)
        for name, (place, agent) in found.items()
    ] or [Subject(stage, engine, reason=reason)]


def _models(engine: str, settings: Settings) -> tuple[dict[str, tuple[str, str]], str]:
    """Name of each model that is here -> (the value of the setting, an agent's text); and why there is none."""
    reason, wanted = "", getattr(settings, engine).model
    found: dict[str, tuple[str, str]] = {}
    try:
        found[Path(wanted).name] = (str(find_model(wanted, settings.models, setting=f"[{engine}] model")), "")
    except ConfigError as error:
        named = isinstance(error, MissingModelError) and wanted and not is_path(wanted)
        reason = f"its model is not here: callbus models pull {wanted}" if named else str(error)
    store = Store(models_folder(settings.models))
    for name, model in load_manifest(settings.models).items():
        if model.engine == engine and store.is_here(name):
            found.setdefault(name, (str(store.path_of(name)), ""))
    for path in _trained(engine):
        found.setdefault(path.name, (str(path), SMALL_AGENT if path.suffix == ".gguf" else ""))
    return found, reason


def _trained(engine: str) -> Iterator[Path]:
    folder = os.environ.get(TRAINED_VARIABLE)
    for name in TRAINED.get(engine, ()) if folder else ():
        path = Path(folder or "", name)
        if path.exists():
            yield path
