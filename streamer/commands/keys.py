"""Every key of the configuration, as it describes itself: for `streamer config --describe` and the reference."""

from __future__ import annotations

import textwrap
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from engines.errors import did_you_mean
from streamer.config import Config, Since, Unit
from streamer.errors import ConfigError

FIRST = "0.1.0"
_WORDS = {
    str: "text",
    bool: "true, false",
    int: "whole number",
    float: "number",
    Path: "file",
    SecretStr: "secret",
    type(None): "null",
}
_JOINTS: dict[Any, str] = {dict: ": ", Union: " or ", types.UnionType: " or "}


class Key(NamedTuple):
    """One key: its path, its field, its annotation with units and versions, and the version it came with."""

    path: str
    field: FieldInfo
    annotation: Any
    since: str

    @property
    def default(self) -> str:
        """Its default as YAML; "" where it must be given."""
        return "" if self.field.is_required() else _yaml(self.field.get_default(call_default_factory=True))

    @property
    def values(self) -> str:
        """What it may be, in the words of YAML, and its unit."""
        return ", ".join(filter(None, (_values(self.annotation), unit(self.annotation))))

    @property
    def told(self) -> bool:
        """Whether there is something to say of it: not of a section that its keys describe."""
        return bool(self.field.description) or not section_of(self.annotation)


def keys(model: type[BaseModel] = Config, prefix: str = "", first: str = FIRST) -> list[Key]:
    """The keys of a section, which itself came with the version `first`."""
    hints = get_type_hints(model, include_extras=True)
    return [
        Key(f"{prefix}{name}", field, hints[name], _since(hints[name], first))
        for name, field in model.model_fields.items()
    ]


def all_keys(section: Iterable[Key] | None = None) -> Iterator[Key]:
    """Every key, those of a section behind it."""
    for key in keys() if section is None else section:
        yield key
        yield from all_keys(keys_below(key))


def keys_below(key: Key) -> list[Key]:
    """The keys of the section that a key holds; none if it holds a value."""
    model = section_of(key.annotation)
    return keys(model, f"{key.path}.{place_of(key.annotation)}", key.since) if model else []


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation holds, alone, in a list or in a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := section_of(part))), None)


def _since(annotation: Any, first: str) -> str:
    return next((mark.version for mark in _marks(annotation) if isinstance(mark, Since)), first)


def unit(annotation: Any) -> str:
    """The unit of a number; empty without one."""
    return next((mark.name for mark in _marks(annotation) if isinstance(mark, Unit)), "")


def _marks(annotation: Any) -> Iterator[object]:
    """What `Annotated` says anywhere in an annotation, from the outside in."""
    if get_origin(annotation) is Annotated:
        yield from annotation.__metadata__
    for part in get_args(annotation):
        yield from _marks(part)


def place_of(annotation: Any) -> str:
    """What stands between a key and those below it: nothing, a place in a list, a label."""
    if get_origin(annotation) is Annotated:
        return place_of(get_args(annotation)[0])
    return {tuple: "0.", dict: "LABEL."}.get(get_origin(annotation), "")


def _values(annotation: Any) -> str:
    """The type in the words of YAML."""
    kind, parts = get_origin(annotation), get_args(annotation)
    if kind is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if kind is Annotated:
        return _values(parts[0])
    words = [_values(part) for part in parts if part is not Ellipsis]
    if kind is tuple:
        return f"list of {words[0]}"
    if kind in _JOINTS:
        return _JOINTS[kind].join(words)
    return _WORDS.get(annotation, "section")


def _yaml(value: object) -> str:
    plain = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
    if isinstance(plain, BaseModel):
        plain = plain.model_dump(exclude_defaults=True)
    return str(yaml.safe_dump(plain, default_flow_style=True)).removesuffix("\n...\n").strip()


def described(path: str = "") -> Iterator[str]:
    """Each key below a path, with its default, its values and what it does, for people. Raises ConfigError for none."""
    known = list(all_keys())
    chosen = [key for key in known if f"{key.path}.".startswith(f"{path}." if path else "")]
    if not chosen:
        hint = did_you_mean(path, [key.path for key in known], "`streamer config --describe` lists them all")
        raise ConfigError(f"{path}: there is no such key; {hint}")
    for key in chosen:
        if key.told:
            yield f"{key.path}: {key.default or 'required'}  # {key.values}".replace("`", "")
            yield textwrap.fill(key.field.description or "", 100, initial_indent="    ", subsequent_indent="    ")
