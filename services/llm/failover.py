"""Engines that stand in for each other, so that a turn is answered to its end whatever becomes of one of them.

A :class:`FailoverEngine` is an engine like any other. Its run asks one engine after the other until one gives a step,
and where that one breaks off, has another go on: it is told what was said (``Request.said``), what it repeats of that
is not said again, and a tool that it asks for again is answered with what it has returned already.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from bus.logs import get_logger
from bus.metrics import EngineFigures
from config.settings import LlmSection, Settings
from services.llm.engine import (
    Answer,
    Capabilities,
    Engine,
    EngineError,
    Request,
    Sentence,
    Step,
    ToolCall,
    ToolResult,
    load_engine,
)
from services.llm.manners import Manners
from services.llm.menu import Menu
from services.llm.tools import ToolSpec
from services.llm.verified import says_verified
from services.racing import EmptyError, Race, Reader, RubbishError, StalledError, broken_off, explain, now_ms
from services.resilience.attempts import Attempt, Attempts, Roster, StageDownError, Takeover
from services.warming import Warming, engines_of

log = get_logger(__name__)

STAGE = "llm"
CHARACTER_MS = 65
"""A character of a sentence is heard for so long, about."""
Load = Callable[[str, LlmSection, Settings | None], Engine]


class _Returned(NamedTuple):
    """A tool that has returned in this answer."""

    name: str
    arguments: dict[str, Any]
    result: ToolResult


class _Thinking:
    """One engine at work on an answer, or on the rest of one."""

    def __init__(self, engine: Engine, name: str, request: Request, returned: Sequence[_Returned]) -> None:
        """``returned``: what tools have returned to others."""
        self.engine = engine
        self.run = engine.open(request)
        self.reader: Reader[Step] = Reader(self.run, self.run.cancel, name)
        self.opened_ms = now_ms()
        self._repeats = deque(request.said)
        self._returned = list(returned)
        self._kept: Step | None = None

    async def first(self) -> None:
        """Wait for the first step that is not a repetition. See :class:`services.racing.Runner`."""
        self._kept = await self._pull()
        if self._kept is None:
            raise EmptyError("it ended without an answer")

    async def next(self, limit_ms: float | None) -> Step:
        """The next step. Raises what the engine raises, and where it ends or waits longer than ``limit_ms``."""
        step, self._kept = self._kept, None
        if step is None:
            limit = asyncio.timeout(None if limit_ms is None else limit_ms / 1000)
            try:
                async with limit:
                    step = await self._pull()
            except TimeoutError:
                if limit.expired():
                    raise StalledError(limit_ms or 0.0) from None
                raise
        if step is None:
            raise RubbishError("it ended without an answer")
        return step

    def close(self) -> None:
        """Stop it, now."""
        self.reader.close()

    async def _pull(self) -> Step | None:
        """The next step that is nobody's yet."""
        while (step := await self.reader.next()) is not None:
            if isinstance(step, Sentence):
                if not isinstance(step.text, str):
                    raise RubbishError(f"{type(step.text).__name__} in place of a sentence's text")
                if self._repeats and self._repeats.popleft() == step.text:
                    continue
                # It goes its own way from here.
                self._repeats.clear()
            elif isinstance(step, ToolCall):
                if (result := self._known(step)) is not None:
                    self.run.return_tool(step.id, result)
                    continue
            elif not isinstance(step, Answer):
                raise RubbishError(f"{type(step).__name__} in place of a step")
            return step
        return None

    def _known(self, call: ToolCall) -> ToolResult | None:
        """What the tool has returned to another engine that asked for the same."""
        for number, known in enumerate(self._returned):
            if (known.name, known.arguments) == (call.name, call.arguments):
                return self._returned.pop(number).result
        return None


class FailoverRun:
    """One answer, thought of by whoever can.

    Attributes:
        engine: who answers now, or answered last; empty: nobody yet.
        takeovers: who took over from whom so far.
    """

    def __init__(
        self, engines: Sequence[tuple[str, Engine]], roster: Roster, section: LlmSection, request: Request
    ) -> None:
        self.engine = ""
        self.takeovers: list[Takeover] = []
        self._engines = engines
        self._attempts = Attempts(roster)
        self._section = section
        self._request = request
        self._said = list(request.said)
        self._returned: list[_Returned] = []
        self._asked: dict[str, ToolCall] = {}
        self._begun_ms = now_ms()
        self._heard_until_ms = 0.0
        self._race: Race[_Thinking] | None = None
        self._thinking: tuple[_Thinking, Attempt] | None = None
        self._over = False

    def down(self) -> StageDownError:
        """The error where nobody answers."""
        return self._attempts.down()

    def return_tool(self, tool_call_id: str, result: ToolResult) -> None:
        if (call := self._asked.pop(tool_call_id, None)) is not None:
            self._returned.append(_Returned(call.name, call.arguments, result))
        if self._thinking is not None:
            self._thinking[0].run.return_tool(tool_call_id, result)

    async def cancel(self) -> None:
        """Stop whoever is at work on it. Returns at once: nobody waits for what an engine takes to stop."""
        self._over = True
        if self._race is not None:
            self._race.close()
        if self._thinking is not None:
            thinking, attempt = self._thinking
            waited_ms = thinking.reader.waited_ms
            attempt.let_go(now_ms(), waited_ms=waited_ms, limit_ms=self._patience_ms(waited_ms), output=True)
            thinking.close()

    async def __aiter__(self) -> AsyncGenerator[Step, None]:
        try:
            # In their place, whoever repeats them or does not.
            for text in self._request.said:
                yield Sentence(text)
            first = True
            while (won := await self._win()) is not None:
                thinking, attempt = won
                while (step := await self._step(thinking, attempt)) is not None:
                    if isinstance(step, Answer):
                        yield self._timed(step, thinking, alone=first)
                        return
                    yield step
                    if self._over:
                        return
                first = False
        finally:
            await self.cancel()

    async def _win(self) -> tuple[_Thinking, Attempt] | None:
        """Whoever goes on with the answer; None: nobody is wanted any more."""
        if self._over:
            return None
        request = self._told()
        self._race = Race(
            self._attempts,
            lambda index: _Thinking(self._engines[index][1], self._engines[index][0], request, self._returned),
            attempt_ms=self._section.attempt_ms,
            hedge_ms=self._section.hedge_ms,
            explain=partial(explain, EngineError),
        )
        won = await self._race.winner()
        if won is None or self._over:
            return None
        self._thinking = won
        self.engine = won[0].engine.name
        self.takeovers += self._attempts.takeovers(won[1])
        return won

    def _told(self) -> Request:
        """What the next engine is told: the request, and what has come of it since."""
        data, failed = dict(self._request.customer_data), self._request.failed_verifications
        identifying = {spec.name for _, engine in self._engines for spec in engine.tools if spec.identifies}
        for returned in self._returned:
            if returned.name in identifying and not returned.result.error:
                found = returned.result.result
                data |= (
                    {key: value for key, value in found.items() if key != "verified"} if says_verified(found) else {}
                )
                failed += not says_verified(found)
        return self._request._replace(said=tuple(self._said), customer_data=data, failed_verifications=failed)

    async def _step(self, thinking: _Thinking, attempt: Attempt) -> Step | None:
        """The next step of whoever answers; None: another one has to go on."""
        try:
            step = await thinking.next(self._limit_ms(attempt))
        except Exception as error:
            if self._over:
                return None
            name, (why, kind) = attempt.name, broken_off(error)
            log.warning("engine_error", message=f"engine {name}: {explain(EngineError, error)}", engine=name, why=why)
            self._thinking = None
            attempt.failed(now_ms(), why, kind, output=True)
            thinking.close()
            return None
        if isinstance(step, Sentence):
            self._said.append(step.text)
            self._heard_until_ms = max(now_ms(), self._heard_until_ms) + CHARACTER_MS * len(step.text)
        elif isinstance(step, ToolCall):
            self._asked[step.id] = step
        else:
            self._thinking = None
            attempt.succeeded(now_ms())
            thinking.close()
        return step

    def _limit_ms(self, attempt: Attempt) -> float | None:
        """How long the next step may be waited for; None: nobody else is left, so that is not for this to say."""
        return self._patience_ms() if self._attempts.others(now_ms(), attempt.index) else None

    def _patience_ms(self, waited_ms: float = 0.0) -> float:
        """For how long it is no failure that no step comes, counted from ``waited_ms`` ago: as long as what was said
        can be heard, but so that the next one still has time."""
        attempt_ms, deadline_ms = self._section.attempt_ms, self._section.deadline_ms
        heard_ms = self._heard_until_ms - now_ms() + waited_ms
        return max(attempt_ms, min(heard_ms, deadline_ms - attempt_ms))

    def _timed(self, answer: Answer, thinking: _Thinking, *, alone: bool) -> Answer:
        """The time to the first token counts from when the run was opened, and is known where one engine has said
        everything."""
        if answer.ttft_ms is None:
            return answer
        ttft_ms = answer.ttft_ms + thinking.opened_ms - self._begun_ms
        return answer._replace(ttft_ms=ttft_ms if alone else None)


class FailoverEngine:
    """Several engines in their order, as one: tools and manners are those of the first."""

    def __init__(self, engines: Sequence[tuple[str, Engine]], settings: Settings, roster: Roster | None = None) -> None:
        """``engines``: with their names in the settings. ``roster``: of the same names; None: a new one."""
        names = [name for name, _ in engines]
        self.name = ",".join(names)
        self.roster = roster or Roster(names, settings.failover, random.random, EngineFigures(STAGE))
        self._engines = tuple(engines)
        self._section = settings.llm
        self._warming = Warming(self.roster, [engine.warm for _, engine in engines], STAGE)

    @property
    def capabilities(self) -> Capabilities:
        return self._engines[0][1].capabilities

    @property
    def tools(self) -> Sequence[ToolSpec]:
        return self._engines[0][1].tools

    @property
    def manners(self) -> Manners:
        manners: Manners = getattr(self._engines[0][1], "manners", Manners())
        return manners

    def menu(self, state: str) -> Menu | None:
        """What the keys stand for, by the first engine that knows the state."""
        asked = (getattr(engine, "menu", None) for _, engine in self._engines)
        return next((menu for ask in asked if ask is not None and (menu := ask(state)) is not None), None)

    async def warm(self) -> None:
        """Load every engine. Those that fail are left out, until they can be loaded.

        Raises:
            Exception: none can be loaded; what the first one raised.
        """
        await self._warming.warm()
        wanted = {spec.name for spec in self.tools}
        for name, engine in self._engines[1:]:
            if missing := sorted(wanted - {spec.name for spec in engine.tools}):
                log.warning(
                    "engine_without_tools",
                    message=f"engine {name} can't use {', '.join(missing)}, which {self._engines[0][0]} can; "
                    "what it answers in its place does without",
                    engine=name,
                )

    def open(self, request: Request) -> FailoverRun:
        return FailoverRun(self._engines, self.roster, self._section, request)

    async def close(self) -> None:
        """Let go of the models, where an engine has something to let go of."""
        self._warming.close()
        for _, engine in self._engines:
            close = getattr(engine, "close", None)
            if close is not None:
                await close()


def load_engines(settings: Settings, load: Load = load_engine) -> Engine:
    """The engine of ``[llm] engine``; where ``fallbacks`` are set, all of them as one. Not yet warm.

    Raises:
        EngineError: one of them does not exist or refuses the settings, or is named twice.
    """
    section = settings.llm
    engines = engines_of(
        "llm", section.engine, section.fallbacks, lambda name: load(name, section, settings), EngineError
    )
    return engines[0][1] if len(engines) == 1 else FailoverEngine(engines, settings)
