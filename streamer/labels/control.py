"""The control socket: one JSON request, one JSON reply; what is asked is done in the engine's thread between two steps.

    {"command": "add", "source": {"uri": "rtsp://camera/1", "name": "door"}}    ->  {"ok": {"stream": "door"}}
    {"command": "reset", "stream": "dor"}    ->  {"error": "there is no stream 'dor'; did you mean 'door'?"}

    status             the run and its streams
    snapshot           the last `state` and `status` message of every stream
    reset    stream    its temporal state starts anew: open event ends, epoch + 1, a `gap` message; all with `reset`
    add      source    one more stream; the source is written as in the configuration, as an address or with its fields
    remove   stream    it ends: open event with `shutdown`, status `stopped`, and new subscribers hear nothing of it
    set      set       settings of events, {"events.enter": 0.7}, are obeyed from the next step on; null takes one back
    drain              take no more frames, tell what those that were taken say, end the run with exit code 0

It is a ROUTER socket: REQ and DEALER sockets of any binding can ask. Nothing in a request is looked at before its size
and its number of parts are known to be small; the source of `add` is opened in a thread of its own.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Protocol, get_args

import msgspec
import zmq
from msgspec import Meta
from pydantic import ValidationError

from streamer.config import CurveConfig, SourceConfig
from streamer.errors import ConfigError, SourceError
from streamer.labels import addresses
from streamer.labels.guard import Guard
from streamer.labels.messages import Message
from streamer.labels.publisher import LINGER_MS, end_context
from streamer.labels.runtime import new_address
from streamer.settings import explain
from streamer.sources import Source
from streamer.text import redact

MAX_REQUEST_BYTES = 16 * 1024  # who sends more is disconnected
REQUESTS_PER_POLL = 8  # the rest waits until the engine has made another step
QUEUE = 100  # requests and replies that wait, for each client
MOST_OPEN = 64  # requests of all clients that wait for their answer; the rest stays in the queues
MOST_PARTS = 16  # of a message: the envelope's and the request
MOST_OPENERS = 4
MOST_FIELDS, MOST_NAME, MOST_LENGTH, MOST_NUMBER = 32, 64, 2048, 10**9  # of a source
MOST_PATH = 256  # characters of a setting's path
MOST_TOLD = 2000  # characters of an error
_LOOK_MS = 10  # how often it looks for what has been done
_PARTS_AT_ONCE, _YIELD_S = 10_000, 0.001  # while a message is thrown away, the engine's thread has its turns


_log = logging.getLogger(__name__)


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
    """The reply to `status`.

    labels  where they are published
    set     what `set` has changed, by path
    events  the settings of events that are obeyed now
    knows   the labels of the model
    """

    model: str
    session: str
    labels: str | None
    draining: bool
    streams: list[StreamReport]
    set: dict[str, Any] = {}
    events: dict[str, Any] = {}
    knows: list[str] = []


class Controlled(Protocol):
    """What the commands act on: the pipeline. ConfigError and SourceError say why something cannot be done."""

    def report(self) -> Report:
        """The run and its streams."""

    def snapshot(self) -> list[Message]:
        """The last state and status of every stream."""

    def reset(self, name: str) -> int:
        """Start a stream's temporal state anew; returns its epoch."""

    def open(self, config: SourceConfig) -> Source:
        """The source of one more stream. Any thread may ask, since it may take its time."""

    def add(self, config: SourceConfig, source: Source | None = None) -> str:
        """Begin one more stream; returns its name. source: what `open` made of it, or else it is opened now."""

    def remove(self, name: str) -> None:
        """End a stream."""

    def set(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Change settings, by path; returns all that were changed since the run began."""

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


class Set(_Request, frozen=True):
    """Change settings of events."""

    set: Annotated[dict[Annotated[str, Meta(max_length=MOST_PATH)], Any], Meta(min_length=1, max_length=MOST_FIELDS)]


class Drain(_Request, frozen=True):
    """End the run."""


Request = Status | Snapshot | Reset | Add | Remove | Set | Drain
COMMANDS: dict[str, tuple[str, ...]] = {kind.__name__.lower(): kind.__struct_fields__ for kind in get_args(Request)}
"""The commands, each with the fields that it needs."""
_decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


@dataclass(slots=True)
class _Asked:
    """A request on its way: who asked, and what will be answered. config and source: of `add`, as far as they are."""

    request: Request
    done: Future[Any]
    config: SourceConfig | None = None
    source: Source | None = None


class Control:
    """Binds `address` and answers requests. Raises ConfigError when it cannot be bound.

    A thread of its own reads, checks and answers; `poll` does in the caller's thread what was asked.

    address  where it is bound; for `auto` a socket of this run in the user's runtime folder; None: only `ask` asks
    curve    who may ask. A tcp address needs it: its port is open to every program, web page and camera that reaches it
    """

    def __init__(self, address: str | None, curve: CurveConfig | None = None) -> None:
        self._asked: deque[_Asked] = deque()
        self._openers: list[threading.Thread] = []
        self.address = ""
        if address is not None:
            self._bind(address, curve)

    def _bind(self, address: str, curve: CurveConfig | None) -> None:
        if address.startswith("tcp:") and not curve:
            raise ConfigError(
                f"control: whoever reaches {address} could control the run; leave it at `auto`, name an ipc:// "
                "address, or make keys with `streamer keygen` and set control_curve"
            )
        self._is_own = address == "auto"
        if self._is_own:
            address = new_address()
        self._open: list[tuple[list[bytes], Future[Any]]] = []  # envelopes of replies that are to come
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        # over TCP guard.py bounds what waits; a queue that can be full is what makes libzmq abort
        self._socket.setsockopt(zmq.RCVHWM, 0 if curve and address.startswith("tcp:") else QUEUE)
        self._socket.setsockopt(zmq.SNDHWM, QUEUE)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        try:
            self._guard = Guard(self._socket, MAX_REQUEST_BYTES, curve, "control_curve")
            self.address = addresses.bind(self._socket, address, "control")
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self._guard.start(self.address)
        threading.Thread(target=self._serve, name="control", daemon=True).start()

    def ask(self, request: bytes) -> Future[Any]:
        """Ask for something; `answer` makes the reply of what comes. Any thread may."""
        done: Future[Any] = Future()
        try:
            asked = _Asked(parse(request), done)
            if isinstance(asked.request, Add):
                asked.config = source_config(asked.request.source)
            self._asked.append(asked)
        except Exception as error:  # `answer` tells it
            done.set_exception(error)
        return done

    def poll(self, on: Controlled) -> None:
        """Do what was asked, at most eight requests. Never waits."""
        for _ in range(REQUESTS_PER_POLL):
            if not self._asked:
                return
            asked = self._asked.popleft()
            try:
                if asked.config and not asked.source:
                    self._begin_to_open(asked, asked.config, on)
                else:
                    asked.done.set_result(act(asked.request, on, asked.config, asked.source))
            except Exception as error:  # no request ends the run; `answer` tells it
                asked.done.set_exception(error)

    def close(self) -> None:
        """Give replies that are on their way 200 ms, and free the address."""
        if not self.address:
            return
        deadline = time.monotonic() + LINGER_MS / 1e3
        while any(done.done() for _, done in tuple(self._open)) and time.monotonic() < deadline:
            time.sleep(_LOOK_MS / 1e3)
        end_context(self._context)
        if self._is_own:  # ZeroMQ leaves the socket's file where it is
            Path(self.address.removeprefix("ipc://")).unlink(missing_ok=True)

    def __enter__(self) -> Control:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin_to_open(self, asked: _Asked, config: SourceConfig, on: Controlled) -> None:
        """Open a source in a thread, since that may hang, and ask again with it."""
        self._openers = [thread for thread in self._openers if thread.is_alive()]
        if len(self._openers) >= MOST_OPENERS:
            raise ConfigError(f"{MOST_OPENERS} sources are being opened already; try again when they are")

        def run() -> None:
            try:
                asked.source = on.open(config)
            except Exception as error:
                asked.done.set_exception(error)
            else:
                self._asked.append(asked)

        self._openers.append(threading.Thread(target=run, name="open source", daemon=True))
        self._openers[-1].start()

    def _serve(self) -> None:
        """The thread: until the context ends."""
        with suppress(zmq.ContextTerminated), self._socket:
            while True:
                if len(self._open) >= MOST_OPEN:
                    time.sleep(_LOOK_MS / 1e3)
                elif self._socket.poll(_LOOK_MS if self._open else None):
                    self._receive()
                for envelope, done in [one for one in self._open if one[1].done()]:
                    self._socket.send_multipart((*envelope, answer(done)), zmq.DONTWAIT)
                    self._open.remove((envelope, done))

    def _receive(self) -> None:
        """Take a message. One of too many parts is thrown away part by part, and its sender is disconnected."""
        frames = [self._socket.recv(copy=False)]
        while frames[-1].more and len(frames) <= MOST_PARTS:
            frames.append(self._socket.recv(copy=False))
        number, peer = self._guard.peer(frames[-1])
        if len(frames) > MOST_PARTS:
            self._guard.cut(number, f"a request of more than {MOST_PARTS} parts")
            for count in itertools.count():
                if not self._socket.getsockopt(zmq.RCVMORE):
                    return
                self._socket.recv()
                if count % _PARTS_AT_ONCE == 0:
                    time.sleep(_YIELD_S)
        peer.heard = True
        *envelope, request = (frame.bytes for frame in frames)
        self._open.append((envelope, self.ask(request)))


def answer(done: Future[Any]) -> bytes:
    """The reply to a request that was done: `{"ok": ...}` or `{"error": sentence}`, without passwords."""
    try:
        return msgspec.json.encode({"ok": done.result()})
    except (ConfigError, SourceError) as error:
        told = redact(str(error))
    except Exception as error:
        _log.exception("a request failed")
        told = f"this failed, please report it: {redact(repr(error))}"
    return msgspec.json.encode({"error": told if len(told) <= MOST_TOLD else f"{told[:MOST_TOLD]}..."})


def act(request: Request, on: Controlled, config: SourceConfig | None = None, source: Source | None = None) -> Any:
    """Do what was asked; config and source are those of `add`. Returns what is answered."""
    told: Any = {}
    match request:
        case Status():
            told = on.report()
        case Snapshot():
            told = on.snapshot()
        case Reset(name):
            told = {"stream": name, "epoch": on.reset(name)}
        case Add():
            assert config
            told = {"stream": on.add(config, source)}
        case Remove(name):
            on.remove(name)
            told = {"stream": name}
        case Set(values):
            told = {"set": on.set(values)}
        case Drain():
            on.drain()
    return told


def parse(request: bytes) -> Request:
    """A request. Raises ConfigError."""
    try:
        return _decoder.decode(request)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise ConfigError(
            f'cannot read the request: {error}; send one JSON object such as {{"command": "status"}}; '
            f"the commands are {', '.join(COMMANDS)}"
        ) from error


def source_config(source: int | str | dict[str, Any]) -> SourceConfig:
    """The source of an `add`. Raises ConfigError."""
    fields = source if isinstance(source, dict) else {"uri": source}
    if len(fields) > MOST_FIELDS:
        raise ConfigError(f"the request's source has {len(fields)} fields; {MOST_FIELDS} are allowed")
    for name, value in fields.items():
        if len(name) > MOST_NAME or (isinstance(value, str) and len(value) > MOST_LENGTH):
            raise ConfigError(f"{name[:MOST_NAME]}: is too long; {MOST_LENGTH} characters are allowed")
        if isinstance(value, int) and abs(value) > MOST_NUMBER:
            raise ConfigError(f"{name}: is too large; {MOST_NUMBER} is allowed")
    try:
        return SourceConfig.model_validate(source)
    except ValidationError as error:
        problems = [{**problem, "loc": ("sources", 0, *problem["loc"])} for problem in error.errors()]
        raise ConfigError("; ".join(explain(one, {"sources": "the request"}) for one in problems)) from error
