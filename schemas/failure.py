"""What can go wrong, as a table: code, text, whether a retry may help, what the caller will hear, what to do."""

from __future__ import annotations

from typing import NamedTuple

from schemas.base import Event, NonNegative


class FailureSpec(NamedTuple):
    """One row of the failure table."""

    code: str
    text: str
    retryable: bool
    caller_hears: str
    help: str


FAILURES: dict[str, FailureSpec] = {
    row.code: row
    for row in (
        FailureSpec(
            "bus_disconnected",
            "The connection to NATS was lost and came back",
            True,
            "nothing, or a short pause",
            "Look at the nats-server's log and at the network between.",
        ),
        FailureSpec(
            "worker_lost",
            "The worker that owned the call died or froze; another took over",
            True,
            "a pause of less than a second",
            "Look at the worker's log; `callbus up` restarts it.",
        ),
        FailureSpec(
            "no_worker",
            "No worker of a stage has a free slot",
            True,
            "busy (503) before the answer",
            "Start more workers: `callbus up --workers asr=2`.",
        ),
        FailureSpec(
            "engine_failed",
            "An engine raised an error",
            True,
            "an apology",
            "The worker's log names the engine and its error.",
        ),
        FailureSpec(
            "engine_timeout",
            "An engine gave no answer within its deadline",
            True,
            "an apology",
            "Raise the deadline or choose a faster engine.",
        ),
        FailureSpec(
            "stage_down",
            "No engine of a stage is left",
            True,
            "an apology",
            "The detail names each engine and why; see the failover page.",
        ),
        FailureSpec(
            "tool_failed",
            "A tool of the agent raised an error",
            True,
            "an apology",
            "The llm worker's log names the tool.",
        ),
        FailureSpec(
            "turn_stuck",
            "A caller waits for an answer and a stage gave no sign within its deadline",
            True,
            "an apology where a voice is left to say it, else silence; after two in a row the end of the call",
            "The detail names the stage: look at its workers and their log.",
        ),
        FailureSpec(
            "media_timeout",
            "No RTP came from the caller for too long",
            False,
            "the end of the call",
            "Check NAT and firewall between caller and edge.",
        ),
        FailureSpec(
            "media_lost",
            "Caller audio is missing: the edge's ring no longer held it",
            False,
            "perhaps a question to repeat",
            "A stage was away longer than the ring lasts.",
        ),
        FailureSpec(
            "bad_message",
            "A message on the bus did not decode",
            False,
            "nothing",
            "The dead-letter subject holds the message and the defect.",
        ),
        FailureSpec(
            "not_supported",
            "The command is not supported here",
            False,
            "nothing",
            "See the subjects page for what each stage accepts.",
        ),
        FailureSpec(
            "not_owner", "The worker no longer owns the call", False, "nothing", "A successor has it; ask again."
        ),
        FailureSpec(
            "unknown_utterance",
            "The utterance is not known, or is already over",
            False,
            "nothing",
            "Nothing to do: what was to be stopped has stopped.",
        ),
        FailureSpec(
            "invalid_argument",
            "A field of the command is not allowed",
            False,
            "nothing",
            "The message names the field and what is allowed.",
        ),
    )
}


class Failure(Event, frozen=True, kw_only=True, tag="failure.v1"):
    """Something went wrong in a call. ``code`` is a key of :data:`FAILURES`; ``detail`` never holds caller content.

    ``number`` counts the failures that this sender reports for the call; ``gap_ms`` is how long it lasted, where known.
    """

    identity = ("stage", "worker", "number")

    code: str
    stage: str
    worker: str = ""
    number: NonNegative = 0
    retryable: bool = False
    caller_hears: str = ""
    detail: str = ""
    turn: NonNegative = 0
    gap_ms: NonNegative = 0
