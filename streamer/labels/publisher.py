"""The label stream's sending end: an XPUB socket that never blocks and never grows.

A subscriber that is too slow loses messages, and sees in `seq` that it did. A new subscription is answered with the
last `state` and `status` of each stream that it matches, byte for byte as they were first sent. ZeroMQ sends them to
all who read those topics, so a reader takes a `seq` that it has already had for a repeat.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

import zmq

from streamer.config import Access, CurveConfig
from streamer.labels import addresses
from streamer.labels.curve import Gate
from streamer.labels.messages import Kind, Message, MessageBuilder, Mode, Stamp, StatusMessage, encode, topic

SEND_QUEUE = 1000  # messages that wait for one slow subscriber before it loses some
LINGER_MS = 200  # how long closing waits for messages that are still on their way
RETAINED: tuple[Kind, ...] = ("state", "status")  # kinds whose last message a new subscription is answered with
_SUBSCRIBE, _UNSUBSCRIBE = 1, 0  # first byte of a subscription and of its end; the topic's prefix follows
_SUBSCRIPTION_BYTES = 1024  # longer ones are no prefix of a topic of ours; their sender is disconnected
_SUBSCRIPTIONS_PER_POLL = 1000  # the rest waits for the next poll
_COUNTS = ("captured", "dropped", "inferred", "reconnects", "step_ms_p50", "step_ms_p99")  # kept in the last status


def wall_us() -> int:
    """The time of day, microseconds UTC."""
    return time.time_ns() // 1000


class Publisher:
    """Binds `address` and sends messages; used from one thread.

        publisher.send(publisher.build.state("cam1", stamp, decider.state))
        publisher.poll()  # often: it answers new subscriptions

    address        where it is bound, with the port that was found when `*` or 0 was asked for
    build          completes and numbers the messages; each one that it builds must be sent
    subscriptions  how many there are; most programs have one, those that ask for some streams one for each

    curve: encrypts, and lets only clients in whose keys are known. access: who may connect to an ipc address.
    The other arguments are those of MessageBuilder.
    Raises ConfigError when the address cannot be bound or a key cannot be used.
    """

    def __init__(
        self,
        address: str,
        model: str,
        mode: Mode,
        session: str | None = None,
        now_us: Callable[[], int] = wall_us,
        curve: CurveConfig | None = None,
        access: Access = "user",
    ) -> None:
        self.build = MessageBuilder(model, mode, session, now_us)
        self.subscriptions = 0
        self._last: dict[str, Message] = {}  # the last message of each stream
        self._retained: dict[bytes, bytes] = {}  # topic -> payload, for late joiners
        self._last_status: dict[str, StatusMessage] = {}
        self._context = zmq.Context()
        self._socket = _socket(self._context)
        try:
            self._gate = Gate(self._socket, curve, "publish.curve") if curve else None
            self.address = addresses.bind(self._socket, address, "publish.address", access)
        except BaseException:
            self._context.destroy(linger=0)
            raise

    def send(self, message: Message) -> None:
        """Send a message that `build` has built. Returns at once, whatever the subscribers do."""
        name, payload = topic(message.stream, message.kind).encode(), encode(message)
        self._last[message.stream] = message
        if isinstance(message, StatusMessage):
            self._last_status[message.stream] = message
        if message.kind in RETAINED:
            self._retained[name] = payload
        self._socket.send_multipart((name, payload), zmq.DONTWAIT)

    def poll(self) -> None:
        """Let clients in and answer the subscriptions that have arrived. Returns at once."""
        if self._gate:
            self._gate.poll()
        prefixes = set()
        for _ in range(_SUBSCRIPTIONS_PER_POLL):
            try:
                request = self._socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                break
            if request and request[0] == _SUBSCRIBE:
                prefixes.add(request[1:])
                self.subscriptions += 1
            elif request and request[0] == _UNSUBSCRIBE:
                self.subscriptions = max(0, self.subscriptions - 1)  # a broken client may end what it never began
        if prefixes:
            for name, payload in self._retained.items():
                if name.startswith(tuple(prefixes)):
                    self._socket.send_multipart((name, payload), zmq.DONTWAIT)

    def forget(self, stream: str) -> None:
        """Answer new subscriptions to a stream with nothing: it was removed. Its `seq` would go on if it came back."""
        self._last.pop(stream, None)
        self._last_status.pop(stream, None)
        for kind in RETAINED:
            self._retained.pop(topic(stream, kind).encode(), None)

    def close(self) -> None:
        """Tell that every stream has stopped, give what is on its way 200 ms, and free the address."""
        for last in list(self._last.values()):
            status = self._last_status.get(last.stream)
            if status is None or status.source != "stopped":
                self.send(self._stopped(last))
        if self._gate:
            self._gate.close()
        self._socket.close(linger=LINGER_MS)
        end_context(self._context)

    def _stopped(self, last: Message) -> StatusMessage:
        stamp = Stamp(last.epoch, last.ready, last.ts.frame_us, last.ts.infer_us)
        status = self._last_status.get(last.stream)
        counts = {name: getattr(status, name) for name in _COUNTS} if status else {}
        return self.build.status(last.stream, stamp, "stopped", **counts)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def end_context(context: zmq.Context[zmq.Socket[bytes]], patience_s: float = LINGER_MS / 1000 + 1) -> None:
    """End a context whose sockets have been closed, with LINGER_MS or less.

    When a client leaves at this very moment, ZeroMQ 4.3.5 now and then never ends it. The addresses are free even then,
    and nothing needs the context any more.
    """
    ending = threading.Thread(target=context.term, daemon=True)
    ending.start()
    ending.join(patience_s)


def _socket(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """An XPUB socket, not yet bound."""
    socket = context.socket(zmq.XPUB)
    socket.zap_domain = addresses.DOMAIN
    socket.setsockopt(zmq.XPUB_VERBOSER, 1)  # tells every subscription and its end, not only the first of its prefix
    socket.setsockopt(zmq.SNDHWM, SEND_QUEUE)
    socket.setsockopt(zmq.MAXMSGSIZE, _SUBSCRIPTION_BYTES)
    socket.setsockopt(zmq.HEARTBEAT_IVL, 2000)  # notices, and forgets, a subscriber whose machine is gone
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 10000)
    return socket
