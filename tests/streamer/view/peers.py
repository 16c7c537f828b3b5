"""What the tests of the page share: viewers without a browser, and messages to be seen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Any, Protocol

import cv2
import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from streamer.labels.events import Event, State
from streamer.labels.messages import Message, MessageBuilder, Stamp, Window
from streamer.labels.publisher import wall_us
from streamer.types import Image
from streamer.view.server import PageServer

PATIENCE_S = 30.0


def dial(page: Page, origin: str = "", **options: Any) -> AbstractContextManager[ClientConnection]:
    """A WebSocket that has said nothing yet; its origin is the page unless another is given."""
    url = f"ws{page.url.removeprefix('http')}labels"
    connection: ClientConnection = connect(
        url, origin=Origin(origin or page.url.rstrip("/")), proxy=None, max_size=None, **options
    )
    return connection


class Page(Protocol):
    """What is served somewhere."""

    url: str


class Viewer:
    """A browser's side of the WebSocket. A context manager."""

    def __init__(self, page: Page, token: str | None = None) -> None:
        self._ending = ExitStack()
        self.socket = self._ending.enter_context(dial(page))
        self.say(token=token)

    def say(self, **fields: Any) -> None:
        with suppress(ConnectionClosed):  # reading tells why
            self.socket.send(json.dumps(fields))

    def texts(self) -> Iterator[str]:
        """Text messages as they come; pictures in between are left out."""
        while True:
            received = self.socket.recv(PATIENCE_S)
            if isinstance(received, str):
                yield received

    def labels(self) -> Iterator[dict[str, Any]]:
        """The payloads of the label stream, and `view` when it starts over."""
        for text in self.texts():
            yield from json.loads(text)

    def hello(self) -> dict[str, Any]:
        """What the server says first."""
        return next(self.labels())

    def ask(self, **request: Any) -> dict[str, Any]:
        """What the run answers to a request."""
        self.say(ask=request, id=1)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next answer."""
        return next(told for told in self.labels() if told["kind"] == "answer")

    def picture(self) -> tuple[str, bytes]:
        """The stream and the JPEG of the next picture."""
        while isinstance(received := self.socket.recv(PATIENCE_S), str):
            pass
        length = received[0]
        return received[1 : 1 + length].decode(), received[1 + length :]

    def close(self) -> None:
        self._ending.close()

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Speaker:
    """A publisher's voice without a socket: tells a page what a pipeline would."""

    def __init__(self, page: PageServer) -> None:
        self._page = page
        self.build = MessageBuilder("test@0", "stream", now_us=wall_us)
        self.said: list[Message] = []

    def _say(self, message: Message) -> None:
        self.said.append(message)
        self._page(message)

    def stamp(self) -> Stamp:
        now_us = wall_us()
        return Stamp(0, True, now_us - 12_000, now_us - 2_000)

    def status(self, stream: str = "cam", source: Any = "online", detail: str = "", **counts: Any) -> None:
        self._say(self.build.status(stream, self.stamp(), source, detail, **counts))

    def state(self, label: str | None, stream: str = "cam", score: float = 0.75) -> None:
        stamp = self.stamp()
        state = State(label, 0, score, stamp.frame_us) if label else State()
        self._say(self.build.state(stream, stamp, state))

    def score(self, topk: list[tuple[str, float]], stream: str = "cam") -> None:
        stamp = self.stamp()
        assert stamp.frame_us is not None
        window = Window(n=4, step_ms=100.0, first_us=stamp.frame_us - 300_000, last_us=stamp.frame_us)
        self._say(self.build.score(stream, stamp, topk, window))

    def start(self, label: str, stream: str = "cam") -> Event:
        stamp = self.stamp()
        assert stamp.frame_us is not None
        event = Event("start", label, 0, 0.9, 0.9, stamp.frame_us)
        self._say(self.build.event(stream, stamp, event))
        return event

    def past(self, label: str, start_us: int, end_us: int, stream: str = "cam") -> None:
        """An event that began and ended some time ago, microseconds UTC."""
        for kind, at_us in (("start", None), ("end", end_us)):
            event = Event(kind, label, 0, 0.9, 0.9, start_us, at_us, "score" if at_us else None)  # type: ignore[arg-type]
            self._say(self.build.event(stream, self.stamp(), event))

    def end(self, event: Event, stream: str = "cam") -> None:
        stamp = self.stamp()
        last = Event("end", event.label, 0, 0.3, 0.95, event.t_start_us, stamp.frame_us, "score")
        self._say(self.build.event(stream, stamp, last))


def opened(jpeg: bytes) -> Image:
    """The picture [H, W, 3] of a JPEG."""
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def picture(brightness: int, width: int = 640, height: int = 480) -> Image:
    return np.full((height, width, 3), brightness, np.uint8)
