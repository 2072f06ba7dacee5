"""A service by its name: what can be wrong with it, and how its arguments come to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pipecat", reason="pipecat is not installed: pip install 'callbus[pipecat]'")

from config.engine_sections import PipecatSection
from services.packages import MissingPackageError
from services.pipecat.catalogue import Kind, Recipe, load_recipe
from services.pipecat.errors import ServiceChoiceError
from tests.services.pipecat.making import CARTESIA_TTS, OPENAI_LLM, OPENAI_STT, OPENAI_TTS, OWN

pytestmark = pytest.mark.unit


def recipe(kind: Kind, service: str, arguments: str | dict[str, Any] = "{}") -> Recipe:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return load_recipe(kind, PipecatSection(**{kind: service, f"{kind}_arguments": text}))


def complaint(kind: Kind, service: str, arguments: str | dict[str, Any] = "{}") -> str:
    with pytest.raises(ServiceChoiceError) as error:
        recipe(kind, service, arguments)
    return str(error.value)


@pytest.mark.parametrize(
    ("kind", "service", "words"),
    [
        ("stt", "", "[pipecat] stt = '': give module:Class, such as pipecat.services.deepgram.stt:DeepgramSTTService"),
        ("tts", "pipecat.services.cartesia.tts", "give module:Class"),
        ("llm", "pipecat.services.groq.llm:", "give module:Class"),
        ("tts", "pipecat.services.nobody.tts:NobodyTTSService", "there is no module pipecat.services.nobody"),
        ("tts", "nobody.at.home:Voice", "there is no module nobody"),
        ("tts", "pipecat.services.openai.tts:OpenAI", "no class OpenAI; it has OpenAITTSService"),
        ("stt", OPENAI_TTS, "has OpenAITTSService, which is no STTService"),
        ("tts", f"{OWN}:tell", "has tell, which is no TTSService; it has DoesNotStart, Refuses, Voice, WantsSession"),
    ],
)
def test_a_service_that_can_not_be_found(kind: Kind, service: str, words: str) -> None:
    assert words in complaint(kind, service)


def test_a_package_that_is_missing_is_named_with_the_extra_of_pipecat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "deepgram", None)
    monkeypatch.delitem(__import__("sys").modules, "pipecat.services.deepgram.stt", raising=False)
    text = complaint("stt", "pipecat.services.deepgram.stt:DeepgramSTTService")
    assert "needs the package 'deepgram', which is not installed: pip install 'pipecat-ai[deepgram]'" in text


def test_without_pipecat_the_extra_of_callbus_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pipecat", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'callbus\[pipecat\]'"):
        recipe("tts", CARTESIA_TTS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ('{"api_key": sk-1234}', "[pipecat] tts_arguments is no JSON: Expecting value at character 12"),
        ("[1]", "must be a JSON object"),
        ('{"api_key": "$CALLBUS_NOT_SET"}', "the environment variable CALLBUS_NOT_SET is not set"),
        ('{"a": [{"b": "x ${CALLBUS_NOT_SET}"}]}', "the environment variable CALLBUS_NOT_SET is not set"),
        ('{"api_key": "sk-12 $ 34"}', "a dollar that begins no variable's name is written $$"),
    ],
)
def test_arguments_that_can_not_be_used(arguments: str, words: str) -> None:
    text = complaint("tts", OPENAI_TTS, arguments)
    assert words in text
    assert "sk-" not in text


def test_variables_are_put_in_at_any_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBUS_TEST_KEY", "sk-very-secret")
    made = recipe(
        "tts",
        CARTESIA_TTS,
        {"api_key": "$CALLBUS_TEST_KEY", "extra_headers": {"x": "Bearer ${CALLBUS_TEST_KEY}", "y": "$$5"}},
    )
    assert made.arguments["api_key"] == "sk-very-secret"
    assert made.arguments["extra_headers"] == {"x": "Bearer sk-very-secret", "y": "$5"}
    assert made.without_secrets("no such key: sk-very-secret") == "no such key: $CALLBUS_TEST_KEY"


def test_settings_become_what_the_service_wants() -> None:
    made = recipe(
        "tts",
        CARTESIA_TTS,
        {"api_key": "k", "settings": {"voice": "v", "model": "sonic", "generation_config": {"speed": 1.2}}},
    )
    settings = made.arguments["settings"]
    assert type(settings).__name__ == "CartesiaTTSSettings"
    assert (settings.voice, settings.generation_config.speed) == ("v", 1.2)
    params = recipe("tts", CARTESIA_TTS, {"api_key": "k", "params": {"language": "de"}}).arguments["params"]
    assert (type(params).__name__, params.language) == ("InputParams", "de")
    assert recipe("llm", OPENAI_LLM, {"settings": {"temperature": 0.5}}).arguments["settings"].temperature == 0.5
    assert recipe("stt", OPENAI_STT, {"settings": {"prompt": "p"}}).arguments["settings"].prompt == "p"


def test_texts_become_paths_and_words_where_nothing_else_is_wanted() -> None:
    pytest.importorskip("piper", reason="Piper is not installed: pip install 'callbus[piper]'")
    made = recipe("tts", "pipecat.services.piper.tts:PiperTTSService", {"download_dir": "/models", "voice_id": "v"})
    assert made.arguments == {"download_dir": Path("/models"), "voice_id": "v"}
    made = recipe("tts", CARTESIA_TTS, {"api_key": "k", "text_aggregation_mode": "token"})
    assert type(made.arguments["text_aggregation_mode"]).__name__ == "TextAggregationMode"


def test_settings_that_there_are_not() -> None:
    assert (
        "tts_arguments: settings: OpenAITTSSettings.__init__() got an unexpected keyword argument 'voyce'"
        in complaint("tts", OPENAI_TTS, {"settings": {"voyce": "x"}})
    )
    wrong = {"api_key": "k", "params": {"generation_config": {"speed": "secret words"}}}
    assert complaint("tts", CARTESIA_TTS, wrong) == "[pipecat] tts_arguments: params can't be used: ValidationError"


def test_each_instance_has_settings_of_its_own() -> None:
    made = recipe("llm", OPENAI_LLM, {"api_key": "k", "settings": {"temperature": 0.5, "extra": {"a": 1}}})
    one, other = made.make(), made.make()
    one.settings.extra["a"] = 2
    assert other.settings.extra == {"a": 1}


def test_a_misspelt_argument_is_told(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    recipe("tts", OPENAI_TTS, {"api_key": "secret words", "sampel_rate": 24000})
    told = caplog.text + capfd.readouterr().out
    assert "OpenAITTSService knows no sampel_rate" in told
    assert "secret words" not in told


def test_a_constructor_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBUS_TEST_KEY", "sk-very-secret")
    made = recipe("tts", f"{OWN}:Refuses", {"api_key": "$CALLBUS_TEST_KEY"})
    with pytest.raises(ServiceChoiceError) as error:
        made.make()
    assert str(error.value) == "[pipecat] tts: Refuses refuses its arguments: $CALLBUS_TEST_KEY is no key"
    assert error.value.__cause__ is None
    with pytest.raises(ServiceChoiceError, match=r"refuses its arguments: \$api_key is no key$"):
        recipe("tts", f"{OWN}:Refuses", {"api_key": "sk-written-here"}).make()
    with pytest.raises(ServiceChoiceError, match="missing 1 required keyword-only argument: 'api_key'"):
        recipe("tts", CARTESIA_TTS).make()


def test_a_session_is_made_for_those_that_want_one() -> None:
    assert recipe("tts", f"{OWN}:WantsSession").wants_session
    assert not recipe("tts", f"{OWN}:Voice").wants_session
    assert not recipe("tts", CARTESIA_TTS).wants_session
