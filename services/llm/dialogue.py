"""One answer of a scripted agent: a request in, steps out. Pure: no clock, no tool, no bus.

The generator yields sentences, tool calls (and is sent each tool's result), and at last the answer. What it must
remember from turn to turn travels in the slots; names that begin with ``_`` are its own:

* ``_topic``: the intent that the conversation is about;
* ``_goal``: the state that was put off until the caller is verified;
* ``_misses``: how often in a row the caller was not understood;
* ``_visits_<state>``: how often a state with a limit was entered.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

from schemas.llm import NextStep
from services.llm.agent_file import FIELD, GOAL, Agent, State, ToolUse
from services.llm.digits import find_digits, spell
from services.llm.engine import Answer, EngineError, Request, Sentence, Step, ToolCall, ToolResult
from services.llm.menu import keys_of

MAX_STATES = 50
"""States that one answer may run through. Circles in a file are found at load; this stops those through ``@goal``."""

Steps = Generator[Step, ToolResult | None, None]


def answer(agent: Agent, request: Request) -> Steps:
    """The answer to a turn; the greeting where there is no state yet.

    Raises:
        EngineError: the script asks for a slot that is empty, or does not come to an end.
    """
    slots = dict(request.slots)
    if request.turn == 0:
        yield from _enter(agent, agent.head.start, slots, request)
        return
    here = request.state
    if here not in agent.states or not agent.states[here].waits:
        # The caller spoke into a farewell, or the agent file has changed since: begin anew, with what is known.
        here = agent.head.start
    target = _understand(agent, here, request, slots)
    if target:
        slots.pop("_misses", None)
        yield from _enter(agent, target, slots, request)
    else:
        yield from _not_understood(agent, here, slots, request)


def _understand(agent: Agent, here: str, request: Request, slots: dict[str, str]) -> str:
    """The next state for what the caller said or keyed in ``here``; empty where it means nothing there."""
    state = agent.states[here]
    keys = request.digits.strip("#")
    if state.collect is not None:
        digits = keys if len(keys) == state.collect.digits and keys.isdigit() else ""
        digits = digits or find_digits(agent.matcher.clean(request.text), state.collect.digits)
        if digits:
            slots[state.collect.slot] = digits
            return state.collect.go
    intent = state.keys.get(keys) or state.keys.get(request.digits) or ""
    if not intent and request.keyed:
        intent = keys_of(agent, here).get(keys, "")
    if not intent:
        match = agent.matcher.best(request.text, agent.intents_of[here])
        intent = match.intent if match else ""
    if not intent:
        return ""
    if agent.intents[intent].go:
        slots["_topic"] = intent
    return state.on.get(intent) or agent.intents[intent].go


def _not_understood(agent: Agent, here: str, slots: dict[str, str], request: Request) -> Steps:
    state, head = agent.states[here], agent.head
    misses = int(slots.get("_misses", "0")) + 1
    if misses > (head.retries if state.retries is None else state.retries):
        slots.pop("_misses", None)
        yield from _enter(agent, state.give_up or head.give_up, slots, request)
        return
    slots["_misses"] = str(misses)
    yield from _say(agent, state.retry or head.retry, slots)
    yield _end(agent, here, slots)


def _enter(agent: Agent, name: str, slots: dict[str, str], request: Request) -> Steps:
    """Run through states until one waits for the caller or hangs up."""
    for number in range(MAX_STATES):
        state = agent.states[name]
        if elsewhere := _put_off(name, state, slots):
            name = elsewhere
            continue
        yield from _say(agent, state.say, slots)
        if state.tool is not None:
            result = yield _call(agent, state.tool, slots, f"{request.turn}-{number}")
            if result is None:
                raise EngineError(f"{agent.path}: [states.{name}] tool: the run went on without the tool's result")
            name = _decide(state.tool, result, slots)
        elif state.go:
            name = state.go
        else:
            yield _end(agent, name, slots)
            return
        if name == GOAL:
            name = slots.pop("_goal", agent.head.start)
    raise EngineError(f"{agent.path}: an answer ran through {MAX_STATES} states without end; the last was {name!r}")


def _put_off(name: str, state: State, slots: dict[str, str]) -> str:
    """The state to enter instead: the slot that this one requires is empty, or it was visited too often."""
    if state.requires and not slots.get(state.requires):
        slots["_goal"] = name
        return state.otherwise
    if state.limit:
        visits = int(slots.get(f"_visits_{name}", "0")) + 1
        slots[f"_visits_{name}"] = str(visits)
        if visits > state.limit:
            return state.over
    return ""


def _call(agent: Agent, use: ToolUse, slots: dict[str, str], call_id: str) -> ToolCall:
    return ToolCall(call_id, use.name, {name: _fill(agent, text, slots) for name, text in use.arguments.items()})


def _decide(use: ToolUse, outcome: ToolResult, slots: dict[str, str]) -> str:
    if outcome.error:
        return use.failed
    for slot, field in use.keep.items():
        if field in outcome.result:
            slots[slot] = _text(outcome.result[field])
    value = _text(outcome.result.get(use.decide, "")) if use.decide else "*"
    return use.cases.get(value) or use.cases.get("*") or use.failed


def _end(agent: Agent, name: str, slots: dict[str, str]) -> Answer:
    then = NextStep.HANG_UP if agent.states[name].hang_up else NextStep.LISTEN
    return Answer(slots.get("_topic", ""), then, agent.listen_for[name], name, slots)


def _say(agent: Agent, texts: Iterable[str], slots: dict[str, str]) -> Iterator[Sentence]:
    for text in texts:
        yield Sentence(_fill(agent, text, slots), agent.head.language)


def _fill(agent: Agent, text: str, slots: dict[str, str]) -> str:
    def value(name: str, how: str) -> str:
        if name not in slots:
            raise EngineError(f"{agent.path}: the script speaks of {{{name}}} before anything filled it")
        return spell(slots[name]) if how == "digits" else slots[name]

    return FIELD.sub(lambda match: value(match[1], match[2]), text)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
