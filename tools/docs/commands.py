"""docs/reference/commands.md: the command line, from Typer."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import typer

from streamer.commands import app
from tools.docs.markdown import MADE, escape, one_line, table

_INTRODUCTION = f"""{MADE}
# Command line

`streamer COMMAND --help` prints the same on a terminal.

| exit code | meaning |
|---|---|
| 0 | done, or stopped by Ctrl-C |
| 1 | an error that nobody expected; please report it with its traceback, which has no passwords in it |
| 2 | configuration: a key, a value, a file or an address that cannot be used |
| 3 | source: cannot be opened or read, or never gave a frame |
| 4 | engine: a model or a backend that cannot be used |
"""


def commands_page() -> str:
    """The page."""
    listed = list(commands())
    rows = [
        (f"[`{name}`](#{name.replace(' ', '-')})", escape(command.get_short_help_str(100))) for name, command in listed
    ]
    overview = f"{table(('command', ''), rows)}\n"
    return "\n".join([_INTRODUCTION, overview, *(_section(name, command) for name, command in listed)])


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by its whole name, in the order of `streamer --help`."""
    yield from _below("streamer", typer.main.get_command(app))


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    for word, below in getattr(command, "commands", {}).items():
        yield f"{name} {word}", below
        yield from _below(f"{name} {word}", below)


def _section(name: str, command: Any) -> str:
    context = typer.Context(command, info_name=name)
    usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
    told = "\n\n".join(escape(one_line(paragraph)) for paragraph in command.help.split("\n\n"))
    records = (parameter.get_help_record(context) for parameter in command.get_params(context))
    rows = [(f"`{names}`", escape(help_)) for names, help_ in filter(None, records) if names != "--help"]
    options = f"{table(('argument or option', ''), rows)}\n" if rows else ""
    examples = (command.epilog or "").removeprefix("\b\nExamples:\n")
    shown = f"{textwrap.indent(textwrap.dedent(examples), '    ')}\n" if examples else ""
    return f"## {name}\n\n    {usage}\n\n{told}\n\n{shown}{options}"
