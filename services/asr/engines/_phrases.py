"""What an agent expects to hear, as plain sentences: for engines that take a list of phrases and no JSGF. Pure.

Grammars say more sentences than can be listed: fifteen digits are eleven to the fifteenth. Who makes a model of word
pairs out of the list, as Vosk does, needs only sentences that hold every pair of words which may follow each other. So
the list has one shortest sentence for each pair that no sentence before it holds.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from schemas.llm import ListenFor
from services.asr import grammar

MAX_PHRASES = 1000
"""Over this the words alone are listed: what is said in an order that the agent does not expect is heard as well."""

_START, _END = "<s>", "</s>"


class Expected(NamedTuple):
    """Sentences that hold every word, and every pair of words, that the agent expects.

    Attributes:
        phrases: the sentences, or single words where there would be more than :data:`MAX_PHRASES`.
        missing: words that the engine does not know; what needs them is left out.
        faults: phrases left out because they are not in JSGF syntax, each with the defect.
    """

    phrases: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def expected_phrases(listen_for: ListenFor, knows: Callable[[str], bool]) -> Expected:
    """The sentences of ``listen_for``; none where nothing is left that the engine can hear.

    ``knows`` tells whether the engine can hear a word.
    """
    made = grammar.build(listen_for, knows)
    if made is None:
        missing = tuple(word for word in words_of(listen_for) if not knows(word))
        return Expected(missing=missing, faults=_faults(listen_for))
    paths = _Paths()
    for node in _nodes(listen_for):
        paths.add(node)
    phrases = list(paths.sentences(knows, MAX_PHRASES + 1))
    if len(phrases) > MAX_PHRASES:
        phrases = sorted({word for phrase in phrases for word in phrase.split()} | made.words)
    return Expected(tuple(phrases), made.missing, made.faults)


def words_of(listen_for: ListenFor) -> tuple[str, ...]:
    """The words of the agent's phrases in their order, each once; rules such as ``<digit>`` are left out."""
    return tuple(dict.fromkeys(word for node in _nodes(listen_for, digits=False) for word in _plain_words(node)))


def _nodes(listen_for: ListenFor, *, digits: bool = True) -> Iterator[grammar.Node]:
    for phrase in listen_for.phrases:
        try:
            yield grammar.parse(phrase)
        except grammar.GrammarError:
            continue
    if digits and listen_for.digits:
        yield grammar.digit_chain(min(listen_for.digits, grammar.MAX_DIGITS))


def _faults(listen_for: ListenFor) -> tuple[str, ...]:
    faults = []
    for phrase in listen_for.phrases:
        try:
            grammar.parse(phrase)
        except grammar.GrammarError as error:
            faults.append(str(error))
    return tuple(faults)


def _plain_words(node: grammar.Node) -> Iterator[str]:
    if isinstance(node, grammar.Word):
        yield node.text
    elif isinstance(node, grammar.Sequence | grammar.Choice):
        for part in node.parts if isinstance(node, grammar.Sequence) else node.options:
            yield from _plain_words(part)
    elif isinstance(node, grammar.Optional | grammar.Repeat):
        yield from _plain_words(node.part)


class _Span(NamedTuple):
    """A part of a phrase: the places it may begin and end with, and whether it may be left out."""

    first: frozenset[int]
    last: frozenset[int]
    empty: bool


class _Paths:
    """Every place of a word in the phrases, and which place may follow which (Glushkov's automaton)."""

    def __init__(self) -> None:
        self._words: list[str] = [_START, _END]
        self._follow: list[dict[int, None]] = [{}, {}]

    def add(self, node: grammar.Node) -> None:
        """One more phrase beside those there are."""
        span = self._span(node)
        self._link([0], span.first)
        self._link(span.last, [1])

    def sentences(self, knows: Callable[[str], bool], most: int) -> Iterator[str]:
        """Shortest sentences of known words that hold every pair of words, ``most`` at most."""
        barred = {place for place, word in enumerate(self._words) if place > 1 and not knows(word)}
        before = self._shortest(0, _reversed(self._follow), barred)
        after = self._shortest(1, self._follow, barred)
        held: set[tuple[str, str]] = set()
        count = 0
        for place, followers in enumerate(self._follow):
            for follower in followers:
                pair = (self._words[place], self._words[follower])
                if pair in held or place not in before or follower not in after:
                    continue
                sentence = [*reversed(_walk(place, before)), *_walk(follower, after)]
                words = [self._words[each] for each in sentence]
                held.update(itertools.pairwise(words))
                yield " ".join(words[1:-1])
                count += 1
                if count == most:
                    return

    def _shortest(self, goal: int, follow: Sequence[Iterable[int]], barred: set[int]) -> dict[int, int | None]:
        """Place -> the next place on a shortest way to ``goal``; places without a way are left out."""
        back = _reversed(follow)
        ways: dict[int, int | None] = {goal: None}
        waiting = deque([goal])
        while waiting:
            place = waiting.popleft()
            for earlier in back[place]:
                if earlier not in ways and earlier not in barred:
                    ways[earlier] = place
                    waiting.append(earlier)
        return ways

    def _span(self, node: grammar.Node) -> _Span:
        match node:
            case grammar.Word(text):
                self._words.append(text)
                self._follow.append({})
                here = frozenset([len(self._words) - 1])
                return _Span(here, here, False)
            case grammar.Rule(name):
                return self._span(grammar.parse(grammar.RULES[name]))
            case grammar.Choice(options):
                spans = [self._span(option) for option in options]
                return _Span(
                    frozenset().union(*(span.first for span in spans)),
                    frozenset().union(*(span.last for span in spans)),
                    any(span.empty for span in spans),
                )
            case grammar.Sequence(parts):
                return self._sequence(parts)
            case grammar.Optional(part):
                return self._span(part)._replace(empty=True)
            case grammar.Repeat(part, sign):
                span = self._span(part)
                self._link(span.last, span.first)
                return span._replace(empty=span.empty or sign == "*")

    def _sequence(self, parts: Sequence[grammar.Node]) -> _Span:
        whole = _Span(frozenset(), frozenset(), True)
        for part in parts:
            span = self._span(part)
            self._link(whole.last, span.first)
            whole = _Span(
                whole.first | span.first if whole.empty else whole.first,
                whole.last | span.last if span.empty else span.last,
                whole.empty and span.empty,
            )
        return whole

    def _link(self, places: Iterable[int], followers: Iterable[int]) -> None:
        for place in sorted(places):
            self._follow[place].update(dict.fromkeys(sorted(followers)))


def _reversed(follow: Sequence[Iterable[int]]) -> list[list[int]]:
    back: list[list[int]] = [[] for _ in follow]
    for place, followers in enumerate(follow):
        for follower in followers:
            back[follower].append(place)
    return back


def _walk(place: int, ways: dict[int, int | None]) -> list[int]:
    walked: list[int] = []
    at: int | None = place
    while at is not None:
        walked.append(at)
        at = ways[at]
    return walked
