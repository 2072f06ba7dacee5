"""Answers that are thought of before the caller's turn has ended, on words that have stood still.

A guess is an engine's run like any other, but nothing comes of it until it is taken: its sentences are kept, and at the
first tool that it asks for it stands still, so that no tool runs and nothing is said or recorded for words that the
caller may yet change. It is taken where the turn ends with those words and everything else that the engine was told
still holds, what the caller has heard of the agent above all; else it is dropped without a trace.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator

from bus.clock import Clock
from bus.logs import get_logger
from schemas.asr import AsrPreflight
from schemas.llm import utterance_of
from services.llm.conversation import Conversation
from services.llm.degraded import is_keyed, plain_slots
from services.llm.engine import Answer, Engine, EngineError, Request, Run, Step, ToolCall
from services.llm.verified import says_verified

log = get_logger(__name__)

HIT, MISS = "hit", "miss"
USUAL_END = "silence"
"""Why a turn ends for all that a guess can know."""

SPOKEN_ENDS = (USUAL_END, "semantic")
"""What ends a turn of speech in the usual way; after another a guess is none."""


def request_for(conversation: Conversation, turn: int, text: str = "", digits: str = "", why: str = "") -> Request:
    """What an engine is told of this turn."""
    utterance = conversation.utterances.get(utterance_of(turn))
    return Request(
        call_id=conversation.call_id,
        tenant=conversation.tenant,
        turn=turn,
        text=text,
        digits=digits,
        why=why,
        history=conversation.history(before_turn=turn, fillers=False),
        state=conversation.listen_for.state,
        slots=plain_slots(conversation.slots),
        said=tuple(utterance.sentences[index] for index in utterance.answer) if utterance else (),
        customer_data=conversation.customer_data(),
        failed_verifications=_failed_verifications(conversation),
        keyed=is_keyed(conversation.slots),
    )


def _failed_verifications(conversation: Conversation) -> int:
    """How often a tool has said that the caller is nobody it knows."""
    return sum(
        returned.name in conversation.identifying and not returned.error and not says_verified(returned.result)
        for returned in conversation.returned.values()
    )


def words_of(text: str) -> str:
    """A text without case, punctuation and white space: two that differ in nothing else are the same words."""
    return "".join(character for character in text.casefold() if character.isalnum())


class Steps:
    """A run that has been opened: its steps, one after the other.

    Attributes:
        opened_us: when the engine was asked.
    """

    def __init__(self, run: Run, clock: Clock) -> None:
        self.run = run
        self.opened_us = clock.now_us()
        self._steps = aiter(run)
        self._closed = False

    async def next(self) -> Step | None:
        """The next step; None where the run has ended. Raises whatever the engine raises."""
        return await anext(self._steps, None)

    async def close(self) -> None:
        """Have no more of it. Also after the last step: a run that is over takes it as nothing."""
        if self._closed:
            return
        self._closed = True
        await self.run.cancel()
        if isinstance(self._steps, AsyncGenerator):
            await self._steps.aclose()


class Guess(Steps):
    """A run that goes ahead by itself as far as it may.

    Attributes:
        error: why it can't be used.
    """

    def __init__(self, run: Run, clock: Clock, request: Request, *, deadline_ms: int) -> None:
        super().__init__(run, clock)
        self.request = request
        self.error: Exception | None = None
        self._kept: deque[Step] = deque()
        self._more = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._think(), name="llm-guess")
        self._timer = clock.call_later(deadline_ms, self._expire)

    def take(self) -> None:
        """It has come true: from now on whoever reads the steps bounds the wait for each."""
        self._timer.cancel()

    async def next(self) -> Step | None:
        while not self._kept and not self._task.done():
            self._more.clear()
            await self._more.wait()
        if self._kept:
            return self._kept.popleft()
        if self.error is not None:
            raise self.error
        return await super().next()

    async def close(self) -> None:
        self._timer.cancel()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await super().close()

    async def _think(self) -> None:
        try:
            while True:
                step = await super().next()
                if step is None:
                    raise EngineError("the engine ended without an answer")
                self._kept.append(step)
                self._more.set()
                if isinstance(step, ToolCall | Answer):
                    return
        except Exception as error:
            self.error = error
        finally:
            # The reader looks again once this task is done, which it is a moment later.
            asyncio.get_running_loop().call_soon(self._more.set)

    def _expire(self) -> None:
        if not self._task.done():
            self.error = TimeoutError("no answer in time")
            self._task.cancel()


class Guessing:
    """The guesses of one call, one at a time.

    Args:
        deadline_ms: a guess that has not come to its end by then is none.
        figures: ``preemptive_hits`` and ``preemptive_misses`` are counted there.
    """

    def __init__(
        self,
        engine: Engine,
        conversation: Conversation,
        clock: Clock,
        figures: dict[str, float],
        *,
        enabled: bool,
        deadline_ms: int,
    ) -> None:
        self._engine = engine
        self._conversation = conversation
        self._clock = clock
        self._figures = figures
        self._enabled = enabled
        self._deadline_ms = deadline_ms
        self._guess: Guess | None = None
        self._turn = -1
        self._number = -1
        self._closing: set[asyncio.Task[None]] = set()

    def think(self, preflight: AsrPreflight) -> None:
        """Begin to answer these words, where their turn is the next to be answered. Same words: go on as before."""
        conversation, turn = self._conversation, preflight.turn
        if not self._enabled or conversation.answered is None or conversation.ended is not None:
            return
        if turn <= conversation.current_turn() or conversation.pending_turn() is not None:
            return
        if (turn, preflight.number) <= (self._turn, self._number) or not words_of(preflight.text):
            return
        self._turn, self._number = turn, preflight.number
        request = request_for(conversation, turn, preflight.text, why=USUAL_END)
        if self._guess is not None and self._guess.error is None and _same(self._guess.request, request):
            return
        self.drop()
        try:
            self._guess = Guess(self._engine.open(request), self._clock, request, deadline_ms=self._deadline_ms)
        except Exception as error:
            # An engine is somebody else's code; if it fails again when the turn has ended, that is told.
            log.info("guess_failed", message=f"{self._engine.name} raised {type(error).__name__}")

    def look(self) -> None:
        """The caller has heard less than the guess was told: have no more of it."""
        if self._guess is not None:
            told = self._guess.request
            if not _same(told, request_for(self._conversation, told.turn, told.text, why=told.why)):
                self.drop()

    def take(self, request: Request) -> tuple[str, Guess | None]:
        """The turn of ``request`` has ended: hit, and the guess, or miss; empty where nothing had been guessed."""
        if not self._enabled or self._turn != request.turn:
            return "", None
        guess, usual = self._guess, request._replace(why=USUAL_END)
        sound = guess is not None and guess.error is None and request.why in SPOKEN_ENDS
        if guess is not None and sound and _same(guess.request, usual):
            self._guess = None
            guess.take()
            self._count("preemptive_hits")
            return HIT, guess
        self.drop()
        self._count("preemptive_misses")
        return MISS, None

    def drop(self) -> None:
        """Have no more of the guess. Returns at once."""
        guess, self._guess = self._guess, None
        if guess is not None:
            task = asyncio.get_running_loop().create_task(self._close(guess), name="llm-guess-close")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """No more guesses."""
        self._enabled = False
        self.drop()
        if self._closing:
            await asyncio.wait(set(self._closing), timeout=self._deadline_ms / 1000)

    async def _close(self, guess: Guess) -> None:
        try:
            await guess.close()
        except Exception as error:
            log.info("guess_failed", message=f"{self._engine.name} raised {type(error).__name__}")

    def _count(self, figure: str) -> None:
        self._figures[figure] = self._figures.get(figure, 0) + 1


def _same(told: Request, request: Request) -> bool:
    """Whether an engine would be told the same, but for how the words are written."""
    return words_of(told.text) == words_of(request.text) and told == request._replace(text=told.text)
