"""The bench of voice activity detection: two figures of the same audio."""

from __future__ import annotations

import importlib.util

import pytest

from ops.bench import vad

pytestmark = pytest.mark.integration


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("pipecat", "onnxruntime", "espeakng_loader")),
    reason="the embedded engines are not installed: pip install 'callbus[embedded]'",
)
async def test_detection_is_measured_beside_pipecats_analyzer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vad, "LEAST_SECONDS", 10.0)
    monkeypatch.setattr(vad, "ROUNDS", 1)
    ours, theirs = await vad.measure(1, 1.0)
    assert ours.statistics["n"] == theirs.statistics["n"] == 500
    assert 0 < ours.statistics["value"] < theirs.statistics["value"]
    [limit] = ours.limits
    assert (limit.statistic, limit.value) == ("value", 0.5)
