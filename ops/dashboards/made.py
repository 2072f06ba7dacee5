"""Every file that is made here, by its path in the checkout."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from ops.dashboards import call, capacity, edge, overview, recording, stages
from ops.dashboards.board import Board

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = Path("ops/grafana/dashboards")
RECORDING = Path("ops/prometheus/rules/recording.yml")


def boards() -> tuple[Board, ...]:
    """All dashboards, the one to begin with first."""
    return (overview.BOARD, edge.BOARD, *stages.BOARDS, call.BOARD, capacity.BOARD)


def files() -> dict[Path, str]:
    """Text of every file, by its path in the checkout."""
    made = {DASHBOARDS / f"{board.uid.removeprefix('callbus-')}.json": text_of(board) for board in boards()}
    return {**made, RECORDING: recording.document()}


def text_of(board: Board) -> str:
    """A dashboard as Grafana reads it, in an order that does not change."""
    return json.dumps(board.build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write() -> list[Path]:
    """Write every file that is not as it should be; the paths that were written."""
    written = []
    for path, text in files().items():
        place = ROOT / path
        if not place.exists() or place.read_text(encoding="utf-8") != text:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
            written.append(path)
    return written
