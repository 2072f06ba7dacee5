"""``callbus doctor``: what this machine lacks."""

from __future__ import annotations

import click

from ops.checks import all_checks
from ops.session import as_json_text, json_option, log_to_stderr

SIGNS = {"ok": "ok      ", "missing": "MISSING ", "optional": "optional"}


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Look at this machine and say what is missing, with the command that mends it. Exit code 1 where something is.

    Looks at Python, settings, the chosen engines with their packages, keys and models, NATS and what is provisioned
    there, the SIP port, disk and cores; lists every engine that is installed or could be, and the models that are here.
    """
    log_to_stderr()
    found = all_checks()
    if as_json:
        click.echo(as_json_text([check._asdict() for check in found]))
    else:
        for check in found:
            click.echo(f"{SIGNS[check.state]}  {check.name:16}  {check.finding}")
            if check.mend and check.state != "ok":
                click.echo(f"{'':28}mend: {check.mend}")
        lacking = sum(check.state == "missing" for check in found)
        click.echo("this machine can run callbus" if not lacking else f"{lacking} thing(s) to mend")
    if any(check.state == "missing" for check in found):
        raise SystemExit(1)
