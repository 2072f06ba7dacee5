"""How a process reaches the bus, and who it is there."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from config.section import Milliseconds, Section


class NatsSection(Section, frozen=True, kw_only=True):
    """[nats]: how every process reaches the bus."""

    url: Annotated[str, Meta(description="NATS servers, separated by commas; NATS_URL in the environment wins")] = (
        "nats://127.0.0.1:4222"
    )
    credentials_file: Annotated[str, Meta(description="Path of a NATS credentials file; empty: none")] = ""
    nkey_file: Annotated[str, Meta(description="Path of this service's seed (nkey); empty: none")] = ""
    tls_ca_file: Annotated[
        str, Meta(description="Path of the certificate that the servers' certificates are checked with; empty: no TLS")
    ] = ""
    tls_certificate_file: Annotated[
        str, Meta(description="Path of this service's certificate for mutual TLS; empty: none")
    ] = ""
    tls_key_file: Annotated[str, Meta(description="Path of the key of tls_certificate_file")] = ""
    reconnect_wait_ms: Annotated[Milliseconds, Meta(description="Pause between two attempts to reconnect")] = 100
    request_timeout_ms: Annotated[Milliseconds, Meta(description="Deadline of a request on the bus")] = 2000
