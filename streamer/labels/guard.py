"""Who is connected to a socket of ours, watched by a thread of its own: no peer takes up more than its share.

libzmq bounds a frame and the number of whole messages that wait. It bounds neither a message whose parts never end, nor
what a peer sends in all, nor how many peers there are. So this thread looks how much the system has received over each
TCP connection as it comes, and ends those that sent too much of which nothing came. Unix sockets have no such count:
there, who may connect is decided by the file's mode.

libzmq 4.3.5 aborts the process when a peer hangs up while its messages wait for room in the queue, and a heartbeat is
due then. So these sockets send none, and leave it to TCP to find out that a machine is gone.
"""

from __future__ import annotations

import ctypes
import logging
import os
import select
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import parse_monitor_message

from streamer.config import CurveConfig
from streamer.errors import ConfigError
from streamer.labels import addresses
from streamer.labels.curve import Gate
from streamer.system import LINUX

HANDSHAKE_MS = 5000  # then a connection that is not let in is closed; its client may try again
MOST_PEERS = 500  # or a quarter of the descriptors that this process may have
MOST_WAITING = 64 * 1024  # bytes from one peer that have made no whole message
MOST_WAITING_IN_ALL = 1024 * 1024
WARN_S = 60.0  # least time between two warnings about peers
_HEARTBEAT_BYTES_S = 16, 64  # what a peer says anyhow, in plain text and encrypted
_GREETING_BYTES = 64  # of ZMTP 3; who has sent less is silent
_RECEIVE_BUFFER = 1024  # of the system, for each connection: what peers say is little, and this keeps floods slow
_KEEPALIVE = (
    (zmq.TCP_KEEPALIVE, 1),
    (zmq.TCP_KEEPALIVE_IDLE, 5),
    (zmq.TCP_KEEPALIVE_INTVL, 2),
    (zmq.TCP_KEEPALIVE_CNT, 3),
    (zmq.TCP_MAXRT, 12_000),
)
_LOOK_MS = 1000  # the longest time between two looks at a connection
_REST_S = 0.002  # between looks at what has come
_LONGEST_PENALTY_S = 2.0
_TIDY_S = 1.0  # after the last one was, memory is given back
_TCP_BYTES_RECEIVED = 128  # where Linux has this number in struct tcp_info
_EVENTS = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Peer:
    """A connection. subscriptions: those that it holds; waiting: bytes that no whole message has come of."""

    received: int = 0
    waiting: float = 0.0
    heard: bool = False
    subscriptions: int = 0


class Guard:
    """Sets the limits of a socket that is not yet bound, and keeps them from `start` until its context ends.

    peers  the connections, by descriptor
    curve  encrypts, and lets in who has a key; key: the configuration's name of it, for messages. Raises ConfigError
    penalty_s  so long nobody is let in after the connection of a peer that took too much was ended
    """

    def __init__(
        self, sock: zmq.Socket[bytes], most_bytes: int, curve: CurveConfig | None, key: str, penalty_s: float = 0.0
    ) -> None:
        self._penalty_s = penalty_s
        sock.zap_domain = addresses.DOMAIN
        sock.setsockopt(zmq.MAXMSGSIZE, most_bytes)
        sock.setsockopt(zmq.RCVBUF, _RECEIVE_BUFFER)
        sock.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        for option, value in _KEEPALIVE:
            sock.setsockopt(option, value)
        self.peers: dict[int, Peer] = {}
        self.gate = Gate(sock, curve, key, self.warn) if curve else None
        self._heartbeat_bytes_s = _HEARTBEAT_BYTES_S[curve is not None]
        self._most = _most_peers() if LINUX else 0
        self._warn_at, self._unsaid = time.monotonic(), 0
        if LINUX:
            self._events = _events_of(sock)
            self._arrivals = select.epoll()
        self._looked_at = self._closed_until = time.monotonic()
        self._is_untidy = False
        self._family = socket.AF_INET
        self._place: str | int = 0  # the path or the port

    def start(self, address: str) -> None:
        """Begin, now that the socket is bound to this address. ConfigError where those who reach it go unwatched."""
        if not LINUX:
            self._refuse_others(address)
            return
        if address.startswith("ipc://"):
            self._family, self._place = socket.AF_UNIX, address.removeprefix("ipc://")
        else:
            self._family = socket.AF_INET6 if "[" in address else socket.AF_INET
            self._place = int(address.rpartition(":")[2])
        threading.Thread(target=self._watch, name="guard", daemon=True).start()

    def _refuse_others(self, address: str) -> None:
        """Without what Linux tells of a connection, only this machine's programs may come."""
        host = address.removeprefix("tcp://").rpartition(":")[0]
        if address.startswith("tcp:") and (host == "*" or addresses.is_public(host)):
            advice = "use 127.0.0.1, and an SSH tunnel for others"
            raise ConfigError(f"{address}: peers of other machines are kept in their limits on Linux only; {advice}")

    def peer(self, frame: zmq.Frame) -> tuple[int, Peer]:
        """The connection that a frame came over, with its descriptor: -1 when it is gone."""
        try:
            descriptor = int(frame.get(zmq.SRCFD))
        except zmq.ZMQError:
            return -1, Peer()
        return descriptor, self.peers.setdefault(descriptor, Peer())

    def cut(self, descriptor: int, why: str) -> None:
        """End the connection of a peer that takes too much, and log why. Any thread may call it."""
        now = time.monotonic()
        self._closed_until = min(max(now, self._closed_until) + self._penalty_s, now + _LONGEST_PENALTY_S)
        self._is_untidy = True
        self._end(descriptor, why)

    def _end(self, descriptor: int, why: str) -> None:
        with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
            if self._is_ours(connection):  # or else it is gone, and the number is somebody else's
                connection.shutdown(socket.SHUT_RDWR)
                self.warn(f"ended a connection: {why}")
        self.peers.pop(descriptor, None)

    def warn(self, text: str) -> None:
        """Log at most one line a minute; it tells how many others there were."""
        now = time.monotonic()
        if now < self._warn_at:
            self._unsaid += 1
            return
        others = f" (and {self._unsaid} more like this)" if self._unsaid else ""
        self._warn_at, self._unsaid = now + WARN_S, 0
        _log.warning("%s%s", text, others)

    def _watch(self) -> None:
        """The thread: until the context ends."""
        poller = zmq.Poller()
        poller.register(self._events, zmq.POLLIN)
        poller.register(self._arrivals.fileno(), zmq.POLLIN)
        if self.gate:
            poller.register(self.gate.questions, zmq.POLLIN)
        with self._events, self._arrivals:
            try:
                while True:
                    poller.poll(_LOOK_MS)
                    if self.gate:
                        self.gate.answer()
                    self._hear()
                    self._look()
                    self._tidy()
                    time.sleep(_REST_S)
            except zmq.ContextTerminated:
                if self.gate:
                    self.gate.questions.close(linger=0)

    def _hear(self) -> None:
        """Who has come, who has gone, and who could not come in."""
        with suppress(zmq.Again):
            while True:
                event = parse_monitor_message(self._events.recv_multipart(zmq.DONTWAIT))
                if event["event"] == zmq.EVENT_ACCEPTED:
                    self._welcome(int(event["value"]))
                elif event["event"] == zmq.EVENT_DISCONNECTED:
                    self.peers.pop(int(event["value"]), None)
                elif self.gate:
                    self.gate.failed(event)

    def _welcome(self, descriptor: int) -> None:
        """One more connection. When there are too many the oldest that has said nothing goes, or else the newest."""
        if time.monotonic() < self._closed_until:
            self._end(descriptor, "it came right after one that had to be ended")
            return
        self.peers.setdefault(descriptor, Peer())
        with suppress(OSError):  # it has gone already
            self._arrivals.register(descriptor, select.EPOLLIN | select.EPOLLET)
        peers = tuple(self.peers.items())
        if len(peers) > self._most:
            silent = (number for number, peer in peers[:-1] if self._is_silent(number, peer))
            self._end(next(silent, peers[-1][0]), f"there are more than {self._most}")

    def _is_silent(self, descriptor: int, peer: Peer) -> bool:
        """Whether a peer has not even greeted, as far as that can be known."""
        if self._family == socket.AF_UNIX or peer.received >= _GREETING_BYTES:
            return False
        return (self._received(descriptor) or 0) < _GREETING_BYTES

    def _look(self) -> None:
        """Measure what has come, and end the connections of which too much waits; from time to time look at all."""
        now = time.monotonic()
        usual = 0.0
        numbers = [number for number, _ in self._arrivals.poll(0)]
        if now - self._looked_at >= _LOOK_MS / 1e3:
            usual, self._looked_at = self._heartbeat_bytes_s * (now - self._looked_at), now
            numbers = list(self.peers)
        for number in numbers:
            received = self._received(number)
            peer = self.peers.get(number)
            if received is None:
                self.peers.pop(number, None)
            elif peer:
                came = received - peer.received
                peer.waiting = came if peer.heard else max(0.0, peer.waiting + came - usual)
                peer.received, peer.heard = received, False
        waiting = sum(peer.waiting for peer in self.peers.values())
        for number, peer in sorted(self.peers.items(), key=lambda one: -one[1].waiting):
            if peer.waiting <= MOST_WAITING and waiting <= MOST_WAITING_IN_ALL:
                break
            waiting -= peer.waiting
            self.cut(number, f"{peer.waiting:.0f} bytes of it have made no message")

    def _tidy(self) -> None:
        """Give the system back what a peer made libzmq take; the C library would keep it."""
        if self._is_untidy and time.monotonic() > self._closed_until + _TIDY_S:
            self._is_untidy = False
            with suppress(AttributeError):  # not every C library has it
                ctypes.CDLL(None).malloc_trim(0)

    def _received(self, descriptor: int) -> int | None:
        """How many bytes have come over a connection, 0 over a Unix socket; None if it is gone."""
        try:
            connection = socket.socket(self._family, socket.SOCK_STREAM, 0, fileno=descriptor)
        except OSError:
            return None
        try:
            if not self._is_ours(connection):
                return None
            if self._family == socket.AF_UNIX:
                return 0
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_BYTES_RECEIVED + 8)
            return int(struct.unpack_from("Q", info, _TCP_BYTES_RECEIVED)[0])
        except (OSError, struct.error):
            return None
        finally:
            connection.detach()

    def _is_ours(self, connection: socket.socket) -> bool:
        here = connection.getsockname()
        return bool((here if isinstance(here, str) else here[1]) == self._place)


def _most_peers() -> int:
    import resource  # not on Windows

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_PEERS if files == resource.RLIM_INFINITY else min(MOST_PEERS, files // 4)


def _events_of(sock: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    """A socket that tells who comes and goes.

    ZeroMQ's I/O thread waits for space in this queue. Without a limit it always has some, and `_hear` empties it.
    """
    address = f"inproc://events-{id(sock)}"
    sock.monitor(address, _EVENTS)
    events: zmq.Socket[bytes] = sock.context.socket(zmq.PAIR)
    events.setsockopt(zmq.RCVHWM, 0)
    events.connect(address)
    return events
