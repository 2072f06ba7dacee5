"""``python -m edge``: one edge process. Settings come from app.ini and the environment, see ``--help``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bus.service import run_service
from config.load import rows
from edge.process import drain_ms
from edge.process import main as serve


def help_text() -> str:
    """Every setting of the section, with its variable, what it allows and its default."""
    lines = ["settings, as environment variables (the same keys in [edge] of config/app.ini):"]
    lines += [
        f"  CALLBUS_EDGE__{row.key.upper()} = {row.default!s:<12} {row.help} ({row.type_text})"
        for row in rows(environment={})
        if row.section == "edge"
    ]
    lines.append("and NATS_URL: the NATS servers")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT. Exit codes: 0 stopped, 1 the SIP port is taken, 2 a setting is not allowed."""
    parser = argparse.ArgumentParser(
        prog="python -m edge",
        description="Answers SIP calls and carries their audio and events to NATS.",
        epilog=help_text(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    run_service("edge", serve, drain_ms)


if __name__ == "__main__":
    main()
