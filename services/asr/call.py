"""One call of the asr stage: frames in, transcripts and turns out.

The caller's frames come in order from ``feed.py``; ``hearing.py`` makes windows of them, the turn machine decides, runs
of the engine (``runs.py``) recognise, ``judge.py`` asks the turn model, ``events.py`` says it on the bus, and
``commands.py`` tells the edge what the agent's speech has to do. A successor folds the call's events (``fold.py``),
asks the edge for the frames after the last final, and hears them faster than real time, on media time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from bus.clock import Clock, Timer
from bus.consume import CallFeed, follow_call
from bus.control import serve_control
from bus.interface import Connection, Subscription
from bus.logs import get_logger
from bus.ownership import Claim
from bus.publish import Recorder
from config.settings import Settings
from schemas.audio import AudioFrame
from schemas.base import Event
from schemas.call import CallEnded, DtmfIn
from schemas.control import ControlMessage, ControlReply
from schemas.llm import ListenFor
from services.asr.commands import CallCommands
from services.asr.consequences import Consequences
from services.asr.detector import VoiceModel
from services.asr.engine import Engine
from services.asr.events import CallEvents
from services.asr.feed import AudioFeed
from services.asr.fold import NAMES, OWN, CallFold
from services.asr.following import inputs_of
from services.asr.hearing import FILL_LIMIT_MS, TICKS_PER_MS, Hearing
from services.asr.judge import TurnDesk, TurnJudge
from services.asr.measuring import TurnMeasures
from services.asr.pool import EnginePool
from services.asr.runs import CallRuns
from services.asr.turn import values as v
from services.asr.turn.backchannels import usual_backchannels
from services.asr.turn.floor import FloorState
from services.asr.turn.machine import TurnMachine

log = get_logger(__name__)

AGENT_SILENT = (FloorState.SILENT, FloorState.YIELDED)
STALE_MS = 1000
"""Audio older than this does not stop the agent: what it was an answer to is over."""
SILENT_LINE_MS = 100
"""No frame for so long: the line is silent (a sender without voice sends nothing), and the wall clock moves time."""
HELD_UP_MS = 50
"""A timer so late says that this process got no time: what came meanwhile is heard before any silence is counted."""
FRAME_MS = 20
CLOSE_MS = 2000


class Tools(NamedTuple):
    """What all calls of a worker share. ``on_over``: called with the id of a call that ended. ``desk``: where the
    turn model is asked; None where silence alone says when a caller is done."""

    connection: Connection
    settings: Settings
    worker: str
    engine: Engine
    detectors: VoiceModel
    desk: TurnDesk | None
    pool: EnginePool
    clock: Clock
    figures: dict[str, float]
    on_over: Callable[[str], Awaitable[None]]


class AsrCall:
    """Hears one call until it ends or is released."""

    def __init__(self, tools: Tools, claim: Claim) -> None:
        self._tools = tools
        self._claim = claim
        self._fold = CallFold()
        self._machine = TurnMachine(tools.settings.turn, language=tools.settings.asr.language)
        self._hearing = Hearing(tools.detectors.open())
        self._recorder = Recorder(tools.connection, service="asr")
        self._recorder.on_fenced = lambda _: self._let_go("superseded")
        self._events = self._tell_of()
        self._commands = CallCommands(tools.connection, claim.call_id, claim.tenant)
        self._consequences = Consequences(
            self._events, self._commands, apology=tools.settings.tts.apology, count=self._count
        )
        self._audio = AudioFeed(
            tools.connection,
            claim.call_id,
            claim.tenant,
            tools.clock,
            handle=self._hear,
            ready=self._may_catch_up,
            lost=self._lose,
            caught_up=self._caught_up,
        )
        self._runs = CallRuns(
            tools.engine,
            tools.pool,
            tools.clock,
            deadline_ms=tools.settings.asr.deadline_ms,
            events=self._events,
            give=lambda given: self._input(given, self._now_ms()),
            on_idle=self._audio.resume,
            count=self._count,
        )
        self._judge: TurnJudge | None = None
        if tools.desk is not None:
            self._judge = TurnJudge(tools.desk, on_verdict=self._on_verdict, on_failure=self._on_no_verdict)
        self._measures = TurnMeasures()
        self._feed: CallFeed | None = None
        self._control: Subscription | None = None
        self._live = self._closed = self._working = False
        self._turn_open_at_start = False
        self._inputs: deque[tuple[v.Input, int]] = deque()
        self._keys: list[DtmfIn] = []
        self._timer: Timer | None = None
        self._timer_ms = 0
        self._timer_due_us = 0
        self._held_up = False
        self._heard_us = tools.clock.elapsed_us()
        self._tasks: set[asyncio.Task[None]] = set()

    def _tell_of(self) -> CallEvents:
        tools, claim = self._tools, self._claim
        return CallEvents(
            self._recorder,
            call_id=claim.call_id,
            tenant=claim.tenant,
            epoch=claim.epoch,
            worker=tools.worker,
            engine=tools.engine.name,
            now_us=tools.clock.now_us,
            media_now_ms=self._live_ms,
        )

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
        self._machine = TurnMachine(self._tools.settings.turn, start, self._tools.settings.asr.language)
        if self._fold.held:
            self._input(v.Held(True), self._now_ms())
        if start.playing is not None and start.playing in start.interrupted:
            # The predecessor may have died between its word and the command; a second one does no harm.
            self._commands.flush(start.playing)
        self._consequences.measured(self._measures.due(), self._measures.facts)
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
        if not self._closed and self._live:
            found = self._measures.apply(event, self._tools.clock.now_us())
            self._consequences.measured(found, self._measures.facts)
        else:
            self._measures.fold(event)
        if isinstance(event, CallEnded):
            self._over()
        elif self._live and not self._closed:
            self._follow(event)

    def _follow(self, event: Event) -> None:
        if isinstance(event, OWN):
            if event.epoch > self._claim.epoch:
                self._let_go("superseded")
            return
        if isinstance(event, DtmfIn):
            self._keys.append(event)
            self._release_keys()
        for given in inputs_of(event):
            self._input(given, self._now_ms())

    def _hear(self, frame: AudioFrame) -> None:
        hearing = self._hearing
        start_ms = frame.media_time // TICKS_PER_MS
        if hearing.sequence >= 0 and start_ms - hearing.end_ms > FILL_LIMIT_MS:
            self._input(v.Tick(), start_ms)
        pieces, windows = hearing.push(frame, muted=self._fold.held)
        self._heard_us = self._tools.clock.elapsed_us()
        if self._judge is not None:
            for piece in pieces:
                self._judge.feed(piece)
        if self._runs.listening:
            hearing.forget_history()
            self._runs.feed(pieces)
        # Only what is caught up on can be stale: clocks of two machines differ, and one may be set in mid-call.
        stale = self._audio.behind and self._live_ms() - hearing.end_ms > STALE_MS
        for window in windows:
            probability, start, end, level_dbfs, sound_ms = window
            self._input(v.Heard(probability, start, end, stale, level_dbfs, sound_ms), end)
        if self._keys:
            self._release_keys()
        self._runs.say_partial()

    def _caught_up(self) -> None:
        self._release_keys()
        self._arm()

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
        self._arm()

    def _execute(self, command: v.Command) -> None:
        match command:
            case v.OpenRun():
                self._runs.open(command, self._expected(), self._hearing.take_history(command.since_ms))
            case v.FinishRun():
                self._runs.finish(command)
            case v.Ask():
                if self._judge is not None:
                    self._judge.ask(command)
            case _:
                self._consequences.carry_out(command)

    def _expected(self) -> ListenFor:
        """What may be heard now: over the agent's voice also words that only say "I am listening"."""
        expected = self._fold.listen_for
        if not (expected.phrases or expected.digits) or self._machine.floor_state in AGENT_SILENT:
            return expected
        usual = usual_backchannels(self._tools.settings.asr.language)
        return msgspec.structs.replace(expected, phrases=(*expected.phrases, *usual))

    def _on_verdict(self, verdict: v.Verdict) -> None:
        self._input(verdict, self._now_ms())
        self._audio.resume()

    def _on_no_verdict(self, code: str) -> None:
        self._count(code)
        self._audio.resume()

    def _may_catch_up(self) -> bool:
        """Old frames wait for the engine and the turn model, so that the machine sees what they say where it saw it the
        first time."""
        return not self._runs.busy and not (self._judge is not None and self._judge.busy)

    # Time.

    def _live_ms(self) -> float:
        """The caller's media time now, by the wall clock."""
        answered = self._fold.answered
        if answered is None:
            return float(self._hearing.end_ms)
        return (self._tools.clock.now_us() - answered.media_epoch_us) / 1000

    def _now_ms(self) -> int:
        """Media time of what is being heard."""
        if self._hearing.sequence < 0 and not (self._claim.takeover and self._audio.behind):
            return max(0, int(self._live_ms()))
        if self._audio.behind:
            return self._hearing.end_ms
        return self._hearing.end_ms + (self._tools.clock.elapsed_us() - self._heard_us) // 1000

    def _arm(self) -> None:
        """Have time move while no frames come."""
        deadline = self._machine.deadline_ms
        if deadline is None or self._closed or self._audio.behind:
            return
        if self._timer is not None:
            if self._timer_ms <= deadline:
                return
            self._timer.cancel()
        self._timer_ms = deadline
        self._wait(max(0, deadline - self._now_ms()) + SILENT_LINE_MS)

    def _wait(self, wait_ms: int) -> None:
        self._timer_due_us = self._tools.clock.elapsed_us() + wait_ms * 1000
        self._timer = self._tools.clock.call_later(wait_ms, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._closed:
            return
        now_us = self._tools.clock.elapsed_us()
        self._held_up = now_us - self._timer_due_us > HELD_UP_MS * 1000 and not self._held_up
        if self._held_up:
            self._wait(SILENT_LINE_MS)
            return
        silent_us = now_us - self._heard_us
        if not self._audio.behind and silent_us >= SILENT_LINE_MS * 1000:
            self._input(v.Tick(), self._now_ms())
        self._arm()

    # The end, and what else goes out.

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
        self._runs.cancel()
        if self._judge is not None:
            self._judge.close()
        await self._commands.close()
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
