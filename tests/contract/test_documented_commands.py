"""Every command in every page is one that there is: parsed by our own command line, or held against what it names."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tomllib

import click
import pytest
import yaml

from ops.main import COMMANDS, cli
from tests.contract.documented import ROOT, Documented, all_commands
from tests.e2e.nats_page import shown

pytestmark = pytest.mark.contract

PLACEHOLDERS = {
    "CALL": "last", "SERVICE": "edge", "STAGE": "asr", "FILE": "file", "NAME": "name", "CONTAINER": "edge",
    "WORKER": "asr-1c9e0f3a", "LEVEL": "debug", "SECTION": "edge",
}  # fmt: skip
"""What stands for a word that the reader puts in."""
COMPOSE_FLAGS: dict[str, set[str]] = {
    "up": {"-d", "--wait", "--wait-timeout", "--build", "--scale", "--no-recreate", "--force-recreate", "--no-deps"},
    "down": {"-v", "--remove-orphans", "-t", "--timeout", "--rmi"},
    "ps": {"-a", "--format", "-q"},
    "logs": {"-f", "--since", "--tail", "--no-log-prefix", "--no-color", "-t"},
    "exec": {"-T", "-e", "-u"},
    "run": {"--rm", "-T", "-e", "--no-deps", "-v", "--entrypoint", "-i", "-u"},
    "restart": {"-t", "--timeout"},
    "stop": {"-t", "--timeout"},
    "start": set(),
    "kill": {"-s"},
    "build": {"--build-arg", "--no-cache", "--pull"},
    "pull": set(),
    "config": {"-q", "--quiet", "--services", "--images"},
    "cp": set(),
    "port": {"--protocol"},
    "top": set(),
    "version": set(),
}
WITH_VALUE = {
    "--scale", "--since", "--tail", "-e", "-u", "-t", "--timeout", "--wait-timeout", "--format", "-s", "--build-arg",
    "-v", "--entrypoint", "--rmi", "--protocol", "-f", "--file", "--profile", "--env-file", "-p", "--project-name",
}  # fmt: skip
GLOBAL_FLAGS = {"-f", "--file", "--profile", "--env-file", "-p", "--project-name", "--progress"}
FLAG_WITHOUT_VALUE = {("logs", "-f"), ("down", "-v"), ("logs", "-t")}
ONE_SERVICE = ("exec", "run")
DOCKER = {
    "compose", "stats", "inspect", "build", "run", "images", "image", "history", "version", "volume", "network", "load",
}  # fmt: skip
PAGES_OF_A_PROCESS = {"/metrics", "/health", "/ready"}

CALLBUS = all_commands("callbus")
COMPOSE = [each for each in all_commands("docker") if each.words[1:2] == ("compose",)]


def name_of(each: Documented) -> str:
    return f"{each.page.name}: {each.text[:60]}"


def filled(words: tuple[str, ...]) -> list[str]:
    return [PLACEHOLDERS.get(word, word) for word in words]


def parse(words: list[str], *, whole: bool) -> None:
    """Have our own command line read it, without running it.

    Raises:
        click.UsageError: there is no such command, option or value, or a command in a block lacks something.
    """
    context: click.Context = click.Context(cli, info_name="callbus")
    command: click.Command = cli
    rest = words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest[0])
        if found is None:
            raise click.UsageError(f"no such command: {rest[0]}")
        context, command, rest = click.Context(found, parent=context, info_name=rest[0]), found, rest[1:]
    if isinstance(command, click.Group):
        if set(rest) - {"--help", "-h", "--version"}:
            raise click.UsageError(f"no such option: {rest}")
        return
    try:
        command.make_context(command.name, list(rest), parent=context.parent)
    except click.exceptions.Exit:
        return
    except (click.MissingParameter, click.BadOptionUsage) as error:
        # A sentence may name an option without its value.
        if whole or (not isinstance(error, click.MissingParameter) and "requires" not in error.message):
            raise
    except click.BadParameter as error:
        # Files of the reader are not here.
        if "does not exist" not in error.message:
            raise


@pytest.mark.parametrize("each", CALLBUS, ids=name_of)
def test_our_command_line_takes_it(each: Documented) -> None:
    if each.words[1:2] == ("COMMAND",):
        return
    parse(filled(each.words), whole=each.whole)


@pytest.mark.parametrize(
    "text",
    ["callbus dial", "callbus show last --pretty", "callbus up --workers", "callbus config shown", "callbus show"],
)
def test_a_command_that_there_is_not_is_found(text: str) -> None:
    with pytest.raises(click.UsageError):
        parse(text.split(), whole=True)


@pytest.mark.parametrize("each", [each for each in all_commands("make") if each.words[1:]], ids=name_of)
def test_make_has_the_target(each: Documented) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z_-]+):", makefile, re.MULTILINE))
    benches = set(re.findall(r"^BENCHES := (.*)$", makefile, re.MULTILINE)[0].split())
    wanted = [word for word in each.words[1:] if "=" not in word and not word.startswith("-")]
    assert set(wanted[:1]) <= targets
    assert set(wanted[1:]) <= (benches if wanted[:1] == ["bench"] else targets)


class ComposeLoader(yaml.SafeLoader):
    """YAML with the tags of Compose (``!reset``, ``!override``), whose meaning is not needed here."""


def _plain(loader: yaml.SafeLoader, _tag: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.ScalarNode)
    return loader.construct_scalar(node)


ComposeLoader.add_multi_constructor("!", _plain)


@functools.cache
def declared() -> dict[str, list[str]]:
    """Services of all compose files together, each with its profiles."""
    found: dict[str, list[str]] = {}
    for path in sorted(ROOT.glob("docker-compose*.yml")):
        for name, service in yaml.load(path.read_text(encoding="utf-8"), ComposeLoader)["services"].items():
            found.setdefault(name, []).extend(service.get("profiles") or ())
    return found


def services() -> set[str]:
    return set(declared())


def profiles() -> set[str]:
    return {profile for named in declared().values() for profile in named}


def compose_parts(words: list[str]) -> tuple[list[tuple[str, str]], str, list[tuple[str, str]], list[str]]:
    """Global flags, command, its flags, what follows; a flag comes with its value, or with nothing."""
    before, rest = _flags(words[2:], "")
    command, rest = rest[0], rest[1:]
    after: list[tuple[str, str]] = []
    arguments: list[str] = []
    while rest:
        found, rest = _flags(rest, command)
        after += found
        if rest and command in ONE_SERVICE:
            return before, command, after, rest
        arguments += rest[:1]
        rest = rest[1:]
    return before, command, after, arguments


def _flags(words: list[str], command: str) -> tuple[list[tuple[str, str]], list[str]]:
    found = []
    while words and words[0].startswith("-"):
        flag, _, value = words[0].partition("=")
        words = words[1:]
        if flag in WITH_VALUE and not value and (command, flag) not in FLAG_WITHOUT_VALUE:
            value, words = words[0], words[1:]
        found.append((flag, value))
    return found, words


def check_compose(words: list[str]) -> None:
    """Files, profiles, command, flags and services of a ``docker compose`` command."""
    before, command, after, arguments = compose_parts(words)
    assert {flag for flag, _ in before} <= GLOBAL_FLAGS
    for flag, value in before:
        assert flag not in ("-f", "--file", "--env-file") or (ROOT / value).is_file(), f"no file {value}"
        assert flag != "--profile" or value in profiles(), f"no profile {value}"
    assert command in COMPOSE_FLAGS, f"docker compose has no command {command}"
    assert {flag for flag, _ in after} <= COMPOSE_FLAGS[command]
    named = {value.split("=")[0] for flag, value in after if flag == "--scale"}
    named |= set(arguments[:1] if command in ONE_SERVICE else arguments if command not in ("cp", "port") else ())
    assert named <= services(), f"no such service: {sorted(named - services())}"
    if command in ONE_SERVICE and arguments[1:2] == ["callbus"]:
        parse(arguments[1:], whole=False)


@pytest.mark.parametrize("each", COMPOSE, ids=name_of)
def test_compose_knows_its_files_services_and_flags(each: Documented) -> None:
    if len(each.words) > 2:
        check_compose(filled(each.words))


@pytest.mark.parametrize(
    "text",
    [
        "docker compose up -d --wait edgy", "docker compose logs -g edge", "docker compose upp",
        "docker compose -f docker-compose.no.yml up", "docker compose --profile none up",
    ],
)  # fmt: skip
def test_a_compose_command_that_can_not_work_is_found(text: str) -> None:
    with pytest.raises(AssertionError):
        check_compose(text.split())


@pytest.mark.skipif(shutil.which("docker") is None, reason="no docker here: flags are held to our list")
@pytest.mark.parametrize(
    "command", sorted({compose_parts(filled(each.words))[1] for each in COMPOSE if each.words[2:]})
)
def test_compose_itself_has_the_flags(command: str) -> None:
    asked = subprocess.run(["docker", "compose", command, "--help"], capture_output=True, text=True, check=False)
    if asked.returncode != 0 or "Usage:" not in asked.stdout:
        pytest.skip(f"docker has no compose here: {asked.stderr.strip()[:100]}")
    for each in COMPOSE:
        if each.words[2:] and compose_parts(filled(each.words))[1] == command:
            for flag, _ in compose_parts(filled(each.words))[2]:
                assert re.search(rf"(^|[\s,]){re.escape(flag)}\b", asked.stdout), f"{each.page.name}: {flag}"


@pytest.mark.parametrize(
    "each", [each for each in all_commands("docker") if each.words[1:2] not in ((), ("compose",))], ids=name_of
)
def test_docker_has_the_command(each: Documented) -> None:
    assert each.words[1] in DOCKER


@pytest.mark.parametrize("each", all_commands("pip"), ids=name_of)
def test_extras_exist(each: Documented) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for named in re.findall(r"callbus\[([a-z_,]+)\]", each.text):
        assert set(named.split(",")) <= set(extras)


@pytest.mark.parametrize("each", all_commands("curl"), ids=name_of)
def test_addresses_are_pages_that_we_serve(each: Documented) -> None:
    for port, path in re.findall(r"http://[^/:\s]+:(\d+)(/[^\s?]*)", each.text):
        assert port != "9100" or path in PAGES_OF_A_PROCESS, each.text


@pytest.mark.parametrize(
    "each", [each for each in all_commands("nats") if each.words[2:] and each.page.name != "inspect.md"], ids=name_of
)
def test_nats_commands_are_of_the_kind_that_is_run(each: Documented) -> None:
    """docs/inspect.md is run as it stands; what other pages use is run beside it, and is of a kind of its."""
    known = {" ".join(command.command.split()[:2]) for command in shown()}
    words = list(each.words)
    # Who connects how may stand before the command.
    while words[1].startswith("--"):
        del words[1:3]
    assert " ".join(words[:2]) in known


def test_every_command_stands_in_some_page() -> None:
    named = {each.words[1] for each in CALLBUS if each.words[1:]}
    assert set(COMMANDS) <= named
