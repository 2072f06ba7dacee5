"""One answer: the engine's steps put on record, its tools run, its failures turned into an apology."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from bus.clock import Clock
from bus.logs import get_logger
from schemas.llm import ListenFor, utterance_of
from services.llm.conversation import Conversation
from services.llm.deadline import Deadline
from services.llm.engine import Answer, Engine, EngineError, Request, Run, Sentence, Step, ToolCall, ToolResult
from services.llm.record import AgentRecord
from services.llm.tools import Toolbox, ToolContext

log = get_logger(__name__)

APOLOGY = ("I am sorry, something went wrong.", "Please say that again.")


class Answering:
    """Answers one turn.

    Args:
        received_us: when the turn's end was received: its latency figures count from there.
        tasks: keeps running tools; one that runs when the answer is interrupted still ends and is recorded.
    """

    def __init__(
        self,
        turn: int,
        conversation: Conversation,
        record: AgentRecord,
        engine: Engine,
        toolbox: Toolbox,
        clock: Clock,
        *,
        deadline_ms: int,
        received_us: int,
        tasks: set[asyncio.Task[ToolResult]],
    ) -> None:
        self.turn = turn
        self.utterance_id = utterance_of(turn)
        self._conversation = conversation
        self._record = record
        self._engine = engine
        self._toolbox = toolbox
        self._clock = clock
        self._deadline_ms = deadline_ms
        self._received_us = received_us
        self._tasks = tasks
        self._used: set[str] = set()
        self._sentences = 0
        self._ttfs_ms = 0.0

    async def run(self) -> None:
        """Answer. Whatever goes wrong is recorded and apologised for; only a cancellation comes through."""
        try:
            await self._play(self._engine.open(self._request()))
        except TimeoutError:
            self._apologise("engine_timeout", f"no step within {self._deadline_ms} ms")
        except EngineError as error:
            self._apologise("engine_failed", str(error))
        except Exception as error:
            # An engine is somebody else's code; its text may quote the caller, so only its kind is told.
            self._apologise("engine_failed", f"{self._engine.name} raised {type(error).__name__}")

    def _request(self) -> Request:
        conversation, ended = self._conversation, self._conversation.turns.get(self.turn)
        stored = conversation.utterance(self.utterance_id).sentences
        return Request(
            call_id=conversation.call_id,
            tenant=conversation.tenant,
            turn=self.turn,
            text=ended.text if ended else "",
            digits=ended.digits if ended else "",
            why=ended.why if ended else "",
            history=conversation.history(before_turn=self.turn),
            state=conversation.listen_for.state,
            slots=dict(conversation.slots),
            said=tuple(stored[index] for index in sorted(stored)),
        )

    async def _play(self, run: Run) -> None:
        opened_us = self._clock.now_us()
        steps = aiter(run)
        try:
            while True:
                async with Deadline(self._clock, self._deadline_ms):
                    step: Step | None = await anext(steps, None)
                match step:
                    case Sentence():
                        self._say(step)
                    case ToolCall():
                        run.return_tool(step.id, await self._use(step))
                    case Answer():
                        self._end(step, opened_us)
                        return
                    case _:
                        raise EngineError(f"{self._engine.name} ended without an answer")
        finally:
            # Also after the last step: a run that is over takes it as nothing.
            await run.cancel()
            if isinstance(steps, AsyncGenerator):
                await steps.aclose()

    def _say(self, sentence: Sentence) -> None:
        self._record.sentence(self.utterance_id, self._sentences, sentence.text, sentence.language)
        self._ttfs_ms = self._ttfs_ms or self._since(self._received_us)
        self._sentences += 1

    def _end(self, answer: Answer, opened_us: int) -> None:
        waited_ms = max(0, opened_us - self._received_us) / 1000
        self._record.done(
            self.utterance_id,
            intent=answer.intent,
            then=answer.then,
            listen_for=_named(answer),
            slots=answer.slots,
            ttft_ms=self._ttfs_ms if answer.ttft_ms is None else waited_ms + answer.ttft_ms,
            ttfs_ms=self._ttfs_ms,
        )

    async def _use(self, step: ToolCall) -> ToolResult:
        tool_call_id, known = self._identify(step)
        self._used.add(tool_call_id)
        returned = self._conversation.returned.get(tool_call_id)
        if returned is not None:
            return ToolResult(returned.result, returned.error)
        if not known:
            self._record.tool_called(self.turn, tool_call_id, step.name, step.arguments)
        task = asyncio.get_running_loop().create_task(
            self._work(tool_call_id, step.name, step.arguments), name="llm-tool"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    def _identify(self, step: ToolCall) -> tuple[str, bool]:
        """The id of a tool call, and whether it is on record: one of the same name and arguments that a predecessor
        made for this turn is the same call."""
        known = self._conversation.tool_calls(self.turn)
        for called in known:
            same = called.name == step.name and called.arguments == step.arguments
            if same and called.tool_call_id not in self._used:
                return called.tool_call_id, True
        return f"{self._conversation.call_id}-{self.turn}-{len(known)}", False

    async def _work(self, tool_call_id: str, name: str, arguments: dict[str, Any]) -> ToolResult:
        context = ToolContext(tool_call_id, self._conversation.call_id, self._conversation.tenant)
        outcome = await self._toolbox.call(name, arguments, context)
        self._record.tool_returned(self.turn, tool_call_id, name, outcome)
        if outcome.error:
            self._record.failure(outcome.error, self.turn, outcome.detail)
            log.warning("tool_failed", message=outcome.detail, call_id=self._conversation.call_id)
        return ToolResult(outcome.result, outcome.error)

    def _apologise(self, code: str, detail: str) -> None:
        """Say that it went wrong, after what was said already, and listen on."""
        log.error(code, message=detail, call_id=self._conversation.call_id)
        self._record.failure(code, self.turn, detail)
        utterance = self._conversation.utterance(self.utterance_id)
        begin = max(utterance.sentences, default=-1) + 1
        for index, text in enumerate(APOLOGY, begin):
            self._record.sentence(self.utterance_id, index, text)
        self._record.still_listening(self.utterance_id)

    def _since(self, moment_us: int) -> float:
        return max(0, self._clock.now_us() - moment_us) / 1000


def _named(answer: Answer) -> ListenFor:
    """What to listen for, under the name of the answer's state: by it the next request finds its place."""
    return msgspec.structs.replace(answer.listen_for, state=answer.state or answer.listen_for.state)
