"""The one address of a fleet: hears all nodes, publishes what relay.py lets through. A thread of its own."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import zmq
from zmq.utils import z85

from streamer.config import CurveConfig
from streamer.errors import ConfigError, StreamerError
from streamer.fleet.facts import Assignment, NodeFacts
from streamer.fleet.journal import Journal
from streamer.fleet.relay import Out, Relay
from streamer.labels import addresses
from streamer.labels.curve import read_secret
from streamer.labels.messages import ROOT, split_topic
from streamer.labels.outlet import Outlet
from streamer.labels.publisher import RETAINED, wall_us

REPEAT_S = 5.0  # how often it is told how the streams are that nobody speaks for
SETTLE_S = 10.0  # so long the events of a hub before this one may wait for their stream to be given to somebody
READERS_S = 1.0  # readers try again every 0.1 s
_LOOK_S = 0.02
IN_QUEUE = 10_000  # messages of one node that wait
OUT_QUEUE = 10_000  # and for one reader, about 6 MB: what came while the hub stood still goes out at once
_AT_ONCE = 500  # messages; then subscriptions and calls have their turn
_LONGEST_WAIT_MS = 200
_MAX_MESSAGE_BYTES = 1 << 20  # ours are below a few kilobytes
_CLOSE_S = 5.0

_log = logging.getLogger(__name__)


class Hub:
    """Binds `address`. Any thread may call its methods; all but `close` return at once.

    address  where it publishes, with the port that was found for `*` or 0
    curve    encrypts, and lets only readers in whose keys are known. An address that other machines can reach needs it
    journal  the file in which it keeps which events are open, for the hub after it; None: none
    key      the file of the secret key that it shows to nodes that encrypt

    Raises ConfigError when the address cannot be bound, or a file cannot be used.
    """

    def __init__(
        self, address: str, curve: CurveConfig | None = None, journal: Path | None = None, key: Path | None = None
    ) -> None:
        _must_encrypt(address, curve is not None, "the fleet's address")
        self._key = read_secret(key) if key else None
        self._journal = Journal(journal) if journal else None
        left, opened = (self._journal.left, self._journal.note) if self._journal else ({}, lambda _: None)
        self._relay = Relay(str(uuid.uuid4()), wall_us, left, opened)
        self._outlet = Outlet(address, curve, key="fleet.labels", curve_key="fleet.curve", queue=OUT_QUEUE)
        self.address = self._outlet.address
        self._context = zmq.Context()
        self._plain, self._encrypted = (_sub_socket(self._context) for _ in range(2))
        self._places: dict[str, NodeFacts] = {}
        self._heard: dict[str, float] = {}
        self._invalid = 0
        self._calls: deque[Callable[[], object]] = deque()
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="hub", daemon=True)
        self._thread.start()

    def node_up(self, facts: NodeFacts) -> None:
        """Hear a node from now on. Raises ConfigError for an address that must encrypt and does not."""
        _must_encrypt(facts.labels, facts.server_key is not None, f"node {facts.name}")
        if facts.server_key is not None and self._key is None:
            raise ConfigError(f"node {facts.name} encrypts its labels; give the hub a key to show to it")
        self._call(lambda: self._connect(facts))

    def node_down(self, name: str, why: str) -> None:
        """A node is gone: what it left open ends, and nothing is heard of it until it is up again."""
        self._call(lambda: self._disconnect(name))
        self._tell(lambda: self._relay.down(name, why))

    def assign(self, new: Assignment) -> None:
        """From now on only this node and term of the stream are heard; what another node left open ends."""
        self._tell(lambda: self._relay.assign(new))

    def carry(self, new: Assignment) -> None:
        """As `assign`, for a stream that takes its temporal state along: nothing ends."""
        self._tell(lambda: self._relay.carry(new))

    def waits(self, stream: str, why: str) -> None:
        """Nobody has the stream, for this reason."""
        self._tell(lambda: self._relay.waits(stream, why))

    def remove(self, stream: str) -> None:
        """The stream is no more."""

        def remove() -> None:
            self._send(self._relay.remove(stream))
            self._outlet.forget(stream)

        self._call(remove)

    def heard(self, node: str) -> float | None:
        """When the last message of a node came, by the monotonic clock."""
        return self._heard.get(node)

    def stats(self) -> dict[str, int]:
        """Messages passed on, dropped because of an old term (fenced), lost on their way here, that were none
        (invalid); events that are open; streams that nobody speaks for; subscriptions.
        """
        relay = self._relay
        return {
            "passed": relay.passed, "fenced": relay.fenced, "lost": relay.lost, "invalid": self._invalid,
            "open": relay.open, "silent": relay.silent, "subscriptions": self._outlet.subscriptions,
        }  # fmt: skip

    def close(self) -> None:
        """End what is open, tell that all streams have stopped, and free the address."""
        if self._closed:
            return
        self._closed = True
        self._call(lambda: None)
        self._thread.join(_CLOSE_S)

    def _call(self, call: Callable[[], object]) -> None:
        """Do this in the hub's thread."""
        self._calls.append(call)
        with suppress(BlockingIOError):  # then it will look anyhow
            os.write(self._wake, b"\0")

    def _tell(self, what: Callable[[], Iterable[Out]]) -> None:
        self._call(lambda: self._send(what()))

    def _serve(self) -> None:
        """The thread."""
        poller = zmq.Poller()
        for socket in (self._plain, self._encrypted):
            poller.register(socket, zmq.POLLIN)
        poller.register(self._woken, zmq.POLLIN)
        repeat_s, settle_s = time.monotonic() + REPEAT_S, time.monotonic() + SETTLE_S
        try:
            self._wait_for_readers()
            while not self._closed:
                if self._woken in dict(poller.poll(_LONGEST_WAIT_MS)):
                    os.read(self._woken, 4096)
                self._turn()
                now = time.monotonic()
                if now >= repeat_s:
                    repeat_s = now + REPEAT_S
                    self._send(self._relay.repeat())
                if now >= settle_s:
                    settle_s = float("inf")
                    self._send(self._relay.settle())
            self._turn()
            self._send(self._relay.end())
        except BaseException:
            _log.exception("the hub has failed; please report it")
            raise
        finally:
            self._context.destroy(linger=0)
            self._outlet.close()
            if self._journal:
                self._journal.close()

    def _wait_for_readers(self) -> None:
        """Where a hub was before this one, say nothing until its readers have connected again."""
        until_s = time.monotonic() + READERS_S * (self._journal is not None and self._journal.found)
        while time.monotonic() < until_s and not self._closed:
            self._outlet.poll()
            time.sleep(_LOOK_S)

    def _turn(self) -> None:
        """What was asked, what nodes say, who subscribes."""
        while self._calls:
            self._calls.popleft()()
        for socket in (self._plain, self._encrypted):
            with suppress(zmq.Again):
                for _ in range(_AT_ONCE):
                    self._hear(socket.recv_multipart(zmq.DONTWAIT))
        now = time.monotonic()
        self._heard |= dict.fromkeys(self._relay.speakers & self._places.keys(), now)
        self._relay.speakers.clear()
        self._outlet.poll()

    def _hear(self, frames: list[bytes]) -> None:
        try:
            name, payload = frames
            self._send(self._relay.hear(name, payload))
        except (StreamerError, ValueError) as error:
            if not self._invalid:
                _log.warning("skipping what is not a label: %s", error)
            self._invalid += 1

    def _send(self, messages: Iterable[Out]) -> None:
        for name, payload in messages:
            _, kind = split_topic(name)
            self._outlet.put(name, payload, keep=kind in RETAINED)

    def _connect(self, facts: NodeFacts) -> None:
        before = self._places.get(facts.name)
        if before and (before.labels, before.server_key) == (facts.labels, facts.server_key):
            return
        self._disconnect(facts.name)
        if facts.server_key is not None:
            assert self._key
            self._encrypted.curve_serverkey = facts.server_key.encode()
            self._encrypted.curve_secretkey = self._key
            self._encrypted.curve_publickey = z85.decode(zmq.curve_public(z85.encode(self._key)))
        addresses.connect(self._socket_of(facts), facts.labels)
        self._places[facts.name] = facts

    def _disconnect(self, name: str) -> None:
        if facts := self._places.pop(name, None):
            with suppress(zmq.ZMQError):  # it has ended by itself
                self._socket_of(facts).disconnect(facts.labels)

    def _socket_of(self, facts: NodeFacts) -> zmq.Socket[bytes]:
        return self._plain if facts.server_key is None else self._encrypted


def _must_encrypt(address: str, encrypts: bool, what: str) -> None:
    """Raise ConfigError for an address that other machines can reach, unless it encrypts."""
    host = address.removeprefix("tcp://").rpartition(":")[0]
    if address.startswith("tcp://") and not encrypts and addresses.is_public(host):
        raise ConfigError(f"{what}: other machines reach {address}, so it must encrypt; give keys of `streamer keygen`")


def _sub_socket(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """A socket that hears nodes, connected to none yet."""
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.zap_domain = addresses.DOMAIN
    socket.setsockopt(zmq.RCVHWM, IN_QUEUE)
    socket.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE_BYTES)
    socket.setsockopt(zmq.HEARTBEAT_IVL, 2000)  # notices a node whose machine is gone, and connects again
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 10000)
    socket.setsockopt_string(zmq.SUBSCRIBE, ROOT)
    return socket
