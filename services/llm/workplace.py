"""What all calls of a worker of the llm stage share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from bus.clock import Clock
from bus.interface import Connection
from bus.kv import TypedBucket
from config.settings import LlmSection
from schemas.session import CallSession, ConversationContext
from services.llm.degraded import Degraded
from services.llm.engine import Engine
from services.llm.manners import Manners
from services.llm.tools import Toolbox


class Workplace(NamedTuple):
    """What a call works with.

    ``figures``: go out with the worker's heartbeat. ``providers``: engines of the stages, for
    ``CallSession.ai_provider_config``. ``over``: told when a call has ended.
    """

    connection: Connection
    worker: str
    engine: Engine
    toolbox: Toolbox
    clock: Clock
    contexts: TypedBucket[ConversationContext]
    sessions: TypedBucket[CallSession]
    settings: LlmSection
    manners: Manners
    degraded: Degraded
    figures: dict[str, float]
    context_ttl_us: int
    providers: dict[str, str]
    over: Callable[[str], Awaitable[None]]
