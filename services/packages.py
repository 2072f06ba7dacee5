"""Packages that an engine needs, imported when it is made and not before: each engine is an extra of its own."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

from config.load import ConfigError

IMAGE = "CALLBUS_IMAGE"
"""Set in each image of the Dockerfile: what is installed into a running container is gone with it."""


class MissingPackageError(ConfigError):
    """An engine's package is not installed; the text names the extra that installs it, or how an image gets it."""

    def __init__(self, name: str, package: str, extra: str) -> None:
        how = f"which is not installed: pip install 'callbus[{extra}]'"
        if os.environ.get(IMAGE):
            how = (
                "which is not in this image: build it with that engine, by its line in .env and docker compose up -d "
                "--build --wait (docs/compose.md)"
            )
        super().__init__(f"{name!r} needs the package {package}, {how}")


def installed(name: str, extras: Mapping[str, str]) -> dict[str, Any]:
    """Import the packages that an engine needs: ``{package: module}``. ``extras``: package -> extra that installs it.

    Raises:
        MissingPackageError: one of them is not installed.
    """
    modules: dict[str, Any] = {}
    for package, extra in extras.items():
        try:
            modules[package] = importlib.import_module(package)
        except ImportError as error:
            raise MissingPackageError(name, package, extra) from error
    return modules
