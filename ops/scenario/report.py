"""What a run of a scenario gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ops.scenario.document import Scenario, Way
from ops.scenario.expectations import SeenEvent, StepTimes


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run. ``skipped``: why it could not be run here. ``failures``: empty where it passed.

    ``duration_ms``: length of the call in media time; ``wall_s``: how long the run took. ``recording``: path of a WAV
    of the call, where one was kept.
    """

    scenario: Scenario
    way: Way
    failures: tuple[str, ...] = ()
    skipped: str = ""
    events: tuple[SeenEvent, ...] = ()
    steps: Mapping[str, StepTimes] = field(default_factory=dict)
    duration_ms: int = 0
    wall_s: float = 0.0
    recording: str = ""

    @property
    def passed(self) -> bool:
        return not self.failures and not self.skipped
