"""``callbus health``: does a service work, in one sentence and an exit code."""

from __future__ import annotations

import click

SERVICES = ("edge", "asr", "llm", "tts", "nats", "all")
PROBE_MS = 1000
PEOPLE_MS = 2000
"""Of ``all``, beside what its own start takes: a process may take a second to answer."""


@click.command()
@click.argument("service", type=click.Choice(SERVICES))
@click.option(
    "--url", default="", metavar="URL", help="Ask this page (http://...) or, for nats, this server (nats://...)."
)
@click.option(
    "--timeout-ms",
    type=click.IntRange(min=100),
    default=None,
    show_default=f"{PROBE_MS}, for all {PEOPLE_MS}",
    help="The whole command answers within this time, its own start included (twice that on a busy machine).",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def health(service: str, url: str, timeout_ms: int | None, as_json: bool) -> None:
    """Say whether SERVICE takes work: edge, asr, llm, tts, nats, or all of them as a table.

    Asks the page /ready of this machine's process where CALLBUS_METRICS__PORT is set (so in a container), else every
    instance of the service over NATS. nats: the page /healthz of its monitoring port where --url names it, else a
    connection and a question to JetStream.

    Exit code 0: it takes work. 1: it does not; the sentence says why and what to do. 2: called wrongly, or a setting is
    not allowed.
    """
    from ops.health import check, table_lines
    from ops.probe import time_left_s

    if timeout_ms is None and service == "all":
        left_s = PEOPLE_MS / 1000
    else:
        left_s = time_left_s(timeout_ms or PROBE_MS)
    found = check(service, url, left_s)
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode(found).decode())
    elif service == "all":
        click.echo("\n".join(table_lines(found)))
    else:
        click.echo(found.sentence)
    if not found.ok:
        raise SystemExit(1)
