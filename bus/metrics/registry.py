"""How a figure is declared: its name, its labels with the values that they may take, and the processes that tell it.

A label takes values of a closed list, and ``other`` for whatever else; where the list is made by the settings (engines)
the number of values is bounded. So the number of series of a process has an upper end, whatever its callers do, and no
identifier can become a label.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from bus.logs import get_logger

log = get_logger(__name__)

# When a series began says nothing that is asked here, and doubles the page.
disable_created_metrics()  # type: ignore[no-untyped-call]

EDGE, ASR, LLM, TTS = "edge", "asr", "llm", "tts"
SERVICES = (EDGE, ASR, LLM, TTS)
STAGES = SERVICES
WORKERS = (ASR, LLM, TTS)
OTHER = "other"
"""Label of a value that is in none of the lists."""
INITIAL_SERIES = 24
"""A counter with no more series than this has all of them from the start, so that its first count is seen as one."""

REGISTRY = CollectorRegistry()
"""All figures, whoever tells them; :func:`figures_of` has those of one process."""
PROCESS = ProcessCollector(registry=REGISTRY)
"""Memory, processor time and open files."""


class Label:
    """A label and its values.

    ``own``: a process only has series of its own name. ``limit``: the values are learned, so many at most.
    """

    def __init__(
        self, name: str, values: Collection[str], *, own: bool = False, limit: int = 0, told: str = ""
    ) -> None:
        self.name = name
        self.own = own
        self.limit = limit
        self.values = tuple(values)
        self.told = told or ", ".join(self.values)
        self._known = set(values)

    def clean(self, value: str) -> str:
        """``value`` where it is allowed, else ``other``."""
        if value in self._known:
            return value
        if len(self._known) < self.limit and value:
            self._known.add(value)
            return value
        return OTHER

    def forget(self) -> None:
        """What was learned; the settings are others from now on."""
        self._known = set(self.values)


STAGE = Label("stage", STAGES)
OWN_STAGE = Label("stage", STAGES, own=True)
ENGINE = Label("engine", (), limit=16, told="names of the settings' engines, 16 at most")


class Declaration(NamedTuple):
    """What is known of a figure before anything is counted. ``name``: as it stands on the page."""

    name: str
    kind: str
    text: str
    labels: tuple[Label, ...]
    by: tuple[str, ...]
    metric: Collector


DECLARED: dict[str, Declaration] = {}
"""Every figure of the program, by name."""
FIGURES: dict[str, Figure] = {}


class Figure:
    """A declared figure; :meth:`child` is the series of some label values."""

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration
        self._children: dict[tuple[str, ...], Any] = {}
        DECLARED[declaration.name] = declaration
        FIGURES[declaration.name] = self

    def clean(self, values: Sequence[str]) -> tuple[str, ...]:
        """Label values as they may stand on the page."""
        return tuple(label.clean(value) for label, value in zip(self.declaration.labels, values, strict=True))

    def child(self, labels: Mapping[str, str]) -> Any:
        """The series of these labels. Raises ``KeyError`` where one is missing."""
        metric: Any = self.declaration.metric
        if not self.declaration.labels:
            return metric
        asked = tuple(labels[label.name] for label in self.declaration.labels)
        found = self._children.get(asked)
        if found is None:
            clean = self.clean(asked)
            found = metric.labels(*clean)
            if clean == asked:
                self._children[asked] = found
        return found

    def begin(self, service: str) -> None:
        """Make the series that a counter of this process can have, where few; a histogram's where it is one."""
        kind, labels = self.declaration.kind, self.declaration.labels
        if not labels or kind == "gauge" or any(label.limit for label in labels):
            return
        series = list(itertools.product(*((service,) if label.own else label.values for label in labels)))
        for each in series if len(series) <= (INITIAL_SERIES if kind == "counter" else 1) else ():
            self.child(dict(zip((label.name for label in labels), each, strict=True)))


class CountedFigure(Figure):
    """A counter."""

    def inc(self, amount: float = 1, **labels: str) -> None:
        self.child(labels).inc(amount)


class GaugeFigure(Figure):
    """A gauge that is set."""

    def set(self, value: float, **labels: str) -> None:
        self.child(labels).set(value)


class HistogramFigure(Figure):
    """A histogram of single observations."""

    def observe(self, value: float, exemplar: dict[str, str] | None = None, **labels: str) -> None:
        """``exemplar``: the trace that the value is of; it stands on an OpenMetrics page and is no label."""
        self.child(labels).observe(value, exemplar)


Values = Iterable[tuple[tuple[str, ...], float]]
Distributions = Iterable[tuple[tuple[str, ...], Sequence[int], float]]


class _Asked(Collector):
    """Asks its source when the page is read; no source, no series."""

    def __init__(self) -> None:
        self.families: Callable[[], Iterable[Metric]] = list

    def collect(self) -> Iterator[Metric]:
        yield from self.families()


class Reading(Figure):
    """A counter or gauge that somebody keeps already: it is asked for when the page is read, and by nobody else.

    Nothing of it stands on the page of a process that has no source for it.
    """

    def __init__(self, declaration: Declaration, asked: _Asked) -> None:
        super().__init__(declaration)
        self._source: Callable[[], Values] | None = None
        asked.families = self._families

    def begin(self, service: str) -> None:
        """Its source says which series there are."""

    def read(self, source: Callable[[], float]) -> None:
        """From now on ``source()`` is the value; it is called on any thread, and returns at once."""
        self._source = lambda: [((), source())]

    def read_each(self, source: Callable[[], Values] | None) -> None:
        """As :meth:`read`, several series: label values in the order of the declaration, and the value."""
        self._source = source

    def _families(self) -> Iterable[Metric]:
        if self._source is None:
            return
        name, kind, text, labels, *_ = self.declaration
        family: Any = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
        found: dict[tuple[str, ...], float] = {}
        for values, value in _ask(name, self._source):
            clean = self.clean(values)
            found[clean] = found.get(clean, 0.0) + value
        told = family(name, text, labels=[label.name for label in labels])
        for clean, value in found.items():
            told.add_metric(clean, value)
        yield told


class Distribution(Figure):
    """A histogram whose buckets somebody counts already: in bulk, or when the page is read.

    ``bounds``: upper ends in seconds; counts have one more, for what is above the last.
    """

    def __init__(self, declaration: Declaration, asked: _Asked, bounds: Sequence[float]) -> None:
        super().__init__(declaration)
        self.bounds = tuple(bounds)
        self._counts = [0] * (len(self.bounds) + 1)
        self._sum = 0.0
        self._source: Callable[[], Distributions] | None = None
        asked.families = self._families

    def add(self, counts: Sequence[int], total: float) -> None:
        """So many more in each bucket, ``total`` seconds together; for a figure without labels."""
        for place, count in enumerate(counts):
            self._counts[place] += count
        self._sum += total
        self._source = self._added

    def _added(self) -> Distributions:
        return [((), self._counts, self._sum)]

    def read_each(self, source: Callable[[], Distributions]) -> None:
        """Ask for the series when the page is read: label values, counts of each bucket, sum in seconds."""
        self._source = source

    def _families(self) -> Iterable[Metric]:
        if self._source is None:
            return
        name, _, text, labels, *_ = self.declaration
        found: dict[tuple[str, ...], tuple[list[int], float]] = {}
        for values, counts, total in _ask(name, self._source):
            clean = self.clean(values)
            before, sum_before = found.get(clean, ([0] * len(counts), 0.0))
            found[clean] = ([a + b for a, b in zip(before, counts, strict=True)], sum_before + total)
        told = HistogramMetricFamily(name, text, labels=[label.name for label in labels])
        ends = [*map(floatToGoString, self.bounds), "+Inf"]
        for clean, (counts, total) in found.items():
            told.add_metric(clean, list(zip(ends, itertools.accumulate(counts), strict=True)), total)
        yield told


def _ask(name: str, source: Callable[[], Iterable[Any]]) -> list[Any]:
    """What a source says; one that fails costs its own figure, not the page."""
    try:
        return list(source())
    except Exception:
        log.exception("figure_failed", message=f"{name} can't be told now")
        return []


def counter(name: str, text: str, *labels: Label, by: tuple[str, ...] = SERVICES) -> CountedFigure:
    """``name`` ends in ``_total``. ``by``: the processes that tell it."""
    metric = Counter(name, text, [label.name for label in labels], registry=REGISTRY)
    return CountedFigure(Declaration(name, "counter", text, labels, by, metric))


def gauge(name: str, text: str, *labels: Label, by: tuple[str, ...] = SERVICES) -> GaugeFigure:
    metric = Gauge(name, text, [label.name for label in labels], registry=REGISTRY)
    return GaugeFigure(Declaration(name, "gauge", text, labels, by, metric))


def histogram(
    name: str, text: str, *labels: Label, buckets: Sequence[float], by: tuple[str, ...] = SERVICES
) -> HistogramFigure:
    metric = Histogram(name, text, [label.name for label in labels], buckets=buckets, registry=REGISTRY)
    return HistogramFigure(Declaration(name, "histogram", text, labels, by, metric))


def reading(name: str, text: str, *labels: Label, by: tuple[str, ...] = SERVICES) -> Reading:
    """A counter where the name ends in ``_total``, else a gauge."""
    kind = "counter" if name.endswith("_total") else "gauge"
    return Reading(Declaration(name, kind, text, labels, by, asked := _asked()), asked)


def distribution(
    name: str, text: str, *labels: Label, buckets: Sequence[float], by: tuple[str, ...] = SERVICES
) -> Distribution:
    return Distribution(Declaration(name, "histogram", text, labels, by, asked := _asked()), asked, buckets)


def _asked() -> _Asked:
    asked = _Asked()
    REGISTRY.register(asked)
    return asked


class ProcessFigures(Collector):
    """What one process tells: the declared figures that are its own, and those of its operating system."""

    def __init__(self, service: str) -> None:
        """``service``: one of :data:`SERVICES`; any other name tells what all of them tell."""
        self._metrics = [
            each.metric
            for each in DECLARED.values()
            if service in each.by or (service not in SERVICES and set(each.by) == set(SERVICES))
        ]

    def collect(self) -> Iterator[Metric]:
        for metric in (*self._metrics, PROCESS):
            yield from metric.collect()
            # The page is made on a thread of its own: the event loop, whose packets are due, goes first.
            time.sleep(0)
