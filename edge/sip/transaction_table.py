"""The four transaction state machines of RFC 3261 section 17 as data, with RFC 6026 and RFC 4320 applied.

Two house rules: every transition lives in this file, and nothing in this file knows what a message looks like.
An input that a state does not list is absorbed. Entering a state starts the timers listed for it and stops all others.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import NamedTuple


class State(StrEnum):
    """RFC 3261 figures 5 to 8; ACCEPTED is RFC 6026 section 7."""

    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    ACCEPTED = "accepted"
    TERMINATED = "terminated"


class Input(Enum):
    """What can happen to a transaction. Responses are sent (server) or received (client)."""

    REQUEST = "the same request again"
    ACK = "ACK"
    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    FAILURE = "300 to 699"
    UNREACHABLE = "transport error"
    TIMER_A = "A"
    TIMER_B = "B"
    TIMER_D = "D"
    TIMER_E = "E"
    TIMER_F = "F"
    TIMER_G = "G"
    TIMER_H = "H"
    TIMER_I = "I"
    TIMER_J = "J"
    TIMER_K = "K"
    TIMER_L = "L"
    TIMER_M = "M"


class Action(Enum):
    """What a transition does, in the order listed."""

    SEND = "send the message at hand"
    REPEAT = "send the last message again"
    AGAIN = "restart the timer that fired, with its next interval"
    SLOW = "restart timer E at T2"
    DELIVER = "hand the message to the transaction user"
    ACKNOWLEDGE = "send ACK for a final response other than 2xx"
    TIMED_OUT = "tell the transaction user that nobody answered"
    BROKEN = "tell the transaction user that the message cannot be sent"


class Step(NamedTuple):
    """One transition."""

    state: State
    actions: tuple[Action, ...] = ()


Table = dict[State, dict[Input, Step]]
EntryTimers = dict[State, tuple[Input, ...]]


class Machine(NamedTuple):
    """A state machine and the timers that its states start."""

    name: str
    first: State
    table: Table
    timers: EntryTimers


_S, _I, _A = State, Input, Action
_END = Step(State.TERMINATED)
_GIVE_UP = Step(State.TERMINATED, (Action.TIMED_OUT,))
_BREAK = Step(State.TERMINATED, (Action.BROKEN,))

# RFC 3261 section 17.2.1, figure 7; ACCEPTED from RFC 6026 section 7.1: the transaction lives on after a 2xx, so that a
# retransmitted INVITE is absorbed and not taken for a new call. The 2xx itself is repeated by the transaction user.
INVITE_SERVER = Machine(
    "INVITE server",
    _S.PROCEEDING,
    {
        _S.PROCEEDING: {
            _I.REQUEST: Step(_S.PROCEEDING, (_A.REPEAT,)),
            _I.PROVISIONAL: Step(_S.PROCEEDING, (_A.SEND,)),
            _I.SUCCESS: Step(_S.ACCEPTED, (_A.SEND,)),
            _I.FAILURE: Step(_S.COMPLETED, (_A.SEND,)),
        },
        _S.COMPLETED: {
            _I.REQUEST: Step(_S.COMPLETED, (_A.REPEAT,)),
            _I.TIMER_G: Step(_S.COMPLETED, (_A.REPEAT, _A.AGAIN)),
            _I.ACK: Step(_S.CONFIRMED),
            _I.TIMER_H: _END,
        },
        _S.CONFIRMED: {_I.TIMER_I: _END},
        _S.ACCEPTED: {
            _I.SUCCESS: Step(_S.ACCEPTED, (_A.SEND,)),
            _I.ACK: Step(_S.ACCEPTED, (_A.DELIVER,)),
            _I.TIMER_L: _END,
        },
    },
    {_S.COMPLETED: (_I.TIMER_G, _I.TIMER_H), _S.CONFIRMED: (_I.TIMER_I,), _S.ACCEPTED: (_I.TIMER_L,)},
)

# RFC 3261 section 17.2.2, figure 8.
OTHER_SERVER = Machine(
    "non-INVITE server",
    _S.TRYING,
    {
        _S.TRYING: {
            _I.PROVISIONAL: Step(_S.PROCEEDING, (_A.SEND,)),
            _I.SUCCESS: Step(_S.COMPLETED, (_A.SEND,)),
            _I.FAILURE: Step(_S.COMPLETED, (_A.SEND,)),
        },
        _S.PROCEEDING: {
            _I.REQUEST: Step(_S.PROCEEDING, (_A.REPEAT,)),
            _I.PROVISIONAL: Step(_S.PROCEEDING, (_A.SEND,)),
            _I.SUCCESS: Step(_S.COMPLETED, (_A.SEND,)),
            _I.FAILURE: Step(_S.COMPLETED, (_A.SEND,)),
        },
        _S.COMPLETED: {_I.REQUEST: Step(_S.COMPLETED, (_A.REPEAT,)), _I.TIMER_J: _END},
    },
    {_S.COMPLETED: (_I.TIMER_J,)},
)

# RFC 3261 section 17.1.1, figure 5; ACCEPTED from RFC 6026 section 7.2: every 2xx, also of other forks, goes up.
# Timer B runs in CALLING only: a phone may ring for as long as it likes.
INVITE_CLIENT = Machine(
    "INVITE client",
    _S.CALLING,
    {
        _S.CALLING: {
            _I.TIMER_A: Step(_S.CALLING, (_A.REPEAT, _A.AGAIN)),
            _I.TIMER_B: _GIVE_UP,
            _I.PROVISIONAL: Step(_S.PROCEEDING, (_A.DELIVER,)),
            _I.SUCCESS: Step(_S.ACCEPTED, (_A.DELIVER,)),
            _I.FAILURE: Step(_S.COMPLETED, (_A.ACKNOWLEDGE, _A.DELIVER)),
            _I.UNREACHABLE: _BREAK,
        },
        _S.PROCEEDING: {
            _I.PROVISIONAL: Step(_S.PROCEEDING, (_A.DELIVER,)),
            _I.SUCCESS: Step(_S.ACCEPTED, (_A.DELIVER,)),
            _I.FAILURE: Step(_S.COMPLETED, (_A.ACKNOWLEDGE, _A.DELIVER)),
        },
        _S.COMPLETED: {
            _I.FAILURE: Step(_S.COMPLETED, (_A.ACKNOWLEDGE,)),
            _I.TIMER_D: _END,
            _I.UNREACHABLE: _END,
        },
        _S.ACCEPTED: {_I.SUCCESS: Step(_S.ACCEPTED, (_A.DELIVER,)), _I.TIMER_M: _END},
    },
    {_S.CALLING: (_I.TIMER_A, _I.TIMER_B), _S.COMPLETED: (_I.TIMER_D,), _S.ACCEPTED: (_I.TIMER_M,)},
)

# RFC 3261 section 17.1.2, figure 6. Timers E and F run on in PROCEEDING: see KEEP.
OTHER_CLIENT = Machine(
    "non-INVITE client",
    _S.TRYING,
    {
        _S.TRYING: {
            _I.TIMER_E: Step(_S.TRYING, (_A.REPEAT, _A.AGAIN)),
            _I.TIMER_F: _GIVE_UP,
            _I.PROVISIONAL: Step(_S.PROCEEDING, (_A.DELIVER,)),
            _I.SUCCESS: Step(_S.COMPLETED, (_A.DELIVER,)),
            _I.FAILURE: Step(_S.COMPLETED, (_A.DELIVER,)),
            _I.UNREACHABLE: _BREAK,
        },
        _S.PROCEEDING: {
            _I.TIMER_E: Step(_S.PROCEEDING, (_A.REPEAT, _A.SLOW)),
            _I.TIMER_F: _GIVE_UP,
            _I.PROVISIONAL: Step(_S.PROCEEDING, (_A.DELIVER,)),
            _I.SUCCESS: Step(_S.COMPLETED, (_A.DELIVER,)),
            _I.FAILURE: Step(_S.COMPLETED, (_A.DELIVER,)),
            _I.UNREACHABLE: _BREAK,
        },
        _S.COMPLETED: {_I.TIMER_K: _END},
    },
    {_S.TRYING: (_I.TIMER_E, _I.TIMER_F), _S.COMPLETED: (_I.TIMER_K,)},
)

KEEP = {("non-INVITE client", State.PROCEEDING): (Input.TIMER_E, Input.TIMER_F)}
"""Timers that entering this state leaves running."""

MACHINES = (INVITE_SERVER, OTHER_SERVER, INVITE_CLIENT, OTHER_CLIENT)
