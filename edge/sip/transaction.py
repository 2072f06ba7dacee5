"""Transactions: the tables of transaction_table.py, driven. One layer per user agent holds all that are alive."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from edge.sip.configuration import UserAgentConfiguration
from edge.sip.events import Address, Outgoing, Transport
from edge.sip.message import Headers, Message, Request, Response
from edge.sip.routing import Arrival, Hop, response_hop
from edge.sip.timers import Deadlines
from edge.sip.trace import no_trace
from edge.sip.transaction_table import (
    INVITE_CLIENT,
    INVITE_SERVER,
    KEEP,
    OTHER_CLIENT,
    OTHER_SERVER,
    Action,
    Input,
    Machine,
    State,
)


class TransactionUser(Protocol):
    """Whom a transaction reports to (RFC 3261 section 5: the core)."""

    def response_received(self, transaction: Transaction, response: Response, now: float) -> None:
        """A response that is not a retransmission."""

    def ack_received(self, transaction: Transaction, ack: Request, now: float) -> None:
        """An ACK to a 2xx that carries the branch of its INVITE, as RFC 2543 has it."""

    def transaction_failed(self, transaction: Transaction, why: str, now: float) -> None:
        """No final response: `why` is timeout or transport."""


class Transaction:
    """One transaction of either side."""

    __slots__ = ("arrival", "hop", "interval", "key", "last", "machine", "request", "running", "state", "user")

    def __init__(self, machine: Machine, key: Hashable, request: Request, hop: Hop, user: TransactionUser) -> None:
        self.machine = machine
        self.key = key
        self.request = request
        self.hop = hop
        """Where its messages go."""
        self.user = user
        self.state = machine.first
        self.last: bytes | None = None
        """What REPEAT sends."""
        self.running: set[Input] = set()
        self.interval = 0.0
        """Of the retransmission timer: A, E or G."""
        self.arrival: Arrival | None = None
        """Client side: where the latest response came from."""

    @property
    def final(self) -> bool:
        """Whether a final response has passed."""
        return self.state not in (State.CALLING, State.TRYING, State.PROCEEDING)


class TransactionLayer:
    """All living transactions, the deadlines that drive them, and what is to be sent."""

    def __init__(self, configuration: UserAgentConfiguration) -> None:
        self.configuration = configuration
        self.deadlines = Deadlines()
        self.outbox: list[Outgoing] = []
        self._servers: dict[Hashable, Transaction] = {}
        self._clients: dict[Hashable, Transaction] = {}
        self._merged: dict[Hashable, Transaction] = {}

    def __len__(self) -> int:
        return len(self._servers) + len(self._clients)

    # -- server side -----------------------------------------------------------------------------------------------

    def find_server(self, request: Request, method: str = "") -> Transaction | None:
        """The transaction that a request belongs to; `method` INVITE finds the one that a CANCEL means (9.2)."""
        return self._servers.get(server_key(request, method or request.method))

    def is_merged(self, request: Request) -> bool:
        """Whether the same request came by another way (8.2.2.2). To be asked before `open_server`."""
        return not request.recipient.tag and _merge_key(request) in self._merged

    def open_server(self, request: Request, arrival: Arrival, user: TransactionUser) -> Transaction:
        """Begin a transaction for a new request."""
        machine = INVITE_SERVER if request.method == "INVITE" else OTHER_SERVER
        key = server_key(request, request.method)
        transaction = Transaction(machine, key, request, response_hop(request.vias[0], arrival), user)
        self._servers[key] = transaction
        if not request.recipient.tag:
            self._merged.setdefault(_merge_key(request), transaction)
        return transaction

    def request_again(self, transaction: Transaction, now: float) -> None:
        """The same request came again."""
        self._step(transaction, Input.REQUEST, None, now)

    def ack(self, transaction: Transaction, ack: Request, now: float) -> None:
        """An ACK that carries the INVITE's branch."""
        self._step(transaction, Input.ACK, ack, now)

    def respond(self, transaction: Transaction, response: Response, now: float) -> None:
        """Send a response; one that comes after the final response is dropped, except a repeated 2xx to INVITE."""
        self._step(transaction, _input_of(response), response, now)

    # -- client side -----------------------------------------------------------------------------------------------

    def open_client(self, request: Request, hop: Hop, user: TransactionUser, now: float) -> Transaction:
        """Send a new request; its top Via holds a fresh branch."""
        machine = INVITE_CLIENT if request.method == "INVITE" else OTHER_CLIENT
        key = (request.vias[0].branch, request.method)
        transaction = Transaction(machine, key, request, hop, user)
        self._clients[key] = transaction
        transaction.last = request.serialise()
        self.send(transaction.last, hop, request, now)
        self._enter(transaction, machine.first, now)
        return transaction

    def response(self, response: Response, arrival: Arrival, now: float) -> bool:
        """Feed a received response; False where no transaction of ours matches (17.1.3)."""
        transaction = self._clients.get((response.vias[0].branch, response.cseq.method))
        if transaction is None:
            return False
        transaction.arrival = arrival
        self._step(transaction, _input_of(response), response, now)
        return True

    def unreachable(self, destination: Address, transport: Transport, now: float) -> None:
        """Fail all requests that wait for an answer from there (18.4, 8.1.3.1)."""
        for transaction in list(self._clients.values()):
            if transaction.hop.destination == destination and transaction.hop.transport is transport:
                self._step(transaction, Input.UNREACHABLE, None, now)

    def forget_connection(self, connection: object) -> None:
        """A connection is closed: nothing more is sent on it."""
        for transaction in [*self._servers.values(), *self._clients.values()]:
            if transaction.hop.connection == connection:
                transaction.hop = transaction.hop._replace(connection=None)

    def abandon(self, transaction: Transaction, now: float) -> None:
        """Drop a client transaction that will never get its final response (9.1)."""
        self._enter(transaction, State.TERMINATED, now)

    # -- both ------------------------------------------------------------------------------------------------------

    def send(self, data: bytes, hop: Hop, message: Message, now: float) -> None:
        """Put bytes into the outbox."""
        self.outbox.append(Outgoing(data, hop.destination, hop.transport, hop.connection))
        if self.configuration.trace is not no_trace:
            self.configuration.trace(">", summary(message), now)

    def _step(self, transaction: Transaction, event: Input, message: Message | None, now: float) -> None:
        step = transaction.machine.table.get(transaction.state, {}).get(event)
        if step is None:
            return
        if Action.SEND in step.actions and message is not None:
            transaction.last = message.serialise()
            self.send(transaction.last, transaction.hop, message, now)
        if Action.REPEAT in step.actions and transaction.last is not None:
            self.send(transaction.last, transaction.hop, transaction.request, now)
        if Action.ACKNOWLEDGE in step.actions and isinstance(message, Response):
            ack = ack_for_failure(transaction.request, message)
            self.send(ack.serialise(), transaction.hop, ack, now)
        if step.state is not transaction.state:
            self._enter(transaction, step.state, now)
        if Action.AGAIN in step.actions or Action.SLOW in step.actions:
            self._again(transaction, event, Action.SLOW in step.actions, now)
        if Action.DELIVER in step.actions:
            if isinstance(message, Response):
                transaction.user.response_received(transaction, message, now)
            elif isinstance(message, Request):
                transaction.user.ack_received(transaction, message, now)
        if Action.TIMED_OUT in step.actions:
            transaction.user.transaction_failed(transaction, "timeout", now)
        if Action.BROKEN in step.actions:
            transaction.user.transaction_failed(transaction, "transport", now)

    def _enter(self, transaction: Transaction, state: State, now: float) -> None:
        keep = KEEP.get((transaction.machine.name, state), ())
        for timer in [timer for timer in transaction.running if timer not in keep]:
            self.deadlines.cancel((transaction, timer))
            transaction.running.discard(timer)
        transaction.state = state
        if self.configuration.trace is not no_trace:
            what = f"{transaction.machine.name} {transaction.request.call_id} {state.value}"
            self.configuration.trace("=", what, now)
        if state is State.TERMINATED:
            self._remove(transaction)
            return
        for timer in transaction.machine.timers.get(state, ()):
            self._start(transaction, timer, now)

    def _remove(self, transaction: Transaction) -> None:
        if transaction.machine in (INVITE_CLIENT, OTHER_CLIENT):
            self._clients.pop(transaction.key, None)
            return
        self._servers.pop(transaction.key, None)
        merge_key = _merge_key(transaction.request)
        if self._merged.get(merge_key) is transaction:
            del self._merged[merge_key]

    def _start(self, transaction: Transaction, timer: Input, now: float) -> None:
        timers = self.configuration.timers
        reliable = transaction.hop.transport.reliable
        if timer in (Input.TIMER_A, Input.TIMER_E, Input.TIMER_G):
            if reliable:
                return
            transaction.interval = duration = timers.t1
        elif timer in (Input.TIMER_I, Input.TIMER_K):
            duration = 0.0 if reliable else timers.t4
        elif timer is Input.TIMER_D:
            duration = 0.0 if reliable else timers.d
        elif timer is Input.TIMER_J:
            duration = 0.0 if reliable else timers.transaction
        else:
            duration = timers.transaction
        self._arm(transaction, timer, duration, now)

    def _again(self, transaction: Transaction, timer: Input, slow: bool, now: float) -> None:
        timers = self.configuration.timers
        # 17.1.1.2: A doubles without bound (B ends it); 17.1.2.2 and 17.2.1: E and G double up to T2.
        doubled = 2 * transaction.interval
        transaction.interval = timers.t2 if slow else doubled if timer is Input.TIMER_A else min(doubled, timers.t2)
        self._arm(transaction, timer, transaction.interval, now)

    def _arm(self, transaction: Transaction, timer: Input, duration: float, now: float) -> None:
        if duration == 0.0:
            # Over a reliable transport nothing comes late: the state is left at once.
            self._step(transaction, timer, None, now)
            return
        transaction.running.add(timer)
        self.deadlines.set((transaction, timer), now + duration, lambda at: self._fired(transaction, timer, at))

    def _fired(self, transaction: Transaction, timer: Input, now: float) -> None:
        transaction.running.discard(timer)
        self._step(transaction, timer, None, now)


def _input_of(response: Response) -> Input:
    if response.status < 200:
        return Input.PROVISIONAL
    return Input.SUCCESS if response.status < 300 else Input.FAILURE


def server_key(request: Request, method: str) -> Hashable:
    """What makes a request the same one again (17.2.3). An ACK belongs to its INVITE."""
    via = request.vias[0]
    if method == "ACK":
        method = "INVITE"
    if via.unique:
        return (via.branch, via.sent_by, method)
    # RFC 2543, or a branch that is nothing but the cookie. The To tag is left out: an INVITE and its ACK differ in it.
    # `received` and `rport` are ours, so they do not tell two requests apart.
    return (request.uri, request.sender.tag, request.call_id, request.cseq.number, method, via.sent_by, via.branch)


def _merge_key(request: Request) -> Hashable:
    return (request.call_id, request.sender.tag, request.cseq)


def ack_for_failure(request: Request, response: Response) -> Request:
    """The ACK to a final response other than 2xx: part of the transaction, so it keeps the branch (17.1.1.3)."""
    original = request.headers
    fields = [("Via", original.get("via") or "")]
    fields += [("Route", value) for value in original.all("route")]
    fields += [
        ("Max-Forwards", "70"),
        ("From", original.get("from") or ""),
        ("To", response.headers.get("to") or ""),
        ("Call-ID", request.call_id),
        ("CSeq", f"{request.cseq.number} ACK"),
    ]
    return Request("ACK", request.uri, Headers(fields))


def summary(message: Message) -> str:
    """A message in a few words for the trace, without caller content."""
    what = message.method if isinstance(message, Request) else str(getattr(message, "status", ""))
    return f"{what} {message.headers.get('cseq') or '-'} {message.headers.get('call-id') or '-'}"
