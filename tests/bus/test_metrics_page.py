"""The page of a process: what it tells and what it does not, how many series at most, and that no label is an id."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from bus import metrics
from bus.metrics import calls, engines, media, page, process, registry, traces, turns, workers
from bus.metrics.registry import DECLARED, FIGURES, OTHER, SERVICES, WORKERS
from schemas.call import CallResult
from schemas.turn import TurnMeasured

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
PRODUCTION = ("bus", "edge", "services")
MOST_SERIES = 2000
"""Lines of a process's page at most, whatever its callers do: a Prometheus server of a small machine takes thousands
of such processes."""
ID = re.compile(r"[0-9a-f]{8,}|[0-9]{6,}|@|sip:", re.IGNORECASE)


@pytest.fixture(autouse=True)
def a_process_of_its_own() -> Iterator[None]:
    """Who this process is, and the engines of other tests, are forgotten."""
    before = page._Process.figures
    forget_engines()
    yield
    page._Process.figures = before
    forget_engines()


def forget_engines() -> None:
    for figure in FIGURES.values():
        if registry.ENGINE in figure.declaration.labels:
            metric: Any = figure.declaration.metric
            metric.clear()
            figure._children.clear()
    registry.ENGINE.forget()


def text_of(service: str) -> str:
    metrics.begin(service, "1.2.3")
    body, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    return body.decode()


def names_on(text: str) -> set[str]:
    """As declared: counters with their ending."""
    return {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(text)
        if family.name.startswith("callbus_")
    }


def a_day_of_calls() -> None:
    """Calls of many ids, tenants, reasons, engines and subjects, as a hostile caller or a defect may bring them."""
    handled = [(template,) for template in process.HANDLED.values]
    for number in range(400):
        identity, tenant = uuid.uuid4().hex, f"tenant-{number}"
        calls.OFFERED.inc()
        handled.append((f"call.{tenant}.{identity}.turn.ended",))
        handled.append((f"call.*.*.{identity}",))
        calls.count_refused(f"reason-{identity}")
        calls.count_ended(list(CallResult)[number % 4], identity, number * 1000)
        calls.DTMF.inc(source=tenant)
        calls.TRANSFERS.inc(result=identity)
        calls.SETUP.observe(number / 1000)
        media.MOS.observe(4.0, direction=identity)
        for figure in (engines.ASR_SECONDS, engines.LLM_SECONDS, engines.TTS_SECONDS):
            figure.observe(0.1, engine=f"engine-{number}")
        engines.count_tokens(f"engine-{number}", 10, 20)
        engines.TOOL_SECONDS.observe(0.1, result=identity)
        for stage in (*SERVICES, identity):
            told = metrics.EngineFigures(stage)
            told.error(f"engine-{number}", tenant)
            told.failover(f"engine-{number}")
            told.hedge(tenant)
            told.state(f"engine-{number}", 2)
            metrics.count_degraded(stage, identity)
            metrics.count_stuck(stage)
            process.FAILURES_TOTAL.inc(stage=stage, code=identity)
            process.DEAD_LETTERS.inc(service=stage)
            workers.observe_takeover(stage, 300.0, 5.0)
        metrics.count_kept_trace(identity)
        metrics.count_interruption(identity)
        metrics.count_false_interruption(tenant)
        turns.observe_measured(
            TurnMeasured(
                call_id=identity,
                tenant=tenant,
                at_us=1,
                turn=number,
                e2e_latency_ms=500.0,
                preemptive=identity,
                bus_hop_ms={f"call.{tenant}.{identity}.turn.ended": 1.0, f"call.*.*.{identity}": 1.0},
                queue_wait_ms={identity: 1.0},
            )
        )
    process.HANDLER_SECONDS.read_each(lambda: [(subject, [1] * 8, 0.1) for subject in handled])
    process.HANDLER_ERRORS.read_each(lambda: [(subject, 1.0) for subject in handled])


def test_a_process_tells_what_is_its_own_and_nothing_else() -> None:
    for service in SERVICES:
        allowed = {name for name, each in DECLARED.items() if service in each.by}
        assert names_on(text_of(service)) <= allowed
    edge, asr = names_on(text_of("edge")), names_on(text_of("asr"))
    assert "callbus_turn_e2e_latency_seconds" in asr - edge
    assert "callbus_calls_offered_total" in edge - asr


def test_what_nobody_tells_stands_on_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FIGURES["callbus_queue_pending"], "_source", None)
    assert "callbus_queue_pending" not in text_of("asr")
    workers.QUEUE_PENDING.read_each(lambda: [(("asr-assign",), 3.0)])
    assert 'callbus_queue_pending{consumer="asr-assign"} 3.0' in text_of("asr")


def test_a_source_that_fails_costs_its_own_figure_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> float:
        raise RuntimeError("no")

    told: list[str] = []
    monkeypatch.setattr(registry.log, "exception", lambda event, message: told.append(message), raising=False)
    monkeypatch.setattr(calls.HELD, "_source", None)
    calls.HELD.read(broken)
    text = text_of("edge")
    assert "\ncallbus_calls_held " not in text
    assert "callbus_calls_offered_total" in text
    assert told == ["callbus_calls_held can't be told now"]


def test_counters_with_few_series_have_them_from_the_start() -> None:
    text = text_of("edge")
    for reason in calls.REFUSALS:
        assert f'callbus_calls_refused_total{{reason="{reason}"}}' in text
    assert 'callbus_dead_letters_total{service="edge"}' in text
    assert re.search(r'callbus_build_info{service="edge",version="[^"]+"} 1\.0', text)
    # The first takeover must show in increase(), too: mostly there is no second one.
    for stage in WORKERS:
        assert f'callbus_takeover_seconds_count{{stage="{stage}"}}' in text_of(stage)


def test_the_number_of_series_has_an_end_and_no_label_is_an_identifier() -> None:
    a_day_of_calls()
    assert "engine-15" in text_of("asr")
    assert "engine-16" not in text_of("asr")
    first = {service: text_of(service) for service in SERVICES}
    a_day_of_calls()
    for service in SERVICES:
        text = text_of(service)
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        before = [sample for family in text_string_to_metric_families(first[service]) for sample in family.samples]
        assert len(samples) == len(before)
        assert len(samples) < MOST_SERIES
        for sample in samples:
            for label, value in sample.labels.items():
                if label not in ("le", "version"):
                    assert not ID.search(value), (sample.name, label, value)


def test_every_label_has_a_closed_list_or_an_upper_end() -> None:
    for each in DECLARED.values():
        for label in each.labels:
            assert label.values or label.limit, (each.name, label.name)
            assert label.name not in ("call_id", "tenant", "turn", "worker", "caller", "instance")


def test_a_page_in_openmetrics_names_traces_beside_the_latency() -> None:
    trace = uuid.uuid4().hex
    turns.observe_measured(TurnMeasured(call_id=trace, tenant="acme", at_us=1, turn=1, e2e_latency_ms=123456.0))
    metrics.begin("asr", "1")
    body, content_type = metrics.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    found = [
        sample
        for family in openmetrics_families(body.decode())  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar is not None
    ]
    assert {sample.name for sample in found} == {"callbus_turn_e2e_latency_seconds_bucket"}
    assert trace in {sample.exemplar.labels["trace_id"] for sample in found if sample.exemplar}
    assert trace not in metrics.render()[0].decode()


def test_a_distribution_adds_up() -> None:
    before = registry.REGISTRY.get_sample_value("callbus_pacer_late_seconds_count") or 0.0
    media.PACER_LATE.add([1, 0, 0, 2, 0, 0, 0, 0, 4], 0.5)
    value = registry.REGISTRY.get_sample_value
    assert (value("callbus_pacer_late_seconds_count") or 0.0) - before == 7
    over = (value("callbus_pacer_late_seconds_bucket", {"le": "+Inf"}) or 0.0) - (
        value("callbus_pacer_late_seconds_bucket", {"le": "0.06"}) or 0.0
    )
    assert over >= 4


def test_series_of_values_that_nobody_knows_are_added_up() -> None:
    workers.CALLS.read_each(lambda: [(("x",), 1.0), (("y",), 2.0), (("asr",), 4.0)])
    value = registry.REGISTRY.get_sample_value
    assert value("callbus_worker_calls", {"stage": OTHER}) == 3
    assert value("callbus_worker_calls", {"stage": "asr"}) == 4


# -- no figure that nobody counts -------------------------------------------------------------------------------------

VERBS = {"inc", "set", "observe", "add", "read", "read_each", "child"}


def python_names() -> dict[str, str]:
    """Name of each declared figure in its room -> the figure's name; latencies of a turn stand in one dictionary."""
    found = {}
    for room in (calls, engines, media, process, traces, turns, workers):
        for name, value in vars(room).items():
            members = value.values() if isinstance(value, dict) else (value,)
            for each in members:
                if isinstance(each, registry.Figure) and each.declaration.name in DECLARED:
                    found[f"{room.__name__.rsplit('.', 1)[1]}.{name}.{each.declaration.name}"] = name
    return found


def names_in(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    }


def touched(tree: ast.AST) -> set[str]:
    """Figures that something is done with: ``NAME.verb``, and what is looped over."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in VERBS:
            owner = node.value
            found.add(owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", ""))
        if isinstance(node, ast.For):
            found |= names_in(node.iter)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            found |= names_in(node.value)
    return found


def sources(*rooms: str) -> Iterator[tuple[Path, ast.Module]]:
    for room in rooms:
        for path in (ROOT / room).rglob("*.py"):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def dead(names: dict[str, str]) -> list[str]:
    """Those that are counted neither where the program runs nor by a function of their room that is used there."""
    used: set[str] = set()
    alive: set[str] = set()
    rooms: list[ast.Module] = []
    for path, tree in sources(*PRODUCTION):
        if path.parent == ROOT / "bus" / "metrics":
            rooms.append(tree)
            continue
        used |= names_in(tree)
        alive |= touched(tree)
    functions = [node for room in rooms for node in ast.walk(room) if isinstance(node, ast.FunctionDef)]
    grown = True
    while grown:
        reached = [node for node in functions if node.name in used]
        more = set().union(*(names_in(node) for node in reached)) - used
        used |= more & {node.name for node in functions}
        grown = bool(more & {node.name for node in functions})
    for node in functions:
        if node.name in used:
            alive |= touched(node)
    return sorted(figure for figure, name in names.items() if name not in alive)


def test_no_figure_is_dead() -> None:
    names = python_names()
    assert {name.rsplit(".", 1)[1] for name in names} == set(DECLARED)
    forgotten = {"calls.FORGOTTEN.callbus_forgotten_total": "FORGOTTEN"}
    assert dead(names | forgotten) == list(forgotten)


def test_labels_are_told_in_full_by_whoever_counts() -> None:
    """Every combination that the lists allow can be counted."""
    for figure in FIGURES.values():
        if isinstance(figure, registry.CountedFigure) and figure.declaration.labels:
            names = [label.name for label in figure.declaration.labels]
            for values in product(*(label.values[:2] or ("engine-1",) for label in figure.declaration.labels)):
                figure.inc(0, **dict(zip(names, values, strict=True)))
            with pytest.raises(KeyError):
                figure.inc()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: the pages are not linted")
@pytest.mark.parametrize("service", SERVICES)
def test_promtool_finds_nothing_wrong(service: str) -> None:
    a_day_of_calls()
    text = text_of(service)
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
