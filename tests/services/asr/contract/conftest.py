"""Each engine of the table once for all tests of the contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.asr.engine import Engine
from services.asr.pool import EnginePool
from tests.services.asr.contract.cases import CASES, EngineCase


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> EngineCase:
    found: EngineCase = request.param
    return found


@pytest.fixture(scope="session")
def engines() -> Iterator[dict[str, Engine]]:
    """Those made by now; given back before the interpreter ends, as libvosk's package can't do it any more then."""
    made: dict[str, Engine] = {}
    yield made
    made.clear()


@pytest.fixture
def engine(case: EngineCase, engines: dict[str, Engine], tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Warm."""
    if case.name not in engines:
        made = case.make(tmp_path_factory.mktemp("model"))
        made.warm()
        engines[case.name] = made
    return engines[case.name]


@pytest.fixture
def sound(case: EngineCase, engine: Engine) -> bytes:
    """What the engine understands; the engine first, as it knows what is missing."""
    return case.sound()


@pytest.fixture
def pool() -> Iterator[EnginePool]:
    """One thread: what hangs there is seen."""
    made = EnginePool(1)
    yield made
    made.close()
