"""One engine of the language model stage: calls of a few turns, one after the other."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec

from config.settings import Settings
from ops.bench.engine_figures import (
    ANSWER_WORK,
    ANSWERS_A_MINUTE,
    CALLS,
    OURS_ALONE,
    SENTENCE,
    TOKEN,
    TOKENS_A_SECOND,
    Figures,
    Start,
    Task,
)
from ops.bench.results import Figure
from schemas.session import Exchange, Speaker
from services.llm.chat.engine import ChatEngine
from services.llm.chat.model import ChatEnd, ChatModel, ChatRequest, Delta, Token
from services.llm.engine import Answer, Engine, Request, Sentence, ToolCall, ToolResult, load_engine
from services.llm.tools import Toolbox, ToolContext

QUESTIONS = ("where is my credit card", "what can you do for me", "how much money is in my account")
CALLS_AT_LEAST, CALLS_AT_MOST = 3, 20
TENANT = "default"


class Watched:
    """A model, and when its tokens came.

    Attributes:
        prompt_tokens: of the longest prompt, where the model tells.
        rates: tokens a second of each answer, from its first token to its last.
    """

    def __init__(self, model: ChatModel, now: Callable[[], float] = time.monotonic) -> None:
        self._model, self._now = model, now
        self.name, self.capabilities = model.name, model.capabilities
        self.prompt_tokens = 0
        self.rates: list[float] = []

    async def warm(self) -> None:
        await self._model.warm()

    async def close(self) -> None:
        await self._model.close()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        answer = self._model.stream(request)
        first, last, pieces = 0.0, 0.0, 0
        try:
            async for delta in answer:
                if isinstance(delta, Token):
                    last = self._now()
                    first, pieces = first or last, pieces + 1
                if isinstance(delta, ChatEnd):
                    self.prompt_tokens = max(self.prompt_tokens, delta.prompt_tokens or 0)
                    pieces = delta.completion_tokens or pieces
                yield delta
        finally:
            await answer.aclose()
            if pieces > 2 and last > first:
                self.rates.append((pieces - 1) / (last - first))


class Turn(NamedTuple):
    """One answer. Times in milliseconds from the request; None: there was none."""

    token_ms: float | None
    sentence_ms: float | None
    wall_s: float
    cpu_s: float


async def measure(task: Task, settings: Settings) -> list[Figure]:
    """At least three calls of three turns; more while there is time."""
    # What a worker without an engine has loaded.
    import services.llm.worker  # noqa: F401

    before = Start.now()
    engine = _load(task, settings)
    await engine.warm()
    watched = None
    if isinstance(engine, ChatEngine):
        engine.model = watched = Watched(engine.model)
    ready = Start.now()
    figures = figures_of(task, await talk_all(engine, task), watched)
    figures.loading(before, ready)
    return figures.made


def _load(task: Task, settings: Settings) -> Engine:
    with TemporaryDirectory(prefix="callbus-bench-") as folder:
        if task.agent:
            path = Path(folder, "agent.toml")
            path.write_text(task.agent, encoding="utf-8")
            settings = msgspec.structs.replace(settings, llm=msgspec.structs.replace(settings.llm, agent=str(path)))
        return load_engine(task.engine, settings.llm, settings)


async def talk_all(engine: Engine, task: Task) -> list[list[Turn]]:
    """Calls with a warm engine: their turns."""
    calls: list[list[Turn]] = []
    ends = time.monotonic() + (0 if task.remote else task.seconds)
    while len(calls) < CALLS_AT_LEAST or (time.monotonic() < ends and len(calls) < CALLS_AT_MOST):
        calls.append(await talk(engine, f"bench{len(calls):027d}"))
    return calls


async def talk(engine: Engine, call_id: str) -> list[Turn]:
    """A call: the greeting, which is not counted, and an answer to each question."""
    toolbox = Toolbox(engine.tools)
    request, _ = await _answer(engine, toolbox, Request(call_id, TENANT, 0))
    turns = []
    for number, question in enumerate(QUESTIONS, start=1):
        request, turn = await _answer(engine, toolbox, request._replace(turn=number, text=question))
        turns.append(turn)
    return turns


async def _answer(engine: Engine, toolbox: Toolbox, request: Request) -> tuple[Request, Turn]:
    """The request of the next turn, as far as it is known, and what this one took."""
    began, worked = time.monotonic(), time.process_time()
    sentence_ms, answer, said = None, Answer(), []
    customer: dict[str, Any] = dict(request.customer_data)
    run = engine.open(request)
    async for step in run:
        if isinstance(step, Sentence):
            sentence_ms = sentence_ms or (time.monotonic() - began) * 1000
            said.append(step.text)
        elif isinstance(step, ToolCall):
            context = ToolContext(f"{request.call_id}-{step.id}", request.call_id, request.tenant)
            outcome = await toolbox.call(step.name, step.arguments, context)
            if step.name in toolbox.identifying:
                customer |= outcome.result
            run.return_tool(step.id, ToolResult(outcome.result, outcome.error))
        else:
            answer = step
    turn = Turn(answer.ttft_ms, sentence_ms, time.monotonic() - began, time.process_time() - worked)
    heard = Exchange(speaker=Speaker.AGENT, text=" ".join(said), turn=request.turn)
    asked = Exchange(speaker=Speaker.CALLER, text=request.text, turn=request.turn)
    history = (*request.history, *((asked,) if request.text else ()), *((heard,) if said else ()))
    following = request._replace(history=history, state=answer.state, slots=answer.slots, customer_data=customer)
    return following, turn


def figures_of(task: Task, calls: list[list[Turn]], watched: Watched | None) -> Figures:
    """What the turns say. The very first answer finds nothing prepared; the first of a later call finds what calls have
    in common; later turns of a call find the call."""
    figures = Figures(task)
    turns = [turn for call in calls for turn in call]
    prompt = f"prompts of up to {watched.prompt_tokens} tokens" if watched and watched.prompt_tokens else ""
    figures.add(TOKEN, "ms", _by_place(calls, lambda turn: turn.token_ms), note=prompt)
    figures.add(SENTENCE, "ms", _by_place(calls, lambda turn: turn.sentence_ms))
    if watched is not None and watched.rates:
        figures.add(TOKENS_A_SECOND, "", {"value": statistics.median(watched.rates), "n": len(watched.rates)})
    cpu_s, wall_s = (statistics.mean(values) for values in zip(*((t.cpu_s, t.wall_s) for t in turns), strict=True))
    note = OURS_ALONE if task.remote else ""
    figures.add(ANSWER_WORK, "s", {"cpu": cpu_s, "wall": wall_s, "n": len(turns)}, note=note)
    if cpu_s > 0 and not task.remote:
        note = f"{ANSWERS_A_MINUTE:.0f} answers a minute"
        figures.add(CALLS, "", {"value": 60 / ANSWERS_A_MINUTE / cpu_s}, note=note)
    return figures


def _by_place(calls: list[list[Turn]], value: Callable[[Turn], float | None]) -> dict[str, float]:
    places = {
        "first_ever": [calls[0][0]],
        "new_call": [call[0] for call in calls[1:]],
        "later_turn": [turn for call in calls for turn in call[1:]],
    }
    found = {name: [each for turn in turns if (each := value(turn)) is not None] for name, turns in places.items()}
    return {name: statistics.median(values) for name, values in found.items() if values}
