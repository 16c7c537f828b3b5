"""Messages as text: a line for people at each change, or every message as a line of JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TextIO

from streamer.labels.messages import EventMessage, GapMessage, Message, StateMessage, StatusMessage, encode
from streamer.text import printable

_DAY_MS = 24 * 60 * 60 * 1000


def print_messages(messages: Iterable[Message], out: TextIO, as_json: bool = False) -> None:
    """Print messages until they end; when nobody reads `out` any more, close it and return.

    For people: a line per event, gap, and change of a stream's label or source. As JSON: each message, one object a
    line. Each line is flushed. In both, characters that could steer a terminal are escaped as in JSON.
    """
    known: dict[tuple[str, str], str] = {}  # stream and kind -> what its last line said
    try:
        for message in messages:
            line = encode(message).decode() if as_json else news(message, known)
            if line:
                out.write(f"{printable(line)}\n")
                out.flush()
    except BrokenPipeError:
        with suppress(BrokenPipeError):
            out.close()  # or Python flushes it again at exit, and complains


def news(message: Message, known: dict[tuple[str, str], str]) -> str:
    """The line for people, "" when the message says nothing new; `known` keeps what was said."""
    text, time_us = _text(message)
    key = message.stream, message.kind
    if not text or (isinstance(message, StateMessage | StatusMessage) and known.get(key) == text):
        return ""
    known[key] = text
    return f"{_time_of_day(time_us)}  {message.stream}  {text}"


def _text(message: Message) -> tuple[str, int]:
    """What the message says, and when that was, microseconds UTC."""
    now_us = message.ts.pub_us if message.ts.frame_us is None else message.ts.frame_us
    if isinstance(message, EventMessage):
        if message.t_end_us is None:
            return f"{message.type:6}  {message.label} {message.peak:.2f}", message.t_start_us
        length_s = (message.t_end_us - message.t_start_us) / 1e6
        return f"end     {message.label} {message.peak:.2f} after {length_s:.2f} s ({message.reason})", message.t_end_us
    if isinstance(message, StateMessage):
        return f"label   {message.label or '-'}", now_us
    if isinstance(message, StatusMessage):
        return f"source  {message.source} {message.detail}".rstrip(), message.ts.pub_us
    if isinstance(message, GapMessage):
        lost_s = (message.to_us - message.from_us) / 1e6
        what = f"{lost_s:+.2f} s by the clock" if message.reason == "clock" else f"{lost_s:.2f} s lost"
        return f"gap     {what} ({message.reason})", message.to_us
    return "", now_us


def _time_of_day(time_us: int) -> str:
    ms = time_us // 1000 % _DAY_MS
    return f"{ms // 3600000:02}:{ms // 60000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}Z"
