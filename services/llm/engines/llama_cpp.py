"""Engine ``llama_cpp``: language models as GGUF files, in the worker itself, with llama.cpp.

The weights are loaded once. Each of ``[llama_cpp] slots`` is a context with a thread, which remembers its last prompt:
the next prompt of the same call is evaluated from where it differs. A prompt that is too long loses its oldest
exchanges, several at once, so that what is left stays the same for some turns.

Tools work with any model: the model begins to answer; what is plain text is streamed at once. Where a tool call begins
(``{``, ``<tool_call>``), or where the whole answer is nothing but a tool's name, the call is written again from there
under a grammar made of the tools' schemas. So a decision for or against a tool costs no token, and a call is never
broken JSON and never names a tool that there is not.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bus.logs import get_logger
from config.engine_sections import LlamaCppSection
from config.settings import LlmSection, Settings
from services.llm.chat.engine import ChatEngine
from services.llm.chat.model import ChatRequest, Delta, Message, ModelCapabilities, ToolDescription
from services.llm.engine import EngineError
from services.llm.engines._llama_answer import Answer, StoppedError, Task
from services.llm.engines._llama_file import read_gguf
from services.llm.engines._llama_library import Context, Weights
from services.llm.engines._llama_prompt import ChatTemplate
from services.llm.engines._llama_slots import Slot, Slots
from services.llm.engines._thinking import OPENING
from services.models import find_model
from services.packages import installed

DROPPED_AT_ONCE = 4
"""Exchanges that a prompt which is too long loses at once."""

_log = get_logger(__name__)


class _Loaded(NamedTuple):
    weights: Weights
    template: ChatTemplate
    slots: Slots


class LlamaCppModel:
    """A GGUF file that answers.

    Args:
        path: the file.
        patience_ms: how long an answer may wait for a slot.
        seed: of chance; None: another one for each answer.
    """

    name = "llama_cpp"
    capabilities = ModelCapabilities()

    def __init__(
        self, section: LlamaCppSection, path: Path, *, patience_ms: int = 10_000, seed: int | None = None
    ) -> None:
        packages = ("llama_cpp", "jinja2", "jinja2.ext", "jinja2.sandbox", "numpy")
        modules = installed("llama_cpp", dict.fromkeys(packages, "llama_cpp"))
        self._library, self._jinja2, self._numpy = modules["llama_cpp"], modules["jinja2"], modules["numpy"]
        self._section, self._path = section, path
        self._patience_s = patience_ms / 1000
        self._random = random.Random(seed)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="llama-prompt")
        self._loading = asyncio.Lock()
        self._loaded: _Loaded | None = None

    @property
    def evaluated(self) -> int:
        """Tokens that were evaluated since it was loaded: of prompts and of answers."""
        return sum(slot.context.evaluated for slot in self._loaded.slots.slots) if self._loaded else 0

    async def warm(self) -> None:
        """Load it, and have each slot answer once."""
        await self.prepare(ChatRequest((Message("user", "Hello"),)))

    async def prepare(self, request: ChatRequest) -> None:
        """Have every slot read what the prompts of all calls begin with, so that no call has to wait for that.

        Args:
            request: the agent's instructions and tools, and some word of a caller.
        """
        loaded = await self._load()
        await asyncio.gather(*(self._drain(request._replace(call_id="")) for _ in loaded.slots.slots))
        loaded.slots.forget_calls()

    async def _drain(self, request: ChatRequest) -> None:
        async with aclosing(self._answer(request, 1)) as deltas:
            async for _ in deltas:
                pass

    async def _load(self) -> _Loaded:
        async with self._loading:
            if self._loaded is None:
                self._loaded = await asyncio.get_running_loop().run_in_executor(self._reader, self._load_now)
        return self._loaded

    def _load_now(self) -> _Loaded:
        section, path = self._section, self._path
        metadata = read_gguf(path).metadata
        source, place = str(metadata.get("tokenizer.chat_template", "")), str(path)
        if section.chat_template:
            source, place = _template_file(section.chat_template), section.chat_template
        weights = Weights(self._library, path, gpu_layers=section.gpu_layers)
        slots: list[Slot] = []
        try:
            if not source:
                _log.warning("chat_template_missing", message=f"{path} has no chat template; ChatML is taken for it")
            template = ChatTemplate(self._jinja2, source, bos=weights.bos, eos=weights.eos, place=place)
            size = min(section.context_tokens, weights.trained_tokens or section.context_tokens)
            if size < section.context_tokens:
                _log.info("context_smaller", message=f"{path} was made for prompts of at most {size} tokens")
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            threads = section.threads or max(1, cores // 2)
            for number in range(section.slots):
                context = Context(weights, size=size, threads=threads, batch_threads=section.threads or cores)
                slots.append(Slot(context, number))
        except EngineError:
            for slot in slots:
                slot.context.close()
            weights.close()
            raise
        return _Loaded(weights, template, Slots(slots))

    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        return self._answer(request, self._section.max_tokens)

    async def _answer(self, request: ChatRequest, max_tokens: int) -> AsyncGenerator[Delta, None]:
        loaded = await self._load()
        loop = asyncio.get_running_loop()
        task = await loop.run_in_executor(self._reader, self._task, loaded, request, max_tokens)
        try:
            async with asyncio.timeout(self._patience_s):
                slot = await loaded.slots.lend(request.call_id, task.prompt)
        except TimeoutError:
            raise EngineError(
                f"no slot was free for {self._patience_s:g} s; [llama_cpp] slots = {len(loaded.slots.slots)} answer at"
                " once: more of them, or a smaller model"
            ) from None
        answer = partial(_run, loaded.weights, self._numpy, slot.context, task)
        try:
            async with aclosing(_from_thread(slot, answer)) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            loaded.slots.give_back(slot)

    def _task(self, loaded: _Loaded, request: ChatRequest, max_tokens: int) -> Task:
        """The prompt, as much of it as has room."""
        messages = tuple(_harmless(message, loaded.weights) for message in request.messages)
        text, tokens = self._prompt(loaded, messages, request.tools, max_tokens)
        return Task(
            prompt=tokens,
            tools=request.tools,
            max_tokens=max_tokens,
            temperature=self._section.temperature,
            seed=self._random.getrandbits(32),
            format=loaded.template.format,
            stops=loaded.template.stops,
            first_call=sum(len(message.tool_calls) for message in messages),
            thinking=text.rstrip().endswith(OPENING),
        )

    def _prompt(
        self, loaded: _Loaded, messages: tuple[Message, ...], tools: Sequence[ToolDescription], max_tokens: int
    ) -> tuple[str, list[int]]:
        size = loaded.slots.slots[0].context.size
        room = size - min(max_tokens, size // 4)

        def prompt(cut: int) -> tuple[str, list[int]]:
            text = loaded.template.render((*messages[:head], *messages[cut:]), tools)
            return text, loaded.weights.tokens_of(text)

        head, cuts = cut_places(messages)
        whole = prompt(cuts[0])
        if len(whole[1]) <= room:
            return whole
        least = prompt(cuts[-1])
        if len(least[1]) > room:
            raise EngineError(
                f"a prompt of {len(least[1])} tokens has no room in a context of {size}: more [llama_cpp]"
                " context_tokens (as far as the model was made for), or shorter instructions in the agent file"
            )
        first, last = 0, len(cuts) - 1
        while last - first > 1:
            middle = (first + last) // 2
            tried = prompt(cuts[middle])
            if len(tried[1]) <= room:
                last, least = middle, tried
            else:
                first = middle
        return least

    async def close(self) -> None:
        """Waits for what is being answered to stop."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            await asyncio.to_thread(loaded.slots.close)
            loaded.weights.close()
        self._reader.shutdown(wait=False)


def cut_places(messages: Sequence[Message]) -> tuple[int, list[int]]:
    """How many messages at the start always stay, and from which ones on the others may be kept.

    The first place keeps everything, the last one only what follows the caller's last words, and those.
    """
    head = next((number for number, each in enumerate(messages) if each.role != "system"), len(messages))
    callers = [number for number, each in enumerate(messages) if each.role == "user" and number > head]
    return head, [head, *callers[DROPPED_AT_ONCE - 1 : -1 : DROPPED_AT_ONCE], *callers[-1:]]


def _harmless(message: Message, weights: Weights) -> Message:
    calls = tuple(call._replace(arguments=weights.harmless(call.arguments)) for call in message.tool_calls)
    return message._replace(text=weights.harmless(message.text), tool_calls=calls)


def _run(weights: Weights, numpy: Any, context: Context, task: Task, give: Callable[[Delta], None]) -> None:
    Answer(weights, numpy, context, task, give).run()


async def _from_thread(slot: Slot, work: Callable[[Callable[[Delta], None]], None]) -> AsyncGenerator[Delta, None]:
    """What work on a slot's thread gives. Leaving it stops the work and waits until it has stopped."""
    loop = asyncio.get_running_loop()
    deltas: asyncio.Queue[Delta | None] = asyncio.Queue()
    left = False

    def give(delta: Delta) -> None:
        loop.call_soon_threadsafe(deltas.put_nowait, delta)

    def run() -> None:
        try:
            slot.context.allow()
            if not left:
                work(give)
        except StoppedError:
            pass  # As it was asked to.
        finally:
            loop.call_soon_threadsafe(deltas.put_nowait, None)

    done = loop.run_in_executor(slot.thread, run)
    try:
        while (delta := await deltas.get()) is not None:
            yield delta
        await done
    finally:
        if not done.done():
            left = True
            slot.context.stop()
            await asyncio.wait((done,))
            done.exception()


def _template_file(name: str) -> str:
    try:
        return Path(name).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"[llama_cpp] chat_template = {name!r} can't be read") from error


def create(section: LlmSection, settings: Settings) -> ChatEngine:
    """The engine.

    Raises:
        MissingPackageError: llama-cpp-python is missing.
        MissingModelError: the model is not on this machine.
    """
    path = find_model(settings.llama_cpp.model, settings.models, setting="[llama_cpp] model")
    return ChatEngine(LlamaCppModel(settings.llama_cpp, path, patience_ms=section.deadline_ms), section)
