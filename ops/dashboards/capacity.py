"""The dashboard for planning: how many more calls, and what runs out first."""

from __future__ import annotations

from ops.dashboards.board import Board, Section
from ops.dashboards.panels import (
    BYTES,
    COUNT,
    HALF,
    PER_SECOND,
    QUARTER,
    SECONDS,
    SHARE,
    Limits,
    Query,
    figure,
    graph,
    rows,
)

FULLNESS = Limits(0.7, 0.85)

NOW = Section(
    "Room",
    [
        figure(
            "More calls",
            "Calls that still find a free slot in every stage: the smallest of the stages' free slots.",
            COUNT,
            Query("min(callbus:worker_slots_free:sum)", "more"),
            limits=Limits(10, 2, down=True),
            decimals=0,
            width=4,
            missing="no workers",
        ),
        figure(
            "Fullest stage",
            "Calls / slots of the stage that is fullest.",
            SHARE,
            Query("max(sum by (stage) (callbus_worker_calls) / sum by (stage) (callbus_worker_slots))", "fullest"),
            limits=FULLNESS,
            width=4,
            missing="no workers",
        ),
        figure(
            "Calls now",
            "Calls that are up.",
            COUNT,
            Query("callbus:calls_active:sum", "now"),
            decimals=0,
            width=4,
        ),
        figure(
            "Most at once, a day",
            "The largest number of calls at once in the last 24 hours.",
            COUNT,
            Query("max_over_time(callbus:calls_active:sum[1d])", "most"),
            decimals=0,
            width=4,
        ),
        figure(
            "Refused for lack of room, a day",
            "Calls refused in the last 24 hours because a stage or the edge was full.",
            COUNT,
            Query(
                'sum(increase(callbus_calls_refused_total{reason=~"over_limit|no_rtp_port|no_worker_.*"}[1d]))',
                "refused",
            ),
            limits=Limits(1, 20),
            decimals=0,
            width=4,
            missing="0",
        ),
        figure(
            "Cores",
            "Cores that all processes use.",
            COUNT,
            Query('sum(rate(process_cpu_seconds_total{job=~"edge|asr|llm|tts"}[5m]))', "cores"),
            decimals=2,
            width=4,
            missing="none",
        ),
    ],
)
SLOTS = Section(
    "Slots",
    [
        graph(
            "Fullness",
            "Calls / slots of each stage. Above 85 % a burst of calls is refused.",
            SHARE,
            [Query("sum by (stage) (callbus_worker_calls) / sum by (stage) (callbus_worker_slots)", "{{stage}}")],
            limits=FULLNESS,
            maximum=1,
        ),
        graph(
            "Free slots",
            "Calls that each stage can still take.",
            COUNT,
            [Query("callbus:worker_slots_free:sum", "{{stage}}")],
        ),
        graph(
            "Fullness of each worker",
            "Calls / slots of each process: calls should be spread evenly.",
            SHARE,
            [Query("callbus_worker_utilization", "{{stage}} {{instance}}")],
            limits=FULLNESS,
            maximum=1,
        ),
    ],
)
COST = Section(
    "What a call costs",
    [
        graph(
            "Cores by service",
            "Cores that each service uses.",
            COUNT,
            [Query('sum by (job) (rate(process_cpu_seconds_total{job=~"edge|asr|llm|tts"}[5m]))', "{{job}}")],
            stacked=True,
            width=QUARTER,
        ),
        graph(
            "Core a call",
            "Cores of a service divided by its calls; only while there are calls.",
            SHARE,
            [
                Query(
                    "sum by (job) (rate(process_cpu_seconds_total[5m])) / (sum by (job) (callbus_worker_calls) > 0)",
                    "{{job}}",
                )
            ],
            width=QUARTER,
        ),
        graph(
            "Memory by service",
            "Resident memory of each service.",
            BYTES,
            [Query('sum by (job) (process_resident_memory_bytes{job=~"edge|asr|llm|tts"})', "{{job}}")],
            stacked=True,
            width=QUARTER,
        ),
        graph(
            "Virtual memory by service",
            "Address space of each service; models mapped from files count in full.",
            BYTES,
            [Query('sum by (job) (process_virtual_memory_bytes{job=~"edge|asr|llm|tts"})', "{{job}}")],
            width=QUARTER,
        ),
    ],
)
SIGNS = Section(
    "First signs that it is too much",
    [
        graph(
            "Event loop lag, p99",
            "The slowest process of each service.",
            SECONDS,
            [Query("max by (job) (callbus:event_loop_lag_seconds:p99)", "{{job}}")],
            limits=Limits(0.02, 0.1),
            width=QUARTER,
        ),
        graph(
            "Pacer late, p99",
            "How late packets of each edge are sent.",
            SECONDS,
            [Query("callbus:pacer_late_seconds:p99", "{{instance}}")],
            limits=Limits(0.005, 0.02),
            width=QUARTER,
        ),
        graph(
            "Wait before work, p95",
            "Work received by a stage until begun.",
            SECONDS,
            [Query("callbus:queue_wait_seconds:p95", "{{stage}}")],
            limits=Limits(0.02, 0.1),
            width=QUARTER,
        ),
        graph(
            "New calls in the queue",
            "New calls that no worker was given yet.",
            COUNT,
            [Query("callbus:queue_pending:max", "{{consumer}}")],
            limits=Limits(1, 10),
            width=QUARTER,
        ),
        graph(
            "Waiting to be stored",
            "Events and recorded audio that the stream has not confirmed yet, by service.",
            COUNT,
            [Query("sum by (job) (callbus_store_pending)", "{{job}}")],
            limits=Limits(200, 1000),
            width=QUARTER,
        ),
        graph(
            "Bus hop, p99",
            "An event said by its sender until received; the slowest subjects.",
            SECONDS,
            [Query("topk(5, callbus:bus_hop_seconds:p99)", "{{subject}}")],
            limits=Limits(0.01, 0.05),
            width=QUARTER,
        ),
        graph(
            "Takeovers",
            "Calls that changed their worker, over five minutes.",
            COUNT,
            [Query("sum by (stage, why) (increase(callbus_takeovers_total[5m]))", "{{stage}}: {{why}}")],
            width=QUARTER,
        ),
        graph(
            "Traces",
            "Calls a second whose trace is kept though not drawn, by reason, and spans that could not be exported.",
            PER_SECOND,
            [
                Query("sum by (why) (rate(callbus_traces_kept_total[5m]))", "{{why}}"),
                Query("sum(rate(callbus_spans_dropped_total[5m]))", "spans dropped"),
            ],
            width=QUARTER,
        ),
        rows(
            "What runs",
            "Version of every process.",
            COUNT,
            Query("callbus_build_info", ""),
            width=HALF,
        ),
        rows(
            "Targets",
            "1: Prometheus can read the process's figures; 0: it can not.",
            COUNT,
            Query("up", ""),
            width=HALF,
        ),
    ],
)

BOARD = Board(
    uid="callbus-capacity",
    title="callbus · Capacity",
    description="How many more calls, what each costs, and what runs out first.",
    sections=(NOW, SLOTS, COST, SIGNS),
    range_from="now-6h",
)
