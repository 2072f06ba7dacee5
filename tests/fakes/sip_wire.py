"""Two user agents joined by a pretend wire in virtual time, with packets lost by a list of booleans."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TypeVar

from edge.sip.configuration import UserAgentConfiguration
from edge.sip.endpoint import UserAgent
from edge.sip.events import Address, CallHandle, Event, IncomingCall, Outgoing, Transport
from edge.sip.negotiation import LocalMedia, OfferAnswer

E = TypeVar("E")


def counted_tokens(prefix: str) -> object:
    """Tokens without chance: prefix and a number."""
    counter = itertools.count(1)
    return lambda: f"{prefix}{next(counter):04d}"


def configuration(prefix: str, address: Address, **changes: object) -> UserAgentConfiguration:
    """A configuration that uses no chance and says `address`."""
    settings: dict[str, object] = {"tokens": counted_tokens(prefix), "local_address": lambda peer, transport: address}
    return UserAgentConfiguration(**{**settings, **changes})  # type: ignore[arg-type]


class End:
    """One user agent with its address and all that it reported."""

    def __init__(self, name: str, address: Address, **changes: object) -> None:
        self.name = name
        self.address = address
        self.user_agent = UserAgent(configuration(name, address, **changes))
        self.events: list[Event] = []
        self.session = OfferAnswer(LocalMedia(address=address[0], port=40_000, session_id=7))

    def last(self, kind: type[E]) -> E:
        """The latest event of a kind."""
        return next(event for event in reversed(self.events) if isinstance(event, kind))

    def count(self, kind: type) -> int:
        """How many events of a kind."""
        return sum(isinstance(event, kind) for event in self.events)


class Wire:
    """Carries messages between a caller and a callee; `lost[n]` says whether the n-th message vanishes."""

    def __init__(self, lost: Sequence[bool] = (), transport: Transport = Transport.UDP, **changes: object) -> None:
        self.caller = End("caller", ("192.0.2.1", 5060), **changes)
        self.callee = End("callee", ("192.0.2.2", 5060), **changes)
        self.transport = transport
        self.now = 0.0
        self.log: list[str] = []
        """`time sender start-line` of every message, `*` behind the lost ones."""
        self._lost = list(lost)
        self._sent = 0
        self.cut = False
        """While true every message is lost."""

    def settle(self) -> None:
        """Carry messages until both are silent; time stands still."""
        for _ in range(50):
            moved = [
                (sender, receiver, message)
                for sender, receiver in ((self.caller, self.callee), (self.callee, self.caller))
                for message in sender.user_agent.messages_to_send(self.now)
            ]
            if not moved:
                return
            for sender, receiver, message in moved:
                self._carry(sender, receiver, message)
        raise AssertionError("the two do not stop talking:\n" + "\n".join(self.log[-20:]))

    def run(self, seconds: float) -> None:
        """Let time pass, from deadline to deadline."""
        until = self.now + seconds
        while True:
            self.settle()
            deadlines = [end.user_agent.next_deadline() for end in (self.caller, self.callee)]
            earliest = min((each for each in deadlines if each is not None), default=until + 1)
            if earliest > until:
                break
            self.now = max(self.now, earliest)
            for end in (self.caller, self.callee):
                end.events += end.user_agent.handle_deadline(self.now)
        self.now = until

    def sent(self, text: str) -> list[str]:
        """Log lines that hold `text`."""
        return [line for line in self.log if text in line]

    def call(self) -> tuple[CallHandle, CallHandle]:
        """A call that is up: (the caller's handle, the callee's)."""
        handle = self.caller.user_agent.invite(
            "sip:agent@192.0.2.2", self.now, sdp=self.caller.session.offer(), transport=self.transport
        )
        self.settle()
        incoming = self.callee.last(IncomingCall)
        assert incoming.offer is not None
        self.callee.user_agent.answer(incoming.call, self.callee.session.answer(incoming.offer), self.now)
        self.settle()
        return handle, incoming.call

    def _carry(self, sender: End, receiver: End, message: Outgoing) -> None:
        lost = self.cut or (self._sent < len(self._lost) and self._lost[self._sent])
        self._sent += 1
        line = message.data.split(b"\r\n", 1)[0].decode()
        self.log.append(f"{self.now:.2f} {sender.name} {line}{' *' if lost else ''}")
        if not lost:
            connection = "wire" if self.transport is Transport.TCP else None
            receiver.events += receiver.user_agent.receive(
                message.data, sender.address, self.transport, self.now, connection
            )
