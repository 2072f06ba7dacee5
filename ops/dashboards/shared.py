"""Sections that the dashboards of several services share; each shows the instances that the reader has chosen."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard as models

from ops.dashboards.board import PROMETHEUS, Section, Tile
from ops.dashboards.panels import BYTES, COUNT, PER_SECOND, QUARTER, SECONDS, SHARE, Limits, Query, figure, graph

LAG = Limits(0.02, 0.1)
"""Seconds that an event loop may be late: audio has a frame of 20 ms."""


def instance(service: str) -> builders.QueryVariable:
    """The variable of a service's dashboard that chooses among its processes."""
    return (
        builders.QueryVariable("instance")
        .label("process")
        .description("Processes of this service; all of them unless chosen.")
        .datasource(PROMETHEUS)
        .query({"query": f'label_values(callbus_build_info{{job="{service}"}}, instance)', "refId": "instance"})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )


def of(service: str) -> str:
    """Label matchers of a service's chosen processes."""
    return f'job="{service}", instance=~"$instance"'


def state(service: str) -> Section:
    """Who is there, and whether it works."""
    return Section("Now", [*_work(of(service)), *_cost(of(service))])


def _work(chosen: str) -> list[Tile]:
    return [
        figure(
            "Ready",
            "Processes that take calls.",
            COUNT,
            Query(f"sum(callbus_ready{{{chosen}}})", "ready"),
            limits=Limits(1, 1, down=True),
            decimals=0,
            missing="none",
        ),
        figure(
            "On the bus",
            "Processes that are connected to NATS.",
            COUNT,
            Query(f"sum(callbus_bus_connected{{{chosen}}})", "connected"),
            limits=Limits(1, 1, down=True),
            decimals=0,
            missing="none",
        ),
        figure(
            "Calls",
            "Calls that these processes have.",
            COUNT,
            Query(f"sum(callbus_worker_calls{{{chosen}}})", "calls"),
            decimals=0,
            missing="none",
        ),
        figure(
            "Free slots",
            "Calls that these processes can still take.",
            COUNT,
            Query(f"sum(callbus_worker_slots{{{chosen}}}) - sum(callbus_worker_calls{{{chosen}}})", "free"),
            limits=Limits(5, 1, down=True),
            decimals=0,
            missing="none",
        ),
    ]


def _cost(chosen: str) -> list[Tile]:
    return [
        figure(
            "Failures an hour",
            "Failure events that these processes said in the last hour.",
            COUNT,
            Query(f"sum(increase(callbus_failures_total{{{chosen}}}[1h]))", "failures"),
            limits=Limits(1, 20),
            decimals=0,
            missing="none",
        ),
        figure(
            "Memory",
            "Resident memory of these processes.",
            BYTES,
            Query(f"sum(process_resident_memory_bytes{{{chosen}}})", "resident"),
            missing="none",
        ),
        figure(
            "Processor",
            "Cores that these processes use.",
            COUNT,
            Query(f"sum(rate(process_cpu_seconds_total{{{chosen}}}[5m]))", "cores"),
            decimals=2,
            missing="none",
        ),
        figure(
            "Started",
            "Starts of processes in the last hour; a process that starts again and again is ill.",
            COUNT,
            Query(f"sum(changes(process_start_time_seconds{{{chosen}}}[1h]))", "starts"),
            limits=Limits(1, 3),
            decimals=0,
            missing="none",
        ),
    ]


def bus(service: str) -> Section:
    """Its messages: handling, errors, what waits to be stored."""
    return Section("Messages", [*_handling(of(service)), *_losses(of(service))])


def _handling(chosen: str) -> list[Tile]:
    return [
        graph(
            "Handling, p95",
            "Time that the handling of one message takes, by subject template.",
            SECONDS,
            [
                Query(
                    "histogram_quantile(0.95, sum by (le, subject) "
                    f"(rate(callbus_handler_seconds_bucket{{{chosen}}}[$__rate_interval])))",
                    "{{subject}}",
                )
            ],
        ),
        graph(
            "Messages",
            "Messages handled a second, by subject template.",
            PER_SECOND,
            [
                Query(
                    f"sum by (subject) (rate(callbus_handler_seconds_count{{{chosen}}}[$__rate_interval]))",
                    "{{subject}}",
                )
            ],
            stacked=True,
        ),
        graph(
            "Handlers that raised, dead letters",
            "Handlers that raised an error, and messages that could not be read, a second.",
            PER_SECOND,
            [
                Query(f"sum by (subject) (rate(callbus_handler_errors_total{{{chosen}}}[5m]))", "{{subject}}"),
                Query(f"sum(rate(callbus_dead_letters_total{{{chosen}}}[5m]))", "dead letters"),
            ],
        ),
    ]


def _losses(chosen: str) -> list[Tile]:
    return [
        graph(
            "Waiting to be stored",
            "Events and recorded audio that the stream has not confirmed yet.",
            COUNT,
            [Query(f"callbus_store_pending{{{chosen}}}", "{{instance}}")],
            limits=Limits(200, 1000),
            width=QUARTER,
        ),
        graph(
            "Lost on the way",
            "Live messages dropped while NATS was away, heartbeats apart, and events or audio that will never be "
            "stored, a second. An event that was dropped live is stored later.",
            PER_SECOND,
            [
                Query(
                    f'sum by (kind) (rate(callbus_bus_dropped_publishes_total{{{chosen}, kind!="heartbeat"}}[5m]))',
                    "live, {{kind}}",
                ),
                Query(f"sum(rate(callbus_store_dropped_total{{{chosen}}}[5m]))", "to be stored"),
            ],
            width=QUARTER,
        ),
        graph(
            "Reconnects",
            "Times that the connection to NATS was lost and came back, over 15 minutes.",
            COUNT,
            [Query(f"increase(callbus_bus_reconnects_total{{{chosen}}}[15m])", "{{instance}}")],
            width=QUARTER,
        ),
        graph(
            "Failures",
            "Failure events a second by code; docs/subjects.md and `callbus show` tell more.",
            PER_SECOND,
            [Query(f"sum by (code) (rate(callbus_failures_total{{{chosen}}}[5m]))", "{{code}}")],
            stacked=True,
            width=QUARTER,
        ),
    ]


def process(service: str) -> Section:
    """What the operating system and the event loop say."""
    chosen = of(service)
    return Section(
        "Processes",
        [
            graph(
                "Processor of each",
                "Share of one core that each process uses; a process of Python has at most one for its event loop.",
                SHARE,
                [Query(f"rate(process_cpu_seconds_total{{{chosen}}}[$__rate_interval])", "{{instance}}")],
                limits=Limits(0.7, 0.9),
                width=QUARTER,
            ),
            graph(
                "Memory of each",
                "Resident memory of each process.",
                BYTES,
                [Query(f"process_resident_memory_bytes{{{chosen}}}", "{{instance}}")],
                width=QUARTER,
            ),
            graph(
                "Event loop lag, p99",
                "How much later than asked a timer of the event loop comes.",
                SECONDS,
                [Query(f"callbus:event_loop_lag_seconds:p99{{{chosen}}}", "{{instance}}")],
                limits=LAG,
                width=QUARTER,
            ),
            graph(
                "Open files",
                "Share of the files and sockets that each process may open.",
                SHARE,
                [Query(f"process_open_fds{{{chosen}}} / process_max_fds{{{chosen}}}", "{{instance}}")],
                limits=Limits(0.5, 0.8),
                width=QUARTER,
            ),
        ],
    )


def takeovers(service: str) -> Section:
    """Calls that change their worker, and calls that wait for one."""
    return Section(
        "Calls that change their worker, or wait for one",
        [
            graph(
                "Takeovers",
                "Calls taken from another worker, over five minutes: it was lost, handed them over, or gave up.",
                COUNT,
                [Query(f"sum by (why) (increase(callbus_takeovers_total{{{of(service)}}}[5m]))", "{{why}}")],
                width=QUARTER,
            ),
            graph(
                "Takeover",
                "Last sign of life of a lost worker until another one works on its call.",
                SECONDS,
                [
                    Query(f'callbus:takeover_seconds:{quantile}{{stage="{service}"}}', quantile)
                    for quantile in ("p50", "p95")
                ],
                limits=Limits(1, 2),
                width=QUARTER,
            ),
            graph(
                "New calls in the queue",
                "New calls that no worker was given yet, and those given to one that has not taken them yet.",
                COUNT,
                [
                    Query(f'max(callbus_queue_pending{{consumer="{service}-assign"}})', "pending"),
                    Query(f'max(callbus_queue_unacknowledged{{consumer="{service}-assign"}})', "unacknowledged"),
                ],
                limits=Limits(1, 10),
                width=QUARTER,
            ),
            graph(
                "Oldest call in the queue",
                "How long the oldest new call has waited for a worker.",
                SECONDS,
                [Query(f'max(callbus_queue_oldest_seconds{{consumer="{service}-assign"}})', "oldest")],
                limits=Limits(1, 5),
                width=QUARTER,
            ),
        ],
    )
