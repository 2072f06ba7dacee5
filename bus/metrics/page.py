"""The page of a process: what it tells, as text or as OpenMetrics. ``bus.pages`` serves it."""

from __future__ import annotations

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from bus.metrics import registry
from bus.metrics.process import BUILD_INFO


class _Process:
    figures: Collector = registry.REGISTRY
    """What this process tells; everything, until it has said who it is."""


def begin(service: str, version: str) -> None:
    """This process is ``service`` and tells from now on what such a process tells."""
    BUILD_INFO.set(1, version=version, service=service)
    for figure in registry.FIGURES.values():
        if service in figure.declaration.by:
            figure.begin(service)
    _Process.figures = registry.ProcessFigures(service)


def render(accept: str = "") -> tuple[bytes, str]:
    """The page and its content type. ``accept``: of the request; OpenMetrics holds exemplars, text does not."""
    encode, content_type = choose_encoder(accept)
    return encode(_Process.figures), content_type
