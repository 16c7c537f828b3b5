"""`streamer watch`."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated

import typer

from streamer.commands.options import KeyOption, ServerKeyOption, check_kinds, make_curve
from streamer.labels.messages import KINDS


def watch(
    address: Annotated[str, typer.Argument(help="Where labels are published, such as tcp://127.0.0.1:5557.")],
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; repeatable.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help=f"Only this kind of {', '.join(KINDS)}; repeatable.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Every message, one JSON object a line.")] = False,
    server_key: ServerKeyOption = None,
    key: KeyOption = None,
) -> None:
    """Print the labels that a running `streamer run` publishes, here or on another machine."""
    from streamer.labels.news import print_messages
    from streamer.labels.subscriber import Subscriber

    curve = make_curve(server_key, key)
    with (
        suppress(KeyboardInterrupt),
        Subscriber(address, streams=stream, kinds=check_kinds(kind), curve=curve) as subscriber,
    ):
        print_messages(subscriber, sys.stdout, as_json=json)
