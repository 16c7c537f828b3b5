"""The label stream's receiving end: typed messages from a publisher, for `for` and `async for`.

    with Subscriber("tcp://127.0.0.1:5557", kinds=["event"]) as subscriber:
        for message in subscriber:
            print(message.stream, message.type, message.label)

A thread of its own receives, so that a slow loop body loses messages here, counted, and not in ZeroMQ's queues.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Collection
from functools import partial
from types import TracebackType
from typing import Literal

import zmq

from streamer.errors import ConfigError, StreamerError
from streamer.labels import addresses
from streamer.labels.curve import Curve
from streamer.labels.messages import KINDS, ROOT, Kind, Message, decode, split_topic, stream_prefix, topic

_log = logging.getLogger(__name__)

_MOST_COUNTED = 10_000  # streams and kinds whose `seq` is followed; a hostile publisher could name more without end
_MAX_MESSAGE_BYTES = 1 << 20  # ours are below a few kilobytes; a sender of longer ones is disconnected


class Subscriber:
    """Connects to a publisher, now or whenever it appears, and iterates over its messages.

    streams     only these; default: all
    kinds       only these of event, state, score, status, gap; default: all
    mode        "all": every message in order; "latest": of each stream and kind only the newest that was not read yet
    max_age_ms  skip event, state and score messages whose frame is older than this when they are read. It compares this
                machine's clock with the camera's machine's. `status` and `gap` stay: they tell why nothing is fresh
    timeout_s   longest wait for a message; then the iteration raises TimeoutError, and may go on. May be changed later
    queue       how many unread messages are kept; then the oldest is dropped
    curve       keys, for a publisher that encrypts; with wrong ones nothing arrives

    While nobody publishes, or keys do not fit, it waits in silence: `why_silent` tells the reason.

    A publisher that restarts is no error: its new session starts a new count. Messages that are sent again for another
    subscriber are not repeated here. These counters only grow, over the life of the subscriber:

    missed   messages of the chosen streams and kinds that never arrived, known from the holes in `seq`
    dropped  messages that arrived and were not read in time: the queue was full, or in "latest" a newer one came
    stale    messages skipped because of max_age_ms
    invalid  messages that were not labels; the first one is logged

    Raises ConfigError for an address, a stream, a kind or a key file that cannot be right.
    """

    def __init__(
        self,
        address: str,
        streams: Collection[str] | None = None,
        kinds: Collection[Kind] | None = None,
        mode: Literal["all", "latest"] = "all",
        max_age_ms: float | None = None,
        timeout_s: float | None = None,
        queue: int = 1000,
        curve: Curve | None = None,
    ) -> None:
        self.missed = self.dropped = self.stale = self.invalid = 0
        if mode not in ("all", "latest"):
            raise ConfigError(f"mode {mode!r} is neither 'all' nor 'latest'")
        self._address, self._encrypted = address, curve is not None
        self._filtered = streams is not None or kinds is not None
        self._kinds = KINDS if kinds is None else kinds
        self.timeout_s = timeout_s
        self._latest, self._max_age_ms, self._queue = mode == "latest", max_age_ms, queue
        self._seen: dict[tuple[str, Kind], tuple[str, int]] = {}  # -> session, seq of the last message
        self._unread: OrderedDict[object, tuple[Message, float]] = OrderedDict()  # and when it arrived (monotonic)
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._wakers: set[partial[asyncio.Handle]] = set()  # of the async iterations that wait
        self._closed = False
        self._error: BaseException | None = None
        prefixes = _prefixes(streams, kinds)
        self._context = zmq.Context()
        socket = self._context.socket(zmq.SUB)
        try:
            _prepare(socket, prefixes)
            if curve:
                curve.prepare(socket)
            addresses.connect(socket, address)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self._thread = threading.Thread(target=self._receive, args=(socket,), name="subscriber", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End every iteration, also those that wait in other threads. Unread messages are discarded."""
        self._end(None)
        self._context.term()  # makes the thread leave its recv and close the socket
        self._thread.join()

    def why_silent(self) -> str:
        """Why no message comes, as far as that can be known: nobody listens, it encrypts, the keys do not fit, ...

        It asks at the publisher's address, which takes a few seconds at most.
        """
        if why := addresses.unreachable(self._address):
            return f"{why}; is a run going on, and does it publish here?"
        spoken = addresses.mechanism(self._address)
        if not spoken:
            return "what listens there is no publisher of labels; is the port right?"
        if spoken == "CURVE" and not self._encrypted:
            return "it encrypts, and no keys are given; name its public key and your secret key"
        if spoken != "CURVE" and self._encrypted:
            return "it does not encrypt, but keys are given; leave them out"
        why = "it is there, but sends nothing"
        if self._encrypted:
            why += "; is the public key the run's own, and is yours in its authorized_keys_dir?"
        return f"{why}; are the streams and kinds right?" if self._filtered else why

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Subscriber:
        return self

    def __next__(self) -> Message:
        deadline = None if self.timeout_s is None else time.monotonic() + self.timeout_s
        with self._changed:
            while not self._closed:
                message = self._take()
                if message is not None:
                    return message
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"no message for {self.timeout_s} s")
                self._changed.wait(left)
            self._raise_error()
            raise StopIteration

    def __aiter__(self) -> Subscriber:
        return self

    async def __anext__(self) -> Message:
        try:
            message = await asyncio.wait_for(self._take_async(), self.timeout_s)
        except asyncio.TimeoutError as error:
            raise TimeoutError(f"no message for {self.timeout_s} s") from error
        if message is None:
            self._raise_error()
            raise StopAsyncIteration
        return message

    async def _take_async(self) -> Message | None:
        """The next message, or None after the end."""
        while True:
            arrived = asyncio.Event()
            waker = partial(asyncio.get_running_loop().call_soon_threadsafe, arrived.set)
            with self._changed:
                message = self._take()
                if message is not None or self._closed:
                    return message
                self._wakers.add(waker)
            try:
                await arrived.wait()
            finally:
                with self._changed:
                    self._wakers.discard(waker)

    def _take(self) -> Message | None:
        """The oldest unread message that is not stale. The caller holds the lock."""
        while self._unread:
            _, (message, arrived_s) = self._unread.popitem(last=False)
            if not self._is_stale(message, arrived_s):
                return message
            self.stale += 1
        return None

    def _is_stale(self, message: Message, arrived_s: float) -> bool:
        frame_us = message.ts.frame_us
        if self._max_age_ms is None or frame_us is None or message.kind in ("status", "gap"):
            return False
        waited_ms = (time.monotonic() - arrived_s) * 1e3  # which counts even while this machine's clock is set back
        return max(time.time() * 1e3 - frame_us / 1e3, (message.age_ms or 0) + waited_ms) > self._max_age_ms

    def _receive(self, socket: zmq.Socket[bytes]) -> None:
        """The thread: until the context ends."""
        try:
            with socket:
                while True:
                    self._accept(socket.recv_multipart())
        except zmq.ContextTerminated:
            pass
        except BaseException as error:  # the iteration raises it
            self._end(error)

    def _accept(self, frames: list[bytes]) -> None:
        try:
            name, payload = frames
            _, kind = split_topic(name)
            if kind not in self._kinds:  # not asked for, or of a later version
                return
            message = decode(name, payload)
        except (StreamerError, ValueError) as error:
            if not self.invalid:
                _log.warning("skipping what is not a label: %s", error)
            self.invalid += 1
            return
        if self._is_news(message):
            self._put(message)

    def _is_news(self, message: Message) -> bool:
        """Follow `seq`: count the holes, and tell repeats."""
        key = message.stream, message.kind
        session, seq = self._seen.get(key, (message.session, message.seq - 1))
        if session == message.session:
            if message.seq <= seq:
                return False
            self.missed += message.seq - seq - 1
        self._seen[key] = message.session, message.seq
        if len(self._seen) > _MOST_COUNTED:
            del self._seen[next(iter(self._seen))]
        return True

    def _put(self, message: Message) -> None:
        key = (message.stream, message.kind) if self._latest else next(self._numbers)
        with self._changed:
            self.dropped += key in self._unread
            self._unread[key] = message, time.monotonic()
            if len(self._unread) > self._queue:
                self._unread.popitem(last=False)
                self.dropped += 1
            self._wake()

    def _end(self, error: BaseException | None) -> None:
        with self._changed:
            self._closed, self._error = True, self._error or error
            self._unread.clear()
            self._wake()

    def _wake(self) -> None:
        self._changed.notify_all()
        for waker in self._wakers:
            waker()
        self._wakers.clear()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise StreamerError(f"receiving failed: {self._error}") from self._error


def _prefixes(streams: Collection[str] | None, kinds: Collection[Kind] | None) -> list[str]:
    """What to subscribe to. ZeroMQ filters by prefix, so the kinds of all streams are chosen on arrival instead."""
    for argument in (streams, kinds):
        if isinstance(argument, str):
            raise ConfigError(f"{argument!r} is one name; write [{argument!r}]")
    for kind in kinds or ():
        if kind not in KINDS:
            raise ConfigError(f"there are no messages of kind {kind!r}; choose from {', '.join(KINDS)}")
    if streams is None:
        return [ROOT]
    if kinds is None:
        return [stream_prefix(stream) for stream in streams]
    return [topic(stream, kind) for stream in streams for kind in kinds]


def _prepare(socket: zmq.Socket[bytes], prefixes: list[str]) -> None:
    """Set the options of a socket that is not yet connected."""
    socket.setsockopt(zmq.LINGER, 0)
    socket.zap_domain = addresses.DOMAIN
    socket.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE_BYTES)
    socket.setsockopt(zmq.HEARTBEAT_IVL, 2000)  # notices a publisher whose machine is gone, and connects again
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 10000)
    for prefix in prefixes:
        socket.setsockopt_string(zmq.SUBSCRIBE, prefix)
