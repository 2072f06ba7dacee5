"""The engines that there are, what each needs on this machine, and which ones the settings choose.

Nothing is imported to find out: an engine's package may be large.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import click

from config.load import ConfigError
from config.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("asr", "llm", "tts")
READY_S = 40.0
MODELS_READY_S = 240.0
FOLDERS = {
    "asr": ROOT / "services/asr/engines",
    "llm": ROOT / "services/llm/engines",
    "tts": ROOT / "services/tts/engines",
    "vad": ROOT / "services/asr/vad",
    "turn model": ROOT / "services/asr/turn_models",
}
"""What is chosen by name -> the folder that holds a file for each."""
AGENTS = ROOT / "config" / "agents"


class Needs(NamedTuple):
    """What an engine needs.

    Attributes:
        packages: modules that must be there to be imported.
        extra: of callbus, which brings them; empty: nothing is needed.
        model: whether its section has a ``model`` that is a file of the models' folder.
    """

    packages: tuple[str, ...] = ()
    extra: str = ""
    model: bool = False


ENGINE_PACKAGES: dict[tuple[str, str], Needs] = {
    ("asr", "instant"): Needs(),
    ("asr", "pocketsphinx"): Needs(("pocketsphinx", "soxr"), "pocketsphinx"),
    ("asr", "vosk"): Needs(("vosk",), "vosk", model=True),
    ("asr", "faster_whisper"): Needs(("faster_whisper", "numpy", "soxr"), "faster_whisper", model=True),
    ("asr", "pipecat"): Needs(("pipecat", "soxr"), "pipecat"),
    ("llm", "instant"): Needs(),
    ("llm", "scripted"): Needs(),
    ("llm", "llama_cpp"): Needs(("llama_cpp",), "llama_cpp", model=True),
    ("llm", "openai"): Needs(("openai",), "openai"),
    ("llm", "ollama"): Needs(("aiohttp",), "ollama"),
    ("llm", "pipecat"): Needs(("pipecat",), "pipecat"),
    ("tts", "instant"): Needs(),
    ("tts", "espeak"): Needs(("espeakng_loader", "soxr"), "espeak"),
    ("tts", "piper"): Needs(("piper", "soxr"), "piper", model=True),
    ("tts", "kokoro"): Needs(("kokoro_onnx", "soxr"), "kokoro", model=True),
    ("tts", "elevenlabs"): Needs(("aiohttp", "soxr"), "elevenlabs"),
    ("tts", "pipecat"): Needs(("pipecat", "soxr"), "pipecat"),
    ("vad", "energy"): Needs(),
    ("vad", "silero"): Needs(("onnxruntime", "numpy", "pipecat", "soxr"), "silero"),
    ("turn model", "instant"): Needs(),
    ("turn model", "smart_turn"): Needs(("onnxruntime", "numpy", "pipecat", "soxr"), "silero"),
}
"""(what, engine) -> what it needs. Every file of ``FOLDERS`` has a row."""


class Choice(NamedTuple):
    """An engine that the settings name. ``place`` 0: the first one; from 1 on: the fallbacks in their order."""

    what: str
    engine: str
    place: int = 0

    @property
    def own(self) -> bool:
        """Whether it is a class of the user's own, ``module:Class``."""
        return ":" in self.engine

    @property
    def title(self) -> str:
        """``asr engine``, ``tts fallback 1``."""
        kind = self.what if self.what == "turn model" else f"{self.what} engine"
        return f"{self.what} fallback {self.place}" if self.place else kind


class ModelWanted(NamedTuple):
    """A model that the settings name. ``setting``: which one does, as ``[vosk] model``."""

    engine: str
    name: str
    setting: str


def names(what: str) -> list[str]:
    """The engines of callbus itself: the files in their folder."""
    return sorted(path.stem for path in FOLDERS[what].glob("*.py") if not path.stem.startswith("_"))


def choices(settings: Settings) -> list[Choice]:
    """Every engine that the settings name: each stage's with its fallbacks, then what listens beside them."""
    found = []
    for what in STAGES:
        section = getattr(settings, what)
        named = [section.engine, *(name.strip() for name in section.fallbacks.split(","))]
        found += [Choice(what, engine, place) for place, engine in enumerate(filter(None, named))]
    return [*found, Choice("vad", settings.asr.vad), Choice("turn model", settings.asr.turn_model)]


def lacking(what: str, engine: str) -> list[str]:
    """The packages that an engine needs and that are not here."""
    return [package for package in ENGINE_PACKAGES.get((what, engine), Needs()).packages if find_spec(package) is None]


def install_command(what: str, engine: str) -> str:
    """What installs an engine's packages."""
    return f"pip install 'callbus[{ENGINE_PACKAGES[what, engine].extra}]'"


def models_wanted(settings: Settings) -> Iterator[ModelWanted]:
    """The models that the chosen engines will open, in the order of their choice, each once."""
    seen = set()
    for choice in choices(settings):
        needs = ENGINE_PACKAGES.get((choice.what, choice.engine), Needs())
        if not needs.model or choice.engine in seen:
            continue
        seen.add(choice.engine)
        yield ModelWanted(choice.engine, getattr(settings, choice.engine).model, f"[{choice.engine}] model")


def overrides(asr: str = "", llm: str = "", tts: str = "", agent: str = "") -> dict[str, str]:
    """Variables that choose other engines and another agent than the settings do.

    Raises:
        ConfigError: no engine, or no agent, bears that name; the text lists those that do.
    """
    given = {"asr": asr, "llm": llm, "tts": tts}
    for stage, name in given.items():
        if name and ":" not in name and name not in names(stage):
            raise ConfigError(
                f"--{stage} {name}: there is no such engine; there are: {', '.join(names(stage))}, or module:Class"
            )
    variables = {f"CALLBUS_{stage.upper()}__ENGINE": name for stage, name in given.items() if name}
    if agent:
        _check_agent(agent)
        variables["CALLBUS_LLM__AGENT"] = agent
    return variables


def _check_agent(agent: str) -> None:
    known = sorted(path.stem for path in AGENTS.glob("*.toml"))
    is_path = os.sep in agent or agent.endswith(".toml")
    if agent not in known and not (is_path and Path(agent).is_file()):
        raise ConfigError(
            f"--agent {agent}: there is no such agent; there are: {', '.join(known)}, or the path of a file"
        )


def with_overrides(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with those variables over it."""
    return {**os.environ, **variables}


def ready_timeout_s(settings: Settings) -> float:
    """How long services with these settings may take to be ready: models are large, and are run once before."""
    return MODELS_READY_S if any(models_wanted(settings)) else READY_S


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--asr``, ``--llm``, ``--tts`` and ``--agent`` of a command; they win over the settings."""
    text = "Agent in place of the setting llm.agent: a name in config/agents, or a file."
    command = click.option("--agent", default="", metavar="NAME", help=text)(command)
    for stage in reversed(STAGES):
        text = f"Engine in place of the setting {stage}.engine; an unknown name lists those that there are."
        command = click.option(f"--{stage}", default="", metavar="NAME", help=text)(command)
    return command
