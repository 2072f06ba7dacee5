"""Messages out of a TCP byte stream."""

from __future__ import annotations

import pytest

from edge.net.framing import MAX_BODY_BYTES, MAX_HEADER_BYTES, StreamFramer

pytestmark = pytest.mark.unit


def message(body: bytes = b"", name: bytes = b"Content-Length") -> bytes:
    head = b"INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP c\r\n" + name + b": %d\r\n\r\n" % len(body)
    return head + body


def test_one_message_in_one_piece() -> None:
    framer = StreamFramer()
    assert framer.feed(message(b"v=0")) == [message(b"v=0")]
    assert framer.pending == 0


def test_byte_by_byte() -> None:
    framer = StreamFramer()
    got = [whole for byte in message(b"hello") for whole in framer.feed(bytes([byte]))]
    assert got == [message(b"hello")]


def test_coalesced_messages_with_keepalives_between() -> None:
    framer = StreamFramer()
    got = framer.feed(message(b"1") + b"\r\n\r\n" + message(b"22", b"l") + message())
    assert got == [message(b"1"), message(b"22", b"l"), message()]
    assert framer.take_pings() == 1
    assert framer.take_pings() == 0


def test_a_ping_in_two_halves_is_one_ping() -> None:
    framer = StreamFramer()
    assert framer.feed(b"\r\n") == []
    assert framer.take_pings() == 0
    assert framer.feed(b"\r\n") == []
    assert framer.take_pings() == 1
    assert framer.pending == 0


def test_a_single_crlf_before_a_message_is_no_ping() -> None:
    framer = StreamFramer()
    framer.feed(b"\r\n")
    assert framer.feed(message(b"x")) == [message(b"x")]
    assert framer.take_pings() == 0


def test_a_message_without_content_length_ends_with_its_header() -> None:
    framer = StreamFramer()
    head = b"OPTIONS sip:a@b SIP/2.0\r\n\r\n"
    assert framer.feed(head + message()) == [head, message()]


def test_equal_content_lengths_twice_are_one() -> None:
    head = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 2\r\nl: 2\r\n\r\nab"
    assert StreamFramer().feed(head) == [head]


@pytest.mark.parametrize(
    ("header", "defect"),
    [
        (b"Content-Length: -999", "not one number"),
        (b"Content-Length: many", "not one number"),
        (b"Content-Length:", "not one number"),
        (b"Content-Length: 1\r\nContent-Length: 2", "not one number"),
        (b"Content-Length: %d" % (MAX_BODY_BYTES + 1), "body over"),
        (b"Content-Length: 99999999999999999999", "body over"),
    ],
)
def test_a_stream_that_cannot_be_cut_is_broken_and_its_header_is_passed_on(header: bytes, defect: str) -> None:
    framer = StreamFramer()
    head = b"OPTIONS sip:a@b SIP/2.0\r\n" + header + b"\r\n\r\n"
    assert framer.feed(head + b"rest") == [head]
    assert defect in framer.broken
    assert framer.feed(message()) == []
    assert framer.pending == 0


def test_an_endless_header_is_broken() -> None:
    framer = StreamFramer()
    assert framer.feed(b"x" * (MAX_HEADER_BYTES + 1)) == []
    assert "header block over" in framer.broken
