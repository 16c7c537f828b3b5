"""The commands `streamer ctl` and `streamer keygen`, and the keys on the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from streamer.errors import ConfigError

if TYPE_CHECKING:
    from streamer.labels.curve import Curve

ServerKeyOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="For a run that encrypts: its public key, NAME.key.")
]
KeyOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="For a run that encrypts: your secret key, NAME.key_secret.")
]
ANSWER_S = 5.0  # longest wait for a reply


def keygen(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="What to call the files; may begin with a folder.")],
) -> None:
    """Make a pair of keys, NAME.key to give away and NAME.key_secret to keep, for publish.curve or for --key."""
    from streamer.labels.curve import write_keys

    public, secret = write_keys(name)
    typer.echo(f"{public}: the public key, for the other side")
    typer.echo(f"{secret}: the secret key; keep it here")


def ctl(
    command: Annotated[str, typer.Argument(help="status, snapshot, reset, add, remove or drain.", show_default=False)],
    what: Annotated[
        str | None, typer.Argument(metavar="STREAM|SOURCE", help="reset and remove: a stream. add: a source.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="add: what to call the stream.")] = None,
    address: Annotated[str, typer.Option(help="The run's control address.")] = "tcp://127.0.0.1:5558",
    server_key: ServerKeyOption = None,
    key: KeyOption = None,
) -> None:
    """Send a command to a running `streamer run` and print its answer as JSON.

    status and snapshot tell how the run and its streams are; reset starts a stream's temporal state anew; add and
    remove change the streams; drain ends the run.
    """
    reply = ask(address, make_request(command, what, name), make_curve(server_key, key))
    typer.echo(json.dumps(reply, indent=2, ensure_ascii=False))


def make_curve(server_key: Path | None, key: Path | None) -> Curve | None:
    """The keys of --server-key and --key; None without both."""
    from streamer.labels.curve import Curve

    if server_key and key:
        return Curve(server_key, key)
    if server_key or key:
        raise ConfigError("--server-key and --key belong together; give the run's public key and your secret key")
    return None


def make_request(command: str, what: str | None = None, name: str | None = None) -> dict[str, Any]:
    """The request of a command line. Raises ConfigError for what is no command, or is missing or too much."""
    from streamer.labels.control import COMMANDS

    if command not in COMMANDS:
        raise ConfigError(f"ctl {command}: there is no such command; known are {', '.join(COMMANDS)}")
    fields = COMMANDS[command]
    if fields and not what:
        raise ConfigError(f"ctl {command}: name a {fields[0]}, such as `streamer ctl {command} {fields[0].upper()}`")
    if what and not fields:
        raise ConfigError(f"ctl {command}: takes nothing more, got {what!r}")
    if name is not None and command != "add":
        raise ConfigError(f"ctl {command}: --name is for add only")
    source = {"uri": what} if name is None else {"uri": what, "name": name}
    return {"command": command} | {field: source if field == "source" else what for field in fields}


def ask(address: str, request: Mapping[str, Any], curve: Curve | None = None, timeout_s: float = ANSWER_S) -> Any:
    """Send a request to a control socket; returns what its reply has under `ok`.

    Raises ConfigError with the reply's `error`, or when there is no reply in time.
    """
    import zmq

    from streamer.labels import addresses

    context = zmq.Context()
    try:
        socket = context.socket(zmq.REQ)
        if curve:
            curve.prepare(socket)
        addresses.connect(socket, address)
        socket.send(msgspec.json.encode(request))
        if not socket.poll(round(timeout_s * 1000)):
            raise ConfigError(
                f"no answer from {address} within {timeout_s:g} s; is a run with this `control` address going on? "
                "if it has publish.curve, are --server-key and --key right?"
            )
        reply = msgspec.json.decode(socket.recv(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ConfigError(f"{address}: is not a control socket: {error}") from error
    finally:
        context.destroy(linger=0)
    if "error" in reply:
        raise ConfigError(str(reply["error"]))
    return reply.get("ok")
