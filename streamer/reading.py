"""YAML as it was written: keys and values are texts, and what they mean is the schema's business.

So a password of digits keeps its zeros, and a label `no` stays one. Only an empty value, `null` and `~` are None.
Anchors and merge keys are followed; what grows beyond the bounds by them is refused before it is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from streamer.text import shown_key

MOST_CHARACTERS = 256 * 1024
MOST_VALUES = 10_000  # with those that aliases repeat
DEEPEST = 20
_NULL = ("", "~", "null", "Null", "NULL")
_TAG = "tag:yaml.org,2002:"
_TAGS = {_TAG + name for name in ("str", "seq", "map", "null", "int", "float", "bool")}


class NotYamlError(ValueError):
    """A text that is not YAML, or too much of it. The message repeats nothing of the text but misplaced signs."""


@dataclass(frozen=True, slots=True)
class _Node:
    """A value, how many values it has in it, and how deep they are."""

    value: Any
    size: int = 1
    depth: int = 0
    merges: bool = False


def read_yaml(text: str) -> Any:
    """The value of a YAML document: dicts, lists, texts and None. Raises NotYamlError."""
    if len(text) > MOST_CHARACTERS:
        raise NotYamlError(f"it is larger than {MOST_CHARACTERS // 1024} KiB")
    try:
        return _Builder(yaml.parse(text, yaml.SafeLoader)).document()
    except yaml.MarkedYAMLError as error:
        raise NotYamlError(f"{_where(error.problem_mark)}{_harmless(error.problem or '')}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise (
            error if isinstance(error, NotYamlError) else NotYamlError("it has characters that YAML does not allow")
        ) from None


class _Builder:
    """Values out of the events of a parser."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self._anchors: dict[str, _Node] = {}
        self._read = 0

    def document(self) -> Any:
        """The only document; None if there is none."""
        next(self._events)  # the stream's start
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        value = self._node(next(self._events), 0).value
        next(self._events)  # the document's end
        if not isinstance(event := next(self._events), yaml.StreamEndEvent):
            raise NotYamlError(f"{_where(event.start_mark)}a second document begins; give one")
        return value

    def _node(self, event: yaml.Event, depth: int) -> _Node:
        where = _where(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            known = self._anchors.get(event.anchor or "")
            if known is None:
                raise NotYamlError(f"{where}an alias without its anchor{_ADVICE}")
            self._count(known.size, depth + known.depth, where)
            return _Node(_copy(known.value), known.size, known.depth)
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        self._count(1, depth, where)
        if event.tag not in (None, "!", *_TAGS):
            raise NotYamlError(f"{where}a tag that is not known{_ADVICE}")
        if isinstance(event, yaml.ScalarEvent):
            plain = event.style is None and event.tag in (None, f"{_TAG}null")
            node = _Node(None if plain and event.value in _NULL else event.value, merges=plain and event.value == "<<")
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(depth + 1)
        else:
            node = self._mapping(depth + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _sequence(self, depth: int) -> _Node:
        items: list[_Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth))
        return _holding([item.value for item in items], items)

    def _mapping(self, depth: int) -> _Node:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        nodes: list[_Node] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            where = _where(event.start_mark)
            key, node = self._node(event, depth), self._node(next(self._events), depth)
            nodes += (key, node)
            if key.merges:
                for one in node.value if isinstance(node.value, list) else [node.value]:
                    if not isinstance(one, dict):
                        raise NotYamlError(f"{where}<< takes the alias of a mapping, or a list of such")
                    merged = {**one, **merged}
                continue
            name = "null" if key.value is None else key.value
            if not isinstance(name, str):
                raise NotYamlError(f"{where}a key must be a word")
            if name in own:
                raise NotYamlError(f"{where}the key {shown_key(name)!r} stands twice")
            own[name] = node.value
        return _holding({**merged, **own}, nodes)

    def _count(self, values: int, depth: int, where: str) -> None:
        self._read += values
        if depth > DEEPEST or self._read > MOST_VALUES:
            raise NotYamlError(f"{where}more than {MOST_VALUES} values, or {DEEPEST} levels, aliases written out")


def _holding(value: Any, nodes: list[_Node]) -> _Node:
    depth = 1 + max((node.depth for node in nodes), default=0)
    return _Node(value, 1 + sum(node.size for node in nodes), depth)


def _copy(value: Any) -> Any:
    """The same value, of which no part is shared."""
    if isinstance(value, dict):
        return {key: _copy(below) for key, below in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


_ADVICE = "; put a text that begins with one of @ ` % & * ! | > in quotes"


def _where(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""


def _harmless(problem: str) -> str:
    """What the parser says, without what it repeats of the text, which may be a piece of a password."""
    hidden = re.sub(r"(['\"])(.*?)\1", lambda found: found[0] if _OWN.fullmatch(found[2]) else "'***'", problem)
    return f"{hidden}{_ADVICE if 'cannot start' in problem else ''}"


_OWN = re.compile(r"<[a-z ]+>|.|\\.")  # names that the parser gives, and single characters
