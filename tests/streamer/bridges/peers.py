"""The two ends of a bridge: a publisher, and web addresses that answer as a test says."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from streamer.labels.events import Event, EventType
from streamer.labels.messages import ClipPlace, EventMessage, Message, MessageBuilder
from streamer.labels.publisher import Publisher
from tests.streamer.labels.peers import ANY_PORT, STAMP, moments

Say = Callable[..., subprocess.Popen[str]]
SECOND_US = 1_000_000


def event(kind: EventType, label: str = "wave", build: MessageBuilder | None = None, stream: str = "door") -> Any:
    """An event's message."""
    return events(build or MessageBuilder("net@1", "stream", "run"), stream, label)[kind == "end"]


def events(build: MessageBuilder, stream: str = "door", label: str = "wave") -> list[EventMessage]:
    """The start and the end of an event."""
    start_us = STAMP.frame_us or 0
    begun = Event("start", label, 1, 0.75, 0.8125, start_us)
    ended = Event("end", label, 1, 0.25, 0.9375, start_us, start_us + SECOND_US, "score")
    clip = ClipPlace(name="door-1", start_us=start_us)
    return [build.event(stream, STAMP, begun), build.event(stream, STAMP, ended, clip)]


class Speaker:
    """A publisher, with which a test speaks from its own thread."""

    def __init__(self, address: str = ANY_PORT, session: str | None = None) -> None:
        self.publisher = Publisher(address, "net@1234", "stream", session)
        self.address = self.publisher.address
        self.build = self.publisher.build

    def heard(self) -> None:
        """Wait until somebody listens."""
        self.until(lambda: self.publisher.subscriptions > 0)

    def say(self, messages: Iterable[Message]) -> None:
        """Publish."""
        for message in messages:
            self.publisher.send(message)

    def until(self, condition: Callable[[], object], again: Callable[[], Iterable[Message]] | None = None) -> None:
        """Wait for something, and answer subscriptions meanwhile; again: what is said each time."""
        for _ in moments():
            self.publisher.poll()
            if condition():
                return
            if again:
                self.say(again())

    def __enter__(self) -> Speaker:
        return self

    def __exit__(self, *_: object) -> None:
        self.publisher.close()


class Web(ThreadingHTTPServer):
    """A web address. `answers` are the statuses of the next requests, then it is 204; `got` has headers and bodies."""

    daemon_threads = True

    def __init__(self, answers: Iterable[int] = (), port: int = 0, **headers: str) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.paths: list[str] = []
        self.open = threading.Event()
        self.open.set()
        left, web = list(answers), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                web.open.wait(30)
                web.got.append((dict(self.headers), body))
                web.paths.append(self.path)
                self.send_response(left.pop(0) if left else 204)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()

            do_GET = do_POST  # noqa: N815  (as http.server has it)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hook"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def server_close(self) -> None:
        self.open.set()
        self.shutdown()
        super().server_close()


def reading(folder: Path) -> list[str]:
    """A command that appends what it reads, and what it finds in its environment, to the file `seen` of a folder."""
    code = (
        "import json, os, sys\n"
        "said = json.loads(sys.stdin.read())\n"
        "mine = [name for name in os.environ if name.startswith('ACTION_') and name != 'ACTION_STREAMER_CACHE']\n"
        "said['found'] = {name: os.environ[name] for name in mine}\n"
        "open(sys.argv[1], 'a').write(json.dumps(said) + '\\n')\n"
    )
    return [sys.executable, "-c", code, str(folder / "seen")]
