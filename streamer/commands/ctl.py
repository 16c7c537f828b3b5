"""`streamer ctl`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from streamer.commands.options import KeyOption, ServerKeyOption, make_curve
from streamer.labels.requests import ask, make_request
from streamer.labels.runtime import find_address


def ctl(
    command: Annotated[
        str,
        typer.Argument(help="status, snapshot, reset, add, remove, set, clips, answer or drain.", show_default=False),
    ],
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STREAM|SOURCE|KEY=VALUE|CLIP LABEL",
            help="reset and remove: a stream. add: a source. set: keys. answer: a clip, and what it shows.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="add: what to call the stream.")] = None,
    address: Annotated[
        str | None, typer.Option(help="The run's control address. [default: that of your only run]", show_default=False)
    ] = None,
    server_key: ServerKeyOption = None,
    key: KeyOption = None,
) -> None:
    """Send a command to a running `streamer run` and print its answer as JSON.

    status and snapshot tell how the run and its streams are; reset starts a stream's temporal state anew; add and
    remove change the streams; set changes settings of events, such as events.enter=0.7, and without a value takes that
    back; clips lists the clips, and answer says what one shows, a label or nothing; drain ends the run.
    """
    request, curve = make_request(command, what or (), name), make_curve(server_key, key)
    reply = ask(address or find_address(), request, curve)
    typer.echo(json.dumps(reply, indent=2, ensure_ascii=False))
