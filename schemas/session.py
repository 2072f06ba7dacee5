"""Values of the KV buckets."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec

from schemas.base import DEFAULT_TENANT, CallId, NonNegative, Token


class SessionStatus(StrEnum):
    """Life of a stored call."""

    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    INTERRUPTED = "INTERRUPTED"


class CallSession(msgspec.Struct, frozen=True, kw_only=True, tag="session.call.v1"):
    """Bucket ``calls``, key ``<call_id>``: the stored state of a call."""

    session_id: CallId
    tenant: Token = DEFAULT_TENANT
    caller_phone: Annotated[str, msgspec.Meta(max_length=20)] = ""
    sip_call_id: Annotated[str, msgspec.Meta(max_length=255)] = ""
    call_start_us: NonNegative = 0
    call_end_us: NonNegative | None = None
    status: SessionStatus = SessionStatus.ACTIVE
    ai_provider_config: dict[str, str] = {}
    created_at_us: NonNegative = 0


class Speaker(StrEnum):
    """Who said an exchange's text."""

    CALLER = "caller"
    AGENT = "agent"
    SYSTEM = "system"


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the conversation. For the agent ``text`` is what was *heard*; ``interrupted`` where it was cut."""

    speaker: Speaker
    text: str
    turn: NonNegative
    at_us: NonNegative = 0
    interrupted: bool = False


class ConversationContext(msgspec.Struct, frozen=True, kw_only=True, tag="session.context.v1"):
    """Bucket ``context``, key ``<call_id>``: what the agent knows; its TTL counts from the last word.

    Attributes:
        dialogue_state, slots: the scripted agent's place in its script and what it has learned.
        last_turn: the last turn whose answer is complete: a successor starts after it.
    """

    context_id: CallId
    session_id: CallId
    tenant: Token = DEFAULT_TENANT
    conversation_history: tuple[Exchange, ...] = ()
    current_intent: str = ""
    customer_data: dict[str, Any] = {}
    dialogue_state: str = ""
    slots: dict[str, str] = {}
    last_turn: int = -1
    last_updated_us: NonNegative = 0
    expires_at_us: NonNegative = 0


class AuthenticationStatus(StrEnum):
    """Whether the caller proved who they are."""

    PENDING = "PENDING"
    VERIFIED = "VERIFIED"
    FAILED = "FAILED"


class Stage(StrEnum):
    """The stages that own calls."""

    EDGE = "edge"
    ASR = "asr"
    LLM = "llm"
    TTS = "tts"


class Owner(msgspec.Struct, frozen=True, kw_only=True, tag="session.owner.v1"):
    """Bucket ``owners``, key ``<stage>.<call_id>``: who owns a call in a stage; a takeover adds 1 to epoch."""

    stage: Stage
    call_id: CallId
    worker: Token
    epoch: NonNegative
    tenant: Token = DEFAULT_TENANT
    since_us: NonNegative = 0


class WorkerRecord(msgspec.Struct, frozen=True, kw_only=True, tag="session.worker.v1"):
    """Bucket ``workers`` and the heartbeat on ``hb.<stage>.<worker>``: a process, its load and what it can do."""

    stage: Stage
    worker: Token
    calls: NonNegative = 0
    slots: NonNegative = 0
    draining: bool = False
    engine: str = ""
    host: str = ""
    process_id: NonNegative = 0
    started_us: NonNegative = 0
    at_us: NonNegative = 0
    figures: dict[str, float] = {}


class TenantSettings(msgspec.Struct, frozen=True, kw_only=True, tag="session.tenant.v1"):
    """Bucket ``tenants``, key ``<tenant>``: limits of one tenant; 0 means no limit of its own."""

    tenant: Token
    max_calls: NonNegative = 0
    agent: str = ""
