"""``control.say`` to the tts stage: a text said as an utterance without the llm stage, which gives no sign. Pure.

The turn policy's watchdog orders it. The text stands in no event before ``tts.done`` tells of it, so a worker that dies
takes along what it had not said yet; its successor ends the utterance with what is on record.
"""

from __future__ import annotations

from schemas.control import ControlReply, Say
from schemas.failure import FAILURES
from schemas.llm import LlmSentence, turn_of
from services.tts.ledger import SpeechLedger
from services.tts.sentences import split_sentences

TEXT_LIMIT = 1000
"""Characters in one command: about a minute of speech, which is what the edge holds."""

DONE = ControlReply(ok=True)


def refused(code: str, message: str = "") -> ControlReply:
    """The answer to a command that has no effect. ``code``: a key of the failure table."""
    return ControlReply(ok=False, error=code, message=message or FAILURES[code].text)


def sentences_of(command: Say, utterance_id: int, *, language: str, at_us: int, epoch: int) -> list[LlmSentence]:
    """The sentences of the text, as the llm stage would have said them; none of them is recorded."""
    return [
        LlmSentence(
            call_id=command.call_id,
            tenant=command.tenant,
            at_us=at_us,
            epoch=epoch,
            turn=turn_of(utterance_id),
            utterance_id=utterance_id,
            index=index,
            text=text,
            language=language,
        )
        for index, text in enumerate(split_sentences(command.text, language))
    ]


def answer_say(command: Say, ledger: SpeechLedger) -> ControlReply | None:
    """The answer where there is nothing to do; None: to be said.

    The same command again is answered like the first time and said once.
    """
    if command.utterance_id is None:
        return refused("not_supported", "control.say without utterance_id is for the llm stage")
    if len(command.text) > TEXT_LIMIT or not split_sentences(command.text):
        return refused(
            "invalid_argument",
            f"text must hold something to say, 1 to {TEXT_LIMIT} characters, not {len(command.text)}",
        )
    if ledger.is_new(command.utterance_id):
        return None
    if ledger.utterance(command.utterance_id).ordered_text == command.text:
        return DONE
    return refused("unknown_utterance", "that utterance is over, or something else is said in it")
