"""An agent file as a whole: every name leads somewhere, every slot can be filled, every state can be reached."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from schemas.llm import ListenFor
from services.llm import phrases
from services.llm.agent_file import (
    FIELD,
    FILTERS,
    GOAL,
    Agent,
    AgentFileError,
    Document,
    State,
    read_document,
)
from services.llm.matching import Matcher
from services.llm.tools import ToolSpec


def load_agent(path: Path, tools: Collection[ToolSpec]) -> Agent:
    """Read and check an agent file; ``tools`` are those that it may use.

    Raises:
        AgentFileError: with the file, the place, and what is allowed there.
    """
    return build_agent(read_document(path), tools)


def build_agent(document: Document, tools: Collection[ToolSpec]) -> Agent:
    """An agent out of a document whose sections are sound.

    Raises:
        AgentFileError: the sections do not fit together.
    """
    check = _Check(document)
    if not document.states:
        raise AgentFileError(
            f"{document.path}: section [states] is missing: the file has no script, which the engine 'scripted' plays "
            "(docs/agents.md); write one, or choose an engine that is a language model"
        )
    for name, state in document.states.items():
        check.state(name, state, {spec.name: spec for spec in tools})
    check.head()
    check.loops()
    check.reachable()
    start = document.states[document.head.start]
    intents_of = {name: check.intents(f"[states.{name}] listen", state) for name, state in document.states.items()}
    ways = {name: check.ways(f"[intents.{name}]", intent.phrases) for name, intent in document.intents.items()}
    return Agent(
        document.path,
        document.head,
        document.intents,
        document.states,
        intents_of,
        # A caller who speaks into a farewell begins anew: there, what the start listens for is listened for.
        {name: check.listen_for(name, state if state.waits else start) for name, state in document.states.items()},
        Matcher(ways, document.matching.threshold, document.matching.ignore),
    )


class _Check:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._slots = set(_slots(document.states.values()))

    def fail(self, place: str, text: str) -> AgentFileError:
        return AgentFileError(f"{self._document.path}: {place}: {text}")

    def target(self, place: str, name: str) -> None:
        if name != GOAL and name not in self._document.states:
            raise self.fail(place, f"{name!r} is no state; there are: {', '.join(self._document.states)}, {GOAL}")

    def head(self) -> None:
        head = self._document.head
        self.target("[agent] start", head.start)
        if head.start == GOAL or not self._document.states[head.start].waits:
            raise self.fail(
                "[agent] start", f"{head.start!r} does not wait for the caller; give it listen, collect or keys"
            )
        self.target("[agent] give_up", head.give_up)
        self.sentences("[agent] retry", head.retry)
        for key, texts in (("fillers", head.fillers), ("away", (head.away,)), ("away_goodbye", (head.away_goodbye,))):
            if any("{" in text or "}" in text for text in texts):
                raise self.fail(f"[agent] {key}", "is said outside of any state: it can hold no {slot}")
        for name, intent in self._document.intents.items():
            if intent.go:
                self.target(f"[intents.{name}] go", intent.go)
        for name in self._document.groups:
            if name in self._document.intents:
                raise self.fail(f"[groups] {name}", "an intent has this name too; choose another")

    def state(self, name: str, state: State, tools: Mapping[str, ToolSpec]) -> None:
        place = f"[states.{name}]"
        kinds = [state.waits, state.tool is not None, bool(state.go), state.hang_up]
        if sum(kinds) != 1:
            raise self.fail(
                place,
                "must do exactly one thing after it has spoken: wait (listen, collect or keys), tool, go, or hang_up",
            )
        for key, target in self._targets(state):
            self.target(f"{place} {key}", target)
        for first, second in (("requires", "otherwise"), ("limit", "over")):
            if bool(getattr(state, first)) != bool(getattr(state, second)):
                raise self.fail(place, f"{first} and {second} belong together; write both or none")
        if state.requires and state.requires not in self._slots:
            raise self.fail(f"{place} requires", self._no_slot(state.requires))
        self.sentences(f"{place} say", state.say)
        self.sentences(f"{place} retry", state.retry)
        known = self.intents(f"{place} listen", state)
        for key, intent in [*((f"on {intent}", intent) for intent in state.on), *state.keys.items()]:
            if intent not in known:
                raise self.fail(f"{place} {key}", f"intent {intent!r} is not in listen; there are: {', '.join(known)}")
        for intent in known:
            if intent not in state.on and not self._document.intents[intent].go:
                raise self.fail(place, f"intent {intent!r} leads nowhere: it has no go, and on does not name it")
        self.tool(place, state, tools)

    def tool(self, place: str, state: State, tools: Mapping[str, ToolSpec]) -> None:
        if state.tool is None:
            return
        use, place = state.tool, f"{place} tool"
        spec = tools.get(use.name)
        if spec is None:
            known = ", ".join(sorted(tools)) or "none; set tools in [agent]"
            raise self.fail(f"{place} name", f"{use.name!r} is no tool; there are: {known}")
        fields = {field.encode_name: field for field in msgspec.structs.fields(spec.arguments)}
        for argument, text in use.arguments.items():
            if argument not in fields:
                raise self.fail(f"{place} arguments", f"{argument!r} is none; {use.name} has: {', '.join(fields)}")
            self.sentences(f"{place} arguments {argument}", (text,))
        missing = [name for name, field in fields.items() if field.required and name not in use.arguments]
        if missing:
            raise self.fail(f"{place} arguments", f"{use.name} needs {', '.join(missing)} too")
        if not use.decide and set(use.cases) != {"*"}:
            raise self.fail(f"{place} decide", 'names no field of the result; without it cases may hold only "*"')

    def sentences(self, place: str, texts: Iterable[str]) -> None:
        for text in texts:
            rest = FIELD.sub("", text)
            if "{" in rest or "}" in rest:
                raise self.fail(place, f"{text!r} has a bracket that is no {{slot}} or {{slot|filter}}")
            for slot, name in FIELD.findall(text):
                if slot not in self._slots:
                    raise self.fail(place, self._no_slot(slot))
                if name and name not in FILTERS:
                    raise self.fail(place, f"{name!r} is no filter; there are: {', '.join(FILTERS)}")

    def intents(self, place: str, state: State) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for name in state.listen:
            members = self._document.groups.get(name, (name,))
            for member in members:
                if member not in self._document.intents:
                    known = ", ".join([*self._document.intents, *self._document.groups])
                    raise self.fail(place, f"{member!r} is no intent and no group; there are: {known}")
                found[member] = None
        return tuple(found)

    def ways(self, place: str, texts: Iterable[str]) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = []
        for text in texts:
            try:
                found.extend(phrases.expand(text, phrases.parse(text, self._document.rules)))
            except phrases.PhraseError as error:
                raise self.fail(place, str(error)) from None
        return found

    def listen_for(self, name: str, state: State) -> ListenFor:
        """What asr may expect: every phrase of the state with its rules put in."""
        intents = self.intents(f"[states.{name}] listen", state)
        texts = [text for intent in intents for text in self._document.intents[intent].phrases]
        digits = 0
        if state.collect is not None:
            digits = state.collect.digits
            texts = [" ".join([phrases.DIGIT] * digits), *state.collect.phrases, *texts]
            self.ways(f"[states.{name}] collect", state.collect.phrases)
        rendered = dict.fromkeys(phrases.render(phrases.parse(text, self._document.rules)) for text in texts)
        return ListenFor(state=name, phrases=tuple(rendered), digits=digits)

    def loops(self) -> None:
        """No way around in circles without the caller's having a word."""
        silent = {name: state for name, state in self._document.states.items() if not state.waits}
        done: set[str] = set()

        def visit(name: str, path: tuple[str, ...]) -> None:
            if name in path:
                circle = " -> ".join([*path[path.index(name) :], name])
                raise self.fail(f"[states.{name}]", f"goes round in circles without listening: {circle}")
            if name in silent and name not in done:
                for _, target in self._targets(silent[name]):
                    visit(target, (*path, name))
                done.add(name)

        for name in silent:
            visit(name, ())

    def reachable(self) -> None:
        head = self._document.head
        seen: set[str] = set()
        waiting = [head.start, head.give_up]
        while waiting:
            name = waiting.pop()
            if name in seen or name == GOAL:
                continue
            seen.add(name)
            state = self._document.states[name]
            waiting += [target for _, target in self._targets(state)]
            waiting += [self._document.intents[i].go for i in self.intents("", state) if self._document.intents[i].go]
        lost = [name for name in self._document.states if name not in seen]
        if lost:
            raise self.fail(f"[states.{lost[0]}]", "nothing leads there; name it somewhere or remove it")

    def _targets(self, state: State) -> Iterator[tuple[str, str]]:
        """Every state that this one names, with the key that names it."""
        yield from ((f"on {intent}", target) for intent, target in state.on.items())
        for key in ("go", "otherwise", "over", "give_up"):
            if getattr(state, key):
                yield key, getattr(state, key)
        if state.collect is not None:
            yield "collect go", state.collect.go
        if state.tool is not None:
            yield "tool failed", state.tool.failed
            yield from ((f"tool cases {value}", target) for value, target in state.tool.cases.items())

    def _no_slot(self, name: str) -> str:
        return f"{name!r} is no slot that anything fills; there are: {', '.join(sorted(self._slots)) or 'none'}"


def _slots(states: Iterable[State]) -> Iterator[str]:
    for state in states:
        if state.collect is not None:
            yield state.collect.slot
        if state.tool is not None:
            yield from state.tool.keep
