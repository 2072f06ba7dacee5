"""The seam between the conversation and what thinks of the answers.

A heavy :class:`Engine` (a model, a script; loaded once a process) opens a light :class:`Run` for each answer. The run
is an asynchronous iterator of steps, in the order in which they are meant:

* :class:`Sentence`: say this now. Sentences, not tokens: an engine that streams tokens joins them
  (``services.text.cutting``).
* :class:`ToolCall`: run this tool. The caller of the run executes it and answers with :meth:`Run.return_tool`. An
  engine may ask for several tools before it waits for the first answer.
* :class:`Answer`: the last step: what the caller wanted, what follows, what to listen for, what to remember.

An engine keeps nothing between runs: everything that it needs stands in the :class:`Request`, so that any worker can
run any turn of any call.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple, Protocol, cast

from config.factories import make
from config.settings import LlmSection, Settings
from schemas.llm import ListenFor, NextStep
from schemas.session import Exchange
from services.llm.tools import ToolSpec


class EngineError(Exception):
    """An engine that can't be loaded or can't answer; the text says what to mend."""


class Capabilities(NamedTuple):
    """What an engine can do.

    ``streaming``: sentences come before the answer is complete. ``tools``: it may yield :class:`ToolCall`.
    ``languages``: of the caller, as BCP 47 tags; empty: any.
    """

    streaming: bool = False
    tools: bool = False
    languages: tuple[str, ...] = ()


class Request(NamedTuple):
    """Everything about one answer.

    Attributes:
        call_id, tenant: the call.
        turn: the turn to answer; 0 is the greeting, which answers nothing.
        text: what the caller said; empty for a turn of keys, for silence, and for the greeting.
        digits: keys that the caller pressed.
        why: how the turn ended (``schemas.turn.TurnEnded.why``).
        history: the conversation before this turn; of the agent only what was heard, and of that what answered
            something: what was said to bridge a wait (``schemas.llm.LlmSentence.filler``) is left out.
        state, slots: what the engine's last :class:`Answer` said; empty before the greeting.
        said: sentences of this very answer that are already on their way to the caller, because a worker died in the
            middle of it. The run yields them again, in their place; the call does not say them twice. A model
            continues after them.
        customer_data: who the caller is, as far as tools that identify have verified it in this call
            (``services.llm.conversation.Conversation.customer_data``).
        failed_verifications: how often such a tool has said that the caller is nobody it knows.
        keyed: the caller's speech is not understood at the moment, and the caller was told what the keys stand for
            (``services.llm.degraded``).
    """

    call_id: str
    tenant: str
    turn: int
    text: str = ""
    digits: str = ""
    why: str = ""
    history: tuple[Exchange, ...] = ()
    state: str = ""
    slots: dict[str, str] = {}
    said: tuple[str, ...] = ()
    customer_data: dict[str, Any] = {}
    failed_verifications: int = 0
    keyed: bool = False


class Sentence(NamedTuple):
    """A sentence to be spoken. Digits that are to be read one by one are written apart: ``4 2 7 1``."""

    text: str
    language: str = "en"


class ToolCall(NamedTuple):
    """Ask for a tool. ``id`` is the run's own; the record's id, the idempotency key, is made by the call."""

    id: str
    name: str
    arguments: dict[str, Any]


class ToolResult(NamedTuple):
    """What a tool said; ``error`` is a code of the failure table, empty where it worked."""

    result: dict[str, Any]
    error: str = ""


class Answer(NamedTuple):
    """The end of an answer.

    Attributes:
        intent: what the conversation is about, for example ``card_delivery_inquiry``; empty: unknown.
        then: what follows once the caller heard it.
        listen_for: what asr may expect next.
        state, slots: what the next request of this call brings back.
        ttft_ms: request to the model's first token; None: not a model of tokens.
    """

    intent: str = ""
    then: NextStep = NextStep.LISTEN
    listen_for: ListenFor = ListenFor()
    state: str = ""
    slots: dict[str, str] = {}
    ttft_ms: float | None = None


Step = Sentence | ToolCall | Answer


class Run(Protocol):
    """One answer in the making."""

    def __aiter__(self) -> AsyncIterator[Step]:
        """The steps. Raises whatever the engine raises; the call turns that into an apology."""

    def return_tool(self, tool_call_id: str, result: ToolResult) -> None:
        """What a tool said, for the :class:`ToolCall` of this id."""

    async def cancel(self) -> None:
        """The answer is void: stop the model's work on it. Harmless where it is already over."""


class Engine(Protocol):
    """What thinks of the answers of all calls of a process.

    A run may be opened before the caller's turn has ended, on words that have stood still, and be cancelled without a
    word where they change (``services.llm.guessing``); a tool that such a run asks for is not run before the turn has
    ended. An engine whose agent has its own words for a wait or a silent caller tells them in an attribute ``manners``
    (``services.llm.manners.Manners``). One that knows what the caller may want next tells it in a method
    ``menu(state)`` (``services.llm.menu.Menu``, or None), for a time when only keys are understood.
    """

    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def tools(self) -> Sequence[ToolSpec]:
        """The tools that its runs may ask for."""

    async def warm(self) -> None:
        """Load what takes long, off the event loop. Called once, before the first call."""

    def open(self, request: Request) -> Run:
        """Begin an answer. Returns at once."""


def load_engine(name: str, section: LlmSection, settings: Settings | None = None) -> Engine:
    """The engine of this name, or ``module:Class`` of the user's own: made of the section, and of all ``settings``
    where it takes a second argument.

    Raises:
        EngineError: there is no such engine, its package is missing, or it refuses its settings.
    """
    module_name, _, class_name = name.partition(":")
    own = bool(class_name)
    if not own:
        module_name, class_name = f"services.llm.engines.{name}", "create"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(error.name + ".")):
            raise EngineError(f"[llm] engine = {name!r} needs the package {error.name!r}, which is missing") from error
        raise EngineError(f"[llm] engine = {name!r} does not exist; {_choices()}") from error
    factory = getattr(module, class_name, None)
    if not callable(factory):
        raise EngineError(f"[llm] engine = {name!r}: {module_name} has no {class_name}; {_choices()}")
    return cast(Engine, make(factory, section, settings))


def _choices() -> str:
    room = importlib.import_module("services.llm.engines")
    names = sorted(module.name for module in pkgutil.iter_modules(room.__path__) if module.name[0] != "_")
    return f"there are {', '.join(names)}, and module:Class of your own"
