"""``callbus models``: which model files there are, and how they come onto this machine."""

from __future__ import annotations

import click

from config.load import load
from config.settings import Settings
from ops.engines import models_wanted
from ops.models.manifest import SHA256, Model, load_manifest, problem_of
from ops.models.pull import Puller, PullError, by_hand, pinned_to, unknown_model
from ops.models.showing import Shown, shown_for, size_text
from ops.models.store import Store, StoreError
from ops.session import as_json_text, fail, json_option
from services.models import is_path, models_folder

COLUMNS = ("model", "engine", "language", "size", "licence", "state")


@click.group()
def models() -> None:
    """Model files of the engines: what there is, what is here, fetch it, hold it against its checksums.

    They lie in the folder of the setting models.folder, each under its name.
    """


@models.command("list")
@click.option("--engine", default="", metavar="NAME", help="Only models of this engine.")
@json_option
def list_models(engine: str, as_json: bool) -> None:
    """List the models of the manifest, and those that were pulled beside it.

    State: `here`, `not here`; `not pinned`: the manifest holds no checksum, so the first pull records it; `in use`: the
    settings name it.
    """
    settings = load()
    store, manifest = _store(settings), load_manifest(settings.models)
    used = {wanted.name for wanted in models_wanted(settings)}
    known = {model.engine for model in manifest.values()}
    if engine and engine not in known:
        raise click.BadParameter(f"no model is for {engine!r}; there are models for: {', '.join(sorted(known))}")
    rows = [_row(model, store, used) for model in _all(manifest, store) if engine in ("", model.engine)]
    if as_json:
        click.echo(as_json_text(rows))
        return
    table = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(COLUMNS))]
    for cells in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
    click.echo(f"in {store.folder}; callbus models pull NAME fetches one")


@models.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--from", "origin", default="", metavar="URL|PATH", help="Take it from there: a file, a folder, or an address."
)
@click.option("--sha256", default="", metavar="HEX", help="What the file must have, in place of the manifest's.")
@click.option("--json", "as_json", is_flag=True, help="What happens, as JSON lines.")
def pull(names: tuple[str, ...], origin: str, sha256: str, as_json: bool) -> None:
    """Fetch models; without NAME those that the settings name.

    A download that was cut, or stopped by Ctrl-C, goes on where it ended when the same command is given again. A model
    is seen by the engines when it is whole, and not before. Exit code 1 where one could not be had.
    """
    settings = load()
    store, manifest = _store(settings), load_manifest(settings.models)
    wanted = [_named(name, manifest, origin, sha256) for name in names or _in_settings(settings)]
    if (origin or sha256) and len(wanted) != 1:
        raise click.UsageError("--from and --sha256 go with one NAME")
    if not wanted:
        click.echo("the engines that the settings name need no model file", err=as_json)
    shown = shown_for(as_json=as_json)
    try:
        with store.changing(), shown:
            for model in wanted:
                _pull(model, store, shown, origin)
    except (PullError, StoreError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("stopped; what was fetched is kept, and the same command goes on from there", 130)


def _pull(model: Model, store: Store, shown: Shown, origin: str) -> None:
    shown.begin_model(model.name)
    try:
        fresh = Puller(store, shown.watcher()).pull(model, origin)
    except PullError as error:
        shown.say(f"{model.name} could not be had")
        if error.unreachable:
            raise PullError("\n".join([str(error), *by_hand(model, store)])) from error
        raise
    shown.end_model(model.name, fresh, store.path_of(model.name), store.size_of(model.name))


@models.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def verify(names: tuple[str, ...], as_json: bool) -> None:
    """Hold models against the checksums that were recorded when they came; without NAME all that are here.

    Exit code 1 where a file is missing or differs, or a NAME is not here.
    """
    store = _store(load())
    try:
        records = store.records()
    except StoreError as error:
        fail(str(error))
    rows = []
    for name in names or sorted(records):
        if name not in records:
            found = "was put here by hand: `callbus models pull` notes it" if store.is_here(name) else "is not here"
            rows.append({"name": name, "ok": False, "problems": [{"path": name, "what": found}]})
            continue
        problems = store.verify(name, records[name])
        rows.append({"name": name, "ok": not problems, "problems": [problem._asdict() for problem in problems]})
    if as_json:
        click.echo(as_json_text(rows))
    else:
        _say_verified(rows, store)
    if not all(row["ok"] for row in rows):
        raise SystemExit(1)


def _say_verified(rows: list[dict[str, object]], store: Store) -> None:
    for row in rows:
        click.echo(f"{'ok      ' if row['ok'] else 'WRONG   '}  {row['name']}")
        problems = row["problems"]
        assert isinstance(problems, list)
        for problem in problems:
            click.echo(f"{'':10}{problem['path']} {problem['what']}")
        if not row["ok"]:
            click.echo(f"{'':10}mend: callbus models pull {row['name']}")
    if not rows:
        click.echo(f"no model was pulled into {store.folder}")


@models.command()
@click.argument("name")
def path(name: str) -> None:
    """Print where a model lies; exit code 1 where it is not here."""
    store = _store(load())
    if not store.is_here(name) or is_path(name):
        fail(f"{name} is not in {store.folder}: callbus models pull {name}")
    click.echo(store.path_of(name))


def _store(settings: Settings) -> Store:
    return Store(models_folder(settings.models))


def _all(manifest: dict[str, Model], store: Store) -> list[Model]:
    """The manifest's models, then what was pulled and stands in none."""
    try:
        others = sorted(set(store.records()) - set(manifest))
    except StoreError as error:
        fail(str(error))
    return [*manifest.values(), *(Model(name=name, engine="", files=()) for name in others)]


def _row(model: Model, store: Store, used: set[str]) -> dict[str, object]:
    here = store.is_here(model.name)
    return {
        "name": model.name,
        "engine": model.engine,
        "language": model.language,
        "size_bytes": model.size_bytes or (store.size_of(model.name) if here else 0),
        "licence": model.licence,
        "description": model.description,
        "pinned": model.pinned,
        "here": here,
        "in_use": model.name in used,
    }


def _cells(row: dict[str, object]) -> tuple[str, ...]:
    state = ["here" if row["here"] else "not here"]
    state += [] if row["pinned"] or row["here"] else ["not pinned"]
    state += ["in use"] if row["in_use"] else []
    size = row["size_bytes"]
    assert isinstance(size, int)
    texts = (row["name"], row["engine"], row["language"], size_text(size), row["licence"], ", ".join(state))
    return tuple(str(text) for text in texts)


def _in_settings(settings: Settings) -> tuple[str, ...]:
    return tuple(wanted.name for wanted in models_wanted(settings) if not is_path(wanted.name))


def _named(name: str, manifest: dict[str, Model], origin: str, sha256: str) -> Model:
    sha256 = sha256.lower()
    if sha256 and not SHA256.fullmatch(sha256):
        raise click.UsageError("--sha256 is 64 digits of 0-9a-f")
    if name not in manifest and not origin:
        raise click.BadParameter(
            f"{name!r} stands in no manifest; `callbus models list` names those that do, and --from takes any other"
        )
    try:
        known = manifest.get(name) or unknown_model(name, origin)
        model = pinned_to(known, sha256) if sha256 else known
    except PullError as error:
        raise click.UsageError(str(error)) from error
    problem = problem_of(model)
    if problem:
        raise click.BadParameter(f"{name!r}: {problem}")
    return model
