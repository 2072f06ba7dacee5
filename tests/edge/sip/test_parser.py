"""Bytes to messages: spellings that must be taken, defects that must be named, and noise that must do no harm."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.sip.errors import SipDefect
from edge.sip.headers import parse_name_address, parse_uri, parse_via, split_list
from edge.sip.message import Request, Response
from edge.sip.parser import Malformed, parse_message
from tests.fakes.sip_peer import OFFER, Peer

pytestmark = pytest.mark.unit

MINIMAL = (
    "OPTIONS sip:a@example.com SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\n"
    "From: <sip:b@example.com>;tag=1\r\n"
    "To: <sip:a@example.com>\r\n"
    "Call-ID: x\r\n"
    "CSeq: 1 OPTIONS\r\n"
    "\r\n"
)


def defect_of(text: str | bytes) -> Malformed:
    with pytest.raises(Malformed) as refused:
        parse_message(text.encode() if isinstance(text, str) else text)
    return refused.value


def test_compact_forms_and_odd_case() -> None:
    message = parse_message(
        b"INVITE sip:a@b SIP/2.0\r\nv: SIP/2.0/UDP h;branch=z9hG4bK1\r\nF: <sip:b@h>;tag=1\r\nt: <sip:a@b>\r\n"
        b"I: id\r\ncSeQ: 7 INVITE\r\nm: <sip:b@h>\r\nk: timer\r\nx: 1800\r\nc: application/sdp\r\nl: 3\r\n\r\nabc"
    )
    assert message.call_id == "id"
    assert message.headers.get("contact") == "<sip:b@h>"
    assert message.headers.tokens("supported") == ["timer"]
    assert message.headers.get("session-expires") == "1800"
    assert (message.content_type, message.body) == ("application/sdp", b"abc")


def test_folded_lines_are_one_value() -> None:
    message = parse_message(
        MINIMAL.replace("Call-ID: x", "Subject: one\r\n  two\r\n\tthree\r\nCall-ID:\r\n x").encode()
    )
    assert message.headers.get("subject") == "one two three"
    assert message.call_id == "x"


def test_several_vias_in_one_line_and_over_lines() -> None:
    line = (
        "Via: SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/TCP b:5070;branch=z9hG4bK2\r\n"
        "Via: SIP / 2.0 / TLS c ; branch = z9hG4bK3"
    )
    message = parse_message(MINIMAL.replace("Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa", line).encode())
    assert [(via.transport, via.host, via.port) for via in message.vias] == [
        ("UDP", "a", None),
        ("TCP", "b", 5070),
        ("TLS", "c", None),
    ]


def test_ipv6_everywhere() -> None:
    """RFC 5118: references in URIs and Via, `received` with and without brackets."""
    text = MINIMAL.replace("sip:a@example.com SIP", "sip:a@[2001:db8::10]:5070 SIP").replace(
        "192.0.2.1;branch=z9hG4bKa", "[2001:db8::9]:5061;received=2001:db8::9;branch=z9hG4bKa"
    )
    message = parse_message(text.encode())
    assert isinstance(message, Request)
    assert (message.target.host, message.target.port) == ("2001:db8::10", 5070)
    assert (message.vias[0].host, message.vias[0].parameters["received"]) == ("2001:db8::9", "2001:db8::9")
    assert str(message.vias[0]) == "SIP/2.0/UDP [2001:db8::9]:5061;received=2001:db8::9;branch=z9hG4bKa"
    assert parse_via("SIP/2.0/UDP h;received=[2001:db8::9];branch=z9").parameters["received"] == "[2001:db8::9]"


def test_utf8_and_other_bytes_pass_through() -> None:
    raw = MINIMAL.encode().replace(b"Call-ID: x", b"X-Name: \xff\xfe\r\nSubject: \xd0\xb4\xd0\xb0\r\nCall-ID: x")
    message = parse_message(raw)
    assert message.headers.get("subject") == "да"
    assert b"X-Name: \xff\xfe\r\n" in message.serialise()
    quoted = raw.replace(b"<sip:b@", b'"\xd0\xb4 \xff" <sip:b@')
    assert parse_message(quoted).sender.display.startswith("д")


def test_round_trip_keeps_every_line_in_order() -> None:
    data = Peer().text("INVITE", body=OFFER, extra="X-Odd:  spaced\r\nx-odd: again\r\n")
    message = parse_message(data)
    assert parse_message(message.serialise()).serialise() == message.serialise()
    assert [name for name, _ in message.headers][-4:] == ["X-Odd", "x-odd", "Content-Type", "Content-Length"]
    assert message.body == OFFER


def test_body_without_content_length_runs_to_the_end_of_the_datagram() -> None:
    assert parse_message((MINIMAL + "rest").encode()).body == b"rest"


def test_shorter_content_length_leaves_the_rest() -> None:
    assert parse_message(MINIMAL.replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\nabcd").encode()).body == b"ab"


def test_empty_lines_before_the_start_line() -> None:
    assert parse_message(b"\r\n\r\n" + MINIMAL.encode())


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("CSeq: 1 OPTIONS", "CSeq: 4294967296 OPTIONS", "CSeq number"),
        ("CSeq: 1 OPTIONS", "CSeq: one OPTIONS", "malformed CSeq"),
        ("CSeq: 1 OPTIONS\r\n", "", "no CSeq"),
        ("Call-ID: x", "Call-ID: a b", "Call-ID"),
        ("Call-ID: x", "Call-ID x", "line 5"),
        ("Call-ID: x", "Bad Name: 1\r\nCall-ID: x", "line 5"),
        ("Call-ID: x", "Subject: a\rb\r\nCall-ID: x", "bare CR"),
        ("Call-ID: x", "Call-ID: x\r\nMax-Forwards: -1", "Max-Forwards"),
        ("Call-ID: x", "Call-ID: x\r\nRecord-Route: sip:p;lr", "Record-Route"),
        ("Call-ID: x", "Call-ID: x\r\nContact: <sip:a@b", "Contact"),
        ("Call-ID: x", "Call-ID: x\r\nContact: , <sip:a@b>", "Contact"),
        ("192.0.2.1;", "192.0.2.1:99999;", "port"),
        ("192.0.2.1;", "192.0.2.1:0;", "port"),
        ("Via: SIP/2.0/UDP", "Via: HTTP/2.0/UDP", "Via"),
        (";tag=1", ";tag=", "From"),
        (";tag=1", ";tag", "empty tag"),
        ("<sip:b@example.com>", "<sip:b@example.com:70000>", "port"),
        ("<sip:b@example.com>", "<sip:b@exa mple.com>", "From"),
        ("<sip:b@example.com>", "<sip:>", "From"),
        ("<sip:b@example.com>;tag=1", "", "From"),
        ("\r\n\r\n", "\r\nContent-Length: 2x\r\n\r\n", "Content-Length"),
        ("\r\n\r\n", "\r\n", "empty line"),
        ("OPTIONS sip", "OPTIONS  sip", "Request-Line"),
        ("sip:a@example.com SIP", "sip: SIP", "Request-URI"),
    ],
)
def test_defects_are_named(old: str, new: str, text: str) -> None:
    defect = defect_of(MINIMAL.replace(old, new, 1))
    assert defect.status == 400
    assert text in defect.text


def test_what_cannot_be_answered_is_dropped() -> None:
    assert defect_of(b"\x00\x01\x00\x00!\x12\xa4B" + bytes(12)).status == 0
    assert defect_of("HTTP/1.1 200 OK\r\n\r\n").status == 0
    assert defect_of("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status == 0
    assert defect_of(b"\r\n").status == 0
    # No Via: there is no way back.
    assert defect_of(MINIMAL.replace("Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\n", "")).status == 0
    # An ACK is never answered, a response neither.
    assert defect_of(MINIMAL.replace("OPTIONS", "ACK").replace("Call-ID: x", "Call-ID: a b")).status == 0
    assert defect_of("SIP/2.0 200 OK\r\nVia: x\r\n\r\n").status == 0
    assert defect_of("SIP/3.0 200 OK\r\n\r\n").status == 0
    assert defect_of("SIP/2.0 099 Low\r\n\r\n").status == 0


def test_too_much_is_refused_with_513() -> None:
    data = MINIMAL.replace("Call-ID: x", "Call-ID: x\r\nX: " + "y" * 70_000).encode()
    assert defect_of(data).status == 513
    with pytest.raises(Malformed) as refused:
        parse_message(MINIMAL.replace("Call-ID: x", "Call-ID: x" + "\r\nA: b" * 40).encode(), max_fields=30)
    assert refused.value.status == 513
    many = "Via: " + ", ".join(["SIP/2.0/UDP h;branch=z9hG4bKa"] * 100)
    assert "Via hops" in defect_of(MINIMAL.replace("Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa", many)).text


def test_a_header_of_60_kilobytes_is_taken() -> None:
    assert parse_message(MINIMAL.replace("Call-ID: x", "Call-ID: x\r\nX: " + "y" * 60_000).encode())


@pytest.mark.parametrize(
    "filler",
    [" " * 60_000, "a" * 60_000, '"' * 60_001, '"\\' * 30_000, "<" * 60_000, "a:" * 30_000, ";" * 60_000,
     "%41" * 20_000, ";a=b" * 15_000, "a " * 30_000, ",," * 30_000, "\r\n " * 20_000],
)  # fmt: skip
def test_hostile_values_take_linear_time(filler: str) -> None:
    started = time.process_time()
    for name in ("Via", "From", "Contact", "Record-Route", "CSeq", "Date", "Content-Type", "Session-Expires"):
        data = MINIMAL.replace("Call-ID: x", f"Call-ID: x\r\n{name}: x{filler}\x01").encode()
        Peer().feed(data)
    for line in (f"OPTIONS {filler} SIP/2.0", f"{filler} sip:a SIP/2.0", f"SIP/2.0 {filler}"):
        Peer().feed((line + "\r\n\r\n").encode())
    # 11 messages of 60 KB; quadratic work would take minutes.
    assert time.process_time() - started < 5


def test_uris() -> None:
    uri = parse_uri("sip:+15551234;phone-context=x:pw@my_host.example:5070;transport=TCP;lr;x=%41?a=b", "x")
    assert (uri.user, uri.host, uri.port, uri.headers) == ("+15551234;phone-context=x", "my_host.example", 5070, "a=b")
    assert uri.user_name == "+15551234"
    assert (uri.parameter("transport"), uri.parameter("lr"), uri.parameter("x"), uri.parameter("y")) == (
        "TCP", "", "A", None,
    )  # fmt: skip
    assert parse_uri("tel:+15551234;ext=1", "x").user_name == "+15551234"
    assert parse_uri("SIPS:a@b", "x").scheme == "sips"
    assert parse_uri("sip:*97#@host", "x").user_name == "*97#"
    for bad in ("sip:", "sip:a@", "sip:a@b:99999", "sip:a@b:", "1sip:a", "", "sip:a@b;=", "mailto:"):
        with pytest.raises(SipDefect):
            parse_uri(bad, "x")


def test_name_addresses() -> None:
    address = parse_name_address('"A \\"B\\", c" <sip:a@b;lr>;tag=x;q="0,5"', "From")
    assert (address.display, address.tag, address.parameters["q"]) == ('A "B", c', "x", '"0,5"')
    bare = parse_name_address("sip:a@b;tag=x", "From")
    assert (bare.uri.text, bare.tag, bare.bracketed) == ("sip:a@b", "x", False)
    for bad in ('"open <sip:a@b>', "<sip:a@b>;;", "<sip:a@b> junk", "", "A <sip:a@b> <sip:c@d>", '"a" sip:a@b'):
        with pytest.raises(SipDefect):
            parse_name_address(bad, "From")


def test_lists_respect_quotes_and_brackets() -> None:
    assert split_list('"a,b\\",c" <sip:x,y@z>, <sip:b>;c="d,e",f') == ['"a,b\\",c" <sip:x,y@z>', '<sip:b>;c="d,e"', "f"]
    assert split_list("a,,b,") == ["a", "", "b", ""]
    assert split_list('"open, a') == ['"open, a']


def test_retry_after() -> None:
    def retry_after(value: str) -> int | None:
        head = MINIMAL.replace("OPTIONS sip:a@example.com SIP/2.0", "SIP/2.0 503 Busy", 1)
        message = parse_message(head.replace("Call-ID", f"Retry-After: {value}\r\nCall-ID").encode())
        assert isinstance(message, Response)
        return message.retry_after_s

    assert retry_after("18000;duration=3600") == 18000
    assert retry_after("120 (in a meeting)") == 120
    assert retry_after("949302838503028349304023988") is None
    assert retry_after("soon") is None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=2000))
@example(b"\r\n\r\n")
@example(b"SIP/2.0 200")
@example(b"A B SIP/2.0")
def test_any_bytes_do_no_harm(data: bytes) -> None:
    Peer().feed(data)


_BASE = Peer().text("INVITE", body=OFFER, extra="Route: <sip:p;lr>\r\nRecord-Route: <sip:p;lr>\r\nDate: x\r\n")


@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(_BASE) - 1), st.binary(min_size=0, max_size=8), st.integers(0, 8)), max_size=6
    )
)
def test_mutated_invites_do_no_harm(mutations: list[tuple[int, bytes, int]]) -> None:
    data = _BASE
    for position, insert, remove in mutations:
        data = data[:position] + insert + data[position + remove :]
    for sent in Peer().feed(data):
        assert sent.startswith(b"SIP/2.0 ")
        assert sent.endswith(b"\r\n\r\n")


_FIELD = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=40)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["Via", "From", "To", "Contact", "CSeq", "Call-ID", "Record-Route", "Content-Length", "Date"]),
    _FIELD,
)
def test_any_header_value_is_read_or_refused(name: str, value: str) -> None:
    lines = [line for line in MINIMAL.split("\r\n") if not line.startswith(f"{name}:")]
    data = "\r\n".join([lines[0], f"{name}: {value}", *lines[1:]]).encode("utf-8", "surrogatepass")
    Peer().feed(data)
