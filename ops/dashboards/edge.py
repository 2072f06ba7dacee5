"""The dashboard of the edge: SIP, calls, and their sound."""

from __future__ import annotations

from ops.dashboards.board import Board, Section
from ops.dashboards.panels import COUNT, PER_SECOND, QUARTER, SECONDS, SHARE, THIRD, Limits, Query, graph
from ops.dashboards.shared import bus, instance, of, process, state

CHOSEN = of("edge")
PACER = Limits(0.005, 0.02)
"""Seconds that a packet may be sent late: measured p99 of 300 calls on one core, and one frame."""


def _quantile(histogram: str, share: float, by: str = "", window: str = "5m") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({histogram}_bucket{{{CHOSEN}}}[{window}])))"


CALLS = Section(
    "Calls",
    [
        graph(
            "Calls up",
            "Calls of each edge, and those that are on hold.",
            COUNT,
            [
                Query(f"callbus_calls_active{{{CHOSEN}}}", "{{instance}}"),
                Query(f"sum(callbus_calls_held{{{CHOSEN}}})", "on hold"),
            ],
            width=QUARTER,
        ),
        graph(
            "Offered",
            "INVITEs for a new call a second, refused ones too.",
            PER_SECOND,
            [
                Query(
                    f"sum by (instance) (rate(callbus_calls_offered_total{{{CHOSEN}}}[$__rate_interval]))",
                    "{{instance}}",
                )
            ],
            stacked=True,
            width=QUARTER,
        ),
        graph(
            "Why calls end",
            "Ended calls a second by result and reason.",
            PER_SECOND,
            [
                Query(
                    f"sum by (result, reason) (rate(callbus_calls_ended_total{{{CHOSEN}}}[$__rate_interval]))",
                    "{{result}}: {{reason}}",
                )
            ],
            stacked=True,
            width=QUARTER,
        ),
        graph(
            "Why calls are refused",
            "Refused calls a second by reason.",
            PER_SECOND,
            [Query(f"sum by (reason) (rate(callbus_calls_refused_total{{{CHOSEN}}}[$__rate_interval]))", "{{reason}}")],
            stacked=True,
            width=QUARTER,
        ),
        graph(
            "Set-up",
            "INVITE received to 200 OK sent, ringing included.",
            SECONDS,
            [Query(_quantile("callbus_call_setup_seconds", q), f"p{q * 100:.0f}") for q in (0.5, 0.95, 0.99)],
            width=QUARTER,
        ),
        graph(
            "Length of calls",
            "Answer to end of answered calls, over an hour.",
            SECONDS,
            [Query(_quantile("callbus_call_duration_seconds", q, window="1h"), f"p{q * 100:.0f}") for q in (0.5, 0.95)],
            width=QUARTER,
        ),
        graph(
            "Transfers",
            "Callers that were to be handed to somebody else, over five minutes, by what became of it.",
            COUNT,
            [Query(f"sum by (result) (increase(callbus_transfers_total{{{CHOSEN}}}[5m]))", "{{result}}")],
            stacked=True,
            width=QUARTER,
        ),
        graph(
            "Keys, odd SIP messages",
            "Keys pressed, by how they came, and SIP messages that were not as the standard wants them, a second.",
            PER_SECOND,
            [
                Query(f"sum by (source) (rate(callbus_dtmf_total{{{CHOSEN}}}[5m]))", "key by {{source}}"),
                Query(f"sum(rate(callbus_sip_defects_total{{{CHOSEN}}}[5m]))", "odd SIP messages"),
            ],
            width=QUARTER,
        ),
    ],
)
SOUND = Section(
    "Sound",
    [
        graph(
            "Packets",
            "RTP packets a second received (in) and sent (out). A call has 50 of each; one line far below the other is "
            "one-way audio, or telephones that send nothing in silence.",
            PER_SECOND,
            [
                Query(
                    f"sum by (direction) (rate(callbus_rtp_packets_total{{{CHOSEN}}}[$__rate_interval]))",
                    "{{direction}}",
                )
            ],
            width=THIRD,
        ),
        graph(
            "Callers not heard",
            "Share of the time of calls in which nothing comes from their callers at all; a pause is none of it.",
            SHARE,
            [
                Query(
                    f'sum by (instance) (rate(callbus_caller_audio_seconds_total{{heard="no", {CHOSEN}}}[5m])) '
                    f"/ sum by (instance) (rate(callbus_caller_audio_seconds_total{{{CHOSEN}}}[5m]))",
                    "{{instance}}",
                )
            ],
            limits=Limits(0.1, 0.5),
            width=THIRD,
        ),
        graph(
            "Lost packets",
            "Packets of callers that never came, as a share of those that did.",
            SHARE,
            [
                Query(
                    f"sum by (instance) (rate(callbus_rtp_lost_total{{{CHOSEN}}}[5m])) / sum by (instance) "
                    f'(rate(callbus_rtp_packets_total{{direction="in", {CHOSEN}}}[5m]))',
                    "{{instance}}",
                )
            ],
            limits=Limits(0.01, 0.03),
            width=THIRD,
        ),
        graph(
            "Jitter",
            "Interarrival jitter of callers' RTP (RFC 3550).",
            SECONDS,
            [Query(_quantile("callbus_rtp_jitter_seconds", q), f"p{q * 100:.0f}") for q in (0.5, 0.95)],
            limits=Limits(0.02, 0.04),
            width=THIRD,
        ),
        graph(
            "Mean opinion score",
            "E-model (ITU-T G.107) at the end of a call, over 30 minutes. in: the caller's voice as it arrived; out: "
            "the agent's, where the telephone sends RTCP.",
            COUNT,
            [
                Query(_quantile("callbus_call_mos", q, "direction", "30m"), f"p{q * 100:.0f} {{{{direction}}}}")
                for q in (0.1, 0.5)
            ],
            limits=Limits(3.6, 3.1, down=True),
            width=THIRD,
            maximum=4.5,
        ),
        graph(
            "Odd packets",
            "Packets a second that came late, twice, out of order, or were refused.",
            PER_SECOND,
            [
                Query(f"sum(rate(callbus_rtp_{what}_total{{{CHOSEN}}}[$__rate_interval]))", what)
                for what in ("late", "duplicate", "reordered", "rejected")
            ],
            width=THIRD,
        ),
        graph(
            "Pacer late",
            "How late the turns to send a packet come. Over 5 ms telephones need a longer buffer.",
            SECONDS,
            [
                Query(f'callbus:pacer_late_seconds:{q}{{instance=~"$instance"}}', "{{instance}} " + q)
                for q in ("p50", "p99")
            ],
            limits=PACER,
            width=THIRD,
        ),
        graph(
            "Packets given up",
            "Turns to send a packet that were given up, being over 60 ms late, a second.",
            PER_SECOND,
            [Query(f"rate(callbus_pacer_skipped_total{{{CHOSEN}}}[$__rate_interval])", "{{instance}}")],
            width=THIRD,
        ),
        graph(
            "Playback",
            "First audio sent by tts until sent as RTP, as the turns' owners measured it.",
            SECONDS,
            [Query(f"callbus:turn_playback_latency_seconds:{q}", q) for q in ("p50", "p95", "p99")],
            limits=Limits(0.06, 0.2),
            width=THIRD,
        ),
    ],
)

BOARD = Board(
    uid="callbus-edge",
    title="callbus · Edge (SIP, RTP)",
    description="Calls as they come and go, and what they sound like.",
    sections=(state("edge"), CALLS, SOUND, bus("edge"), process("edge")),
    variables=(instance("edge"),),
)
