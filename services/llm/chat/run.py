"""One answer of a model: its tokens as sentences, its tools checked and run, its end."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from itertools import count

from bus import tracing
from bus.clock import Clock
from bus.metrics.engines import count_tokens
from bus.spans import Attributes
from schemas.llm import ListenFor, NextStep
from services.llm.chat import prompt
from services.llm.chat.agent import STATE, ChatAgent
from services.llm.chat.calls import END_CALL, TRANSFER_CALL, Identity, Sound, Wrong, check, rewritable
from services.llm.chat.model import ChatEnd, ChatModel, ChatRequest, Message, ModelToolCall, Token, ToolDescription
from services.llm.chat.safety import Confidential
from services.llm.chat.speech import Speech
from services.llm.chat.stream import Deltas
from services.llm.engine import Answer, EngineError, Request, Sentence, Step, ToolCall, ToolResult
from services.llm.farewell import TRANSFER_TARGET
from services.llm.matching import words_of
from services.llm.tools import ToolSpec
from services.llm.verified import says_verified

MAX_ROUNDS = 5
"""How often one answer may ask for tools."""

MAX_CORRECTIONS = 2
"""How often one answer may ask for a tool that can't be run."""

UTF_16 = "utf-16-le"
"""In which a character may be cut in two: JSON writes an emoji as two halves, and some servers cut between them."""
whole_characters = partial(codecs.getincrementaldecoder(UTF_16), errors="replace")
"""Joins such halves; a half that stays alone can't be said, nor stored."""

ENDINGS = {END_CALL: NextStep.HANG_UP, TRANSFER_CALL: NextStep.TRANSFER}


class ChatRun:
    """One answer. Opening it does nothing: the model is asked when the first step is awaited."""

    def __init__(
        self,
        model: ChatModel,
        agent: ChatAgent,
        tools: Sequence[ToolSpec],
        offered: tuple[ToolDescription, ...],
        confidential: Confidential,
        request: Request,
        clock: Clock,
    ) -> None:
        self._model = model
        self._agent = agent
        self._specs = {spec.name: spec for spec in tools}
        self._offered = offered
        self._endings = {tool.name: ENDINGS[tool.name] for tool in offered if tool.name in ENDINGS}
        self._request = request
        self._clock = clock
        self._opened_us = clock.elapsed_us()
        self._ttft_ms: float | None = None
        self._identity = Identity(request, agent.model.verify_attempts, agent.language)
        self._slots = dict(request.slots)
        self._speech = Speech(agent, confidential, request.said)
        self._text = ""
        self._halves = whole_characters()
        self._calls: list[ModelToolCall] = []
        self._ids: set[str] = set()
        self._corrections = 0
        self._deltas: Deltas | None = None
        self._tokens = {"input": 0, "output": 0}
        self._results: dict[str, ToolResult] = {}
        self._returned = asyncio.Event()
        self._cancelled = asyncio.Event()

    async def __aiter__(self) -> AsyncGenerator[Step, None]:
        if self._cancelled.is_set():
            return
        try:
            async with aclosing(self._steps()) as steps:
                async for step in steps:
                    if self._cancelled.is_set():
                        return
                    yield step
        finally:
            await self.cancel()

    def return_tool(self, tool_call_id: str, result: ToolResult) -> None:
        self._results[tool_call_id] = result
        self._returned.set()

    async def cancel(self) -> None:
        self._cancelled.set()
        self._returned.set()
        if self._deltas is not None:
            await self._deltas.close()

    async def _steps(self) -> AsyncGenerator[Step, None]:
        request, model = self._request, self._agent.model
        for text in request.said:
            yield self._sentence(text)
        if request.turn == 0 and model.greeting:
            for text in model.greeting[len(request.said) :]:
                yield self._sentence(text)
            yield self._answer(NextStep.LISTEN)
            return
        messages = list(prompt.messages(model, request))
        for number in range(MAX_ROUNDS + 1):
            async with aclosing(self._write(messages)) as sentences:
                async for sentence in sentences:
                    yield sentence
            if self._cancelled.is_set():
                return
            ending = self._ending()
            if ending is not None or not self._calls:
                for text in self._last_words(ending):
                    yield self._sentence(text)
                yield self._answer(ending or self._implied())
                return
            messages.append(Message("assistant", self._text, tuple(map(rewritable, self._calls))))
            async with aclosing(self._use(messages, number)) as calls:
                async for call in calls:
                    yield call
            if self._cancelled.is_set():
                return
        raise EngineError(f"{self._model.name} asked for tools in more than {MAX_ROUNDS} rounds of one answer")

    async def _write(self, messages: Sequence[Message]) -> AsyncGenerator[Sentence, None]:
        """What the model says to this, with the tools that it asks for in ``_calls``."""
        self._text, self._calls = "", []
        self._halves = whole_characters()
        self._speech.begin()
        self._deltas = Deltas(self._model.stream(ChatRequest(tuple(messages), self._offered, self._request.call_id)))
        end: ChatEnd | None = None
        while end is None and not self._speech.over:
            delta = await self._deltas.next()
            if delta is None:
                break
            if isinstance(delta, ChatEnd):
                end = delta
                self._count(end)
            elif isinstance(delta, Token):
                for text in self._hear(delta.text):
                    yield self._sentence(text)
            else:
                self._calls.append(self._named(delta))
        await self._deltas.close()
        if self._cancelled.is_set():
            return
        if end is None and not self._speech.over:
            raise EngineError(f"{self._model.name} broke off in the middle of an answer")
        for text in self._speech.finish(end.reason if end else "stop"):
            yield self._sentence(text)
        if self._speech.over:
            self._calls = []

    def _count(self, end: ChatEnd) -> None:
        """What a request of this answer took, as a metric, and of all of them in the span of the answer."""
        count_tokens(self._model.name, end.prompt_tokens, end.completion_tokens)
        attributes: Attributes = {"gen_ai.response.finish_reasons": (end.reason,)}
        for direction, tokens in (("input", end.prompt_tokens), ("output", end.completion_tokens)):
            if tokens is not None:
                self._tokens[direction] += tokens
                attributes[f"gen_ai.usage.{direction}_tokens"] = self._tokens[direction]
        tracing.annotate(self._request.call_id, self._request.turn, attributes)

    def _hear(self, text: str) -> list[str]:
        if self._ttft_ms is None:
            self._ttft_ms = (self._clock.elapsed_us() - self._opened_us) / 1000
        text = self._halves.decode(text.encode(UTF_16, "surrogatepass"))
        self._text += text
        return self._speech.feed(text)

    def _named(self, call: ModelToolCall) -> ModelToolCall:
        """With an id that no other call of this answer has: some models give none, or the same each time."""
        if not call.id or call.id in self._ids:
            call = call._replace(id=next(each for number in count() if (each := f"call_{number}") not in self._ids))
        self._ids.add(call.id)
        return call

    def _ending(self) -> NextStep | None:
        """The step that ends the conversation. Only one that is asked for alone counts: what comes of other tools is
        still to be told."""
        return self._endings.get(self._calls[0].name) if len(self._calls) == 1 else None

    async def _use(self, messages: list[Message], number: int) -> AsyncGenerator[ToolCall, None]:
        """Have the tools run that may run; what they say, or why they may not, is put to the messages."""
        for index, call in enumerate(self._calls):
            if call.name in self._endings:
                checked: Sound | Wrong = Wrong("Not now: use this tool alone, once everything else is done.")
            else:
                checked = check(call, self._specs, self._identity)
            if isinstance(checked, Wrong):
                self._corrections += 1
                if self._corrections > MAX_CORRECTIONS:
                    raise EngineError(
                        f"{self._model.name} asked {self._corrections} times for a tool that can't be run"
                    )
                messages.append(Message("tool", checked.text, tool_call_id=call.id))
                continue
            step = ToolCall(f"{number}-{index}", call.name, checked.arguments)
            yield step
            result = await self._result(step.id)
            if result is None:
                return
            if checked.spec.identifies and not result.error:
                self._learn(step, result)
            messages.append(Message("tool", prompt.result_text(result), tool_call_id=call.id))

    async def _result(self, tool_call_id: str) -> ToolResult | None:
        """Waits until the tool has returned; the caller of the run bounds the wait. None: cancelled."""
        while tool_call_id not in self._results and not self._cancelled.is_set():
            self._returned.clear()
            await self._returned.wait()
        return None if self._cancelled.is_set() else self._results.pop(tool_call_id)

    def _learn(self, step: ToolCall, result: ToolResult) -> None:
        """Who the caller is. It is kept in the slots as well, where a script finds it that has to take over."""
        self._identity.learn(result.result)
        if says_verified(result.result):
            known = {**step.arguments, **result.result}
            self._slots |= {name: str(value) for name, value in known.items() if name != "verified"}

    def _last_words(self, ending: NextStep | None) -> Iterable[str]:
        """What is said in place of nothing."""
        speech, model = self._speech, self._agent.model
        if speech.said:
            return ()
        if speech.dropped:
            return speech.replace(model.refusal)
        if ending is NextStep.HANG_UP:
            return speech.replace(model.farewell)
        if ending is NextStep.TRANSFER:
            return speech.replace(model.transfer_text)
        if self._request.said:
            return ()
        raise EngineError(f"{self._model.name} gave an empty answer")

    def _implied(self) -> NextStep:
        """A model that has said goodbye has ended the call, whether or not it thought of the tool."""
        model = self._agent.model
        last = words_of(self._speech.sentences[-1]) if self._speech.sentences else ()
        ends = any(last[-len(words) :] == words for text in model.goodbye if (words := words_of(text)))
        return NextStep.HANG_UP if ends and model.hang_up else NextStep.LISTEN

    def _answer(self, then: NextStep) -> Answer:
        agent = self._agent
        if then is NextStep.TRANSFER:
            self._slots[TRANSFER_TARGET] = agent.model.transfer
        match = agent.matcher.best(self._request.text, agent.intents) if agent.matcher else None
        return Answer(
            intent=match.intent if match else "",
            then=then,
            listen_for=self._listen_for(),
            state=STATE,
            slots=self._slots,
            ttft_ms=self._ttft_ms,
        )

    def _listen_for(self) -> ListenFor:
        said = " ".join(self._speech.sentences).casefold()
        for name, hint in self._agent.model.digits.items():
            if any(words.casefold() in said for words in hint.asked):
                return self._agent.hints[name]
        return self._agent.listen_for

    def _sentence(self, text: str) -> Sentence:
        return Sentence(text, self._agent.language)
