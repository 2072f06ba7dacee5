"""What is said where the package of an engine is missing."""

from __future__ import annotations

import pytest

from services.packages import IMAGE, MissingPackageError, installed

pytestmark = pytest.mark.unit


def test_on_a_machine_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(IMAGE, raising=False)
    with pytest.raises(
        MissingPackageError, match=r"'piper' needs the package no_such, .*pip install 'callbus\[piper\]'"
    ):
        installed("piper", {"no_such": "piper"})


def test_in_an_image_the_build_is_named_and_no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(IMAGE, "tts")
    with pytest.raises(MissingPackageError) as caught:
        installed("piper", {"no_such": "piper"})
    assert "pip install" not in str(caught.value)
    assert "docker compose up -d --build --wait" in str(caught.value)


def test_what_is_installed_is_imported() -> None:
    assert installed("any", {"json": "none"})["json"].dumps({}) == "{}"
