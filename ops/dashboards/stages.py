"""The dashboards of the worker stages: asr, llm, tts."""

from __future__ import annotations

from ops.dashboards.board import Board, Section, Tile
from ops.dashboards.panels import (
    COUNT,
    PER_SECOND,
    QUARTER,
    SECONDS,
    SHARE,
    THIRD,
    Limits,
    Query,
    graph,
    quantiles,
)
from ops.dashboards.shared import bus, instance, of, process, state, takeovers


def _waiting(service: str) -> Tile:
    return graph(
        "Wait before work",
        "Work received by the stage until begun; long where a worker does too much at once.",
        SECONDS,
        [Query(f'callbus:queue_wait_seconds:{q}{{stage="{service}"}}', q) for q in ("p50", "p95", "p99")],
        limits=Limits(0.02, 0.1),
    )


def _engines(service: str, what: str, limits: Limits) -> Section:
    return Section("Engines", [*_runs(service, what, limits), *_makeshifts(service)])


def _runs(service: str, what: str, limits: Limits) -> list[Tile]:
    chosen = of(service)
    return [
        graph(
            "Engine, p95",
            what,
            SECONDS,
            [Query(f"callbus:{service}_seconds:p95", "{{engine}}")],
            limits=limits,
        ),
        graph(
            "Breakers",
            "0: used; 1: one run tries it; 2: left alone. Only where the stage has fallbacks.",
            COUNT,
            [Query(f"callbus_engine_breaker_state{{{chosen}}}", "{{engine}} {{instance}}")],
            limits=Limits(1, 2),
            maximum=2,
        ),
        graph(
            "Errors",
            "Tries of an engine that came to nothing, a second: failed, timeout, empty, cut.",
            PER_SECOND,
            [
                Query(
                    f"sum by (engine, why) (rate(callbus_engine_errors_total{{{chosen}}}[5m]))",
                    "{{engine}}: {{why}}",
                )
            ],
            stacked=True,
        ),
    ]


def _makeshifts(service: str) -> list[Tile]:
    chosen = of(service)
    return [
        graph(
            "Failovers",
            "Pieces of work that another engine took over from this one, a second.",
            PER_SECOND,
            [Query(f"sum by (engine) (rate(callbus_engine_failovers_total{{{chosen}}}[5m]))", "{{engine}}")],
        ),
        graph(
            "What callers got where the stage was down",
            "Apologies, offers of a person, transfers, menus, recorded phrases, missing sentences, a second.",
            PER_SECOND,
            [Query(f'sum by (what) (rate(callbus_degraded_total{{stage="{service}"}}[5m]))', "{{what}}")],
            stacked=True,
        ),
        graph(
            "Hedges",
            "Two engines were asked at once, a second; who was first.",
            PER_SECOND,
            [Query(f"sum by (result) (rate(callbus_engine_hedges_total{{{chosen}}}[5m]))", "{{result}}")],
        ),
    ]


def _board(service: str, title: str, description: str, work: Section, engines: Section) -> Board:
    return Board(
        uid=f"callbus-{service}",
        title=f"callbus · {title}",
        description=description,
        sections=(state(service), work, engines, takeovers(service), bus(service), process(service)),
        variables=(instance(service),),
    )


ASR = _board(
    "asr",
    "Speech to text (asr)",
    "Who speaks, what was said, and when a turn is over.",
    Section(
        "Turns",
        [
            graph(
                "Transcription delay",
                "Last voiced sample of the caller to the last final transcript. Good recognisers need 0.25 to 0.7 s.",
                SECONDS,
                quantiles("turn_transcription_delay_seconds"),
                limits=Limits(0.7, 1.2),
            ),
            graph(
                "End of turn",
                "Last voiced sample of the caller to the decision that the turn ended.",
                SECONDS,
                quantiles("turn_end_of_turn_delay_seconds"),
                limits=Limits(0.8, 1.5),
            ),
            graph(
                "Interruptions",
                "Why callers stopped the agent, a second.",
                PER_SECOND,
                [Query("sum by (why) (rate(callbus_interruptions_total[5m]))", "{{why}}")],
                stacked=True,
            ),
            graph(
                "False interruptions",
                "The agent was held and went on, a second: noise, a backchannel, silence after all.",
                PER_SECOND,
                [
                    Query("sum by (why) (rate(callbus_false_interruptions_total[5m]))", "{{why}}"),
                    Query("sum(rate(callbus_backchannels_total[5m]))", "all backchannels"),
                ],
            ),
            graph(
                "False interruptions among all",
                "Share of the times that the agent was held without need, over an hour.",
                SHARE,
                [Query("callbus:interruptions_false:ratio", "false")],
                limits=Limits(0.2, 0.4),
            ),
        ],
    ),
    _engines(
        "asr",
        "Last voiced sample of the caller to the final transcript, by the engine that heard it.",
        Limits(0.7, 1.2),
    ),
)
LLM = _board(
    "llm",
    "Answers (llm)",
    "What the agent says: models, tools, prepared answers.",
    Section(
        "Turns",
        [
            graph(
                "First token",
                "End of turn received to the first token. Models of field reports need 0.25 to 1 s.",
                SECONDS,
                quantiles("turn_llm_node_ttft_seconds"),
                limits=Limits(0.6, 1.0),
            ),
            graph(
                "First sentence",
                "End of turn received to the first sentence that can be spoken.",
                SECONDS,
                quantiles("turn_llm_node_ttfs_seconds"),
                limits=Limits(0.8, 1.5),
            ),
            _waiting("llm"),
            graph(
                "Tools, p95",
                "A tool asked until it returned, by result: ok, or a code of the failure table.",
                SECONDS,
                [Query("callbus:tool_seconds:p95", "{{result}}")],
                limits=Limits(1, 3),
                width=QUARTER,
            ),
            graph(
                "Prepared answers",
                "Share of the answers prepared before the turn's end that could be used, over an hour.",
                SHARE,
                [Query("callbus:preemptive_hit:ratio", "used")],
                width=QUARTER,
                maximum=1,
            ),
            graph(
                "Fillers",
                "Last voiced sample of the caller to the filler before a late answer.",
                SECONDS,
                quantiles("turn_filler_latency_seconds"),
                width=QUARTER,
            ),
            graph(
                "Tokens",
                "Tokens read (input) and written (output) a second, of engines that tell.",
                PER_SECOND,
                [
                    Query(
                        "sum by (engine, direction) (rate(callbus_llm_tokens_total{"
                        + of("llm")
                        + "}[$__rate_interval]))",
                        "{{engine}} {{direction}}",
                    )
                ],
                width=QUARTER,
            ),
        ],
    ),
    _engines(
        "llm",
        "An engine asked for an answer until the answer was whole, tools included.",
        Limits(3, 8),
    ),
)
TTS = _board(
    "tts",
    "Voice (tts)",
    "From a sentence to audio.",
    Section(
        "Turns",
        [
            graph(
                "First audio",
                "First sentence of the answer received to its first audio. Good voices need 0.1 to 0.35 s.",
                SECONDS,
                quantiles("turn_tts_node_ttfb_seconds"),
                limits=Limits(0.35, 0.7),
                width=THIRD,
            ),
            graph(
                "Playback",
                "First audio sent until the edge sent it as RTP.",
                SECONDS,
                quantiles("turn_playback_latency_seconds"),
                limits=Limits(0.06, 0.2),
            ),
            _waiting("tts"),
        ],
    ),
    _engines(
        "tts",
        "An engine asked for a sentence until its last audio, without the wait for room at the edge.",
        Limits(2, 5),
    ),
)
BOARDS = (ASR, LLM, TTS)
