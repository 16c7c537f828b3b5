"""What can happen to a run, each thing as it happens to real ones, chosen at random and undone later."""

from __future__ import annotations

import heapq
import itertools
import random
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import zmq

from streamer import Subscriber
from streamer.errors import ConfigError
from streamer.labels.control import MAX_REQUEST_BYTES
from streamer.labels.messages import Kind
from tools.cameras import CameraProcess
from tools.peers.program import ANSWER_S, Program
from tools.peers.readers import Readers
from tools.peers.zmtp import connect

MOST_ADDED = 6
MOST_READERS = 8  # processes
MOST_SUBSCRIBERS = 3
MOST_CONNECTIONS = 4
CROWD = 200
LONGEST_S = 4.0  # until something is undone

Thing = TypeVar("Thing")

REQUESTS = (
    b"", b"\x00", b"{", b"[]", b"null", b'{"command": "statu"}', b'{"command": "status", "x": 1}', b"\xff\xfe",
    b'{"command": "add"}', b'{"command": "add", "source": {"uri": "nosuch://x"}}', b"[" * 50_000,
    b'{"command": "add", "source": {"uri": "/no/such/file.mp4"}}', b'{"command": "add", "source": ["rtsp://a"]}',
    b'{"command": "add", "source": {"uri": "pattern://swipe", "name": "No Such Name"}}',
    b'{"command": "remove", "stream": "nobody"}', b'{"command": "reset", "stream": 7}',
)  # fmt: skip
WEB_REQUESTS = (b"\r\n\r\n", b"GET /metrics", b"POST /metrics HTTP/1.1\r\n\r\n", b"x" * 20_000, b"GET / HTTP/9\r\n\r\n")
ZMQ_GARBAGE = (b"GET / HTTP/1.1\r\n\r\n", b"\xff" + bytes(8) + b"\x01\x7f\x03\x00" + b"x" * 4096)


class Camera:
    """A camera that is started again at its port after it was killed."""

    def __init__(self, name: str, start: Callable[[int], CameraProcess]) -> None:
        self.name = name
        self._start = start
        self.process = start(0)
        self.uri = self.process.url()

    def restart(self) -> None:
        """After `kill`."""
        self.process = self._start(self.process.port)

    def end(self) -> None:
        """For good; also while it is frozen."""
        self.process.kill()


class Faults:
    """Makes them, and undoes them: after `heal` everything is as it was at the beginning.

    made      how often each
    problems  what the program answered wrong
    """

    def __init__(self, program: Program, cameras: list[Camera], clip: Path, seed: int) -> None:
        self.made: Counter[str] = Counter()
        self.problems: list[str] = []
        self._program, self._clip = program, clip
        self._random = random.Random(seed)
        self._whole = list(cameras)  # those that nothing is wrong with
        self._readers: list[Readers] = []
        self._subscribers: list[Subscriber] = []
        self._connections: list[socket.socket] = []
        self._added: set[str] = set()
        self._undo: list[tuple[float, int, Callable[[], None]]] = []  # heap: when, in what order, what
        self._numbers = itertools.count()
        self._kinds: dict[Callable[[], bool], float] = {  # with weights
            self.crowd: 0.3, self.freeze: 2, self.kill: 1, self.corrupt: 2, self.add: 3, self.film: 1,
            self.unreachable: 1, self.remove: 2, self.come_back: 1, self.reset: 2, self.join: 3, self.stall: 2,
            self.leave: 2, self.die: 2, self.subscribe: 2, self.unsubscribe: 2, self.bad_request: 3,
            self.deaf_client: 1, self.ask: 3, self.scrape: 4, self.bad_web_request: 2, self.bad_peer: 1,
        }  # fmt: skip

    @property
    def kinds(self) -> list[Callable[[], bool]]:
        """All that can happen."""
        return list(self._kinds)

    def make(self, kind: Callable[[], bool] | None = None) -> None:
        """One thing happens, if it can: this one, or any. And what is due is undone."""
        while self._undo and self._undo[0][0] <= time.monotonic():
            heapq.heappop(self._undo)[2]()
        if kind is None:
            (kind,) = self._random.choices(self.kinds, list(self._kinds.values()))
        if kind():
            self.made[kind.__name__] += 1

    def heal(self) -> None:
        """Undo everything."""
        while self._undo:
            heapq.heappop(self._undo)[2]()
        while self._readers:
            self._one_of(self._readers).die()
        while self._subscribers:
            self._one_of(self._subscribers).close()
        while self._connections:
            self._one_of(self._connections).close()
        for name in sorted(self._added):
            self._command("remove", stream=name)
        self._added.clear()

    def abandon(self) -> None:
        """Undo what is around the program, which may have ended."""
        self._added.clear()
        self.heal()

    def freeze(self) -> bool:
        """A camera stops, and its connections stay open."""
        return self._hurt(lambda camera: camera.process.freeze(), lambda camera: camera.process.thaw())

    def kill(self) -> bool:
        """A camera loses its power."""
        return self._hurt(lambda camera: camera.process.kill(), lambda camera: camera.restart())

    def corrupt(self) -> bool:
        """A camera sends damaged pictures."""
        return self._hurt(lambda one: one.process.command("corrupt"), lambda one: one.process.command("clean"))

    def _hurt(self, do: Callable[[Camera], None], undo: Callable[[Camera], None]) -> bool:
        if not self._whole:
            return False
        camera = self._one_of(self._whole)

        def mend() -> None:
            undo(camera)
            self._whole.append(camera)

        do(camera)
        self._later(mend)
        return True

    def add(self) -> bool:
        """A stream comes: one that was there before, or one of a new name."""
        new = self._random.random() < 0.5
        name = f"new-{next(self._numbers)}" if new else f"old-{self._random.randrange(4)}"
        return self._add(name, f"pattern://swipe?fps=15&size=160x120&seed={self._random.randrange(99)}")

    def film(self) -> bool:
        """A file is played; when it has ended, it is played again."""
        if "film" in self._added:
            self._added.remove("film")
            self._command("remove", stream="film")
        return self._add("film", str(self._clip))

    def unreachable(self) -> bool:
        """A camera is added that is not there."""
        return self._add("nowhere", "rtsp://127.0.0.1:1/none")

    def _add(self, name: str, uri: str) -> bool:
        if name in self._added or len(self._added) == MOST_ADDED:
            return False
        self._added.add(name)
        self._command("add", source={"uri": uri, "name": name})
        return True

    def remove(self) -> bool:
        """An added stream goes."""
        if not self._added:
            return False
        name = self._random.choice(sorted(self._added))
        self._added.remove(name)
        self._command("remove", stream=name)
        return True

    def come_back(self) -> bool:
        """A stream that was there from the beginning goes and comes back at once."""
        source = self._random.choice(self._program.sources)
        self._command("remove", stream=source["name"])
        self._command("add", source=source)
        return True

    def reset(self) -> bool:
        """Somebody wants a stream to forget."""
        self._command("reset", stream=self._random.choice(self._names()))
        return True

    def join(self) -> bool:
        """A process with some subscriptions comes, and may be slow."""
        if len(self._readers) == MOST_READERS:
            return False
        prefix = self._random.choice(["", "act/1/", f"act/1/{self._random.choice(self._names())}/event/"])
        every_s = self._random.choice([0, 0, 0.5])
        self._readers.append(Readers(self._program.labels, self._random.randrange(1, 9), prefix, every_s))
        return True

    def crowd(self) -> bool:
        """Two hundred come at once, and are gone after a while."""
        crowd = Readers(self._program.labels, CROWD)
        self._later(self._random.choice([crowd.leave, crowd.die]))
        return True

    def leave(self) -> bool:
        """A process says goodbye."""
        if self._readers:
            self._one_of(self._readers).leave()
            return True
        return False

    def die(self) -> bool:
        """A process is killed."""
        if self._readers:
            self._one_of(self._readers).die()
            return True
        return False

    def stall(self) -> bool:
        """A process is stopped; it goes on later, or is killed while it stands."""
        if not self._readers:
            return False
        stalled = self._one_of(self._readers)
        stalled.stall()

        def go_on() -> None:
            stalled.go_on()
            self._readers.append(stalled)

        self._later(self._random.choice([go_on, stalled.die]))
        return True

    def subscribe(self) -> bool:
        """A `Subscriber` of ours comes."""
        if len(self._subscribers) == MOST_SUBSCRIBERS:
            return False
        choices: list[list[Kind] | None] = [None, ["event"], ["status", "gap"]]
        kinds = self._random.choice(choices)
        self._subscribers.append(Subscriber(self._program.labels, kinds=kinds))
        return True

    def unsubscribe(self) -> bool:
        """It goes, and must have missed nothing."""
        if not self._subscribers:
            return False
        subscriber = self._one_of(self._subscribers)
        subscriber.close()
        if subscriber.missed or subscriber.invalid:
            self.problems.append(f"a Subscriber missed {subscriber.missed} and could not read {subscriber.invalid}")
        return True

    def bad_request(self) -> bool:
        """The control socket gets what is no command; it must say so."""
        request = self._random.choice(REQUESTS)
        with zmq.Context() as context, context.socket(zmq.DEALER) as client:
            client.setsockopt(zmq.LINGER, 0)
            client.connect(self._program.control)
            client.send(request)
            if not client.poll(round(ANSWER_S * 1000)):
                self.problems.append(f"no answer to the request {request[:80]!r} within {ANSWER_S:g} s")
            elif not (reply := client.recv()).startswith(b'{"error":"'):
                self.problems.append(f"the request {request[:80]!r} was answered {reply[:200]!r}")
        return True

    def deaf_client(self) -> bool:
        """Somebody asks a lot, one question longer than allowed, and does not wait for an answer."""
        with zmq.Context() as context, context.socket(zmq.DEALER) as client:
            client.setsockopt(zmq.LINGER, 100)
            client.connect(self._program.control)
            for _ in range(50):
                client.send(b'{"command": "snapshot"}')
            client.send(bytes(MAX_REQUEST_BYTES + 1))
        return True

    def ask(self) -> bool:
        """Somebody asks how it goes."""
        if reply := self._command("status"):
            told = sorted(stream["stream"] for stream in reply["streams"])
            if told != self._names():
                self.problems.append(f"`status` tells of {told}; there are {self._names()}")
        return True

    def scrape(self) -> bool:
        """Prometheus comes by, and whoever watches over the health."""
        for path, expected in (("/metrics", (200,)), ("/healthz", (200, 503)), ("/nothing", (404,))):
            try:
                status, _ = self._program.get(path)
            except OSError as error:
                self.problems.append(f"{path}: {error}")
            else:
                if status not in expected:
                    self.problems.append(f"{path} was answered {status}")
        return True

    def bad_web_request(self) -> bool:
        """The page for machines gets what is no request, or half of one, from somebody who does not hang up."""
        host, port = self._program.web.split(":")
        connection = socket.create_connection((host, int(port)), ANSWER_S)
        connection.sendall(self._random.choice(WEB_REQUESTS))
        self._connections.append(connection)
        if len(self._connections) > MOST_CONNECTIONS:
            self._connections.pop(0).close()
        return True

    def bad_peer(self) -> bool:
        """Something that does not speak ZeroMQ connects to one of its sockets."""
        with connect(self._random.choice([self._program.labels, self._program.control])) as peer:
            peer.settimeout(ANSWER_S)
            with suppress(ConnectionError):
                peer.sendall(self._random.choice(ZMQ_GARBAGE))
        return True

    def _names(self) -> list[str]:
        """All streams that there are."""
        return sorted({source["name"] for source in self._program.sources} | self._added)

    def _command(self, command: str, **fields: Any) -> Any:
        """A command that must be obeyed; None if it was not."""
        try:
            return self._program.ask(command, **fields)
        except ConfigError as error:
            self.problems.append(f"{command} {fields}: {error}")
            return None

    def _later(self, undo: Callable[[], None]) -> None:
        due = time.monotonic() + self._random.uniform(0.5, LONGEST_S)
        heapq.heappush(self._undo, (due, next(self._numbers), undo))

    def _one_of(self, things: list[Thing]) -> Thing:
        return things.pop(self._random.randrange(len(things)))
