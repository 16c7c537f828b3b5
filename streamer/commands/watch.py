"""`streamer watch`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.commands.options import (
    LABELS,
    AddressArgument,
    KeyOption,
    ServerKeyOption,
    VerboseOption,
    check_kinds,
    make_curve,
)
from streamer.labels.messages import KINDS, Message

if TYPE_CHECKING:
    from streamer.labels.subscriber import Subscriber

PATIENCE_S = 3.0  # then it says why nothing has come; a run that is well says something every second

EXAMPLES = """\b
Examples:
  streamer watch                                 # the run on this machine
  streamer watch tcp://192.0.2.5:5557 --json     # another machine's, for a program
  streamer watch --kind score --json             # every probability
"""


def watch(
    address: AddressArgument = LABELS,
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; repeatable.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help=f"Only this kind of {', '.join(KINDS)}; repeatable.")] = None,
    verbose: VerboseOption = False,
    json: Annotated[bool, typer.Option("--json", help="Every message, one JSON object a line.")] = False,
    server_key: ServerKeyOption = None,
    key: KeyOption = None,
) -> None:
    """Print the events that a running `streamer run` publishes, here or on another machine.

    After three seconds without a word it says on standard error what it waits for, and why.
    """
    from streamer.labels.news import print_messages
    from streamer.labels.subscriber import Subscriber

    curve, kinds = make_curve(server_key, key), check_kinds(kind)
    verbose = verbose or "state" in (kinds or ())
    if json and isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # as JSON is, whatever the terminal shows
    with (
        suppress(KeyboardInterrupt),
        Subscriber(address, streams=stream, kinds=kinds, curve=curve) as subscriber,
    ):
        print_messages(_told_if_silent(subscriber, address), sys.stdout, as_json=json, verbose=verbose)


def _told_if_silent(subscriber: Subscriber, address: str) -> Iterator[Message]:
    """The messages; while there is not even a first one, standard error is told why, as far as that can be known."""
    told, subscriber.timeout_s = "", PATIENCE_S
    while subscriber.timeout_s:
        try:
            yield next(subscriber)
            subscriber.timeout_s = None
        except TimeoutError:
            why = subscriber.why_silent()
            if why != told:
                typer.echo(f"waiting for {address}: {why}", err=True)
                told = why
        except StopIteration:
            return
    yield from subscriber
