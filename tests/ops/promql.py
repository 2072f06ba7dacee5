"""What a PromQL expression asks for, held against what the processes tell and what the recording rules make of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from bus.metrics import DECLARED
from bus.metrics.registry import PROCESS, SERVICES, Declaration

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "ops" / "prometheus" / "rules"
TARGET = frozenset({"job", "instance", "service_name"})
"""Labels that Prometheus gives every series that it scrapes."""
OF_PROMETHEUS = {
    "up": TARGET,
    "ALERTS": TARGET | {"alertname", "alertstate", "severity", "stage", "engine"},
    "prometheus_rule_evaluation_failures_total": TARGET | {"rule_group"},
}
"""Series that Prometheus makes itself."""
PARTS = {"_bucket": frozenset({"le"}), "_sum": frozenset(), "_count": frozenset()}
KEYWORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right"}
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*"}

_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_MATCHER = re.compile(r'([a-z_]+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_NAME = re.compile(r"(?<![\w.:])[a-zA-Z_:][\w:]*(?!\s*\()(?![\w:])")


class Matcher(NamedTuple):
    """One condition of a selector."""

    label: str
    operator: str
    value: str


class Selector(NamedTuple):
    """Series that an expression asks for."""

    name: str
    matchers: tuple[Matcher, ...]


class Asked(NamedTuple):
    """What an expression asks for. ``kept``: labels that ``by`` keeps, None where nothing is put together."""

    selectors: tuple[Selector, ...]
    grouped: frozenset[str]
    kept: frozenset[str] | None


def plain(expression: str) -> str:
    """An expression of a panel with Grafana's variables filled in."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def asked(expression: str) -> Asked:
    """Selectors and groupings of an expression."""
    selectors = [
        Selector(name, tuple(Matcher(*found) for found in _MATCHER.findall(inside)))
        for name, inside in _SELECTOR.findall(expression)
    ]
    rest = _SELECTOR.sub(" ", expression)
    groupings = [
        (word, frozenset(filter(None, re.split(r"[,\s]+", inside)))) for word, inside in _GROUPING.findall(rest)
    ]
    rest = _GROUPING.sub(" ", _STRING.sub(" ", rest))
    selectors += [Selector(name, ()) for name in _NAME.findall(rest) if name not in KEYWORDS]
    kept = [labels for word, labels in groupings if word == "by"]
    aggregated = bool(re.search(r"\b(sum|min|max|avg|count)\s*(by\b|\()", expression))
    return Asked(
        tuple(selectors),
        frozenset().union(*(labels for _, labels in groupings)),
        frozenset().union(*kept) - {"le"} if kept else frozenset() if aggregated else None,
    )


def rules(name: str) -> Iterator[dict[str, Any]]:
    """The rules of a file of ops/prometheus/rules, in order."""
    for group in yaml.safe_load((RULES / name).read_text(encoding="utf-8"))["groups"]:
        yield from group["rules"]


def declaration_of(name: str) -> tuple[Declaration, frozenset[str]] | None:
    """The declaration that a series belongs to, and the labels that it has beyond the declared ones."""
    if name in DECLARED:
        return None if DECLARED[name].kind == "histogram" else (DECLARED[name], frozenset())
    for part, labels in PARTS.items():
        whole = DECLARED.get(name.removesuffix(part))
        if name.endswith(part) and whole is not None and whole.kind == "histogram":
            return whole, labels
    return None


def process_names() -> frozenset[str]:
    """What the operating system says of every process."""
    return frozenset(sample.name for metric in PROCESS.collect() for sample in metric.samples)


class Known:
    """Every series that there can be, with its labels."""

    def __init__(self) -> None:
        self.recorded: dict[str, frozenset[str]] = {}
        self._process = process_names()
        for rule in rules("recording.yml"):
            out = self._output(rule["expr"]) | set(rule.get("labels", {}))
            self.recorded[rule["record"]] = self.recorded.get(rule["record"], frozenset()) | out

    def labels(self, name: str) -> frozenset[str] | None:
        """The labels of a series; None: nobody tells it."""
        declared = declaration_of(name)
        if declared:
            return frozenset(label.name for label in declared[0].labels) | declared[1] | TARGET
        if name in self._process:
            return TARGET
        return self.recorded.get(name, OF_PROMETHEUS.get(name))

    def problems(self, expression: str, legend: str = "") -> list[str]:
        """What is wrong with an expression and the legend of its lines."""
        found: list[str] = []
        what = asked(expression)
        every: frozenset[str] = frozenset()
        for selector in what.selectors:
            labels = self.labels(selector.name)
            if labels is None:
                found.append(f"no process exports {selector.name}")
                continue
            every |= labels
            found += [
                f"{selector.name} has no label {matcher.label}"
                for matcher in selector.matchers
                if matcher.label not in labels
            ]
            found += _values(selector)
        found += [f"nothing in it has the label {label}" for label in sorted(what.grouped - every)]
        shown = frozenset(re.findall(r"\{\{(\w+)\}\}", legend))
        found += [f"the legend shows {label}, which is not there" for label in sorted(shown - self._output(expression))]
        return found

    def _output(self, expression: str) -> frozenset[str]:
        what = asked(expression)
        if what.kept is not None:
            return what.kept
        return frozenset().union(*(self.labels(selector.name) or frozenset() for selector in what.selectors))


def _values(selector: Selector) -> list[str]:
    """Conditions that no series can meet: a value that its label does not take, a process that does not tell it."""
    declared = declaration_of(selector.name)
    if not declared:
        return []
    allowed: Mapping[str, tuple[str, ...]] = {
        **{label.name: label.values for label in declared[0].labels if not label.limit},
        "job": declared[0].by,
    }
    found = []
    for matcher in selector.matchers:
        values = allowed.get(matcher.label)
        if values is None or matcher.operator not in ("=", "=~"):
            continue
        found += [
            f"{selector.name}: {matcher.label} is never {value}, only {', '.join(values)}"
            for value in matcher.value.split("|")
            if not any(re.fullmatch(value, each) for each in values)
        ]
    return found


__all__ = ["DECLARED", "RULES", "SERVICES", "Known", "asked", "declaration_of", "plain", "rules"]
