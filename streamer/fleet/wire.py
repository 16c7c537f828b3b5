"""What the hub changes in a message: who publishes it and its number. All else stays byte for byte. Pure.

A run in a fleet writes `{"kind":...,"v":1,"stream":...,"session":...,"epoch":...,"seq":...,"node":...,"term":...,` and
then what it has to say. Only this head is read and written anew, so a message costs microseconds, and fields that a
later version added go through. A head in another order, of another version, is read as JSON.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from streamer.errors import StreamerError

_HEAD = re.compile(
    rb'\{"kind":"([a-z0-9_-]+)","v":1,"stream":"([a-z0-9_-]*)","session":"([0-9a-zA-Z_-]*)",'
    rb'"epoch":(\d{1,18}),"seq":(\d{1,18}),"node":"([0-9a-zA-Z._-]*)","term":(\d{1,19}),'
)


@dataclass(slots=True)
class Heard:
    """A message of a node. rest: of the payload, after the head; it ends the JSON object."""

    kind: str
    session: str
    epoch: int
    seq: int
    node: str
    term: int
    rest: bytes


class _Head(msgspec.Struct):
    """The fields of a head, in whatever order."""

    kind: str
    session: str
    epoch: int
    seq: int
    node: str = ""
    term: int = 0


_decoder = msgspec.json.Decoder(_Head)
_HEAD_FIELDS = ("kind", "v", "stream", "session", "epoch", "seq", "node", "term")


def split(payload: bytes) -> Heard:
    """A message as its head and the rest. Raises StreamerError for what is no message."""
    if match := _HEAD.match(payload):
        kind, _, session, epoch, seq, node, term = match.groups()
        return Heard(
            kind.decode(), session.decode(), int(epoch), int(seq), node.decode(), int(term), payload[match.end() :]
        )
    try:
        head = _decoder.decode(payload)
        fields: dict[str, Any] = msgspec.json.decode(payload)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise StreamerError(f"a message that cannot be read: {str(error)!r}") from error
    for name in _HEAD_FIELDS:
        fields.pop(name, None)
    if not fields:
        raise StreamerError("a message that says nothing")
    return Heard(head.kind, head.session, head.epoch, head.seq, head.node, head.term, msgspec.json.encode(fields)[1:])


def join(heard: Heard, stream: str) -> bytes:
    """The payload of a message with this head, of which all fields are the hub's or were checked by `split`."""
    head = (
        f'{{"kind":"{heard.kind}","v":1,"stream":"{stream}","session":"{heard.session}","epoch":{heard.epoch},'
        f'"seq":{heard.seq},"node":"{heard.node}","term":{heard.term},'
    )
    return head.encode() + heard.rest
