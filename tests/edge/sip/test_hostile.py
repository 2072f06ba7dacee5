"""Whole calls with peers that garble what they say: nothing raises, and nothing is left behind."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.sip.errors import UsageError
from edge.sip.events import CallAnswered, IncomingCall, ReinviteReceived
from edge.sip.message import Request
from tests.fakes.sip_peer import ANSWER, OFFER, Peer

pytestmark = pytest.mark.unit

Mutation = tuple[float, bytes, int]
MUTATIONS = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=5), st.integers(0, 5)), max_size=3)


def garbled(data: bytes, mutations: list[Mutation]) -> bytes:
    """Data with bytes put in and left out; a place is a fraction of its length."""
    for place, insert, remove in mutations:
        position = int(place * len(data))
        data = data[:position] + insert + data[position + remove :]
    return data


def application(peer: Peer, seen: int) -> int:
    """Answer what has been asked since `seen` events."""
    for event in peer.events[seen:]:
        with suppress(UsageError):
            if isinstance(event, IncomingCall):
                peer.user_agent.answer(event.call, ANSWER, peer.now)
            elif isinstance(event, ReinviteReceived):
                peer.user_agent.answer_reinvite(event.call, ANSWER, peer.now)
            elif isinstance(event, CallAnswered):
                peer.user_agent.reinvite(event.call, OFFER, peer.now)
    return len(peer.events)


@settings(max_examples=150, deadline=None)
@given(st.lists(MUTATIONS, min_size=6, max_size=6))
def test_garbled_requests_of_a_caller(mutations: list[list[Mutation]]) -> None:
    peer, seen = Peer(), 0
    bodies = {"INVITE": OFFER, "INFO": b"Signal=1"}
    for (method, cseq), changes in zip(
        [("INVITE", 1), ("ACK", 1), ("INFO", 2), ("INVITE", 3), ("CANCEL", 3), ("BYE", 4)], mutations, strict=True
    ):
        data = peer.text(method, cseq=cseq, body=bodies.get(method, b""), extra="Record-Route: <sip:p;lr>\r\n")
        peer.feed(garbled(data, changes))
        seen = application(peer, seen)
        for outgoing in peer.user_agent.messages_to_send(peer.now):
            if b"CSeq: 1 INVITE" in outgoing.data and b";tag=ua" in outgoing.data:
                peer.to_tag = outgoing.data.split(b";tag=ua", 1)[1][:4].decode("latin-1")
                peer.to_tag = f"ua{peer.to_tag}"
    peer.wait(400)
    assert peer.user_agent.next_deadline() is None


@settings(max_examples=150, deadline=None)
@given(MUTATIONS, MUTATIONS, st.sampled_from([100, 180, 200, 302, 486, 491]))
def test_garbled_responses_of_a_called_peer(first: list[Mutation], second: list[Mutation], status: int) -> None:
    peer = Peer()
    call = peer.user_agent.invite("sip:them@192.0.2.1", peer.now, sdp=OFFER)
    (invite,) = peer.heard()
    assert isinstance(invite, Request)
    extra = "Contact: <sip:them@192.0.2.1>\r\nRecord-Route: <sip:p;lr>\r\n"
    peer.feed(garbled(peer.reply(invite, 180, extra=extra, to_tag="them"), first))
    peer.feed(garbled(peer.reply(invite, status, extra=extra, body=ANSWER, to_tag="them"), second))
    application(peer, 0)
    with suppress(UsageError):
        peer.user_agent.hang_up(call, peer.now)
    peer.wait(400)
    assert peer.user_agent.next_deadline() is None
    assert peer.user_agent.call_count == 0
