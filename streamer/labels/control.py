"""The control socket: one JSON request, one JSON reply, served in the engine's thread between two steps.

    {"command": "add", "source": {"uri": "rtsp://camera/1", "name": "door"}}    ->  {"ok": {"stream": "door"}}
    {"command": "reset", "stream": "dor"}    ->  {"error": "there is no stream 'dor'; did you mean 'door'?"}

    status             the run and its streams
    snapshot           the last `state` and `status` message of every stream
    reset    stream    its temporal state starts anew: open event ends, epoch + 1, a `gap` message; all with `reset`
    add      source    one more stream; the source is written as in the configuration, as an address or with its fields
    remove   stream    it ends: open event with `shutdown`, status `stopped`, and new subscribers hear nothing of it
    drain              take no more frames, tell what those that were taken say, end the run with exit code 0

It is a ROUTER socket: REQ and DEALER sockets of any binding can ask.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, get_args

import msgspec
import zmq
from pydantic import ValidationError

from streamer.config import CurveConfig, SourceConfig
from streamer.errors import ConfigError, SourceError
from streamer.labels import addresses
from streamer.labels.curve import Gate
from streamer.labels.messages import Message
from streamer.labels.publisher import LINGER_MS, end_context
from streamer.labels.runtime import new_address
from streamer.settings import explain
from streamer.text import redact

MAX_REQUEST_BYTES = 64 * 1024  # who sends more is disconnected
REQUESTS_PER_POLL = 8  # the rest waits until the engine has made another step
QUEUE = 100  # requests and replies that wait, for each client


class StreamReport(msgspec.Struct, frozen=True):
    """One stream in the reply to `status`; `uri` without passwords, the other fields as in its messages."""

    stream: str
    uri: str
    source: str
    detail: str
    epoch: int
    captured: int
    inferred: int


class Report(msgspec.Struct, frozen=True):
    """The reply to `status`; `labels` is where they are published."""

    model: str
    session: str
    labels: str | None
    draining: bool
    streams: list[StreamReport]


class Controlled(Protocol):
    """What the commands act on: the pipeline. ConfigError and SourceError say why something cannot be done."""

    def report(self) -> Report:
        """The run and its streams."""

    def snapshot(self) -> list[Message]:
        """The last state and status of every stream."""

    def reset(self, name: str) -> int:
        """Start a stream's temporal state anew; returns its epoch."""

    def add(self, config: SourceConfig) -> str:
        """Begin one more stream; returns its name."""

    def remove(self, name: str) -> None:
        """End a stream."""

    def drain(self) -> None:
        """End the run after the frames that were taken."""


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="command", tag=str.lower):
    pass


class Status(_Request, frozen=True):
    """The run and its streams."""


class Snapshot(_Request, frozen=True):
    """The last state and status of every stream."""


class Reset(_Request, frozen=True):
    """Start a stream's temporal state anew."""

    stream: str


class Add(_Request, frozen=True):
    """Begin one more stream."""

    source: int | str | dict[str, Any]


class Remove(_Request, frozen=True):
    """End a stream."""

    stream: str


class Drain(_Request, frozen=True):
    """End the run."""


Request = Status | Snapshot | Reset | Add | Remove | Drain
COMMANDS: dict[str, tuple[str, ...]] = {kind.__name__.lower(): kind.__struct_fields__ for kind in get_args(Request)}
"""The commands, each with the fields that it needs."""
_decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


class Control:
    """Binds `address` and answers requests; used from one thread. Raises ConfigError when it cannot be bound.

    address  where it is bound; for `auto` a socket of this run in the user's runtime folder
    curve    who may ask. A tcp address needs it: its port is open to every program, web page and camera that reaches it
    """

    def __init__(self, address: str, curve: CurveConfig | None = None) -> None:
        if address.startswith("tcp:") and not curve:
            raise ConfigError(
                f"control: whoever reaches {address} could control the run; leave it at `auto`, name an ipc:// "
                "address, or make keys with `streamer keygen` and set control_curve"
            )
        self._is_own = address == "auto"
        if self._is_own:
            address = new_address()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.zap_domain = addresses.DOMAIN
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_REQUEST_BYTES)
        self._socket.setsockopt(zmq.RCVHWM, QUEUE)
        self._socket.setsockopt(zmq.SNDHWM, QUEUE)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, 2000)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 10000)
        try:
            self._gate = Gate(self._socket, curve, "control_curve") if curve else None
            self.address = addresses.bind(self._socket, address, "control")
        except BaseException:
            self._context.destroy(linger=0)
            raise

    def poll(self, on: Controlled) -> None:
        """Answer the requests that have arrived, at most eight. Never waits: who does not read loses replies."""
        if self._gate:
            self._gate.poll()
        for _ in range(REQUESTS_PER_POLL):
            try:
                *envelope, request = self._socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            self._socket.send_multipart((*envelope, answer(request, on)), zmq.DONTWAIT)

    def close(self) -> None:
        """Give replies that are on their way 200 ms, and free the address."""
        if self._gate:
            self._gate.close()
        self._socket.close(linger=LINGER_MS)
        end_context(self._context)
        if self._is_own:  # ZeroMQ leaves the socket's file where it is
            Path(self.address.removeprefix("ipc://")).unlink(missing_ok=True)

    def __enter__(self) -> Control:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def answer(request: bytes, on: Controlled) -> bytes:
    """The reply to a request: `{"ok": ...}` or `{"error": sentence}`, without passwords."""
    try:
        return msgspec.json.encode({"ok": _act(_parsed(request), on)})
    except (ConfigError, SourceError) as error:
        return msgspec.json.encode({"error": redact(str(error))})


def _act(request: Request, on: Controlled) -> Any:
    match request:
        case Status():
            return on.report()
        case Snapshot():
            return on.snapshot()
        case Reset(name):
            return {"stream": name, "epoch": on.reset(name)}
        case Add(source):
            return {"stream": on.add(_source_config(source))}
        case Remove(name):
            on.remove(name)
            return {"stream": name}
        case Drain():
            on.drain()
            return {}


def _parsed(request: bytes) -> Request:
    try:
        return _decoder.decode(request)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise ConfigError(
            f'cannot read the request: {error}; send one JSON object such as {{"command": "status"}}; '
            f"the commands are {', '.join(COMMANDS)}"
        ) from error


def _source_config(source: int | str | dict[str, Any]) -> SourceConfig:
    try:
        return SourceConfig.model_validate(source)
    except ValidationError as error:
        problems = [{**problem, "loc": ("sources", 0, *problem["loc"])} for problem in error.errors()]
        raise ConfigError("; ".join(explain(one, {"sources": "the request"}) for one in problems)) from error
