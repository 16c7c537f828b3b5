"""The socket that labels go out by: an XPUB socket that never blocks and never grows.

A subscriber that is too slow loses messages, and sees in `seq` that it did. A new subscription is answered with what is
kept of each topic that it matches, byte for byte as it was first sent. ZeroMQ sends that to all who read those topics,
so a reader takes a `seq` that it has already had for a repeat.

Whoever subscribes to what is no topic of labels, or to far too much, is disconnected; guard.py keeps the other limits.
"""

from __future__ import annotations

import re
import threading

import zmq

from streamer.config import Access, CurveConfig
from streamer.labels import addresses
from streamer.labels.guard import Guard
from streamer.labels.messages import KINDS, ROOT, topic

SEND_QUEUE = 1000  # of one run
LINGER_MS = 200  # how long closing waits for messages that are still on their way
_ROOT = ROOT.encode()
_SUBSCRIBE, _UNSUBSCRIBE = b"\1", b"\0"  # first byte of a subscription and of its end; the topic's prefix follows
_PREFIX = re.compile(rb"act/1/([a-z0-9_-]{1,64}(/[a-z]{0,8}/?)?)?")  # of a topic of ours, if it is not a piece of ROOT
_MESSAGE_BYTES = 512  # a subscription has 90 at most, CURVE's handshake more; who sends longer ones is disconnected
_READABLE, _NO_WAIT, _MORE_COMES = int(zmq.POLLIN), int(zmq.DONTWAIT), int(zmq.DONTWAIT | zmq.SNDMORE)
_SUBSCRIPTIONS_PER_POLL = 500  # the rest waits for the next poll
_PENALTY_S = 0.25  # nobody may come so soon after somebody had to go; readers try again by themselves
MOST_OF_A_PEER = 1500  # subscriptions: 256 streams with five kinds each are fewer
MOST_SUBSCRIPTIONS = 10_000  # of all; then who has the most is disconnected


class Outlet:
    """Binds `address` and sends payloads; used from one thread.

    address  where it is bound, with the port that was found when `*` or 0 was asked for

    curve: encrypts, and lets only clients in whose keys are known. access: who may connect to an ipc address.
    key, curve_key: the names of both, for messages. queue: messages that wait for one slow subscriber before it loses
    some. Raises ConfigError when the address cannot be bound or a key cannot be used.
    """

    def __init__(
        self,
        address: str,
        curve: CurveConfig | None = None,
        access: Access = "user",
        key: str = "publish.address",
        curve_key: str = "publish.curve",
        queue: int = SEND_QUEUE,
    ) -> None:
        self._more = False  # the frame received last was not the last one of its message
        self._retained: dict[bytes, bytes] = {}  # topic -> payload, for late joiners
        self._context = zmq.Context()
        self._socket = _socket(self._context, queue)
        try:
            self._guard = Guard(self._socket, _MESSAGE_BYTES, curve, curve_key, _PENALTY_S)
            self.address = addresses.bind(self._socket, address, key, access)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self._guard.start(self.address)

    def put(self, name: bytes, payload: bytes, *, keep: bool) -> None:
        """Send a payload under its topic; keep: for late joiners. Returns at once, whatever the subscribers do."""
        if keep:
            self._retained[name] = payload
        self._send(name, payload)

    @property
    def subscriptions(self) -> int:
        """How many there are; most programs have one, those that ask for some streams one for each. From any thread."""
        return sum(peer.subscriptions for peer in tuple(self._guard.peers.values()))

    def poll(self) -> None:
        """Answer the subscriptions that have arrived. Returns at once."""
        prefixes = set()
        for _ in range(_SUBSCRIPTIONS_PER_POLL):
            if not int(self._socket.getsockopt(zmq.EVENTS)) & _READABLE:  # quicker than to try, and fail
                break
            frame = self._socket.recv(zmq.DONTWAIT, copy=False)
            request, is_rest, self._more = frame.bytes, self._more, frame.more
            if is_rest or self._more:  # a subscription is one frame
                continue
            if request[:1] == _SUBSCRIBE and self._may_subscribe(frame, request[1:]):
                prefixes.add(request[1:])
            elif request[:1] == _UNSUBSCRIBE:
                _, peer = self._guard.peer(frame)  # a broken client may end what it never began
                peer.heard, peer.subscriptions = True, max(0, peer.subscriptions - 1)
        if prefixes:
            if self.subscriptions > MOST_SUBSCRIPTIONS:
                number, peer = max(tuple(self._guard.peers.items()), key=lambda one: one[1].subscriptions)
                self._guard.cut(number, f"of {self.subscriptions} subscriptions it has {peer.subscriptions}")
            for name, payload in self._retained.items():
                if name.startswith(tuple(prefixes)):
                    self._send(name, payload)

    def _send(self, name: bytes, payload: bytes) -> None:
        self._socket.send(name, _MORE_COMES)
        self._socket.send(payload, _NO_WAIT)

    def _may_subscribe(self, frame: zmq.Frame, prefix: bytes) -> bool:
        """Count a subscription; False, and its peer is disconnected, if it cannot be meant."""
        number, peer = self._guard.peer(frame)
        peer.heard, peer.subscriptions = True, peer.subscriptions + 1
        if not (_ROOT.startswith(prefix) or _PREFIX.fullmatch(prefix)):
            self._guard.cut(number, f"it subscribed to {prefix[:80]!r}; topics of labels begin with {ROOT}")
            return False
        if peer.subscriptions > MOST_OF_A_PEER:
            self._guard.cut(number, f"it has more than {MOST_OF_A_PEER} subscriptions")
        return True

    def forget(self, stream: str) -> None:
        """Answer new subscriptions to a stream with nothing: it was removed."""
        for kind in KINDS:
            self._retained.pop(topic(stream, kind).encode(), None)

    def close(self) -> None:
        """Give what is on its way 200 ms, and free the address."""
        self._socket.close(linger=LINGER_MS)
        end_context(self._context)


def end_context(context: zmq.Context[zmq.Socket[bytes]], patience_s: float = LINGER_MS / 1000 + 1) -> None:
    """End a context whose sockets have been closed, with LINGER_MS or less.

    When a client leaves at this very moment, ZeroMQ 4.3.5 now and then never ends it. The addresses are free even then,
    and nothing needs the context any more.
    """
    ending = threading.Thread(target=context.term, daemon=True)
    ending.start()
    ending.join(patience_s)


def _socket(context: zmq.Context[zmq.Socket[bytes]], queue: int) -> zmq.Socket[bytes]:
    """An XPUB socket, not yet bound."""
    socket = context.socket(zmq.XPUB)
    socket.setsockopt(zmq.XPUB_VERBOSER, 1)  # tells every subscription and its end, not only the first of its prefix
    socket.setsockopt(zmq.SNDHWM, queue)
    socket.setsockopt(zmq.RCVHWM, 0)  # a peer that hangs up while it waits for room can abort the process; see guard.py
    return socket
