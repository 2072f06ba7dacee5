"""Engines of one's own for the bench of engines: one that hangs, one that ends its process, one that refuses."""

from __future__ import annotations

import os
import time
from typing import Any

from config.load import ConfigError
from config.settings import AsrSection


class Hangs:
    """Is never made."""

    def __init__(self, section: AsrSection) -> None:
        time.sleep(3600)


class Dies:
    """Takes its process along."""

    def __init__(self, section: AsrSection) -> None:
        print("the library says why", flush=True)
        os._exit(3)


class Refuses:
    """Can't be made with these settings."""

    def __init__(self, section: AsrSection) -> None:
        raise ConfigError("[odd] setting: not like this")


class Fails:
    """Is made, and then fails."""

    capabilities: Any = None

    def __init__(self, section: AsrSection) -> None:
        self.name = "fails"

    def warm(self) -> None:
        raise ValueError("no")
