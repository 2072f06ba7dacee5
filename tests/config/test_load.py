"""Settings: defaults, file, environment, in that order; a bad one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.load import DEFAULT_FILE, ConfigError, describe_type, load, rows
from config.settings import Settings
from ops.commands.config import document_text, sample_text

pytestmark = pytest.mark.unit

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "app.ini"
    path.write_text("[edge]\nsip_port = 5070 ; inline\n[log]\nlevel = debug\n", encoding="utf-8")
    return path


def test_defaults_hold_without_file_and_environment() -> None:
    assert load({}) == Settings()


def test_file_then_environment(file: Path) -> None:
    settings = load({"CALLBUS_LOG__LEVEL": "warning", "CALLBUS_EDGE__SIP_TCP": "false"}, file)
    assert (settings.edge.sip_port, settings.log.level, settings.edge.sip_tcp) == (5070, "warning", False)


def test_file_named_by_the_environment(file: Path) -> None:
    assert load({"CALLBUS_CONFIG": str(file)}).edge.sip_port == 5070


def test_nats_url_is_known_under_the_name_that_nats_tools_use() -> None:
    assert load({"NATS_URL": "nats://n1:4222"}).nats.url == "nats://n1:4222"
    assert load({"NATS_URL": "nats://n1:4222", "CALLBUS_NATS__URL": "nats://n2:4222"}).nats.url == "nats://n2:4222"


def test_rows_say_where_a_value_came_from(file: Path) -> None:
    found = {f"{row.section}.{row.key}": row for row in rows({"CALLBUS_TTS__SPEED": "1.5"}, file)}
    assert found["edge.sip_port"].source == str(file)
    assert (found["tts.speed"].value, found["tts.speed"].source) == (1.5, "CALLBUS_TTS__SPEED")
    assert found["asr.engine"].source == "default"
    assert all(row.help for row in found.values()), "every setting says what it is"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"CALLBUS_EDGE__SIP_PORT": "70000"}, ["[edge] sip_port", "'70000'", "CALLBUS_EDGE__SIP_PORT", "0 to 65535"]),
        ({"CALLBUS_EDGE__SIP_PORT": "many"}, ["[edge] sip_port", "'many'", "int"]),
        ({"CALLBUS_LOG__LEVEL": "loud"}, ["[log] level", "one of debug, info, warning, error"]),
        ({"CALLBUS_EDGE__SIP_TCP": "perhaps"}, ["[edge] sip_tcp", "true or false"]),
        ({"CALLBUS_EDGE__SIP_PRT": "1"}, ["[edge] sip_prt", "sip_port"]),
        ({"CALLBUS_EGDE__SIP_PORT": "1"}, ["[egde]", "edge"]),
        ({"CALLBUS_CONFIG": "/nowhere/app.ini"}, ["/nowhere/app.ini", "does not exist"]),
    ],
)
def test_a_bad_value_is_named(environment: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environment)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_file_that_is_no_ini(tmp_path: Path) -> None:
    path = tmp_path / "app.ini"
    path.write_text("sip_port = 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="can't be read"):
        load({}, path)


def test_type_descriptions() -> None:
    assert describe_type(str) == "text"
    assert describe_type(bool) == "true or false"


def test_shipped_file_names_every_setting_and_changes_none() -> None:
    assert DEFAULT_FILE.read_text(encoding="utf-8") == sample_text()
    assert load({}, DEFAULT_FILE) == Settings()


def test_document_is_current() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document_text(), "run: make documents"


@pytest.mark.parametrize(
    ("variable", "text", "shown"),
    [
        ("OPENAI__BASE_URL", "https://me:planted@example.org/v1", "https://(hidden)@example.org/v1"),
        (
            "NATS__URL",
            "nats://planted@a:4222,nats://me:planted@b:4222",
            "nats://(hidden)@a:4222,nats://(hidden)@b:4222",
        ),
        ("PIPECAT__LLM_ARGUMENTS", '{"api_key": "pl\\"anted", "model": "m"}', '{"api_key": "(hidden)", "model": "m"}'),
        ("PIPECAT__TTS_ARGUMENTS", '{"auth_token":"$MY_TOKEN"}', '{"auth_token":"$MY_TOKEN"}'),
        ("OLLAMA__URL", "http://127.0.0.1:11434", "http://127.0.0.1:11434"),
    ],
)
def test_a_secret_in_a_value_is_not_shown(variable: str, text: str, shown: str) -> None:
    section, key = variable.lower().split("__")
    environment = {f"CALLBUS_{variable}": text}
    assert {f"{row.section}.{row.key}": row.value for row in rows(environment)}[f"{section}.{key}"] == shown
    settings = load(environment)
    assert getattr(getattr(settings, section), key) == text
    assert repr(shown) in repr(settings)


def test_a_secret_is_never_shown() -> None:
    found = {f"{row.section}.{row.key}": row for row in rows({"CALLBUS_OPENAI__API_KEY": "planted-secret"})}
    assert found["openai.api_key"].value == "(hidden)"
    assert found["elevenlabs.api_key"].value == ""
    settings = load({"CALLBUS_OPENAI__API_KEY": "planted-secret"})
    assert settings.openai.api_key == "planted-secret"
    assert "planted-secret" not in f"{settings!r} {settings.openai} {settings}"
    assert "model='gpt" in repr(settings.openai)
