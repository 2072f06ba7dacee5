"""onnxruntime as all services open it: few threads, runs that can be stopped from elsewhere, a missing package told."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import pytest

from services.onnx import StoppableSession, StopToken, onnxruntime, open_session, own_choice_of_threads
from services.packages import MissingPackageError

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'callbus[silero]'")
pytest.importorskip("onnx", reason="models are built with the package onnx: pip install 'callbus[dev]'")
pytestmark = pytest.mark.contract

STUCK = 10_000_000


@pytest.fixture(scope="module")
def session() -> StoppableSession:
    """A model that multiplies matrices ``STUCK`` times for each symbol of its input."""
    from onnx import TensorProto, helper

    from tests.tiny_models.tones import model_of, work_nodes

    nodes, constants = work_nodes("symbols", "audio", "output", STUCK)
    inputs = [
        helper.make_tensor_value_info("symbols", TensorProto.INT64, ["count"]),
        helper.make_tensor_value_info("audio", TensorProto.FLOAT, [1]),
    ]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1])]
    model = model_of(nodes, constants, inputs, outputs).SerializeToString()
    return StoppableSession(open_session("test", model, extra="silero"))


def run(session: StoppableSession, symbols: int) -> Any:
    import numpy

    return session.run(None, {"symbols": numpy.zeros(symbols, numpy.int64), "audio": numpy.ones(1, numpy.float32)})


def test_a_run_is_stopped_from_another_thread_and_the_next_one_is_not(session, capfd):
    token = StopToken(onnxruntime("test", "silero"))
    ended: list[str] = []

    def work() -> None:
        try:
            with session.under(token):
                run(session, 1)
        except Exception as error:
            ended.append(str(error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    token.stop()
    thread.join(5.0)
    assert "terminate" in ended[0]
    assert capfd.readouterr().err == "", "that is no error for the log"
    assert run(session, 0)[0].tolist() == [1.0]
    with session.under(StopToken(onnxruntime("test", "silero"))):
        assert run(session, 0)[0].tolist() == [1.0]


def test_what_a_library_asks_of_the_session_is_answered_by_it(session):
    assert [each.name for each in session.get_inputs()] == ["symbols", "audio"]


def test_threads_leave_the_machine_to_others():
    assert 1 <= own_choice_of_threads() <= 4
    assert own_choice_of_threads() <= (os.cpu_count() or 1)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"'piper' needs the package onnxruntime.*callbus\[piper\]"):
        onnxruntime("piper", "piper")
