"""A figure: what was measured, its percentiles, the limit it is held against. Written as JSON and as a table."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ops.session import percentile


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """At most (or at least) ``value`` of the figure's ``statistic``."""

    statistic: str
    value: float
    at_least: bool = False

    def holds(self, measured: float) -> bool:
        return measured >= self.value if self.at_least else measured <= self.value

    def __str__(self) -> str:
        return f"{self.statistic} {'≥' if self.at_least else '≤'} {self.value:g}"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured quantity. ``statistics`` holds p50, p95, p99, max and n of a distribution, or ``value``."""

    bench: str
    name: str
    unit: str
    statistics: dict[str, float]
    limits: tuple[Limit, ...] = ()
    note: str = ""

    @property
    def within(self) -> bool | None:
        """Whether every limit holds; None without limits."""
        if not self.limits:
            return None
        return all(limit.holds(self.statistics[limit.statistic]) for limit in self.limits)


def distribution(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99, max and n. Raises ``ValueError`` for no values: a bench that measured nothing has failed."""
    if not values:
        raise ValueError("nothing was measured")
    found = list(values)
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {name: percentile(found, share) for name, share in shares.items()} | {
        "max": max(found),
        "n": float(len(found)),
    }


def table_lines(figures: Sequence[Figure]) -> list[str]:
    """A line per figure: statistics, limits, whether they hold."""
    width = max((len(f"{figure.bench}: {figure.name}") for figure in figures), default=0)
    lines = []
    for figure in figures:
        numbers = "  ".join(f"{name} {value:g}" for name, value in _rounded(figure).items())
        limits = ", ".join(str(limit) for limit in figure.limits)
        mark = {None: "", True: f"   holds ({limits})", False: f"   OVER THE LIMIT ({limits})"}[figure.within]
        note = f"   {figure.note}" if figure.note else ""
        lines.append(f"{figure.bench + ': ' + figure.name:{width}}  {numbers} {figure.unit}{mark}{note}")
    return lines


def _rounded(figure: Figure) -> dict[str, float]:
    return {name: round(value, 3 if abs(value) < 10 else 1) for name, value in figure.statistics.items()}
