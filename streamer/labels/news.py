"""Messages as text: a line of news for people, or every message as a line of JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TextIO

from streamer.labels.messages import EventMessage, GapMessage, Message, StateMessage, StatusMessage, encode
from streamer.text import printable

_DAY_MS = 24 * 60 * 60 * 1000


def print_messages(messages: Iterable[Message], out: TextIO, *, as_json: bool = False, verbose: bool = False) -> None:
    """Print messages until they end; when nobody reads `out` any more, close it and return.

    For people: what `news` makes of them. As JSON: each message, one object a line. Each line is flushed. In both,
    characters that could steer a terminal are escaped as in JSON.
    """
    known: dict[tuple[str, str], str] = {}  # stream and kind -> what its last line said
    try:
        for message in messages:
            line = encode(message).decode() if as_json else news(message, known, verbose=verbose)
            if line:
                out.write(f"{printable(line)}\n")
                out.flush()
    except BrokenPipeError:
        with suppress(BrokenPipeError):
            out.close()  # or Python flushes it again at exit, and complains


def news(message: Message, known: dict[tuple[str, str], str], *, verbose: bool = False) -> str:
    """The line for people, "" when the message says nothing new; `known` keeps what was said.

    A line per start and end of an event, gap, and change of a source; verbose: also per update of an event and change
    of the label in force. It begins with the time at which it was told, so times never run backward.
    """
    text = _text(message, verbose)
    key = message.stream, message.kind
    if not text or (isinstance(message, StateMessage | StatusMessage) and known.get(key) == text):
        return ""
    known[key] = text
    return f"{_time_of_day(message.ts.pub_us)}  {message.stream}  {text}"


def _text(message: Message, verbose: bool) -> str:
    """What the message says; "" for what is no news."""
    if isinstance(message, EventMessage):
        if message.t_end_us is not None:
            length_s = (message.t_end_us - message.t_start_us) / 1e6
            return f"end     {message.label} {message.peak:.2f} after {length_s:.2f} s ({message.reason})"
        return f"{message.type:6}  {message.label} {message.peak:.2f}" if verbose or message.type == "start" else ""
    if isinstance(message, StateMessage):
        return f"label   {message.label or '-'}" if verbose else ""
    if isinstance(message, StatusMessage):
        return f"source  {message.source} {message.detail}".rstrip()
    if isinstance(message, GapMessage):
        lost_s = (message.to_us - message.from_us) / 1e6
        special = {"clock": f"{lost_s:+.2f} s by the clock", "model": f"now by {message.model}"}
        what = special.get(message.reason, f"{lost_s:.2f} s lost")
        return f"gap     {what} ({message.reason})"
    return ""


def _time_of_day(time_us: int) -> str:
    ms = time_us // 1000 % _DAY_MS
    zone = "Z" if time_us >= _DAY_MS * 1000 else ""  # a recording's times count from its first frame
    return f"{ms // 3600000:02}:{ms // 60000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}{zone}"
