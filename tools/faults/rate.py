"""How much a fleet's hub can pass on, and by how much it is later than the nodes themselves."""

from __future__ import annotations

import multiprocessing
import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.synchronize import Event as Flag
from typing import Any

import zmq

from streamer.fleet.facts import Assignment, NodeFacts
from streamer.fleet.hub import Hub
from streamer.labels.messages import ROOT, MessageBuilder, Stamp, Window, encode, topic
from streamer.labels.publisher import wall_us

STREAMS = 24
ANY = "tcp://127.0.0.1:*"
WINDOW = Window(n=8, step_ms=100.0, first_us=0, last_us=1)
TOPK = [("moving left", 0.9), ("moving right", 0.05), ("moving up", 0.03), ("moving down", 0.01), ("still", 0.01)]
DELAY_HZ = 240  # messages a second while delay is measured: 24 streams at 10 Hz


@dataclass(frozen=True)
class HubRate:
    """What was measured with so many subscribers, each of which reads all.

    passed_s, read_s  messages a second that the hub passed on, and that each subscriber received (on average), when
                      nodes say more than it can take
    core_us           processor time of the hub for each message passed on, whatever else the machine does
    added_ms_p50, added_ms_p99  by how much later than from the node itself a message came, at 240 a second
    """

    subscribers: int
    passed_s: float
    read_s: float
    core_us: float
    added_ms_p50: float
    added_ms_p99: float


def measure(subscribers: int, seconds: float) -> HubRate:
    """A hub, one node and so many subscribers, each kind in a process of its own, on loopback."""
    passed_s, read_s, core_us = _saturated(subscribers, seconds)
    added = sorted(_added_ms(subscribers, seconds))
    cuts = statistics.quantiles(added, n=100)
    return HubRate(
        subscribers, round(passed_s), round(read_s), round(core_us, 1), round(cuts[49], 3), round(cuts[98], 3)
    )


def _saturated(subscribers: int, seconds: float) -> tuple[float, float, float]:
    """Messages a second passed on, and read by each; the hub's processor time for a message, microseconds."""
    with _Processes(0) as it:
        reader = it.start(_count, it.hub, subscribers)
        reader.recv()  # all are there
        began, passed, read = time.monotonic(), asked(it.hub_pipe), asked(reader)
        time.sleep(seconds)
        took_s = time.monotonic() - began
        (count, used_s), (seen, _) = asked(it.hub_pipe), asked(reader)
    count -= passed[0]
    return count / took_s, (seen - read[0]) / took_s / subscribers, (used_s - passed[1]) / max(1, count) * 1e6


def _added_ms(subscribers: int, seconds: float) -> list[float]:
    with _Processes(DELAY_HZ) as it:
        if subscribers > 1:
            it.start(_count, it.hub, subscribers - 1).recv()
        context = zmq.Context()
        arrived: dict[str, dict[bytes, float]] = {"node": {}, "hub": {}}
        poller = zmq.Poller()
        names: dict[zmq.Socket[bytes], str] = {}
        for name, address in (("node", it.node), ("hub", it.hub)):
            socket = _subscribed(context, address)
            names[socket] = name
            poller.register(socket, zmq.POLLIN)
        ends = time.monotonic() + seconds + 0.5
        while time.monotonic() < ends:
            for socket, _ in poller.poll(100):
                payload = socket.recv_multipart()[1]
                arrived[names[socket]][payload.partition(b'"ts"')[2]] = time.monotonic()
        context.destroy(linger=0)
    both = arrived["node"].keys() & arrived["hub"].keys()
    return [(arrived["hub"][key] - arrived["node"][key]) * 1e3 for key in both]


class _Processes:
    """A node that says something, `hz` times a second or as fast as it can (0), and a hub, each in its own process."""

    def __init__(self, hz: float) -> None:
        self._make = multiprocessing.get_context("spawn")
        self._stop: Flag = self._make.Event()
        self._all: list[Any] = []
        node = self.start(_speak, hz)
        self.node: str = node.recv()
        self.hub_pipe = self.start(_pass, self.node)
        self.hub: str = self.hub_pipe.recv()

    def start(self, work: Any, *arguments: Any) -> Any:
        """A process that does this; the other end of its pipe."""
        here, there = self._make.Pipe()
        process = self._make.Process(target=work, args=(there, self._stop, *arguments), daemon=True)
        process.start()
        self._all.append(process)
        return here

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for process in self._all:
            process.join(5)
            process.kill()


def asked(pipe: Any) -> tuple[int, float]:
    """The count that a process gives when it is asked, and the processor time that it has used, seconds."""
    pipe.send(None)
    count, used_s = pipe.recv()
    return int(count), float(used_s)


def _speak(pipe: Any, stop: Flag, hz: float) -> None:
    context = zmq.Context()
    socket = context.socket(zmq.XPUB)
    socket.bind(ANY)
    pipe.send(socket.getsockopt_string(zmq.LAST_ENDPOINT))
    build = MessageBuilder("default@00000000", "stream", now_us=wall_us, node="node")
    names = [f"cam{number}" for number in range(STREAMS)]
    due = time.monotonic()
    while not stop.is_set():
        for name in names:
            now_us = wall_us()
            payload = encode(build.score(name, Stamp(0, True, now_us, now_us, 1), TOPK, WINDOW))
            socket.send_multipart((topic(name, "score").encode(), payload), zmq.DONTWAIT)
        if hz:
            due += STREAMS / hz
            time.sleep(max(0.0, due - time.monotonic()))
    context.destroy(linger=0)


def _pass(pipe: Any, stop: Flag, node: str) -> None:
    hub = Hub(ANY)
    for number in range(STREAMS):
        hub.assign(Assignment(f"cam{number}", "node", 1))
    hub.node_up(NodeFacts(name="node", labels=node, rows=STREAMS))
    pipe.send(hub.address)
    _answer(pipe, stop, lambda: hub.stats()["passed"])
    hub.close()


def _count(pipe: Any, stop: Flag, address: str, subscribers: int) -> None:
    context = zmq.Context(io_threads=1)
    sockets = [_subscribed(context, address) for _ in range(subscribers)]
    count = [0]

    def read() -> None:
        poller = zmq.Poller()
        for socket in sockets:
            poller.register(socket, zmq.POLLIN)
        while not stop.is_set():
            for socket, _ in poller.poll(100):
                count[0] += _drained(socket)

    thread = threading.Thread(target=read)
    thread.start()
    while count[0] < subscribers and not stop.is_set():
        time.sleep(0.05)
    pipe.send(0)
    _answer(pipe, stop, lambda: count[0])
    thread.join()
    context.destroy(linger=0)


def _drained(socket: zmq.Socket[bytes]) -> int:
    """How many messages waited, 100 at most."""
    for number in range(100):
        try:
            socket.recv_multipart(zmq.DONTWAIT, copy=False)
        except zmq.Again:
            return number
    return 100


def _answer(pipe: Any, stop: Flag, count: Any) -> None:
    while not stop.is_set():
        if pipe.poll(0.1):
            with suppress(EOFError):  # who asked has ended
                pipe.recv()
                pipe.send((count(), time.process_time()))


def _subscribed(context: zmq.Context[zmq.Socket[bytes]], address: str) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 100_000)
    socket.setsockopt_string(zmq.SUBSCRIBE, ROOT)
    socket.connect(address)
    return socket


def lines(rates: Sequence[HubRate]) -> list[str]:
    """A table of what was measured."""
    return [
        f"{one.subscribers} subscribers: {one.passed_s:.0f} messages/s passed on, {one.read_s:.0f} read by each; "
        f"{one.core_us:.0f} us of a core each; added delay p50 {one.added_ms_p50:.2f} ms, p99 {one.added_ms_p99:.2f} ms"
        for one in rates
    ]
