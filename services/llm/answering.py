"""One answer: the engine's steps put on record, its tools run, its failures turned into an apology.

The utterance of an answer holds the engine's sentences, in their order, and between them what is said to bridge a wait.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import msgspec

from bus.clock import Clock
from bus.logs import get_logger
from bus.metrics import EngineFigures, count_degraded
from bus.metrics.engines import LLM_SECONDS
from schemas.llm import ListenFor, utterance_of
from services.llm.conversation import Conversation
from services.llm.deadline import Deadline
from services.llm.degraded import Degraded, Reply
from services.llm.engine import Answer, Engine, EngineError, Request, Sentence, ToolCall, ToolResult
from services.llm.failover import STAGE, FailoverRun
from services.llm.fillers import Fillers
from services.llm.guessing import Steps
from services.llm.manners import Manners
from services.llm.record import AgentRecord, Timing
from services.llm.tools import Toolbox, ToolContext, ToolOutcome, unverified
from services.resilience.attempts import FAILED, TAKEOVER_HEARD, TIMEOUT, StageDownError

log = get_logger(__name__)

ENGINES = EngineFigures(STAGE)
WHY = {"engine_failed": FAILED, "engine_timeout": TIMEOUT}
"""What an engine that is alone is counted under; several count their own tries."""
HEARS = {"offer": "the offer of a person", "goodbye": "a goodbye, and the end of the call"}
"""What the caller hears where it is no apology."""


class Cause(NamedTuple):
    """What an answer answers.

    Attributes:
        request: what the engine is told.
        received_us: when the turn's end was received: the latency figures count from there.
        bus_hop_ms: how long its event was on its way.
        preemptive: ``hit``, ``miss`` or empty (``schemas.llm.LlmDone``).
        steps: the run that was opened on a guess; None: there is none, or it was a miss.
        reply: the answer, where it needs no engine.
    """

    request: Request
    received_us: int
    bus_hop_ms: float = 0.0
    preemptive: str = ""
    steps: Steps | None = None
    reply: Reply | None = None


class Answering:
    """Answers one turn.

    Args:
        degraded: what the caller gets where a stage is down.
        fillers: said where the caller waits; ``filler_ms``: for this long.
        tasks: keeps running tools; one that runs when the answer is interrupted still ends and is recorded.
    """

    def __init__(
        self,
        cause: Cause,
        conversation: Conversation,
        record: AgentRecord,
        engine: Engine,
        toolbox: Toolbox,
        clock: Clock,
        *,
        deadline_ms: int,
        degraded: Degraded,
        manners: Manners,
        filler_ms: int,
        tasks: set[asyncio.Task[ToolResult]],
    ) -> None:
        self.turn = cause.request.turn
        self.utterance_id = utterance_of(self.turn)
        self._cause = cause
        self._conversation = conversation
        self._record = record
        self._engine = engine
        self._toolbox = toolbox
        self._clock = clock
        self._deadline_ms = deadline_ms
        self._degraded = degraded
        self._language = manners.language
        self._tasks = tasks
        self._used: set[str] = set()
        self._sentences = 0
        self._opened_us: int | None = None
        self._ttfs_ms: float | None = None
        self._takeovers = 0
        self._fillers = Fillers(
            manners.fillers if self.turn else (),
            conversation,
            self.utterance_id,
            clock,
            self._fill,
            filler_ms=filler_ms,
            since_us=cause.received_us,
        )

    async def run(self) -> None:
        """Answer. Whatever goes wrong is recorded and apologised for; only a cancellation comes through."""
        steps = self._cause.steps
        if self._cause.reply is not None:
            self._reply(self._cause.reply)
            return
        try:
            steps = steps or Steps(self._engine.open(self._cause.request), self._clock)
            await self._play(steps)
        except StageDownError as error:
            self._apologise("stage_down", str(error))
        except TimeoutError:
            if steps is not None and isinstance(steps.run, FailoverRun):
                self._apologise("stage_down", str(steps.run.down()))
            else:
                self._apologise("engine_timeout", f"no step within {self._deadline_ms} ms")
        except EngineError as error:
            self._apologise("engine_failed", str(error))
        except Exception as error:
            # An engine is somebody else's code; its text may quote the caller, so only its kind is told.
            self._apologise("engine_failed", f"{self._engine.name} raised {type(error).__name__}")

    def look(self) -> None:
        """To be called after each event while it runs: what was heard decides whether the caller waits in silence."""
        self._fillers.look()

    async def _play(self, steps: Steps) -> None:
        self._opened_us = steps.opened_us
        try:
            while True:
                self._fillers.wait()
                async with Deadline(self._clock, self._deadline_ms):
                    step = await steps.next()
                self._notice(steps)
                match step:
                    case Sentence():
                        self._say(step)
                    case ToolCall():
                        steps.run.return_tool(step.id, await self._use(step))
                    case Answer():
                        self._fillers.go_on()
                        self._end(step, steps)
                        return
                    case _:
                        raise EngineError(f"{self._engine.name} ended without an answer")
        finally:
            self._fillers.go_on()
            await steps.close()
            self._notice(steps)

    def _notice(self, steps: Steps) -> None:
        """Tell who took over, where several engines stand in for each other."""
        if isinstance(steps.run, FailoverRun):
            for takeover in steps.run.takeovers[self._takeovers :]:
                self._takeovers += 1
                self._record.failure(takeover.code, self.turn, takeover.detail, hears=TAKEOVER_HEARD)

    def _say(self, sentence: Sentence) -> None:
        """The engine's sentences are counted apart from what bridged a wait: the one that a predecessor has said stands
        at whatever index it was said."""
        utterance = self._conversation.utterance(self.utterance_id)
        if self._sentences >= len(utterance.answer):
            self._record.sentence(self.utterance_id, utterance.next_index, sentence.text, sentence.language)
        self._sentences += 1
        if self._ttfs_ms is None:
            self._ttfs_ms = self._since(self._clock.now_us())

    def _fill(self, text: str) -> None:
        utterance = self._conversation.utterance(self.utterance_id)
        self._record.sentence(self.utterance_id, utterance.next_index, text, self._language, filler=True)

    def _end(self, answer: Answer, steps: Steps) -> None:
        engine = steps.run.engine if isinstance(steps.run, FailoverRun) else ""
        asked_us = max(steps.opened_us, self._cause.received_us)
        LLM_SECONDS.observe(max(0, self._clock.now_us() - asked_us) / 1_000_000, engine=engine or self._engine.name)
        menu, answer = self._degraded.follow(self._conversation, self.turn, answer)
        self._add(menu)
        self._record.done(
            self.utterance_id,
            intent=answer.intent,
            then=answer.then,
            listen_for=_named(answer),
            slots=answer.slots,
            timing=self.timing(answer.ttft_ms),
            engine=engine,
        )

    def timing(self, ttft_ms: float | None = None) -> Timing:
        """How the answer came about, as far as it has. ``ttft_ms``: since the engine was asked; None: it knows none."""
        cause, opened_us, ttfs_ms = self._cause, self._opened_us, self._ttfs_ms or 0.0
        first_us = None if ttft_ms is None or opened_us is None else opened_us + round(ttft_ms * 1000)
        return Timing(
            ttft_ms=ttfs_ms if first_us is None else self._since(first_us),
            ttfs_ms=ttfs_ms,
            preemptive=cause.preemptive,
            bus_hop_ms=cause.bus_hop_ms,
            queue_wait_ms=0.0 if opened_us is None else self._since(opened_us),
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
        spec = self._toolbox.specs.get(name)
        if spec is not None and (argument := unverified(spec, arguments, self._conversation.customer_data())):
            # Whatever engine it is: on behalf of whom it runs is decided by what tools have said, and by nothing else.
            detail = f"tool {name!r}: {argument} is of nobody who was verified in this call"
            outcome = ToolOutcome({}, "invalid_argument", detail)
        else:
            outcome = await self._toolbox.call(name, arguments, context)
        self._record.tool_returned(self.turn, tool_call_id, name, outcome)
        if outcome.error:
            self._record.failure(outcome.error, self.turn, outcome.detail)
            log.warning("tool_failed", message=outcome.detail, call_id=self._conversation.call_id)
        return ToolResult(outcome.result, outcome.error)

    def _apologise(self, code: str, detail: str) -> None:
        """No engine has answered: say what callers get then, after what was said already."""
        if code in WHY:
            ENGINES.error(self._engine.name, WHY[code])
        log.error(code, message=detail, call_id=self._conversation.call_id)
        reply = self._degraded.down(self._conversation, self.turn, code)
        self._record.failure(code, self.turn, detail, hears=HEARS.get(reply.what, ""))
        self._reply(reply)

    def _reply(self, reply: Reply) -> None:
        count_degraded(reply.stage, reply.what)
        self._add(reply.sentences)
        self._record.done(
            self.utterance_id,
            intent=self._conversation.intent,
            then=reply.then,
            listen_for=reply.listen_for,
            slots=reply.slots,
            timing=self.timing(),
        )

    def _add(self, texts: tuple[str, ...]) -> None:
        """Sentences that are no engine's; those that a predecessor has said are not said again."""
        utterance = self._conversation.utterance(self.utterance_id)
        said = {utterance.sentences[index] for index in utterance.answer}
        for text in texts:
            if text not in said:
                self._record.sentence(self.utterance_id, utterance.next_index, text, self._language)

    def _since(self, moment_us: int) -> float:
        """From the turn's end, as it was received, to a moment; 0 where that lies before it."""
        return max(0, moment_us - self._cause.received_us) / 1000


def _named(answer: Answer) -> ListenFor:
    """What to listen for, under the name of the answer's state: by it the next request finds its place."""
    return msgspec.structs.replace(answer.listen_for, state=answer.state or answer.listen_for.state)
