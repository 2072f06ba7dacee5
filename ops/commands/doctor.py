"""``callbus doctor``: what this machine lacks."""

from __future__ import annotations

import click

from ops.checks import all_checks
from ops.image import image
from ops.session import as_json_text, json_option, log_to_stderr

SIGNS = {"ok": "ok      ", "missing": "MISSING ", "optional": "optional", "note": "note    "}


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Look at this machine and say what is missing, with the command that mends it. Exit code 1 where something is.

    Looks at Python, settings, the chosen engines with their packages, keys and models, NATS and what is provisioned
    there, the SIP port, disk and cores; lists every engine that is installed or could be, and the models that are here.
    In a container: at what its image is for, and the bus; what mends it there is a line of .env and a new build.
    """
    log_to_stderr("error")
    found = all_checks()
    if as_json:
        click.echo(as_json_text([check._asdict() for check in found]))
    else:
        for check in found:
            click.echo(f"{SIGNS[check.state]}  {check.name:16}  {check.finding}")
            if check.mend and check.state != "ok":
                click.echo(f"{'':28}{'ask' if check.state == 'note' else 'mend'}: {check.mend}")
        lacking = sum(check.state == "missing" for check in found)
        well = f"this container has what the image {image()} needs" if image() else "this machine can run callbus"
        click.echo(f"{lacking} thing(s) to mend" if lacking else well)
    if any(check.state == "missing" for check in found):
        raise SystemExit(1)
