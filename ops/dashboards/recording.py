"""The recording rules: quantiles of every latency, shares, sums, and the names that other dashboards ask for."""

from __future__ import annotations

from typing import NamedTuple

from schemas.turn import LATENCIES

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
WINDOW = "5m"
"""Long enough that a line with a few calls an hour has turns in it, short enough for an alert."""
SLOW_WINDOW = "1h"
"""For what happens once a call or less."""

HISTOGRAMS: dict[str, tuple[str, ...]] = {
    **{f"turn_{name}_seconds": () for name in LATENCIES},
    "bus_hop_seconds": ("subject",),
    "queue_wait_seconds": ("stage",),
    "handler_seconds": ("subject",),
    "event_loop_lag_seconds": ("job", "instance"),
    "pacer_late_seconds": ("instance",),
    "call_setup_seconds": (),
    "call_duration_seconds": (),
    "rtp_jitter_seconds": (),
    "takeover_seconds": ("stage",),
    "asr_seconds": ("engine",),
    "llm_seconds": ("engine",),
    "tts_seconds": ("engine",),
    "tool_seconds": ("result",),
}
"""Histograms without ``callbus_``, and the labels that their quantiles keep."""

ORIGIN_HISTOGRAMS = {
    "websocket_message_processing": "callbus_bus_hop_seconds",
    "stt_transcription": "callbus_asr_seconds",
    "tts_synthesis": "callbus_tts_seconds",
    "llm_generation": "callbus_llm_seconds",
}
"""Names that other systems use, each as a summary and as a histogram of the same name."""


class Rule(NamedTuple):
    """One recording rule."""

    record: str
    expression: str
    labels: tuple[tuple[str, str], ...] = ()


def document() -> str:
    """The rules file."""
    groups = {
        "callbus_latencies": latencies(),
        "callbus_shares": shares(),
        "callbus_sums": sums(),
        "callbus_origins": origins(),
    }
    lines = ["# Made by `python -m ops.dashboards`; docs/observability.md says what the names mean.", "groups:"]
    for name, rules in groups.items():
        lines += [f"  - name: {name}", "    rules:"]
        for rule in rules:
            lines += [f"      - record: {rule.record}", f"        expr: {rule.expression}"]
            if rule.labels:
                lines += ["        labels:", *(f'          {key}: "{value}"' for key, value in rule.labels)]
    return "\n".join(lines) + "\n"


def latencies() -> list[Rule]:
    """p50, p95 and p99 of every histogram of seconds, and the mean opinion score from its low side."""
    rules = [
        Rule(f"callbus:{name}:{quantile}", _quantile(f"callbus_{name}", share, labels))
        for name, labels in HISTOGRAMS.items()
        for quantile, share in QUANTILES.items()
    ]
    for quantile, share in (("p10", 0.1), ("p50", 0.5)):
        rules.append(Rule(f"callbus:call_mos:{quantile}", _quantile("callbus_call_mos", share, ("direction",), "30m")))
    return rules


def shares() -> list[Rule]:
    """What part of the calls, packets or turns went wrong; NaN, so no alert, where there were none."""
    return [
        Rule("callbus:calls_refused:ratio", _ratio("callbus_calls_refused_total", "callbus_calls_offered_total")),
        Rule(
            "callbus:calls_failed:ratio",
            _ratio('callbus_calls_ended_total{result="failed"}', "callbus_calls_ended_total"),
        ),
        Rule(
            "callbus:rtp_lost:ratio",
            _ratio("callbus_rtp_lost_total", 'callbus_rtp_packets_total{direction="in"}'),
        ),
        Rule(
            "callbus:turns_stuck:ratio",
            _ratio("callbus_turns_stuck_total", "callbus_turn_end_of_turn_delay_seconds_count"),
        ),
        Rule(
            "callbus:preemptive_hit:ratio",
            _ratio('callbus_preemptive_total{result="hit"}', "callbus_preemptive_total", SLOW_WINDOW),
        ),
        Rule(
            "callbus:interruptions_false:ratio",
            f"sum(increase(callbus_false_interruptions_total[{SLOW_WINDOW}])) / "
            f"(sum(increase(callbus_false_interruptions_total[{SLOW_WINDOW}])) + "
            f"sum(increase(callbus_interruptions_total[{SLOW_WINDOW}])))",
        ),
        Rule(
            "callbus:answers_in_time:ratio",
            f'sum(rate(callbus_turn_e2e_latency_seconds_bucket{{le="1.5"}}[{WINDOW}])) / '
            f"sum(rate(callbus_turn_e2e_latency_seconds_count[{WINDOW}]))",
        ),
    ]


def sums() -> list[Rule]:
    """Calls, slots and queues over all processes."""
    return [
        Rule("callbus:calls_active:sum", "sum(callbus_calls_active)"),
        Rule(
            "callbus:worker_slots_free:sum",
            "sum by (stage) (callbus_worker_slots) - sum by (stage) (callbus_worker_calls)",
        ),
        Rule("callbus:ready:sum", "sum by (job) (callbus_ready)"),
        # Every worker of a stage tells of the same queue.
        Rule("callbus:queue_pending:max", "max by (consumer) (callbus_queue_pending)"),
    ]


def origins() -> list[Rule]:
    """Names that other systems' dashboards ask for, from ours: labels stay, so that ``rate`` of them is right."""
    rules = []
    for name, histogram in ORIGIN_HISTOGRAMS.items():
        rules += [
            Rule(name, _quantile(histogram, share, ()), (("quantile", str(share)),)) for share in QUANTILES.values()
        ]
        rules += [Rule(f"{name}_{part}", f"{histogram}_{part}") for part in ("bucket", "sum", "count")]
    return [
        *rules,
        Rule("active_connections", "callbus_calls_active"),
        Rule("queue_depth", "max by (consumer) (callbus_queue_pending)"),
        Rule("worker_utilization", "callbus_worker_utilization"),
        Rule("requests_total", "callbus_calls_offered_total"),
        Rule("errors_total", "callbus_failures_total"),
        Rule("rate_limits_total", 'callbus_calls_refused_total{reason=~"over_limit|caller_limit|no_worker_.*"}'),
    ]


def _quantile(histogram: str, share: float, labels: tuple[str, ...], window: str = WINDOW) -> str:
    by = ", ".join((*labels, "le"))
    return f"histogram_quantile({share}, sum by ({by}) (rate({histogram}_bucket[{window}])))"


def _ratio(part: str, whole: str, window: str = WINDOW) -> str:
    # A series with labels is not there before its first count: none is 0, unless there is nothing to be a part of.
    return f"(sum(rate({part}[{window}])) or vector(0)) / sum(rate({whole}[{window}]))"
