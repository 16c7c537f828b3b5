"""Commands that are imported when they are asked for: what one of them needs costs neither the others nor the help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup

STYLE: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}


class Place(NamedTuple):
    """Where a command is.

    file      in this package; its EXAMPLES, if it has some, end the command's help
    name      of the function, or of the Typer with commands of its own
    summary   its line in the help of all
    """

    file: str
    name: str
    summary: str


class Commands(Mapping[str, Any]):
    """Name -> command of typer, made when it is looked up."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        self.places = places

    def __getitem__(self, name: str) -> Any:
        file, function, summary = self.places[name]
        module = import_module(f"{__package__}.{file}")
        found, alone = getattr(module, function), typer.Typer(**STYLE)
        if isinstance(found, typer.Typer):
            alone.add_typer(found, name=name, short_help=summary)
            return typer.main.get_group(alone).commands[name]
        alone.command(name, short_help=summary, epilog=getattr(module, "EXAMPLES", None))(found)
        return typer.main.get_command(alone)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def group(places: Mapping[str, Place]) -> type[TyperGroup]:
    """A group of these commands, in their order."""

    class Group(TyperGroup):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            self.commands: Any = Commands(places)

        def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
            return list(places)

        def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
            with formatter.section("Commands"):
                formatter.write_dl([(name, place.summary) for name, place in places.items()])

    return Group
