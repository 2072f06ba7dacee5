"""The dashboard to begin with: are callers well, and if not, which stage is it."""

from __future__ import annotations

from ops.dashboards.board import Board, Section
from ops.dashboards.panels import (
    COUNT,
    HALF,
    PER_SECOND,
    SECONDS,
    SHARE,
    THIRD,
    Limits,
    Query,
    figure,
    graph,
    quantiles,
    rows,
    words,
)

ANSWER = Limits(1.5, 2.0)
"""Seconds from the caller's last word to the answer: people notice the first, and speak again at the second."""
BARGE_IN = Limits(0.35, 0.5)
OPINION = Limits(3.6, 3.1, down=True)
"""Mean opinion score (ITU-T G.107): some callers dissatisfied, many dissatisfied."""
LOSS = Limits(0.01, 0.03)

WHERE = """
| you see | go to |
|---|---|
| answers late | the step that is high in *Where the time goes*, then its stage's dashboard |
| calls refused or failed | *Edge*, then *Capacity* |
| bad sound | *Edge*, row *Sound* |
| one caller complains | *Call*, with the call's id out of `callbus calls` |
| an alert | its runbook: docs/runbooks |
"""

NOW = Section(
    "Now",
    [
        figure(
            "Calls", "Calls that are up on all edges.", COUNT, Query("sum(callbus_calls_active)", "calls"), decimals=0
        ),
        figure(
            "Calls a minute",
            "Calls that were offered, over the last five minutes.",
            COUNT,
            Query("60 * sum(rate(callbus_calls_offered_total[5m]))", "calls a minute"),
            decimals=1,
        ),
        figure(
            "Refused",
            "Share of the offered calls that were refused, over five minutes.",
            SHARE,
            Query("callbus:calls_refused:ratio", "refused"),
            limits=Limits(0.01, 0.05),
        ),
        figure(
            "Failed",
            "Share of the calls that ended by a fault, over five minutes.",
            SHARE,
            Query("callbus:calls_failed:ratio", "failed"),
            limits=Limits(0.01, 0.05),
        ),
        figure(
            "Answer, p50",
            "Caller's last voiced sample to the first audible sample of the answer; fillers do not count.",
            SECONDS,
            Query("callbus:turn_e2e_latency_seconds:p50", "p50"),
            limits=Limits(0.8, 1.5),
        ),
        figure(
            "Answer, p95",
            "The same for the slowest of twenty. Below 1.5 s is good, above 2 s callers speak again.",
            SECONDS,
            Query("callbus:turn_e2e_latency_seconds:p95", "p95"),
            limits=ANSWER,
        ),
        figure(
            "Barge-in, p95",
            "First voiced sample of a caller who interrupts to the end of the last agent packet.",
            SECONDS,
            Query("callbus:turn_barge_in_seconds:p95", "p95"),
            limits=BARGE_IN,
            missing="none",
        ),
        figure(
            "MOS, worst tenth",
            "Mean opinion score of what callers sent (E-model, ITU-T G.107) at the tenth percentile, over 30 minutes.",
            COUNT,
            Query('callbus:call_mos:p10{direction="in"}', "p10"),
            limits=OPINION,
            decimals=2,
        ),
    ],
)
STATE = Section(
    "State",
    [
        rows(
            "Alerts",
            "Alerts that fire now; each has a page in docs/runbooks with its name.",
            COUNT,
            Query('ALERTS{alertstate="firing"}', ""),
            width=HALF,
        ),
        graph(
            "Ready processes",
            "Processes that take calls, by service. Without one of each, callers hear busy.",
            COUNT,
            [Query("callbus:ready:sum", "{{job}}")],
            width=6,
        ),
        words("Where to look", "From what is seen here to the dashboard that tells why.", WHERE, width=6),
    ],
)
CALLS = Section(
    "Calls",
    [
        graph(
            "Calls up",
            "Calls that are up, and those of them that are on hold.",
            COUNT,
            [Query("sum(callbus_calls_active)", "up"), Query("sum(callbus_calls_held)", "held")],
        ),
        graph(
            "How calls end",
            "Ended calls a second by result: completed, cancelled, rejected, failed.",
            PER_SECOND,
            [Query("sum by (result) (rate(callbus_calls_ended_total[$__rate_interval]))", "{{result}}")],
            stacked=True,
        ),
        graph(
            "Refused calls",
            "Refused calls a second by reason; no_worker_<stage>: every worker of the stage is full or away.",
            PER_SECOND,
            [Query("sum by (reason) (rate(callbus_calls_refused_total[$__rate_interval]))", "{{reason}}")],
            stacked=True,
        ),
    ],
)
CONVERSATION = Section(
    "Conversation",
    [
        graph(
            "Answer latency",
            "Caller's last voiced sample to the first audible sample of the answer. A point is one turn, and leads "
            "to its call's trace.",
            SECONDS,
            [
                *quantiles("turn_e2e_latency_seconds")[:2],
                Query(
                    "histogram_quantile(0.99, sum by (le) (rate(callbus_turn_e2e_latency_seconds_bucket[5m])))",
                    "p99",
                    exemplars=True,
                ),
            ],
            limits=ANSWER,
        ),
        graph(
            "Where the time goes",
            "Medians of the steps of an answer, one on the other. They overlap where an answer was prepared early.",
            SECONDS,
            [
                Query("callbus:turn_end_of_turn_delay_seconds:p50", "end of turn"),
                Query("callbus:turn_llm_node_ttfs_seconds:p50", "llm: first sentence"),
                Query("callbus:turn_tts_node_ttfb_seconds:p50", "tts: first audio"),
                Query("callbus:turn_playback_latency_seconds:p50", "edge: playback"),
            ],
            stacked=True,
        ),
        graph(
            "Barge-in",
            "First voiced sample of a caller who interrupts to the end of the last agent packet.",
            SECONDS,
            quantiles("turn_barge_in_seconds"),
            limits=BARGE_IN,
        ),
        graph(
            "Interruptions",
            "Callers made the agent stop (true), or held it for a moment and it went on (false), a second.",
            PER_SECOND,
            [
                Query("sum(rate(callbus_interruptions_total[5m]))", "true"),
                Query("sum(rate(callbus_false_interruptions_total[5m]))", "false"),
                Query("sum(rate(callbus_backchannels_total[5m]))", "backchannels"),
            ],
        ),
        graph(
            "Turns that went wrong",
            "Turns a second in which a stage gave no sign, and silent callers whom the agent asked or left.",
            PER_SECOND,
            [
                Query("sum by (stage) (rate(callbus_turns_stuck_total[5m]))", "stuck at {{stage}}"),
                Query("sum(rate(callbus_away_total[5m]))", "silent callers"),
            ],
        ),
        graph(
            "What callers got where a stage was down",
            "Apologies, offers of a person, transfers, menus, recorded phrases, missing sentences, a second.",
            PER_SECOND,
            [Query("sum by (stage, what) (rate(callbus_degraded_total[5m]))", "{{stage}}: {{what}}")],
            stacked=True,
        ),
    ],
)
SYSTEM = Section(
    "Sound and system",
    [
        graph(
            "Mean opinion score",
            "E-model (ITU-T G.107) of what callers sent, one value a call at its end; 30 minutes at a time.",
            COUNT,
            [Query("callbus:call_mos:p50", "p50 {{direction}}"), Query("callbus:call_mos:p10", "p10 {{direction}}")],
            limits=OPINION,
            maximum=4.5,
        ),
        graph(
            "Lost packets",
            "RTP packets of callers that never came, as a share of those that did.",
            SHARE,
            [Query("callbus:rtp_lost:ratio", "lost")],
            limits=LOSS,
        ),
        graph(
            "Failures",
            "Failure events a second by stage and code; docs/subjects.md and `callbus show` tell more.",
            PER_SECOND,
            [Query("sum by (stage, code) (rate(callbus_failures_total[5m]))", "{{stage}}: {{code}}")],
            stacked=True,
        ),
        graph(
            "Bus hop, p95",
            "An event said by its sender until received, by subject template.",
            SECONDS,
            [Query("callbus:bus_hop_seconds:p95", "{{subject}}")],
            limits=Limits(0.01, 0.05),
        ),
        graph(
            "Oldest work in a queue",
            "Age of the oldest message that nobody has taken, by consumer.",
            SECONDS,
            [Query("max by (consumer) (callbus_queue_oldest_seconds)", "{{consumer}}")],
            limits=Limits(1, 5),
        ),
        graph(
            "Bus connection",
            "Processes that are connected to NATS, by service.",
            COUNT,
            [Query("sum by (job) (callbus_bus_connected)", "{{job}}")],
            width=THIRD,
        ),
    ],
)

BOARD = Board(
    uid="callbus-overview",
    title="callbus · Overview",
    description="Are callers well, and if not, which stage is it.",
    sections=(NOW, STATE, CALLS, CONVERSATION, SYSTEM),
)
