"""What the result of a tool that identifies says of the caller. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def says_verified(result: Mapping[str, Any]) -> bool:
    """Whether the caller is who he says: only ``true`` says so, and no word or number that counts as true elsewhere."""
    return result.get("verified") is True
