"""What ``callbus doctor`` says of engines and models, and what keeps ``up`` and ``demo`` from starting.

Nothing of an engine is imported to find out, and no model is read: ``callbus models verify`` does that.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from config.load import ConfigError
from config.settings import Settings
from ops.check import Check, State
from ops.engines import FOLDERS, STAGES, Choice, choices, install_command, lacking, models_wanted, names
from ops.image import key_mend, mend, package_mend
from ops.models.showing import size_text
from ops.models.store import Record, Store, StoreError
from ops.session import fail
from services.models import find_model, models_folder

KEYS = {"elevenlabs": "ELEVENLABS_API_KEY", "openai": "OPENAI_API_KEY"}
"""Engine -> the variable that holds the key of its account."""


def check_choices(settings: Settings, kinds: Collection[str] = tuple(FOLDERS)) -> list[Check]:
    """The engines that the settings name: is each one there, with its packages, its key and its model?

    ``kinds``: which of ``FOLDERS`` to look at; an image holds the engines of one stage.
    """
    chosen = [choice for choice in choices(settings) if choice.what in kinds]
    found = [check for choice in chosen for check in _check_choice(choice, settings)]
    return [*found, *check_models_wanted(settings, {choice.engine for choice in chosen})]


def check_models_wanted(settings: Settings, engines: Collection[str]) -> list[Check]:
    """The models that these of the chosen engines will open."""
    found = []
    for wanted in models_wanted(settings):
        if wanted.engine not in engines:
            continue
        what = f"{wanted.engine} model"
        try:
            path = find_model(wanted.name, settings.models, setting=wanted.setting)
        except ConfigError as error:
            text, _, command = str(error).rpartition(": callbus ")
            command = command if text else "models list"
            found.append(Check(what, "missing", text or str(error), _command(command)))
        else:
            found.append(Check(what, "ok", str(path)))
    return found


def check_others(settings: Settings, stages: Collection[str] = STAGES) -> list[Check]:
    """For each of these stages the engines that could be chosen, and what installs those that could not."""
    chosen = {(choice.what, choice.engine) for choice in choices(settings)}
    found = []
    for stage in stages:
        engines = names(stage)
        here = [name for name in engines if not lacking(stage, name)]
        shown = [f"{name} (chosen)" if (stage, name) in chosen else name for name in here]
        found.append(Check(f"{stage} engines", "ok", f"installed: {', '.join(shown)}"))
        found += [
            Check(f"{stage} engines", "optional", f"{name} is not installed", _install(stage, name))
            for name in engines
            if name not in here and (stage, name) not in chosen
        ]
    return found


def check_models(settings: Settings) -> list[Check]:
    """The models that are here: their size, and whether their files are those that were put here."""
    store = Store(models_folder(settings.models))
    wanted = {each.name for each in models_wanted(settings)}
    try:
        records = store.records()
    except StoreError as error:
        return [Check("models", "missing", str(error), _command("models pull"))]
    here = sorted({*records, *store.names()})
    if not here:
        return [Check("models", "ok", f"none in {store.folder}; `{_command('models list')}` says what there is")]
    return [_check_model(name, store, records.get(name), used=name in wanted) for name in here]


def _check_model(name: str, store: Store, record: Record | None, *, used: bool) -> Check:
    finding = f"{name}, {size_text(store.size_of(name))}"
    if record is None:
        return Check("model", "ok", f"{finding}, put here by hand: not verified")
    problems = store.compare_sizes(name, record)
    if problems:
        state: State = "missing" if used else "optional"
        return Check("model", state, f"{name}: {problems[0].path} {problems[0].what}", _command(f"models pull {name}"))
    return Check("model", "ok", f"{finding}, as it was pulled")


def _check_choice(choice: Choice, settings: Settings) -> list[Check]:
    if choice.own:
        return [Check(choice.title, "ok", f"{choice.engine}, a class of your own")]
    if choice.engine not in names(choice.what):
        there = ", ".join(names(choice.what))
        where = str(FOLDERS[choice.what].relative_to(FOLDERS[choice.what].parents[2]))
        setting = f"CALLBUS_{choice.what.upper()}__ENGINE in .env" if choice.what in STAGES else "config/app.ini"
        one_of = mend(f"choose one of: {there}", f"choose one of: {there}; it stands in {setting}")
        return [Check(choice.title, "missing", f"there is no {choice.engine!r} in {where}", one_of)]
    missing = lacking(choice.what, choice.engine)
    if missing:
        finding = f"{choice.engine} needs {', '.join(missing)}"
        return [Check(choice.title, "missing", finding, _install(choice.what, choice.engine, choice.place))]
    return [Check(choice.title, "ok", choice.engine), *_check_key(choice, settings)]


def _check_key(choice: Choice, settings: Settings) -> list[Check]:
    """A key that is missing; a file of one that can't be read. The key itself is never shown."""
    if choice.engine not in KEYS:
        return []
    section, variable = getattr(settings, choice.engine), KEYS[choice.engine]
    file = Path(section.api_key_file).expanduser() if section.api_key_file else None
    if section.api_key or (file is None and os.environ.get(variable)):
        return []
    if file is not None:
        if os.access(file, os.R_OK):
            return []
        return [Check(f"{choice.what} key", "missing", f"{file} can't be read", f"mend [{choice.engine}] api_key_file")]
    if choice.engine == "openai" and "openai.com" not in section.base_url:
        return []
    how = mend(f"set {variable}", key_mend(variable, choice.engine))
    return [Check(f"{choice.what} key", "missing", f"{choice.engine} wants the key of an account", how)]


def _install(what: str, engine: str, place: int = 0) -> str:
    return mend(install_command(what, engine), package_mend(what, engine, place))


def _command(words: str) -> str:
    """A command of ``callbus models``; in compose only the service ``models`` may write the models' volume."""
    return mend(f"callbus {words}", f"docker compose run --rm {words}")


def check_engines(settings: Settings) -> None:
    """Leave with every reason why services with these settings would not start.

    Raises:
        SystemExit: there is one; nothing was started.
    """
    found = problems(settings)
    if found:
        fail("\n".join([*found, "nothing was started; `callbus doctor` looks at everything"]))


def problems(settings: Settings) -> list[str]:
    """Why services with these settings would not start, each with the command that mends it; empty: nothing known."""
    return [
        f"{check.name}: {check.finding}: {check.mend}" for check in check_choices(settings) if check.state == "missing"
    ]
