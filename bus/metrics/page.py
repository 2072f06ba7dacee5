"""The page of a process: what it tells, as text or as OpenMetrics, and who serves it."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import start_http_server
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from bus.logs import get_logger
from bus.metrics import registry
from bus.metrics.process import BUILD_INFO
from config.settings import MetricsSection

log = get_logger(__name__)


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


def serve(section: MetricsSection) -> Callable[[], None]:
    """Serve the page of this process where a port is set; what is returned ends that.

    A port that is taken is a warning and no reason to stop: the calls matter more than their figures.
    """
    if not section.port:
        return lambda: None
    try:
        server, thread = start_http_server(section.port, section.host, registry=_Process.figures)
    except OSError as error:
        log.warning(
            "metrics_unavailable",
            message=f"no metrics on {section.host}:{section.port}: {error.strerror}; each process on a machine needs "
            "its own CALLBUS_METRICS__PORT (callbus up counts up from the first)",
        )
        return lambda: None
    log.info("metrics", message=f"metrics on http://{section.host}:{section.port}/metrics")

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return close
