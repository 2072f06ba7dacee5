"""Where a model is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.engine_sections import ModelsSection
from services.models import DEFAULT_FOLDER, MissingModelError, find_model, models_folder

pytestmark = pytest.mark.unit


def test_a_name_is_looked_for_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "voice").mkdir()
    assert find_model("voice", ModelsSection(folder=str(tmp_path)), setting="[piper] model") == tmp_path / "voice"


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "any.gguf"
    file.touch()
    assert find_model(str(file), ModelsSection(), setting="[llama_cpp] model") == file


def test_an_absent_name_says_the_command_that_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(MissingModelError, match=r"\[vosk\] model = 'small' .* callbus models pull small"):
        find_model("small", ModelsSection(folder=str(tmp_path)), setting="[vosk] model")


@pytest.mark.parametrize("name", ["./absent", "~/absent", "/absent/model"])
def test_an_absent_path_is_named_and_nothing_is_fetched(name: str) -> None:
    with pytest.raises(MissingModelError, match="no such file or folder") as caught:
        find_model(name, ModelsSection(), setting="[vosk] model")
    assert "pull" not in str(caught.value)


def test_no_name_is_an_error_of_its_own() -> None:
    with pytest.raises(MissingModelError, match="is empty"):
        find_model("", ModelsSection(), setting="[vosk] model")


def test_the_default_folder_is_in_the_users_cache() -> None:
    assert models_folder(ModelsSection()) == DEFAULT_FOLDER.expanduser()
