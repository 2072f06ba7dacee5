"""Who may say and hear what on the bus: one table, each right with its reason. Pure.

``callbus keys create`` renders it as the users of nats.conf, docs/security.md shows it, and the tests try what it
refuses. A right names the narrowest subject that the NATS server can enforce. Three things follow from that:

* A command's subject ends with its name, so that who may pause playout may not therefore hang up.
* A request of JetStream that says in its body what it reads can't be narrowed: a stage that must not read a whole
  stream reads a copy of what it may know (``CALLS_TTS``), or one message by subject.
* Nobody but ``ops`` makes a consumer: a push consumer delivers to any subject, whatever its maker may publish.
"""

from __future__ import annotations

import msgspec

from bus import accounts, topology
from schemas import subjects

API = accounts.API
PEOPLE = ("ops", "inspect")
STAGES = ("asr", "llm", "tts")
SERVICES = ("edge", *STAGES)

COMMANDS: dict[str, dict[str, tuple[str, ...]]] = {
    "asr": {"edge": ("flush", "pause", "resume", "give_up"), "tts": ("say",)},
    "llm": {"edge": ("hangup", "transfer")},
}
"""Sender -> stage -> commands that it sends there. ``ops`` sends any."""

HEARS: dict[str, tuple[str, ...]] = {
    "edge": ("edge.lost",),
    "asr": (
        "call.answered", "call.held", "call.ended", "dtmf.in", "vad.*", "asr.preflight", "asr.final", "turn.*",
        "llm.*", "tool.*", "tts.started", "playout.*", "failure",
    ),
    "llm": (
        "call.answered", "call.transferred", "call.ended", "vad.*", "turn.*", "asr.preflight", "llm.*", "tool.*",
        "tts.done", "playout.*", "failure",
    ),
    "tts": topology.TTS_FOLLOWS,
}  # fmt: skip
"""Service -> live events that it follows."""

LOOKS_UP: dict[str, tuple[str, ...]] = {
    "edge": ("call.offered", "call.ended", "edge.lost"),
    "asr": ("call.offered", "call.answered", "call.ended"),
    "llm": ("call.offered", "call.answered", "call.ended"),
    "tts": ("call.offered", "call.answered", "call.ended"),
}
"""Service -> events of others whose last stored message it reads by subject."""


class Right(msgspec.Struct, frozen=True):
    """A subject, or pattern of subjects, and what it is for."""

    subject: str
    why: str


class User(msgspec.Struct, frozen=True, kw_only=True):
    """One NATS user, of one account. ``denied``: subjects that it may not publish on although a right covers them."""

    name: str
    what: str
    publish: tuple[Right, ...]
    subscribe: tuple[Right, ...]
    denied: tuple[Right, ...] = ()
    account: str = accounts.LIVE


def users() -> tuple[User, ...]:
    """Every user of callbus. ``system``, of the server's own account, has no rights to list."""
    return (*(_service(name) for name in SERVICES), _ops(), _inspect())


def user(name: str) -> User:
    """One of them by name. Raises ``KeyError``."""
    return {each.name: each for each in users()}[name]


def said_by(service: str) -> tuple[str, ...]:
    """The events that a service says, ``failure`` left out."""
    return tuple(name for name in subjects.EVENT_BY_NAME if subjects.SPEAKERS[name.split(".")[0]] == service)


# --- services --------------------------------------------------------------------------------------------------------


def _service(name: str) -> User:
    what = {
        "edge": "SIP and RTP: says what callers do, plays what tts sends",
        "asr": "hears callers, rules the turns",
        "llm": "answers",
        "tts": "speaks",
    }[name]
    own = _edge() if name == "edge" else _stage(name)
    publish = (*_says(name), *_orders(name), *own[0], *_common_publish(name))
    subscribe = (*_events_heard(name), *own[1], *_common_subscribe(name))
    return User(name=name, what=what, publish=publish, subscribe=subscribe, denied=_NO_FORGED_ANSWERS)


_NO_FORGED_ANSWERS = tuple(Right(f"_INBOX_inspect.{kind}.>", "only JetStream answers there") for kind in ("js", "ack"))


def _says(name: str) -> tuple[Right, ...]:
    return (
        *(Right(subjects.event_subject(event, "*", "*"), "its own event") for event in said_by(name)),
        Right("call.*.*.failure", "any service says what failed"),
    )


def _orders(name: str) -> tuple[Right, ...]:
    return tuple(
        Right(subjects.control_of(stage, "*", "*", command), f"orders {stage} to {command.replace('_', ' ')}")
        for stage, commands in COMMANDS.get(name, {}).items()
        for command in commands
    )


def _edge() -> tuple[tuple[Right, ...], tuple[Right, ...]]:
    publish = (
        Right("call.*.*.rec.in", "the recording, caller's side"),
        Right("call.*.*.rec.out", "the recording, agent's side"),
        Right("rt.*.*.audio.in", "the caller's live audio"),
        Right("_INBOX_asr.replay.*", "frames out of its ring that asr asked for"),
        *(Right(f"_INBOX_{asker}.ask.>", f"answers to {asker}") for asker in STAGES),
        *_last(name="edge"),
    )
    subscribe = (
        Right("rt.*.*.audio.out", "the agent's audio"),
        Right("rt.*.*.replay", "asr asks for frames"),
        Right("rt.*.*.control.edge.*", "commands to it"),
        Right("hb.*.*", "which stages have free slots"),
        Right("hb.edge.*.ping", "whether it lives"),
    )
    return publish, subscribe


def _stage(name: str) -> tuple[tuple[Right, ...], tuple[Right, ...]]:
    consumer = f"{name}-assign"
    publish = [
        Right(f"{API}.CONSUMER.MSG.NEXT.{topology.CALLS}.{consumer}", "takes offered calls"),
        Right(f"{API}.CONSUMER.INFO.{topology.CALLS}.{consumer}", "whether its work queue is there"),
        Right(f"$JS.ACK.{topology.CALLS}.{consumer}.>", "settles an offer"),
        Right(f"$JS.ACK.*.*.{topology.CALLS}.{consumer}.>", "the same, in the form with domain and account"),
        *_bucket("owners", f"{name}.*", "owns calls"),
        Right(f"{API}.DIRECT.GET.KV_owners", "who owns what, when it begins to watch"),
        Right(f"hb.{name}.*.ping", "whether another worker lives"),
        Right("hb.edge.*.ping", "whether an edge lives"),
        Right("call.*.*.edge.lost", "tells edges that one of them is gone; they believe it only if they miss it too"),
        Right(f"_INBOX_{name}.ask.>", "answers to another worker of the stage"),
        *_last(name=name),
    ]
    subscribe = [
        Right(f"rt.*.*.control.{name}.*", "commands to it"),
        Right(f"hb.{name}.*", "which workers of the stage live"),
        Right(f"hb.{name}.*.ping", "whether it lives"),
        Right("hb.edge.*", "which edges live"),
        Right(subjects.DISCONNECT_SUBJECT, "the server's word that a connection ended"),
        Right(f"kv.owners.{name}.*", "whose calls change hands"),
    ]
    extra_publish, extra_subscribe = {"asr": _asr, "llm": _llm, "tts": _tts}[name]()
    return (*publish, *extra_publish), (*subscribe, *extra_subscribe)


def _asr() -> tuple[tuple[Right, ...], tuple[Right, ...]]:
    return (
        (*_whole_record(), Right("rt.*.*.replay", "asks the edge for frames that it missed")),
        (Right("rt.*.*.audio.in", "the caller's live audio"),),
    )


def _llm() -> tuple[tuple[Right, ...], tuple[Right, ...]]:
    publish = (
        *_whole_record(),
        *_bucket("context", "*", "keeps the conversation"),
        *_bucket("calls", "*", "keeps the call's session"),
    )
    return publish, ()


def _tts() -> tuple[tuple[Right, ...], tuple[Right, ...]]:
    publish = (
        Right("rt.*.*.audio.out", "the agent's audio"),
        Right(f"{API}.DIRECT.GET.{topology.CALLS_TTS}", "a call's events, of those that it may know"),
        Right(f"{API}.STREAM.INFO.{topology.CALLS_TTS}", "whether that copy is there, and how far it is"),
        Right("_INBOX_asr.ask.>", "answers to asr, which has it apologise"),
    )
    return publish, ()


def _whole_record() -> tuple[Right, ...]:
    """What the server can't narrow: the body of the request says which subjects are read."""
    return (
        Right(f"{API}.DIRECT.GET.{topology.CALLS}", "a call's events; any subject of the stream can be read"),
        Right(f"{API}.STREAM.INFO.{topology.CALLS}", "whether the stream is there"),
    )


def _last(name: str) -> tuple[Right, ...]:
    """The newest stored message of a subject, which stands in the request's subject."""
    own = () if name == "edge" else said_by(name)
    names = dict.fromkeys((*LOOKS_UP[name], *own))
    return tuple(
        Right(f"{API}.DIRECT.GET.{topology.CALLS}.{subjects.event_subject(event, '*', '*')}", "the last one stored")
        for event in names
    )


def _bucket(bucket: str, keys: str, why: str) -> tuple[Right, ...]:
    return (
        Right(f"$KV.{bucket}.{keys}", why),
        Right(f"{API}.STREAM.INFO.KV_{bucket}", "whether the bucket is there"),
        Right(f"{API}.STREAM.MSG.GET.KV_{bucket}", "reads a key"),
    )


def _events_heard(name: str) -> tuple[Right, ...]:
    return tuple(Right(subjects.event_subject(event, "*", "*"), "follows its calls") for event in HEARS[name])


def _common_publish(name: str) -> tuple[Right, ...]:
    return (
        Right(f"hb.{name}.*", "says that it lives"),
        Right(f"$KV.workers.{name}.*", "says who it is"),
        Right(f"{API}.STREAM.INFO.KV_workers", "whether the bucket is there"),
        Right(f"{API}.STREAM.NAMES", "which stream holds a subject"),
        Right(subjects.dead_letter(name), "what it could not read"),
        Right("trace.keep", "this trace is worth keeping"),
        Right("_INBOX_inspect.>", "answers to inspect"),
        Right(accounts.ANSWERS, "answers to ops, which is in the other account"),
    )


def _common_subscribe(name: str) -> tuple[Right, ...]:
    return (
        Right(f"_INBOX_{name}.>", "answers to its own requests"),
        Right("$SRV.*", "micro service: all are asked"),
        Right(f"$SRV.*.{name}", "micro service: this service is asked"),
        Right(f"$SRV.*.{name}.*", "micro service: this process is asked"),
        Right(f"{name}.*.health", "its health"),
        Right("ops.log_level.>", "people change its log level"),
        Right("trace.keep", "another process keeps a trace"),
    )


# --- people ----------------------------------------------------------------------------------------------------------


_WATCHES = (
    Right("call.>", "every event and recording"),
    Right("rt.>", "live audio and commands"),
    Right("hb.>", "who lives"),
    Right("kv.>", "changes in buckets"),
    Right("$KV.>", "writes to buckets"),
    Right("$SRV.>", "micro services"),
    Right("dead_letter.>", "what could not be read"),
    Right("limit.>", "counters"),
    Right("trace.>", "traces that are kept"),
    Right(subjects.DISCONNECT_SUBJECT, "which connection ended"),
    Right("$JS.EVENT.>", "what JetStream reports"),
)
_ASKS = (
    *(Right(f"$SRV.{verb}", "asks all micro services") for verb in accounts.VERBS),
    *(Right(f"$SRV.{verb}.>", "asks one micro service") for verb in accounts.VERBS),
    *(Right(f"{name}.*.health", "asks how a process is") for name in SERVICES),
    *(Right(f"hb.{name}.*.ping", "asks whether a process lives") for name in SERVICES),
)


def _ops() -> User:
    publish = (
        Right(f"{API}.>", "makes, changes, reads and deletes streams, consumers and buckets"),
        Right("$JS.ACK.>", "settles what its consumers deliver"),
        Right("$JS.FC.>", "flow control of its consumers"),
        Right("$JS.SNAPSHOT.ACK.>", "takes the pieces of a stream's copy"),
        Right("$KV.>", "writes buckets"),
        Right("rt.*.*.control.*.*", "any command to a call"),
        Right("call.*.*.call.ended", "ends the record of calls whose edge has died"),
        Right("ops.>", "log levels and other orders to processes"),
        Right("trace.keep", "keeps a trace"),
        Right("_INBOX_ops.>", "the server says there which way a traced message takes (Nats-Trace-Dest)"),
        Right(subjects.dead_letter("cli"), "what the command line could not read"),
        *_ASKS,
    )
    subscribe = (
        *_WATCHES,
        Right("ops.>", "orders to processes"),
        Right("replay.>", "a call replayed by the server"),
        Right("_INBOX_ops.>", "answers to its own requests"),
    )
    what = "people and programs that change the system"
    return User(name="ops", what=what, publish=publish, subscribe=subscribe, account=accounts.STORE)


def _inspect() -> User:
    publish = (
        *(Right(f"{API}.{request}", "looks at streams, consumers and limits") for request in accounts.LOOKS),
        Right(f"{API}.STREAM.MSG.GET.*", "reads a message"),
        Right(f"{API}.DIRECT.GET.>", "reads messages"),
        *_ASKS,
    )
    subscribe = (*_WATCHES, Right("_INBOX_inspect.>", "answers to its own requests"))
    return User(name="inspect", what="people who only look", publish=publish, subscribe=subscribe)


# --- as configuration ------------------------------------------------------------------------------------------------


def render(each: User, public_key: str) -> str:
    """One entry of a ``users`` list of nats.conf."""
    denied = f"\n      deny: {_list(each.denied)}" if each.denied else ""
    return (
        f"  # {each.name}: {each.what}\n"
        f'  {{ nkey: "{public_key}", permissions: {{\n'
        f"    publish: {{\n      allow: {_list(each.publish)}{denied}\n    }}\n"
        f"    subscribe: {{\n      allow: {_list(each.subscribe)}\n    }}\n"
        "  } }"
    )


def _list(rights: tuple[Right, ...]) -> str:
    names = sorted(dict.fromkeys(right.subject for right in rights))
    return "[\n" + "".join(f'        "{name}"\n' for name in names) + "      ]"
