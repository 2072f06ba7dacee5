"""What is said so that a caller who waits does not wait in silence.

The silence is measured as the caller has it: from the end of what was said, if something was, else from the end of the
caller's turn; and only while the answer's next step is awaited. While something of the answer has yet to be heard, or
the caller speaks, there is no silence.
"""

from __future__ import annotations

from collections.abc import Callable

from bus.clock import Clock, Timer
from services.llm.conversation import Conversation

LIMIT = 2
"""Fillers of one answer: a third would say that it is no good."""


class Fillers:
    """Bridges the waits of one answer.

    Args:
        texts: said in turn, over the whole call.
        filler_ms: silence that is bridged; 0: none is.
        since_us: since when the caller waits.
        say: says a filler.
    """

    def __init__(
        self,
        texts: tuple[str, ...],
        conversation: Conversation,
        utterance_id: int,
        clock: Clock,
        say: Callable[[str], None],
        *,
        filler_ms: int,
        since_us: int,
    ) -> None:
        self._texts = texts if filler_ms else ()
        self._conversation = conversation
        self._utterance_id = utterance_id
        self._clock = clock
        self._say = say
        self._filler_ms = filler_ms
        self._waiting = False
        self._quiet_us: int | None = since_us
        self._timer: Timer | None = None

    def wait(self) -> None:
        """The next step is awaited."""
        self._waiting = True
        self.look()

    def go_on(self) -> None:
        """It is there."""
        self._waiting = False
        self._stop()

    def look(self) -> None:
        """To be called after each event: say a filler, or see when one is due."""
        self._stop()
        utterance = self._conversation.utterance(self._utterance_id)
        if not self._texts or len(utterance.fillers) >= LIMIT or self._conversation.is_void(self._utterance_id):
            return
        now_us = self._clock.now_us()
        if utterance.unsaid or self._conversation.caller_speaks:
            self._quiet_us = None
            return
        if self._quiet_us is None:
            self._quiet_us = now_us
        if self._waiting:
            due_us = self._quiet_us + self._filler_ms * 1000
            # Where it is due already the engine still has its chance to be quicker than the timer.
            self._timer = self._clock.call_later(max(0, due_us - now_us) / 1000, self._speak)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _speak(self) -> None:
        self._timer = None
        said = sum(len(utterance.fillers) for utterance in self._conversation.utterances.values())
        self._say(self._texts[said % len(self._texts)])
        self.look()
