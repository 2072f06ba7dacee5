"""Whatever the order, loss and repetition: never two utterances at once, nothing twice, nothing after its flush."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.media.ledger import Finished, Flushed, LedgerEntry, Mark, Started
from edge.media.playout import Playout

pytestmark = pytest.mark.unit

FRAME = 160


@dataclass(frozen=True)
class Chunk:
    utterance: int
    segment: int
    first: int
    how_many: int
    segment_end: bool


@dataclass(frozen=True)
class End:
    utterance: int


@dataclass(frozen=True)
class Flush:
    utterance: int | None


@dataclass(frozen=True)
class Pause:
    utterance: int | None
    limit_ms: int


@dataclass(frozen=True)
class Resume:
    utterance: int | None


@dataclass(frozen=True)
class Turns:
    how_many: int


Action = Chunk | End | Flush | Pause | Resume | Turns

utterances = st.integers(1, 4)
chunks = st.builds(Chunk, utterances, st.integers(0, 2), st.integers(0, 8), st.integers(0, 5), st.booleans())
actions = st.lists(
    chunks
    | st.builds(End, utterances)
    | st.builds(Flush, st.none() | utterances)
    | st.builds(Pause, st.none() | utterances, st.sampled_from((0, 50)))
    | st.builds(Resume, st.none() | utterances)
    | st.builds(Turns, st.integers(1, 8)),
    max_size=40,
)


@dataclass
class Run:
    playout: Playout
    now: int = 0
    sent: list[tuple[int, int, int]] = field(default_factory=list)
    ledger: list[LedgerEntry] = field(default_factory=list)

    def do(self, action: Action) -> None:
        if isinstance(action, Chunk):
            payloads = [
                bytes((action.utterance, action.segment, action.first + n, 0)) * (FRAME // 4)
                for n in range(action.how_many)
            ]
            self.playout.offer(action.utterance, action.segment, action.first, payloads, segment_end=action.segment_end)
        elif isinstance(action, End):
            self.playout.offer(action.utterance, 3, 0, [], end=True)
        elif isinstance(action, Flush):
            self.playout.flush(action.utterance, self.now)
        elif isinstance(action, Pause):
            self.playout.pause(action.utterance, action.limit_ms, self.now)
        elif isinstance(action, Resume):
            self.playout.resume(action.utterance, self.now)
        else:
            for _ in range(action.how_many):
                self.turn()
        self.ledger += self.playout.take_ledger()

    def turn(self) -> None:
        payload = self.playout.next_frame(self.now)
        self.now += FRAME
        if payload is not None:
            assert len(payload) == FRAME
            assert payload == payload[:4] * (FRAME // 4), "frames of one packet size are never cut"
            self.sent.append((payload[0], payload[1], payload[2]))


@settings(max_examples=400, deadline=None)
@given(actions, st.integers(0, 3))
def test_order_and_repetition_never_mix_utterances(script: list[Action], prefill: int) -> None:
    run = Run(Playout(prefill=prefill, stall_ms=200, limit_ms=400))
    flushed = 0
    for action in script:
        before = len(run.sent)
        known = [entry.utterance for entry in run.ledger if isinstance(entry, Flushed)]
        run.do(action)
        flushed = max([flushed, *known])
        assert all(utterance > flushed for utterance, _, _ in run.sent[before:]), "a flushed utterance plays again"
    # In order of utterance, sentence and frame: never back, hence nothing twice and no two at once.
    assert run.sent == sorted(set(run.sent))
    check_ledger(run)


def check_ledger(run: Run) -> None:
    """Each utterance: Started when its first frame leaves, marks in rising order, one end, and silence after it."""
    over: set[int] = set()
    started: list[int] = []
    marks: list[tuple[int, int]] = []
    times = []
    for entry in run.ledger:
        assert entry.utterance not in over
        times.append(entry.media_time)
        if isinstance(entry, Started):
            started.append(entry.utterance)
        elif isinstance(entry, Mark):
            marks.append((entry.utterance, entry.segment))
        elif isinstance(entry, Finished | Flushed):
            over.add(entry.utterance)
        if isinstance(entry, Finished):
            assert entry.frames == sum(1 for utterance, _, _ in run.sent if utterance == entry.utterance)
    assert started == sorted({utterance for utterance, _, _ in run.sent})
    assert marks == sorted(set(marks))
    assert run.playout.queued_ms >= 0


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=8),
    st.lists(st.integers(0, 30), max_size=6),
    st.lists(st.integers(1, 4), min_size=1, max_size=6),
)
def test_a_repeated_sentence_is_heard_once_and_whole(
    sizes: list[int], restarts: list[int], other_sizes: list[int]
) -> None:
    """A sentence in chunks; at some points a successor says it again from its start, in other chunks."""
    total = sum(sizes)
    run = Run(Playout())
    first = 0
    for index, size in enumerate(sizes):
        run.do(Chunk(1, 0, first, size, segment_end=index == len(sizes) - 1))
        first += size
        if index in restarts:
            again = 0
            for other in other_sizes:
                if again + other <= total:
                    run.do(Chunk(1, 0, again, other, segment_end=again + other == total))
                    again += other
        run.do(Turns(1))
    run.do(End(1))
    run.do(Turns(total + 1))
    assert run.sent == [(1, 0, number) for number in range(total)]
    assert run.ledger[-1] == Finished(1, total, run.ledger[-1].media_time)
    assert [entry for entry in run.ledger if isinstance(entry, Mark)] == [Mark(1, 0, run.ledger[-1].media_time, 0)]
