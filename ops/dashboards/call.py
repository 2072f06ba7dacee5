"""The dashboard of one call: its trace, its turns, what was slow or failed."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard as models

from ops.dashboards.board import Board, Section
from ops.dashboards.panels import HALF, THIRD, spans, trace, words

COMMANDS = """
Call `$call`. Its id is also the id of its trace, and stands in every log line as `call_id`.

| to see | run |
|---|---|
| its turns, latencies, failures | `callbus show $call` |
| every event, as it happens | `callbus tail $call` |
| the calls of today and their ids | `callbus calls` |
| its log lines | `docker compose logs --no-log-prefix edge asr llm tts \\| grep $call` |

With compose: `docker compose run --rm cli show $call`.

Ids are in no metric: what one call did stands in its trace and its events, not in Prometheus.
"""
OF_CALL = 'span.callbus.call_id = "$call"'

BOARD = Board(
    uid="callbus-call",
    title="callbus · Call",
    description="One call by its id: the trace, its turns, what was slow and what failed.",
    range_from="now-24h",
    # A waterfall that folds up again while somebody reads it is no help.
    refresh="",
    variables=(
        builders.TextBoxVariable("call")
        .label("call id")
        .description("32 hexadecimal digits, out of `callbus calls`, a log line, or the table of calls below.")
        .default_value("")
        .current(models.VariableOption(selected=True, text="", value="")),
    ),
    sections=(
        Section(
            "The call",
            [
                trace(
                    "Trace",
                    "The call as a waterfall: call, turns, and in each turn asr, llm, tools, tts and playout.",
                    "$call",
                ),
                spans(
                    "Turns",
                    "Every turn of the call, how it ended, and its latency in seconds; turn 0 is the greeting.",
                    f'{{ {OF_CALL} && name = "turn" }} | select(span.callbus.turn, span.callbus.turn.why, '
                    "span.callbus.turn.e2e_latency, span.turn.was_interrupted, status)",
                    width=HALF,
                ),
                spans(
                    "Stages",
                    "What the stages did in the turns: asr, llm, tool, tts, playout.",
                    f'{{ {OF_CALL} && name =~ "asr|llm|tool|tts|playout" }} | select(span.callbus.turn, status)',
                    width=HALF,
                ),
                spans(
                    "Errors",
                    "Spans of the call that ended with an error.",
                    f"{{ {OF_CALL} && status = error }} | select(span.callbus.turn, statusMessage)",
                    width=HALF,
                ),
                words("Beyond the trace", "Commands that tell more of this call.", COMMANDS, width=HALF),
            ],
        ),
        Section(
            "Find a call",
            [
                spans(
                    "Calls",
                    "Calls of the chosen time; the call id leads to this page.",
                    '{ name = "call" } | select(span.callbus.call_id, status)',
                    width=THIRD,
                    limit=100,
                ),
                spans(
                    "Slow turns",
                    "Turns whose answer came later than 1.5 s after the caller's last word.",
                    '{ name = "turn" && span.callbus.turn.e2e_latency > 1.5 } | '
                    "select(span.callbus.call_id, span.callbus.turn, span.callbus.turn.e2e_latency)",
                    width=THIRD,
                    limit=100,
                ),
                spans(
                    "Turns with an error",
                    "Turns in which something failed.",
                    '{ name = "turn" && status = error } | '
                    "select(span.callbus.call_id, span.callbus.turn, statusMessage)",
                    width=THIRD,
                    limit=100,
                ),
            ],
        ),
    ),
)
