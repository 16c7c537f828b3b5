"""The other end of the control socket: make a request, send it, wait for its reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import zmq

from streamer.errors import ConfigError
from streamer.labels import addresses
from streamer.labels.addresses import unreachable
from streamer.labels.commands import COMMANDS
from streamer.labels.curve import Curve
from streamer.settings import assigned_values, written

ANSWER_S = 5.0  # longest wait for a reply
LOAD_S = 300.0  # and for that to `model`


def make_request(command: str, what: Sequence[str] = (), name: str | None = None) -> dict[str, Any]:
    """The request of a command line. Raises ConfigError for what is no command, or is missing or too much."""
    if command not in COMMANDS:
        raise ConfigError(f"ctl {command}: there is no such command; known are {', '.join(COMMANDS)}")
    fields = COMMANDS[command]
    if name is not None and command != "add":
        raise ConfigError(f"ctl {command}: --name is for add only")
    if command == "set":
        return {"command": command, "set": _assigned(what)}
    if len(what) < len(fields) or not all(what[:1]):
        needed = " ".join(map(str.upper, fields))
        raise ConfigError(f"ctl {command}: name a {fields[0]}, such as `streamer ctl {command} {needed}`")
    if len(what) > len(fields):
        raise ConfigError(f"ctl {command}: takes nothing more, got {what[len(fields)]!r}")
    request: dict[str, Any] = {"command": command, **dict(zip(fields, what, strict=True))}
    if command == "model" and Path(what[0]).is_file():
        request["model"] = str(Path(what[0]).absolute())  # the run may be in another folder
    if command == "add":
        request["source"] = {"uri": what[0]} if name is None else {"uri": what[0], "name": name}
    return request


def _assigned(assignments: Sequence[str]) -> dict[str, Any]:
    """The values of `set`, by path."""
    if not assignments:
        raise ConfigError("ctl set: name a setting, such as `streamer ctl set events.enter=0.7`")
    try:
        return {written(keys): value for keys, value, _ in assigned_values(assignments)}
    except ConfigError as error:
        raise ConfigError(str(error).replace("--set", "ctl set")) from None


def ask(address: str, request: Mapping[str, Any], curve: Curve | None = None, timeout_s: float = ANSWER_S) -> Any:
    """Send a request to a control socket; returns what its reply has under `ok`.

    Raises ConfigError with the reply's `error`, or when there is no reply in time.
    """
    context = zmq.Context()
    try:
        socket = context.socket(zmq.REQ)
        if curve:
            curve.prepare(socket)
        addresses.connect(socket, address)
        socket.send(msgspec.json.encode(request))
        if not socket.poll(round(timeout_s * 1000)):
            why = unreachable(address) or "if the run has control_curve, are --server-key and --key right?"
            if request.get("command") == "model":
                why = "the model is still being loaded; `streamer ctl status` tells when it has taken over"
            raise ConfigError(f"no answer from {address} within {timeout_s:g} s: {why}")
        reply = msgspec.json.decode(socket.recv(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ConfigError(f"{address}: is not a control socket: {error}") from error
    finally:
        context.destroy(linger=0)
    if "error" in reply:
        raise ConfigError(str(reply["error"]))
    return reply.get("ok")
