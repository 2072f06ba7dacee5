"""One call of the asr stage: frames in, transcripts and turns out.

The caller's frames come in order from ``feed.py``; ``hearing.py`` makes windows of them, the turn machine decides, runs
of the engine recognise, ``events.py`` says it on the bus. A successor folds the call's events (``fold.py``), asks the
edge for the frames after the last final, and hears them faster than real time, on media time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from bus.clock import Clock, Timer
from bus.consume import CallFeed, follow_call
from bus.control import send_control, serve_control
from bus.interface import Connection, Subscription
from bus.logs import get_logger
from bus.ownership import Claim
from bus.publish import Recorder
from config.settings import Settings
from schemas.audio import AudioFrame
from schemas.base import Event
from schemas.call import CallEnded, DtmfIn
from schemas.control import ControlMessage, ControlReply, Flush
from schemas.llm import LlmDone
from schemas.playout import PlayoutFinished, PlayoutFlushed, PlayoutStarted
from services.asr.detector import VoiceModel
from services.asr.engine import Engine
from services.asr.events import CallEvents, OpenedRun
from services.asr.feed import AudioFeed
from services.asr.fold import NAMES, OWN, CallFold
from services.asr.hearing import FILL_LIMIT_MS, TICKS_PER_MS, Hearing
from services.asr.pool import EnginePool
from services.asr.recognition import Outcome, Recognition
from services.asr.turn import values as v
from services.asr.turn.machine import TurnMachine

log = get_logger(__name__)

PARTIAL_INTERVAL_US = 100_000
"""No more than ten partials a second go out."""
STALE_MS = 1000
"""Audio older than this does not stop the agent: what it was an answer to is over."""
SILENT_LINE_MS = 100
"""No frame for so long: the line is silent (a sender without voice sends nothing), and the wall clock moves time."""
FLUSH_ATTEMPTS = 3
FLUSH_TIMEOUT_MS = 300
FRAME_MS = 20
CLOSE_MS = 2000


class Tools(NamedTuple):
    """What all calls of a worker share. ``on_over``: called with the id of a call that ended."""

    connection: Connection
    settings: Settings
    worker: str
    engine: Engine
    detectors: VoiceModel
    pool: EnginePool
    clock: Clock
    figures: dict[str, float]
    on_over: Callable[[str], Awaitable[None]]


class _Active(NamedTuple):
    opened: OpenedRun
    recognition: Recognition


class AsrCall:
    """Hears one call until it ends or is released."""

    def __init__(self, tools: Tools, claim: Claim) -> None:
        self._tools = tools
        self._claim = claim
        self._fold = CallFold()
        self._machine = TurnMachine(tools.settings.turn)
        self._hearing = Hearing(tools.detectors.open())
        self._recorder = Recorder(tools.connection, service="asr")
        self._recorder.on_fenced = lambda _: self._let_go("superseded")
        self._events = CallEvents(
            self._recorder,
            call_id=claim.call_id,
            tenant=claim.tenant,
            epoch=claim.epoch,
            worker=tools.worker,
            engine=tools.engine.name,
            now_us=tools.clock.now_us,
            media_now_ms=self._live_ms,
        )
        self._audio = AudioFeed(
            tools.connection,
            claim.call_id,
            claim.tenant,
            tools.clock,
            handle=self._hear,
            ready=self._may_catch_up,
            lost=self._lose,
            caught_up=self._release_keys,
        )
        self._feed: CallFeed | None = None
        self._control: Subscription | None = None
        self._live = self._closed = self._working = False
        self._turn_open_at_start = False
        self._inputs: deque[tuple[v.Input, int]] = deque()
        self._keys: list[DtmfIn] = []
        self._run: int | None = None
        self._runs: dict[int, _Active] = {}
        self._finishing: dict[int, v.FinishRun] = {}
        self._partial_us = 0
        self._partial_waiting: tuple[OpenedRun, str] | None = None
        self._timer: Timer | None = None
        self._heard_us = tools.clock.now_us()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to hear; a successor's catching up goes on in the background."""
        tools, claim = self._tools, self._claim
        await self._audio.open()
        self._control = await serve_control(
            tools.connection, "asr", claim.call_id, claim.tenant, self._refuse, service="asr"
        )
        if not claim.takeover:
            self._begin()
        self._feed = await follow_call(
            tools.connection, claim.call_id, claim.tenant, self._on_event, names=NAMES, service="asr"
        )
        if claim.takeover:
            self._spawn(self._take_over(self._feed))

    async def release(self, why: str) -> None:
        """Let go at once and say nothing more."""
        await self._close(0)
        log.info("call_released", message=f"the call went to another worker: {why}", call_id=self._claim.call_id)

    async def _take_over(self, feed: CallFeed) -> None:
        await feed.caught_up.wait()
        await self._events.prepare()
        if not self._closed:
            self._begin()

    def _begin(self) -> None:
        """Hear from the last final on."""
        self._live = True
        start = self._fold.start
        self._turn_open_at_start = self._fold.turn_open
        self._keys = list(self._fold.keys)
        self._machine = TurnMachine(self._tools.settings.turn, start)
        replay = self._claim.takeover and self._fold.answered is not None
        self._audio.begin(self._fold.through_sequence + 1, replay=replay)
        leftover = self._machine.deadline_ms
        if leftover is not None and not start.voiced:
            # The predecessor had finished the caller's last run and died before it said that the turn ended.
            self._input(v.Tick(), leftover)
        self._release_keys()
        self._arm()

    # What comes in.

    def _on_event(self, event: Event) -> None:
        self._fold.apply(event)
        if self._closed or not self._live:
            if isinstance(event, CallEnded):
                self._over()
            return
        match event:
            case CallEnded():
                self._over()
            case DtmfIn():
                self._keys.append(event)
                self._release_keys()
            case LlmDone():
                self._input(v.Expect(event.listen_for.digits), self._now_ms())
            case PlayoutStarted():
                self._input(v.PlayoutBegan(event.utterance_id), self._now_ms())
            case PlayoutFinished() | PlayoutFlushed():
                self._input(v.PlayoutEnded(event.utterance_id), self._now_ms())
            case _ if isinstance(event, OWN) and event.epoch > self._claim.epoch:
                self._let_go("superseded")
            case _:
                pass

    def _hear(self, frame: AudioFrame) -> None:
        hearing = self._hearing
        start_ms = frame.media_time // TICKS_PER_MS
        if hearing.sequence >= 0 and start_ms - hearing.end_ms > FILL_LIMIT_MS:
            self._input(v.Tick(), start_ms)
        pieces, windows = hearing.push(frame, muted=self._fold.held)
        self._heard_us = self._tools.clock.now_us()
        if self._run is not None:
            recognition = self._runs[self._run].recognition
            hearing.forget_history()
            for piece in pieces:
                recognition.feed(piece)
        # Only what is caught up on can be stale: clocks of two machines differ, and one may be set in mid-call.
        stale = self._audio.behind and self._live_ms() - hearing.end_ms > STALE_MS
        for window in windows:
            probability, start, end, level_dbfs = window
            self._input(v.Heard(probability, start, end, stale, level_dbfs), end)
        if self._keys:
            self._release_keys()
        self._say_partial()

    def _release_keys(self) -> None:
        """Keys count when the audio has come to their time; at once where it is live."""
        while self._keys and (not self._audio.behind or self._keys[0].media_time_ms <= self._hearing.end_ms):
            key = self._keys.pop(0)
            self._input(v.Key(key.digit, key.media_time_ms), max(self._now_ms(), key.media_time_ms))

    def _lose(self, frames: int) -> None:
        """Frames are gone. A successor need not mind those of a time when the caller was known to be silent."""
        silent = self._claim.takeover and self._hearing.sequence < 0 and not self._turn_open_at_start
        if not silent:
            self._count("media_lost")
            detail = f"{frames} frames came from no ring"
            self._events.failure("media_lost", detail, turn=self._machine.turn, gap_ms=frames * FRAME_MS)

    # The machine.

    def _input(self, given: v.Input, now_ms: int) -> None:
        self._inputs.append((given, now_ms))
        if self._working or self._closed:
            return
        self._working = True
        try:
            while self._inputs:
                for command in self._machine.handle(*self._inputs.popleft()):
                    self._execute(command)
        finally:
            self._working = False
        if self._timer is None:
            self._arm()

    def _execute(self, command: v.Command) -> None:
        match command:
            case v.VadStarted():
                self._events.vad_started(command)
            case v.VadStopped():
                self._events.vad_stopped(command)
            case v.TurnStarted():
                self._events.turn_started(command)
            case v.OpenRun():
                self._open_run(command)
            case v.FinishRun():
                self._finish_run(command)
            case v.EndTurn():
                self._count("turns")
                self._events.turn_ended(command)
            case v.Interrupt():
                self._count("interruptions")
                self._events.turn_interrupted(command)
                self._spawn(self._flush(command.utterance_id))

    def _open_run(self, command: v.OpenRun) -> None:
        tools, run = self._tools, command.run
        opened = OpenedRun(command.turn, command.part)
        recognition = Recognition(
            tools.engine,
            self._fold.listen_for,
            pool=tools.pool,
            clock=tools.clock,
            deadline_ms=tools.settings.asr.deadline_ms,
            on_partial=lambda text: self._on_partial(run, text),
            on_outcome=lambda outcome: self._on_outcome(run, outcome),
            on_idle=self._audio.resume,
        )
        self._runs[run] = _Active(opened, recognition)
        self._run = run
        for piece in self._hearing.take_history(command.since_ms):
            recognition.feed(piece)

    def _finish_run(self, command: v.FinishRun) -> None:
        self._run = None
        self._finishing[command.run] = command
        self._runs[command.run].recognition.finish()

    def _on_partial(self, run: int, text: str) -> None:
        self._partial_waiting = (self._runs[run].opened, text)
        self._say_partial()
        self._input(v.Partial(run, text), self._now_ms())

    def _say_partial(self) -> None:
        if self._partial_waiting is None:
            return
        now_us = self._tools.clock.now_us()
        if now_us - self._partial_us >= PARTIAL_INTERVAL_US:
            self._events.partial(*self._partial_waiting)
            self._partial_waiting = None
            self._partial_us = now_us

    def _on_outcome(self, run: int, outcome: Outcome) -> None:
        active, speech = self._runs.pop(run), self._finishing.pop(run)
        self._partial_waiting = None
        if outcome.error:
            self._count("engine_failures")
            self._events.failure(outcome.error, outcome.detail, turn=active.opened.turn)
        # Also where nothing was understood: a final is the checkpoint of a successor.
        self._events.final(active.opened, outcome, speech, max(0, active.recognition.through_sequence))
        self._input(v.Final(run, outcome.text, outcome.confidence, bool(outcome.error)), self._now_ms())
        self._audio.resume()

    def _may_catch_up(self) -> bool:
        """Old frames wait for the engine, so that the machine sees each partial where it saw it the first time."""
        return not any(active.recognition.busy for active in self._runs.values())

    # Time.

    def _live_ms(self) -> float:
        """The caller's media time now, by the wall clock."""
        answered = self._fold.answered
        if answered is None:
            return float(self._hearing.end_ms)
        return (self._tools.clock.now_us() - answered.media_epoch_us) / 1000

    def _now_ms(self) -> int:
        """Media time of what is being heard."""
        if self._hearing.sequence < 0 and not self._claim.takeover:
            return max(0, int(self._live_ms()))
        if self._audio.behind:
            return self._hearing.end_ms
        return self._hearing.end_ms + (self._tools.clock.now_us() - self._heard_us) // 1000

    def _arm(self) -> None:
        """Have time move while no frames come."""
        deadline = self._machine.deadline_ms
        if deadline is None or self._closed:
            return
        wait_ms = max(0, deadline - self._now_ms()) + SILENT_LINE_MS
        self._timer = self._tools.clock.call_later(wait_ms, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._closed:
            return
        silent_us = self._tools.clock.now_us() - self._heard_us
        if not self._audio.behind and silent_us >= SILENT_LINE_MS * 1000:
            self._input(v.Tick(), self._now_ms())
        if self._timer is None:
            self._arm()

    # The end, and what else goes out.

    async def _flush(self, utterance_id: int) -> None:
        command = Flush(
            call_id=self._claim.call_id, tenant=self._claim.tenant, utterance_id=utterance_id, reason="interruption"
        )
        for _ in range(FLUSH_ATTEMPTS):
            reply = await send_control(self._tools.connection, "edge", command, timeout_ms=FLUSH_TIMEOUT_MS)
            if reply.ok or reply.error == "unknown_utterance":
                return
        log.warning("flush_failed", message=f"the edge did not flush: {reply.error}", call_id=self._claim.call_id)

    def _refuse(self, command: ControlMessage) -> ControlReply:
        return ControlReply(ok=False, error="not_supported", message="the asr stage takes no commands")

    def _count(self, figure: str) -> None:
        self._tools.figures[figure] = self._tools.figures.get(figure, 0.0) + 1

    def _over(self) -> None:
        if not self._closed:
            self._spawn(self._end())

    async def _end(self) -> None:
        await self._close(CLOSE_MS)
        await self._tools.on_over(self._claim.call_id)

    def _let_go(self, why: str) -> None:
        if not self._closed:
            self._spawn(self.release(why))

    async def _close(self, flush_ms: int) -> None:
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for active in self._runs.values():
            active.recognition.cancel()
        await self._audio.close()
        for open_thing in (self._feed, self._control):
            if open_thing is not None:
                await open_thing.close()
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
        await self._recorder.close(flush_ms)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
