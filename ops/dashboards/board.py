"""A dashboard as a list of sections with tiles, placed on Grafana's grid from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

COLUMNS = 24
ROW_HEIGHT = 1
TAG = "callbus"
PROMETHEUS = models.DataSourceRef(type_val="prometheus", uid="prometheus")
TEMPO = models.DataSourceRef(type_val="tempo", uid="tempo")
"""The uids of ops/grafana/provisioning/datasources."""


class Tile(NamedTuple):
    """One panel and its size in cells of the grid."""

    panel: Builder[models.Panel]
    width: int
    height: int


@dataclass(frozen=True)
class Section:
    """Tiles below one heading."""

    title: str
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Board:
    """One dashboard. ``uid`` is its place in Grafana's addresses and the name of its file."""

    uid: str
    title: str
    description: str
    sections: Sequence[Section]
    variables: Sequence[Builder[models.VariableModel]] = field(default_factory=tuple)
    range_from: str = "now-1h"
    refresh: str = "15s"

    def build(self) -> models.Dashboard:
        """The dashboard with every panel in its place."""
        board = (
            builders.Dashboard(self.title)
            .uid(self.uid)
            .description(self.description)
            .tags([TAG])
            .timezone("browser")
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .time(self.range_from, "now")
            .refresh(self.refresh)
            .variables(list(self.variables))
            .link(
                builders.DashboardLink("callbus")
                .type(models.DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .as_dropdown(True)
                .keep_time(True)
            )
            .readonly()
            .build()
        )
        board.panels = self._placed()
        return board

    def _placed(self) -> list[models.Panel | models.RowPanel]:
        panels: list[models.Panel | models.RowPanel] = []
        y = 0
        for section in self.sections:
            heading = builders.Row(section.title).id(len(panels) + 1).build()
            heading.grid_pos = models.GridPos(x=0, y=y, w=COLUMNS, h=ROW_HEIGHT)
            panels.append(heading)
            y += ROW_HEIGHT
            x = height = 0
            for tile in section.tiles:
                if x + tile.width > COLUMNS:
                    x, y, height = 0, y + height, 0
                panel = tile.panel.build()
                panel.id_val = len(panels) + 1
                panel.grid_pos = models.GridPos(x=x, y=y, w=tile.width, h=tile.height)
                panels.append(panel)
                x, height = x + tile.width, max(height, tile.height)
            y += height
        return panels
