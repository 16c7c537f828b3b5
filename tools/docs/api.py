"""docs/reference/python.md: the public names of the two packages, from their docstrings."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from types import ModuleType
from typing import Any, get_args

import msgspec

import engines
import streamer
from streamer.labels.messages import Common
from tools.docs.markdown import MADE, docstring

_INTRODUCTION = f"""{MADE}
# Python

Two packages. What is named here stays as it is within a minor version; everything else is private.
"""


def api_page() -> str:
    """The page."""
    return "\n".join([_INTRODUCTION, *(_package(package) for package in (streamer, engines))])


def _package(package: ModuleType) -> str:
    names = (_entry(package.__name__, name, getattr(package, name)) for name in package.__all__)
    return "\n".join([f"## {package.__name__}\n\n{docstring(package)}\n", *filter(None, names)])


def _entry(package: str, name: str, thing: Any) -> str:
    if isinstance(thing, types.UnionType):
        return f"### {package}.{name}\n\n`{' | '.join(kind.__name__ for kind in get_args(thing))}`\n"
    if not callable(thing):
        return f"### {package}.{name}\n\n`{thing!r}`\n"
    if not isinstance(thing, type):
        return _described(f"### {package}.{name}", name, thing)
    if issubclass(thing, Common):
        fields = f"[Messages](messages.md#{thing.__struct_config__.tag})"
        return f"### {package}.{name}\n\nA message; its fields are in {fields}.\n"
    if issubclass(thing, msgspec.Struct):
        return f"### {package}.{name}\n\n{docstring(thing)}\n"
    members = [
        _described(f"#### {member}", member, getattr(thing, member))
        for member, value in vars(thing).items()
        if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
    ]
    return "\n".join([_described(f"### {package}.{name}", name, thing), *members])


def _described(title: str, name: str, thing: Any) -> str:
    heading = f"{title}\n\n"
    if isinstance(thing, property) or (isinstance(thing, type) and "__init__" not in vars(thing)):
        return f"{heading}{docstring(thing)}\n"
    return f"{heading}```python\n{signature(name, thing)}\n```\n\n{docstring(thing)}\n"


class _Raw(str):
    """Written without quotes, as in the source."""

    def __repr__(self) -> str:
        return str(self)


def signature(name: str, thing: Callable[..., Any]) -> str:
    """How something is called, one parameter a line where it would be long."""
    known = inspect.signature(thing)
    raw = [
        parameter.replace(annotation=_Raw(parameter.annotation)) if isinstance(parameter.annotation, str) else parameter
        for parameter in known.parameters.values()
        if parameter.name != "self"
    ]
    returns = _Raw(known.return_annotation) if isinstance(known.return_annotation, str) else known.return_annotation
    if isinstance(thing, type):
        returns = inspect.Signature.empty
    line = f"{name}{known.replace(parameters=raw, return_annotation=returns)}"
    if len(line) <= 100:
        return line
    arrow = line[line.rindex(")") :]
    return "\n".join([f"{name}(", *(f"    {parameter}," for parameter in raw), arrow])
