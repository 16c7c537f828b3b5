"""`streamer ctl`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from streamer.commands.options import KeyOption, ServerKeyOption, make_curve
from streamer.labels.requests import ANSWER_S, LOAD_S, ask, make_request
from streamer.labels.runtime import find_address


def ctl(
    command: Annotated[
        str,
        typer.Argument(
            help="status, snapshot, reset, add, remove, state, set, model, clips, answer or drain.", show_default=False
        ),
    ],
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STREAM|SOURCE|KEY=VALUE|MODEL|CLIP LABEL",
            help="reset, remove, state: a stream. add: a source. set: keys. model: a name or file. answer: a clip and "
            "what it shows.",
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
    remove change the streams; state ends one for another run to go on with, and tells the file of its temporal state;
    set changes settings of events, such as events.enter=0.7, and without a value takes that
    back; model lets another model take over, which is answered when it has; clips lists the clips, and answer says what
    one shows, a label or nothing; drain ends the run.
    """
    request, curve = make_request(command, what or (), name), make_curve(server_key, key)
    address = address or find_address()
    if command == "model":
        ask(address, {"command": "status"}, curve)  # a run that is not there shall not be waited for as long
    reply = ask(address, request, curve, LOAD_S if command == "model" else ANSWER_S)
    typer.echo(json.dumps(reply, indent=2, ensure_ascii=False))
