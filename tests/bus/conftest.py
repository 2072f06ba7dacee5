"""The fixture ``world``: the bus in memory or a real server; each module names both and their markers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.bus.behaviours.worlds import World, open_world


@pytest.fixture
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with open_world(request.param) as opened:
        yield opened
