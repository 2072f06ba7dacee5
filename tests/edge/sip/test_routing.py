"""Where messages go: Via, Record-Route, strict routers, connections that close (RFC 3261 sections 12, 16.12, 18.2)."""

from __future__ import annotations

import pytest

from edge.sip.events import CallAnswered, Transport
from edge.sip.message import Request, Response
from tests.fakes.sip_peer import ANSWER, OFFER, Peer

pytestmark = pytest.mark.unit

TWO_ROUTES = "Record-Route: <sip:p2@192.0.2.52;lr;ftag=x>, <sip:192.0.2.51:5070;lr>\r\n"
THREE_ROUTES = TWO_ROUTES + "Record-Route: <sip:192.0.2.50;transport=tcp;lr=on>\r\n"


def sent(peer: Peer) -> tuple[Request, tuple[str, int]]:
    """The one request that is to be sent, and where to."""
    (request,) = peer.heard()
    assert isinstance(request, Request)
    return request, peer.outgoing[0].destination


class TestResponses:
    @pytest.mark.parametrize(
        ("via", "destination", "echoed"),
        [
            # The packet's address differs from the Via's: received (18.2.1), port of the Via (18.2.2).
            ("10.0.0.1:5099", ("192.0.2.1", 5099), "10.0.0.1:5099;branch=z9hG4bKx;received=192.0.2.1"),
            ("10.0.0.1", ("192.0.2.1", 5060), "10.0.0.1;branch=z9hG4bKx;received=192.0.2.1"),
            ("phone.example", ("192.0.2.1", 5060), "phone.example;branch=z9hG4bKx;received=192.0.2.1"),
            ("192.0.2.1:5099", ("192.0.2.1", 5099), "192.0.2.1:5099;branch=z9hG4bKx"),
            # RFC 3581: rport sends it back to the very port.
            ("10.0.0.1:5099;rport", ("192.0.2.1", 5062), "10.0.0.1:5099;rport=5062;branch=z9hG4bKx;received=192.0.2.1"),
            ("192.0.2.1;rport", ("192.0.2.1", 5062), "192.0.2.1;rport=5062;branch=z9hG4bKx;received=192.0.2.1"),
            # A forged received does not steer our answer, a maddr neither.
            ("192.0.2.1:5099;received=203.0.113.9", ("192.0.2.1", 5099), "192.0.2.1:5099;branch=z9hG4bKx"),
            ("192.0.2.1;maddr=239.1.1.1", ("192.0.2.1", 5060), "192.0.2.1;maddr=239.1.1.1;branch=z9hG4bKx"),
        ],
    )
    def test_over_udp(self, via: str, destination: tuple[str, int], echoed: str) -> None:
        peer = Peer()
        (ok,) = peer.request("OPTIONS", via=f"Via: SIP/2.0/UDP {via};branch=z9hG4bKx\r\n")
        assert peer.outgoing[0].destination == destination
        assert ok.headers.get("via") == f"SIP/2.0/UDP {echoed}"

    def test_malformed_requests_are_answered_the_same_way(self) -> None:
        peer = Peer()
        peer.request("OPTIONS", via="Via: SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bKx\r\n", extra="Date: x\r\n")
        assert peer.outgoing[0].destination == ("192.0.2.1", 5062)
        peer.feed(peer.text("OPTIONS", via="Via: SIP/2.0/UDP ;;\r\n"))

    def test_broken_via_is_answered_to_the_source(self) -> None:
        peer = Peer()
        peer.events += peer.user_agent.receive(
            peer.text("OPTIONS", via="Via: SIP/2.0/UDP ;;\r\n"), ("192.0.2.1", 5062), Transport.UDP, peer.now
        )
        (outgoing,) = peer.user_agent.messages_to_send(peer.now)
        assert outgoing.destination == ("192.0.2.1", 5062)

    def test_all_vias_come_back_in_order(self) -> None:
        peer = Peer()
        vias = (
            "Via: SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bK1, SIP/2.0/TCP b;branch=z9hG4bK2\r\nVia: SIP/2.0/TLS c\r\n"
        )
        (ok,) = peer.request("OPTIONS", via=vias)
        assert ok.headers.elements("via") == [
            "SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bK1",
            "SIP/2.0/TCP b;branch=z9hG4bK2",
            "SIP/2.0/TLS c",
        ]

    def test_over_tcp_on_the_same_connection_then_to_the_via(self) -> None:
        peer = Peer(Transport.TCP, connection="c1")
        incoming = peer.offered(via="Via: SIP/2.0/TCP 192.0.2.1:5099;branch=z9hG4bKx\r\n")
        peer.user_agent.ring(incoming.call, peer.now)
        peer.heard()
        assert (peer.outgoing[0].connection, peer.outgoing[0].destination) == ("c1", ("192.0.2.1", 5099))
        peer.user_agent.connection_closed("c1")
        peer.user_agent.answer(incoming.call, ANSWER, peer.now)
        peer.heard()
        assert (peer.outgoing[0].connection, peer.outgoing[0].destination) == (None, ("192.0.2.1", 5099))

    def test_ipv6_source(self) -> None:
        peer = Peer()
        data = peer.text("OPTIONS", via="Via: SIP/2.0/UDP [2001:db8::1]:5062;rport;branch=z9hG4bKx\r\n")
        peer.send(data, source=("2001:db8::2", 5062))
        assert peer.outgoing[0].destination == ("2001:db8::2", 5062)
        assert b"[2001:db8::1]:5062;rport=5062;branch=z9hG4bKx;received=2001:db8::2" in peer.outgoing[0].data


class TestRecordRoute:
    def test_is_copied_to_18x_and_200_but_not_to_refusals(self) -> None:
        peer = Peer()
        incoming = peer.offered(extra=THREE_ROUTES)
        peer.user_agent.ring(incoming.call, peer.now)
        peer.user_agent.answer(incoming.call, ANSWER, peer.now)
        for message in peer.heard():
            assert [route.text for route in message.record_routes] == [
                "<sip:p2@192.0.2.52;lr;ftag=x>",
                "<sip:192.0.2.51:5070;lr>",
                "<sip:192.0.2.50;transport=tcp;lr=on>",
            ]
        refused = Peer()
        refused.user_agent.reject(refused.offered(extra=THREE_ROUTES).call, 486, refused.now)
        assert refused.heard()[0].record_routes == []

    @pytest.mark.parametrize("routes", [TWO_ROUTES, THREE_ROUTES])
    def test_called_side_keeps_the_order(self, routes: str) -> None:
        peer = Peer()
        incoming = peer.up(extra=routes)
        peer.user_agent.hang_up(incoming.call, peer.now)
        bye, destination = sent(peer)
        assert bye.uri == "sip:peer@192.0.2.1:5062"
        assert destination == ("192.0.2.52", 5060)
        # Parameters come back as they were written.
        assert bye.headers.all("route")[:2] == ["<sip:p2@192.0.2.52;lr;ftag=x>", "<sip:192.0.2.51:5070;lr>"]
        assert len(bye.headers.all("route")) == routes.count("<sip")

    def test_calling_side_reverses_it(self) -> None:
        peer = Peer()
        call = peer.user_agent.invite("sip:them@192.0.2.60", peer.now, sdp=OFFER)
        (invite,) = peer.heard()
        assert isinstance(invite, Request)
        extra = "Contact: <sip:them@10.0.0.5>\r\n" + THREE_ROUTES
        (ack,) = peer.send(peer.reply(invite, 200, extra=extra, body=ANSWER, to_tag="them"))
        assert isinstance(ack, Request)
        assert isinstance(peer.events[-1], CallAnswered)
        reversed_routes = [
            "<sip:192.0.2.50;transport=tcp;lr=on>",
            "<sip:192.0.2.51:5070;lr>",
            "<sip:p2@192.0.2.52;lr;ftag=x>",
        ]
        assert (ack.uri, ack.headers.all("route")) == ("sip:them@10.0.0.5", reversed_routes)
        # Double Record-Route of a proxy that bridges transports: its TCP side is the next hop.
        assert (peer.outgoing[0].destination, peer.outgoing[0].transport) == (("192.0.2.50", 5060), Transport.TCP)
        peer.user_agent.hang_up(call, peer.now)
        bye, _ = sent(peer)
        assert bye.headers.all("route") == reversed_routes

    def test_strict_router_gets_its_uri_and_the_target_last(self) -> None:
        """Section 12.2.1.1."""
        peer = Peer()
        incoming = peer.up(extra="Record-Route: <sip:old@192.0.2.70>, <sip:192.0.2.71;lr>\r\n")
        peer.user_agent.hang_up(incoming.call, peer.now)
        bye, destination = sent(peer)
        assert bye.uri == "sip:old@192.0.2.70"
        assert bye.headers.all("route") == ["<sip:192.0.2.71;lr>", "<sip:peer@192.0.2.1:5062>"]
        assert destination == ("192.0.2.70", 5060)

    def test_reinvite_changes_the_target_but_not_the_route(self) -> None:
        peer = Peer()
        incoming = peer.up(extra=TWO_ROUTES)
        peer.request(
            "INVITE", body=OFFER, contact="Contact: <sip:new@10.9.9.9>\r\n", extra="Record-Route: <sip:other;lr>\r\n"
        )
        peer.user_agent.answer_reinvite(incoming.call, ANSWER, peer.now)
        peer.heard()
        peer.request("ACK", branch="z9hG4bK-2")
        peer.user_agent.hang_up(incoming.call, peer.now)
        bye, destination = sent(peer)
        assert (bye.uri, destination, len(bye.headers.all("route"))) == ("sip:new@10.9.9.9", ("192.0.2.52", 5060), 2)


class TestConnections:
    def test_requests_in_a_dialog_use_the_callers_connection(self) -> None:
        peer = Peer(Transport.TCP, connection="c1")
        contact = "Contact: <sip:peer@10.0.0.9:43210;transport=tcp>\r\n"
        incoming = peer.up(contact=contact)
        peer.user_agent.info(incoming.call, "application/dtmf", b"1", peer.now)
        peer.heard()
        assert (peer.outgoing[0].connection, peer.outgoing[0].transport) == ("c1", Transport.TCP)
        peer.user_agent.connection_closed("c1")
        peer.user_agent.hang_up(incoming.call, peer.now)
        peer.heard()
        assert peer.outgoing[0].connection is None
        assert peer.outgoing[0].destination == ("10.0.0.9", 43210)

    def test_a_proxy_elsewhere_gets_its_own_connection(self) -> None:
        peer = Peer(Transport.TCP, connection="c1")
        incoming = peer.up(extra="Record-Route: <sip:192.0.2.52;transport=tcp;lr>\r\n")
        peer.user_agent.hang_up(incoming.call, peer.now)
        peer.heard()
        assert (peer.outgoing[0].connection, peer.outgoing[0].destination) == (None, ("192.0.2.52", 5060))

    def test_a_proxy_on_the_connection_is_reached_by_it(self) -> None:
        peer = Peer(Transport.TCP, connection="c1")
        incoming = peer.up(extra="Record-Route: <sip:192.0.2.1;transport=tcp;lr>\r\n")
        peer.user_agent.hang_up(incoming.call, peer.now)
        peer.heard()
        assert peer.outgoing[0].connection == "c1"

    def test_contact_says_tcp(self) -> None:
        peer = Peer(Transport.TCP, connection="c1")
        incoming = peer.offered()
        peer.user_agent.answer(incoming.call, ANSWER, peer.now)
        (ok,) = peer.heard()
        assert isinstance(ok, Response)
        assert ok.headers.get("contact") == "<sip:callbus@192.0.2.2:5060;transport=tcp>"
        assert all(via.transport == "TCP" for via in ok.vias)


def test_advertised_address_may_depend_on_the_peer() -> None:
    def local_address(peer: tuple[str, int], transport: Transport) -> tuple[str, int]:
        return ("203.0.113.5", 5060) if peer[0].startswith("198.") else ("2001:db8::5", 5070)

    peer = Peer(local_address=local_address)
    data = peer.text("INVITE", body=OFFER)
    peer.send(data, source=("198.51.100.1", 5060))
    peer.user_agent.ring(1, peer.now)  # type: ignore[arg-type]
    assert peer.heard()[0].headers.get("contact") == "<sip:callbus@203.0.113.5:5060>"
    peer.user_agent.options("sip:192.0.2.9", peer.now)
    (options,) = peer.heard()
    assert (options.vias[0].host, options.vias[0].port) == ("2001:db8::5", 5070)


def test_caller_without_contact_is_reached_by_its_from() -> None:
    """RFC 2543."""
    peer = Peer()
    incoming = peer.up(contact="")
    peer.user_agent.hang_up(incoming.call, peer.now)
    bye, destination = sent(peer)
    assert (bye.uri, destination) == ("sip:peer@192.0.2.1", ("192.0.2.1", 5060))
