"""Offers, pauses, resumes, flushes and turns in any order: what leaves is what was offered, in order, one at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from edge.media.ledger import Finished, Flushed, LedgerEntry, Mark, Paused, Resumed, Started
from edge.media.playout import Playout
from edge.media.utterance import BYTES_PER_MS

pytestmark = pytest.mark.unit

SILENCE = b"\xff"
UTTERANCES = range(1, 4)


@dataclass(frozen=True)
class Offer:
    """The next frames of an utterance's sentence, of these sizes; ``again``: after a repetition of all before them."""

    utterance: int
    sizes: tuple[int, ...]
    segment_end: bool
    again: bool


@dataclass(frozen=True)
class End:
    utterance: int


@dataclass(frozen=True)
class Pause:
    utterance: int | None
    limit_ms: int


@dataclass(frozen=True)
class Resume:
    utterance: int | None


@dataclass(frozen=True)
class Flush:
    utterance: int | None


@dataclass(frozen=True)
class Turns:
    how_many: int
    frame_bytes: int


Action = Offer | End | Pause | Resume | Flush | Turns

utterance = st.sampled_from((1, 1, 1, 2, 2, 3))
anyone = st.none() | utterance
sizes = st.lists(st.integers(1, 800), max_size=6).map(tuple)
turns = st.builds(Turns, st.integers(1, 6), st.sampled_from((80, 160, 240)))
pauses = st.builds(Pause, anyone, st.sampled_from((0, 15, 40, 100)))
offers = st.builds(Offer, utterance, sizes, st.booleans(), st.booleans())
actions = st.lists(
    offers
    | offers
    | turns
    | turns
    | pauses
    | pauses
    | st.builds(Resume, anyone)
    | st.builds(End, utterance)
    | st.builds(Flush, utterance),
    min_size=12,
    max_size=40,
)


@dataclass
class Said:
    """What was offered of one utterance: every sample tells its place modulo 63 and its utterance."""

    number: int
    segment: int = 0
    frames: list[bytes] = field(default_factory=list)  # of the sentence that is open
    taken: bytearray = field(default_factory=bytearray)
    place: int = 0
    ended: bool = False

    def speak(self, sizes: tuple[int, ...]) -> list[bytes]:
        spoken = []
        for size in sizes:
            spoken.append(bytes(self.number << 6 | (self.place + n) % 63 for n in range(size)))
            self.place += size
        return spoken


@dataclass
class Run:
    playout: Playout = field(default_factory=lambda: Playout(stall_ms=10_000))
    now: int = 0
    said: dict[int, Said] = field(default_factory=lambda: {number: Said(number) for number in UTTERANCES})
    sent: list[tuple[int, bytes]] = field(default_factory=list)  # media time, packet
    ledger: list[LedgerEntry] = field(default_factory=list)

    def do(self, action: Action) -> None:
        match action:
            case Offer():
                self.offer(action)
            case End():
                self.said[action.utterance].ended = True
                self.playout.offer(action.utterance, 0, 0, [], end=True)
            case Pause():
                self.playout.pause(action.utterance, action.limit_ms, self.now)
            case Resume():
                self.playout.resume(action.utterance, self.now)
            case Flush():
                self.playout.flush(action.utterance, self.now)
            case Turns():
                self.playout.set_frame_bytes(action.frame_bytes)
                for _ in range(action.how_many):
                    self.turn(action.frame_bytes)
        self.ledger += self.playout.take_ledger()

    def offer(self, action: Offer) -> None:
        said = self.said[action.utterance]
        if said.ended:
            return
        new = said.speak(action.sizes)
        first = 0 if action.again else len(said.frames)
        said.frames += new
        taken = self.playout.offer(
            action.utterance, said.segment, first, said.frames[first:], segment_end=action.segment_end
        )
        assert taken in (0, len(new)), "all that is new, or nothing where the utterance is over"
        if taken:
            said.taken += b"".join(new)
        if action.segment_end:
            said.segment, said.frames = said.segment + 1, []

    def turn(self, frame_bytes: int) -> None:
        held = self.playout.held
        packet = self.playout.next_frame(self.now)
        if packet is not None:
            assert len(packet) == frame_bytes
            if held is not None:
                resumed = [entry for entry in self.playout.ledger if isinstance(entry, Resumed)]
                assert resumed, "nothing leaves while an utterance is held"
            self.sent.append((self.now, packet))
        self.now += frame_bytes

    def heard(self, number: int) -> bytes:
        """Samples of one utterance as they left, without the silence that fills packets up."""
        packets = b"".join(packet for _, packet in self.sent)
        return bytes(sample for sample in packets if sample != 0xFF and sample >> 6 == number)


@settings(max_examples=300, deadline=None)
@given(actions)
def test_what_leaves_is_what_was_offered_in_order_and_once(script: list[Action]) -> None:
    run = Run()
    for action in script:
        run.do(action)
    check(run)
    # Everything ends, whatever was held: what was not dropped is heard to its last sample.
    run.do(Resume(None))
    for number in UTTERANCES:
        run.do(End(number))
    for _ in range(3):
        run.do(Resume(None))
        run.do(Turns(400, 160))
    check(run)
    assert run.playout.queued_ms == 0
    finished = {entry.utterance for entry in run.ledger if isinstance(entry, Finished)}
    for number in finished:
        assert run.heard(number) == run.said[number].taken
    event(f"{len(finished)} heard to the end")
    event(f"{min(3, sum(isinstance(entry, Paused) for entry in run.ledger))} or more pauses")


def check(run: Run) -> None:
    for number, said in run.said.items():
        assert said.taken.startswith(run.heard(number)), "a sample twice, lost or out of its place"
    spoken = [sample >> 6 for _, packet in run.sent for sample in packet if sample != 0xFF]
    assert spoken == sorted(spoken), "two utterances at once, or one after a newer one"
    for _, packet in run.sent:
        assert len({sample >> 6 for sample in packet if sample != 0xFF}) == 1
    check_ledger(run)


def check_ledger(run: Run) -> None:
    over: set[int] = set()
    held: dict[int, Paused] = {}
    counted = dict.fromkeys(UTTERANCES, 0)
    for entry in run.ledger:
        assert entry.utterance not in over
        match entry:
            case Paused():
                assert entry.utterance not in held
                assert entry.number == counted[entry.utterance]
                counted[entry.utterance] += 1
                held[entry.utterance] = entry
            case Resumed():
                assert held.pop(entry.utterance).number == entry.number
            case Flushed():
                held.pop(entry.utterance, None)
                over.add(entry.utterance)
            case Finished():
                assert entry.utterance not in held
                over.add(entry.utterance)
            case Started() | Mark():
                assert entry.utterance not in held
    assert {entry.utterance for entry in run.ledger if isinstance(entry, Started)} == {
        packet[0] >> 6 for _, packet in run.sent
    }
    check_times(run)


def check_times(run: Run) -> None:
    """Where a pause or a flush cuts an utterance is the end of its last packet; a mark lies in what was sent."""
    ends: dict[int, list[tuple[int, int]]] = {number: [] for number in UTTERANCES}
    for start, packet in run.sent:
        ends[packet[0] >> 6].append((start, start + len(packet)))
    for entry in run.ledger:
        packets = ends[entry.utterance]
        match entry:
            case Paused() | Flushed() if packets and entry.media_time > packets[0][0]:
                assert any(end == entry.media_time for _, end in packets)
            case Flushed() if packets:
                raise AssertionError("flushed before its first packet")
            case Mark() if packets:
                assert packets[0][0] <= entry.start <= entry.media_time <= packets[-1][1]


@settings(max_examples=200, deadline=None)
@given(st.lists(pauses | st.builds(Resume, anyone) | turns, max_size=30), st.integers(1, 500))
def test_a_pause_never_outlasts_its_limit(script: list[Action], frame: int) -> None:
    run = Run()
    run.do(Offer(1, (frame,) * 40, segment_end=True, again=False))
    until: int | None = None
    for action in script:
        if isinstance(action, Pause):
            if run.playout.pause(action.utterance, action.limit_ms, run.now):
                until = run.now + action.limit_ms * BYTES_PER_MS if action.limit_ms else None
            continue
        run.do(action)
        if run.playout.held is not None and until is not None and isinstance(action, Turns):
            assert run.now - action.frame_bytes < until, "held at a turn after its limit"
