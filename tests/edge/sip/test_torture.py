"""The 49 messages of RFC 4475: what the RFC says of each, and what a user agent of ours does with it.

A datagram each, to a user agent that has no call up. "refused" is the status that it answers; "taken" means that the
message is well-formed and the status is the user agent's honest answer to a stranger; "dropped" means silence.
Every refusal and every drop leaves one Defect that names the element at fault.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from edge.sip.events import Defect, IncomingCall
from edge.sip.message import Request, Response
from edge.sip.parser import Malformed, parse_message
from tests.fakes.sip_peer import Peer

pytestmark = pytest.mark.unit

FOLDER = os.environ.get("CALLBUS_TEST_SIP_TORTURE", "")
here = pytest.mark.skipif(not FOLDER, reason="CALLBUS_TEST_SIP_TORTURE does not name the folder of RFC 4475 messages")


class Case(NamedTuple):
    section: str
    rfc: str
    """What RFC 4475 says."""
    valid: bool
    """Whether the parser must take it."""
    status: int
    """What the user agent answers; 0: nothing."""
    defect: str = ""
    """Words that the Defect holds."""


CASES = {
    # 3.1.1 valid messages
    "wsinv": Case("3.1.1.1", "valid: folding, odd case, escapes in quotes; has a To tag of no dialog here", True, 481),
    "intmeth": Case("3.1.1.2", "valid: every character a token may have; unknown method", True, 501, "method"),
    "esc01": Case("3.1.1.3", "valid: escapes in URIs are not resolved in comparisons", True, 100),
    "escnull": Case("3.1.1.4", "valid: escaped nulls in URIs", True, 405, "method"),
    "esc02": Case("3.1.1.5", "valid: % is a token character; the method is not REGISTER", True, 501, "method"),
    "lwsdisp": Case("3.1.1.6", "valid: no blank between display name and <", True, 200),
    "longreq": Case("3.1.1.7", "valid: long values, 34 Vias in many spellings", True, 100),
    "dblreq": Case("3.1.1.8", "valid: what follows the body in a datagram is ignored", True, 405, "method"),
    "semiuri": Case("3.1.1.9", "valid: semicolon in the user part", True, 200),
    "transports": Case("3.1.1.10", "valid: Vias with known and unknown transports", True, 200),
    "mpart01": Case("3.1.1.11", "valid: multipart MESSAGE with binary parts", True, 405, "method"),
    "unreason": Case("3.1.1.12", "valid response: non-ASCII reason phrase", True, 0, "no request of ours"),
    "noreason": Case("3.1.1.13", "valid response: empty reason phrase", True, 0, "no request of ours"),
    # 3.1.2 invalid messages
    "badinv01": Case("3.1.2.1", "400: extraneous separators in Via and Contact", False, 400, "parameter in Via"),
    "clerr": Case("3.1.2.2", "400 over UDP: Content-Length longer than the message", False, 400, "Content-Length"),
    "ncl": Case("3.1.2.3", "400: negative Content-Length", False, 400, "Content-Length"),
    "scalar02": Case("3.1.2.4", "400: CSeq over 2**32-1 and other overlarge numbers", False, 400, "CSeq"),
    "scalarlg": Case("3.1.2.5", "response discarded: CSeq over 2**32-1", False, 0, "CSeq"),
    "quotbal": Case("3.1.2.6", "400: unterminated quote in To", False, 400, "display name"),
    "ltgtruri": Case("3.1.2.7", "400: Request-URI in <>", False, 400, "Request-Line"),
    "lwsruri": Case("3.1.2.8", "400: blank inside the Request-URI", False, 400, "Request-Line"),
    "lwsstart": Case("3.1.2.9", "400: two blanks in the Request-Line", False, 400, "Request-Line"),
    "trws": Case("3.1.2.10", "400 (or repair): blanks at the end of the Request-Line", False, 400, "Request-Line"),
    "escruri": Case("3.1.2.11", "400: escaped headers in the Request-URI", False, 400, "escaped headers"),
    "baddate": Case("3.1.2.12", "may be refused or ignored: zone other than GMT", False, 400, "Date"),
    "regbadct": Case("3.1.2.13", "400: Contact URI with ? outside <>", False, 400, "Contact"),
    "badaspec": Case("3.1.2.14", "400 (or repair): blanks inside the addr-spec of To", False, 400, "To"),
    "baddn": Case("3.1.2.15", "400 (or repair): comma in an unquoted display name", False, 400, "display name"),
    "badvers": Case("3.1.2.16", "505: SIP/7.0", False, 505, "version"),
    "mismatch01": Case("3.1.2.17", "400: CSeq method differs from the start-line's", False, 400, "CSeq"),
    "mismatch02": Case("3.1.2.18", "501, and 400 is also acceptable: the same, unknown method", False, 400, "CSeq"),
    "bigcode": Case("3.1.2.19", "response discarded: status code of ten digits", False, 0, "status code"),
    # 3.2 transaction layer
    "badbranch": Case("3.2.1", "taken, matched as RFC 2543 does: nothing behind the cookie", True, 200),
    # 3.3 application layer
    "insuf": Case("3.3.1", "400: no From, To, Call-ID", False, 400, "no Call-ID"),
    "unkscm": Case("3.3.2", "416: unknown scheme in the Request-URI", True, 416, "scheme"),
    "novelsc": Case("3.3.3", "416: known but unusual scheme in the Request-URI", True, 416, "scheme"),
    "unksm2": Case(
        "3.3.4", "well-formed: unknown schemes in To and Contact; a registrar would refuse", True, 405, "method"
    ),
    "bext01": Case("3.3.5", "420 with Unsupported naming both; Proxy-Require is not for us", True, 420, "Require"),
    "invut": Case("3.3.6", "415 with Accept: unknown body type", True, 415, "application/sdp"),
    "regaut01": Case(
        "3.3.7", "well-formed: unknown authorization scheme; a registrar would challenge", True, 405, "method"
    ),
    "multi01": Case("3.3.8", "400: several values in single-value headers", False, 400, "more than one"),
    "mcl01": Case("3.3.9", "400: two Content-Lengths", False, 400, "Content-Length"),
    "bcast": Case("3.3.10", "response discarded: a second Via, a broadcast address", True, 0, "more than one Via"),
    "zeromf": Case("3.3.11", "an endpoint processes it as if Max-Forwards were positive (483 is a proxy's)", True, 200),
    "cparam01": Case("3.3.12", "well-formed: unknown Contact header parameter", True, 405, "method"),
    "cparam02": Case("3.3.13", "well-formed: unknown URI parameter in Contact", True, 405, "method"),
    "regescrt": Case("3.3.14", "well-formed: escaped Route in a bracketed Contact", True, 405, "method"),
    "sdp01": Case("3.3.15", "406: Accept that has no session description", True, 406, "Accept"),
    # 3.4 backward compatibility
    "inv2543": Case("3.4.1", "taken: RFC 2543 INVITE without branch, tags, Contact, Content-Length", True, 100),
}


def message(name: str) -> bytes:
    return (Path(FOLDER) / f"{name}.dat").read_bytes()


@here
def test_every_message_of_the_rfc_has_its_line() -> None:
    assert {path.stem for path in Path(FOLDER).glob("*.dat")} == set(CASES)


@here
@pytest.mark.parametrize("name", CASES)
def test_parser(name: str) -> None:
    case = CASES[name]
    if case.valid:
        assert parse_message(message(name))
        return
    with pytest.raises(Malformed) as refused:
        parse_message(message(name))
    assert case.defect in refused.value.text
    assert refused.value.status == case.status


@here
@pytest.mark.parametrize("name", CASES)
def test_user_agent(name: str) -> None:
    case, peer = CASES[name], Peer()
    peer.user_agent.receive(message(name), ("192.0.2.9", 5066), peer.transport, peer.now)
    sent = peer.user_agent.messages_to_send(peer.now)
    statuses = [int(each.data.split(b" ", 2)[1]) for each in sent]
    assert statuses == ([case.status] if case.status else [])


@here
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.defect])
def test_defect_names_what_is_wrong(name: str) -> None:
    peer = Peer()
    events = peer.user_agent.receive(message(name), ("192.0.2.9", 5066), peer.transport, peer.now)
    (defect,) = events
    assert isinstance(defect, Defect)
    assert CASES[name].defect in defect.text
    assert defect.status == CASES[name].status


@here
def test_the_refusals_say_what_they_must() -> None:
    def headers(name: str) -> Response:
        peer = Peer()
        peer.user_agent.receive(message(name), ("192.0.2.9", 5066), peer.transport, peer.now)
        answer = parse_message(peer.user_agent.messages_to_send(peer.now)[0].data)
        assert isinstance(answer, Response)
        return answer

    assert headers("bext01").headers.get("unsupported") == "nothingSupportsThis, nothingSupportsThisEither"
    assert headers("invut").headers.get("accept") == "application/sdp"
    assert "INVITE" in (headers("intmeth").headers.get("allow") or "")
    assert "Content-Length" in headers("ncl").reason


@here
def test_valid_messages_mean_what_the_rfc_says() -> None:
    wsinv = parse_message(message("wsinv"))
    assert isinstance(wsinv, Request)
    assert wsinv.recipient.tag == "1918181833n"
    assert wsinv.sender.display == 'J Rosenberg \\"'
    assert wsinv.cseq == (9, "INVITE")
    assert [via.host for via in wsinv.vias] == ["192.0.2.2", "spindle.example.com", "192.168.255.111"]
    assert wsinv.contacts[0].parameters["q"] == "0.33"
    assert len(wsinv.body) == 150

    esc01 = parse_message(message("esc01"))
    assert isinstance(esc01, Request)
    assert esc01.target.user == "sips%3Auser%40example.com"
    assert esc01.target.host == "example.net"
    assert esc01.recipient.uri.user_name == "user"

    assert parse_message(message("escnull")).recipient.uri.user_name == "null-\x00-null"
    semiuri = parse_message(message("semiuri"))
    assert isinstance(semiuri, Request)
    assert semiuri.target.user == "user;par=u%40example.net"
    assert semiuri.headers.tokens("accept")[-1] == "message/sipfrag"

    esc02 = parse_message(message("esc02"))
    assert esc02.cseq.method == "RE%47IST%45R"
    assert len(esc02.contacts) == 2
    assert len(parse_message(message("longreq")).vias) == 34
    assert parse_message(message("dblreq")).body == b""
    assert parse_message(message("mpart01")).content_type == "multipart/mixed"
    assert parse_message(message("noreason")).reason == ""  # type: ignore[union-attr]
    assert parse_message(message("transports")).vias[3].transport == "UNKNOWN"
    assert parse_message(message("intmeth")).sender.display == "token1~` token2'+_ token3*%!.-"
    assert parse_message(message("cparam01")).contacts[0].parameters == {"unknownparam": None}
    assert parse_message(message("cparam02")).contacts[0].uri.parameter("unknownparam") == ""


@here
@pytest.mark.parametrize("name", ["esc01", "longreq", "inv2543"])
def test_valid_invites_are_offered(name: str) -> None:
    peer = Peer()
    (event,) = peer.user_agent.receive(message(name), ("192.0.2.9", 5066), peer.transport, peer.now)
    assert isinstance(event, IncomingCall)
    assert event.offer is not None
    assert "PCMU" in event.offer.codecs


@here
@pytest.mark.parametrize("name", CASES)
def test_cut_short_anywhere_nothing_raises(name: str) -> None:
    data = message(name)
    for end in range(0, len(data), 7):
        peer = Peer()
        peer.user_agent.receive(data[:end], ("192.0.2.9", 5066), peer.transport, peer.now)
        for outgoing in peer.user_agent.messages_to_send(peer.now):
            assert outgoing.data.startswith(b"SIP/2.0 ")
