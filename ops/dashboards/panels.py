"""The kinds of panels that the dashboards are made of, all drawn alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from grafana_foundation_sdk.builders import common, prometheus, stat, table, text, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import tempo as tempo_builders
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models
from grafana_foundation_sdk.models import tempo as tempo_models

from ops.dashboards.board import PROMETHEUS, TEMPO, Tile

SECONDS = "s"
SHARE = "percentunit"
PER_SECOND = "cps"
COUNT = "short"
BYTES = "bytes"

THIRD, HALF, FULL, QUARTER = 8, 12, 24, 6
GRAPH_HEIGHT = 8
FIGURE_HEIGHT = 4
GREEN, YELLOW, RED = "green", "yellow", "red"


class Query(NamedTuple):
    """A PromQL expression and the name of its lines in the legend; ``exemplars``: with points that lead to traces."""

    expression: str
    legend: str
    exemplars: bool = False


class Limits(NamedTuple):
    """Where a figure becomes yellow, then red; ``down``: the smaller the worse."""

    warning: float
    critical: float
    down: bool = False

    def config(self) -> builders.ThresholdsConfig:
        """As Grafana has them: the colour from each value on."""
        if self.down:
            steps = [(None, RED), (self.critical, YELLOW), (self.warning, GREEN)]
        else:
            steps = [(None, GREEN), (self.warning, YELLOW), (self.critical, RED)]
        return (
            builders.ThresholdsConfig()
            .mode(models.ThresholdsMode.ABSOLUTE)
            .steps([models.Threshold(value=value, color=color) for value, color in steps])
        )


def quantiles(name: str, *, by: str = "") -> tuple[Query, Query, Query]:
    """p50, p95 and p99 out of the recording rules of histogram ``callbus_<name>``; ``by``: label of several lines."""
    prefix = f"{{{{{by}}}}} " if by else ""
    p50, p95, p99 = (Query(f"callbus:{name}:{p}", f"{prefix}{p}") for p in ("p50", "p95", "p99"))
    return p50, p95, p99


def graph(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    *,
    limits: Limits | None = None,
    stacked: bool = False,
    width: int = THIRD,
    maximum: float | None = None,
) -> Tile:
    """Lines over time; limits are drawn as lines."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .min(0)
        .line_width(1)
        .fill_opacity(30 if stacked else 10)
        .show_points(common_models.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs([])
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
    )
    for number, query in enumerate(queries):
        panel.with_target(_target(query, number).range())
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
    if maximum is not None:
        panel.max(maximum)
    if limits:
        panel.thresholds(limits.config())
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED))
    return Tile(panel, width, GRAPH_HEIGHT)


def figure(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    limits: Limits | None = None,
    width: int = 3,
    decimals: int | None = None,
    missing: str = "no calls",
) -> Tile:
    """One figure as it is now; ``missing`` stands there where there is none."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .no_value(missing)
        .graph_mode(common_models.BigValueGraphMode.AREA)
        .color_mode(common_models.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .with_target(_target(query, 0).range())
    )
    if decimals is not None:
        panel.decimals(decimals)
    panel.thresholds(limits.config() if limits else _plain())
    return Tile(panel, width, FIGURE_HEIGHT)


def rows(title: str, description: str, unit: str, query: Query, *, width: int = HALF, missing: str = "none") -> Tile:
    """A table of the labels of every series and its value now."""
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .no_value(missing)
        .align(common_models.FieldTextAlignment.AUTO)
        .inspect(False)
        .with_target(_target(query, 0).instant().format(prometheus_models.PromQueryFormat.TABLE))
        .with_transformation(
            models.DataTransformerConfig(
                id_val="organize", options={"excludeByName": {"Time": True, "__name__": True}, "renameByName": {}}
            )
        )
    )
    return Tile(panel, width, GRAPH_HEIGHT)


def words(title: str, description: str, content: str, *, width: int = FULL, height: int = GRAPH_HEIGHT) -> Tile:
    """Text in Markdown."""
    return Tile(text.Panel().title(title).description(description).content(content), width, height)


def spans(title: str, description: str, query: str, *, width: int = HALF, limit: int = 200) -> Tile:
    """A table of the spans that a TraceQL query finds; a call id in it leads to the call's dashboard."""
    target = _tempo(query).limit(limit).spss(limit).table_type(tempo_models.SearchTableType.SPANS)
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(TEMPO)
        .no_value("no such span")
        .align(common_models.FieldTextAlignment.AUTO)
        .inspect(False)
        .with_target(target)
        .override_by_name("callbus.call_id", [models.DynamicConfigValue(id_val="links", value=[_TO_CALL])])
    )
    return Tile(panel, width, GRAPH_HEIGHT)


def trace(title: str, description: str, query: str, *, height: int = 16) -> Tile:
    """The waterfall of one trace, by its id."""
    panel = builders.Panel().type("traces").title(title).description(description).datasource(TEMPO)
    return Tile(panel.with_target(_tempo(query)), FULL, height)


_TO_CALL = {"title": "This call", "url": "/d/callbus-call?var-call=${__value.raw}&${__url_time_range}"}


def _target(query: Query, number: int) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .expr(query.expression)
        .legend_format(query.legend)
        .exemplar(query.exemplars)
        .ref_id(chr(ord("A") + number))
        .datasource(PROMETHEUS)
    )


def _tempo(query: str) -> tempo_builders.TempoQuery:
    # A query that is a trace id alone fetches that trace.
    return tempo_builders.TempoQuery().query(query).query_type("traceql").ref_id("A").datasource(TEMPO)


def _plain() -> builders.ThresholdsConfig:
    return (
        builders.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=None, color="text")])
    )
