"""``callbus``: the command line. Commands are loaded when they are used, so that ``--help`` answers at once.

Exit codes everywhere: 0 it worked, 1 it did not (the text says why), 2 it was called wrongly or a setting is wrong,
130 it was interrupted by Ctrl-C (``up`` is meant to end that way: 0).
"""

from __future__ import annotations

import importlib
import sys
from importlib import metadata

import click

from config.load import ConfigError

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("ops.commands.demo:demo", "Run everything on this machine and let a scripted caller talk to the agent."),
    "up": ("ops.commands.up:up", "Run every service on this machine; Ctrl-C drains."),
    "dev": ("ops.commands.dev:dev", "Run one service for development: new code takes over at each save."),
    "call": ("ops.commands.call:call", "Place a SIP call: speak, send keys, record, measure."),
    "calls": ("ops.commands.calls:calls", "List the calls that the stream holds."),
    "tail": ("ops.commands.tail:tail", "Follow the events of one call, or of all, as they happen."),
    "show": ("ops.commands.show:show", "Show one call: transcript, events, latency of each turn."),
    "play": ("ops.commands.play:play", "Render a call to a stereo WAV file out of the stream."),
    "meter": ("ops.commands.meter:meter", "Measure answers and barge-ins of a stereo recording by its sound alone."),
    "keys": ("ops.commands.keys:keys", "Make the keys that every process shows to NATS."),
    "provision": ("ops.commands.provision:provision", "Create or mend streams, consumers and buckets."),
    "health": ("ops.commands.health:health", "Say whether a service takes work, in one sentence and an exit code."),
    "log-level": ("ops.commands.log_level:log_level", "Change from which level on the processes write their logs."),
    "doctor": ("ops.commands.doctor:doctor", "Say what this machine lacks, and the command that mends it."),
    "models": ("ops.commands.models:models", "List, fetch and verify the model files of the engines."),
    "config": ("ops.commands.config:config", "Show the settings and where each value came from."),
    "schema": ("ops.commands.schema:schema", "Print JSON Schema or AsyncAPI of every message."),
    "scenario": (
        "ops.commands.scenario:scenario",
        "Run conversations from files: does the turn taking do what they say?",
    ),
    "bench": ("ops.commands.bench:bench", "Measure: bus hop, turn overhead, capacity, memory, start."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(metadata.version("callbus"), prog_name="callbus")
def cli() -> None:
    """A phone line for AI agents on NATS JetStream: every call can be seen, replayed and survived."""


def main() -> None:
    """Entry of the console script."""
    try:
        code = cli.main(prog_name="callbus", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(EXIT_INTERRUPTED)
    except ConfigError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_USAGE)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
