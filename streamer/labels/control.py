"""The control socket: one JSON request, one JSON reply; what is asked is done in the engine's thread between two steps.

commands.py tells what can be asked.

It is a ROUTER socket: REQ and DEALER sockets of any binding can ask. Nothing in a request is looked at before its size
and its number of parts are known to be small. The source of `add` is opened, the model of `model` loaded, and the
file of `state` read in a thread of its own; the reply comes when it is done.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq

from streamer.config import CurveConfig, SourceConfig
from streamer.errors import ConfigError
from streamer.labels import addresses
from streamer.labels.commands import (
    Add,
    Controlled,
    Model,
    Request,
    State,
    act,
    answer,
    parse,
    source_config,
    takes_time,
)
from streamer.labels.guard import Guard
from streamer.labels.outlet import LINGER_MS, end_context
from streamer.labels.runtime import RUN, new_address

MAX_REQUEST_BYTES = 16 * 1024  # who sends more is disconnected
REQUESTS_PER_POLL = 8  # the rest waits until the engine has made another step
QUEUE = 100  # requests and replies that wait, for each client
MOST_OPEN = 64  # requests of all clients that wait for their answer; the rest stays in the queues
MOST_PARTS = 16  # of a message: the envelope's and the request
MOST_OPENERS = 4
_LOOK_MS = 10  # how often it looks for what has been done
_PARTS_AT_ONCE, _YIELD_S = 10_000, 0.001  # while a message is thrown away, the engine's thread has its turns


_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Asked:
    """A request on its way, and what will be answered. config: of the source of `add`. made: that source, or the engine
    of `model`, once a thread has made it.
    """

    request: Request
    done: Future[Any]
    config: SourceConfig | None = None
    made: Any = None


class Control:
    """Binds `address` and answers requests. Raises ConfigError when it cannot be bound.

    A thread of its own reads, checks and answers; `poll` does in the caller's thread what was asked.

    address  where it is bound; for `auto` a socket of this run in the user's runtime folder; None: only `ask` asks
    curve    who may ask. A tcp address needs it: its port is open to every program, web page and camera that reaches it
    """

    def __init__(self, address: str | None, curve: CurveConfig | None = None, suffix: str = RUN) -> None:
        self._asked: deque[_Asked] = deque()
        self._openers: list[threading.Thread] = []
        self.address = ""
        self._suffix = suffix
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
            address = new_address(self._suffix)
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
                if asked.made is None and takes_time(asked.request):
                    self._begin_to_make(asked, on)
                else:
                    _settle(asked.done, act(asked.request, on, asked.config, asked.made))
            except Exception as error:  # no request ends the run; `answer` tells it
                asked.done.set_exception(error)

    def close(self) -> None:
        """Give replies that are on their way 200 ms, and free the address."""
        if not self.address:
            return
        for _, done in tuple(self._open):
            with suppress(InvalidStateError):  # it is done
                done.set_exception(ConfigError("the run has ended; this was not done any more"))
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

    def _begin_to_make(self, asked: _Asked, on: Controlled) -> None:
        """Open a source, load a model or read a state in a thread, as that may hang or take long; then ask again."""
        self._openers = [thread for thread in self._openers if thread.is_alive()]
        if len(self._openers) >= MOST_OPENERS:
            raise ConfigError(f"{MOST_OPENERS} sources are being opened already; try again when they are")

        def run() -> None:
            try:
                if isinstance(asked.request, Model):
                    asked.made = on.load(asked.request.model)
                elif isinstance(asked.request, State):
                    asked.made = on.moves.read(Path(asked.request.file))
                elif asked.config:
                    asked.made = on.open(asked.config)
            except Exception as error:
                with suppress(InvalidStateError):  # the run has ended meanwhile
                    asked.done.set_exception(error)
            else:
                self._asked.append(asked)

        name = {Model: "load model", State: "read state"}.get(type(asked.request), "open source")
        self._openers.append(threading.Thread(target=run, name=name, daemon=True))
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


def _settle(done: Future[Any], result: Any) -> None:
    """Give a request its result, now or when another thread has it."""
    if not isinstance(result, Future):
        done.set_result(result)
        return

    def settle(told: Future[Any]) -> None:
        with suppress(InvalidStateError):  # the run has ended meanwhile
            if error := told.exception():
                done.set_exception(error)
            else:
                done.set_result(told.result())

    result.add_done_callback(settle)
