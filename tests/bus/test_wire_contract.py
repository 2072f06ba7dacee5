"""What ``bus.wire`` uses of nats-py's private parts. Where a new nats-py changes them, this fails first."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport

from bus.wire import Wire

pytestmark = pytest.mark.contract

SIGNATURES = {
    "_process_msg": "(self, sid: 'int', subject: 'bytes', reply: 'bytes', data: 'bytes', headers: 'bytes') -> 'None'",
    "_process_err": "(self, err_msg: 'str') -> 'None'",
    "_process_op_err": "(self, e: 'Exception') -> 'None'",
    "_process_headers": "(self, headers) -> 'Optional[Dict[str, str]]'",
    "_attempt_reconnect": "(self) -> 'None'",
}


def normal(signature: str) -> str:
    return signature.replace("'", "").replace("typing.", "")


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_overridden_and_called_methods_are_as_they_were(name: str) -> None:
    method = getattr(Client, name)
    assert inspect.iscoroutinefunction(method)
    assert normal(str(inspect.signature(method))) == normal(SIGNATURES[name])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("_pending", list),
        ("_pending_data_size", int),
        ("_pongs", list),
        ("_subs", dict),
        ("_sid", int),
        ("_status", int),
        ("_max_payload", int),
        ("_pings_outstanding", int),
        ("_flush_queue", type(None)),
        ("_transport", type(None)),
        ("_reading_task", type(None)),
        ("_ping_interval_task", type(None)),
        ("_flusher_task", type(None)),
        ("_reconnection_task", type(None)),
    ],
)
def test_fields_are_as_they_were(name: str, kind: type) -> None:
    assert isinstance(vars(Client())[name], kind)
    assert Client.RECONNECTING == 3
    assert "_io_writer" in vars(TcpTransport())


def test_the_parser_calls_what_is_overridden() -> None:
    from nats.protocol import parser

    source = inspect.getsource(parser)
    for call in ("self.nc._process_msg(", "self.nc._process_err(", "self.nc._process_pong("):
        assert call in source


def test_a_subscription_with_a_future_needs_no_task() -> None:
    source = inspect.getsource(Subscription._start)
    assert source.index("self._cb") < source.index("self._future") < source.index("_message_iterator")


def test_the_flusher_takes_the_list_that_wire_appends_to() -> None:
    source = inspect.getsource(Client._flusher)
    for line in ("await self._flush_queue.get()", "self._transport.writelines(self._pending[:])", "self._pending = []"):
        assert line in source


def test_reconnecting_sends_the_subscriptions_before_anything_else_can() -> None:
    source = inspect.getsource(Client._attempt_reconnect)
    after = source[source.index("await self._process_connect_init()") :]
    assert (
        "await" not in after[len("await self._process_connect_init()") : after.index("self._transport.write(sub_cmd)")]
    )


async def test_wire_is_a_client_that_drops_while_it_is_not_connected() -> None:
    wire = Wire()
    assert wire.send(b"PUB x  0\r\n\r\n") is False
    assert wire.send_now(b"PUB x  0\r\n\r\n") is False
    assert wire.unsent_bytes == 0
    assert wire.stuck is False
    wire.harden_socket()
    wire.cut()
    await wire.cancel_tasks()
    await asyncio.sleep(0)


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB x", "a..b", ".a", "a.", "a\tb"])
def test_no_subject_that_would_break_the_protocol(subject: str) -> None:
    with pytest.raises(ValueError, match="is no subject"):
        Wire().command(subject, b"")


def test_commands_on_the_wire() -> None:
    wire = Wire()
    assert wire.command("a.b", b"xy") == b"PUB a.b  2\r\nxy\r\n"
    assert wire.command("a.b", b"xy", None, "r") == b"PUB a.b r 2\r\nxy\r\n"
    assert wire.command("a.b", b"xy", {"A": "1", "B": "ü"}, "r") == (
        b"HPUB a.b r 25 27\r\nNATS/1.0\r\nA: 1\r\nB: \xc3\xbc\r\n\r\nxy\r\n"
    )
    assert wire.block([("a.b", b"xy"), ("a.b", b"zz"), ("c", b"")]) == (
        b"PUB a.b  2\r\nxy\r\nPUB a.b  2\r\nzz\r\nPUB c  0\r\n\r\n",
        3,
    )
    assert wire.block([]) == (b"", 0)
    for encode in (wire.command, lambda subject, data: wire.block([(subject, data)])):
        with pytest.raises(ValueError, match="over the server's limit"):
            encode("a.b", b"x" * 2_000_000)
        with pytest.raises(ValueError, match="is no subject"):
            encode("a b", b"")
    wire._heads = {(f"s{number}", 0): b"" for number in range(20_001)}
    wire.block([("a.b", b"")])
    assert wire._heads == {("a.b", 0): b"PUB a.b  0"}
    wire._checked = {f"s{number}" for number in range(20_001)}
    wire.command("a.c", b"")
    assert wire._checked == {"a.c"}
