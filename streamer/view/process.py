"""The page in a process of its own, so that viewers take neither the recognition's interpreter nor its priority.

    recognition                                     page (`python -m streamer.view.process`)
    engine's thread ── labels, PUSH, never waits ──> main thread ──> Feed  ──┐
    view thread     <── a stream's name, REQ ─────── main thread             ├── server's thread ──> viewers
                    ─── its newest frame, or none ──> main thread ──> frames ┘         │
                    <── requests, DEALER ───────────────────────────────────────────────┘

Frames go over only while somebody looks: the view thread sleeps in ZeroMQ until the page asks. Requests go to the run's
control code. The sockets are in a folder that only this user can open. The page's standard input tells it how to begin,
and that the recognition is gone.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from streamer.health import logs
from streamer.labels.commands import answer
from streamer.labels.control import Control
from streamer.labels.messages import Message, decode, encode, topic
from streamer.labels.outlet import end_context
from streamer.region import Corners
from streamer.types import Image
from streamer.view.auth import Guard, Place
from streamer.view.overlay import outlined

NICENESS = 10
_QUEUE = 4096  # labels that wait for the page
_WAIT_S, _LOOK_S = 0.2, 0.025  # between two looks at the frames: while nobody looks, and while somebody does
_ANSWER_MS = 10  # how often it looks whether what was asked has been done
_PATIENCE_MS = 1000
_LOOKED_S = 1.0  # a frame that nobody asked for is kept this long
_END_S, _TERM_S = 4.0, 1.0

_log = logging.getLogger(__name__)


class PageProcess:
    """The page at a place, from `start` to `close`; call it with every message. It never stops the recognition."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._folder = tempfile.mkdtemp(prefix="streamer-view-")
        self._context = zmq.Context()
        self._labels = self._context.socket(zmq.PUSH)
        self._labels.setsockopt(zmq.SNDHWM, _QUEUE)
        self._labels.setsockopt(zmq.LINGER, 0)
        self._labels.connect(f"ipc://{self._folder}/labels")
        self._process: subprocess.Popen[str] | None = None

    def __call__(self, message: Message) -> None:
        """Take a message that was published. Never waits."""
        with suppress(zmq.Again):  # the page is stuck; it shows that it is behind
            self._labels.send_multipart((topic(message.stream, message.kind).encode(), encode(message)), zmq.DONTWAIT)

    def start(
        self,
        newest: Callable[[str], Image | None],
        corners: Callable[[str], Corners | None],
        order: Sequence[str],
        control: Control,
        *,
        changes: bool,
        clips: Path | None,
    ) -> None:
        """Serve.

        newest   gives a stream's last frame
        corners  of the part of it that the stream sees; None: all
        order    of the streams on the page
        control  takes what a browser asks for; changes: also what changes something
        clips    the folder of the run's clips, if it keeps them
        """
        frames, requests = self._context.socket(zmq.REP), self._context.socket(zmq.ROUTER)
        for end, name in ((frames, "frames"), (requests, "requests")):
            end.setsockopt(zmq.LINGER, 0)
            end.bind(f"ipc://{self._folder}/{name}")

        def give(given: dict[str, Image]) -> None:
            _give_frame(frames, newest, corners, given)

        threading.Thread(target=_attend, args=(frames, give, requests, control), name="view", daemon=True).start()
        place, descriptor = self._place, self._place.socket.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "streamer.view.process"],
            stdin=subprocess.PIPE,
            pass_fds=(descriptor,),
            start_new_session=True,  # Ctrl-C is for the recognition, which then ends the page
            text=True,
        )
        assert self._process.stdin
        begin = {
            "descriptor": descriptor,
            "folder": self._folder,
            "token": place.guard.token,
            "url": place.url,
            "order": list(order),
            "changes": changes,
            "clips": str(clips.absolute()) if clips else None,
            "log": logs.style(),
        }
        self._process.stdin.write(json.dumps(begin) + "\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """Send all viewers away and free the address."""
        if self._process and self._process.stdin:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                _log.warning("the page at %s did not end; killed it", self._place.url)
                self._process.kill()
                self._process.wait()
        self._place.socket.close()
        self._labels.close(linger=0)
        end_context(self._context, _TERM_S)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> PageProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _attend(
    frames: zmq.Socket[bytes],
    give: Callable[[dict[str, Image]], None],
    requests: zmq.Socket[bytes],
    control: Control,
) -> None:
    """The view thread: lets frames be given to the page, and what it asks of the run to `control`."""
    given: dict[str, Image] = {}
    asked: list[tuple[bytes, Future[Any]]] = []
    poller = zmq.Poller()
    poller.register(frames, zmq.POLLIN)
    poller.register(requests, zmq.POLLIN)
    with suppress(zmq.ContextTerminated), frames, requests:
        while True:
            ready = dict(poller.poll(_ANSWER_MS if asked else None))
            if frames in ready:
                give(given)
            if requests in ready:
                who, request = requests.recv_multipart()
                asked.append((who, control.ask(request)))
            for one in [one for one in asked if one[1].done()]:
                requests.send_multipart((one[0], answer(one[1])), zmq.DONTWAIT)
                asked.remove(one)


def _give_frame(
    socket: zmq.Socket[bytes],
    newest: Callable[[str], Image | None],
    corners: Callable[[str], Corners | None],
    given: dict[str, Image],
) -> None:
    """A request is a stream's name, the reply its newest frame, empty if it was given before."""
    name = socket.recv().decode()
    image = newest(name)
    if image is None or image is given.get(name):
        socket.send(b"")
    else:
        given[name] = image
        head = json.dumps((image.shape, corners(name))).encode()
        socket.send_multipart((head, np.ascontiguousarray(image).data), copy=False)


class Frames:
    """The page's end: the newest frames of the streams that are looked at. Asked by one thread, filled by another."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._asked: dict[str, float] = {}  # stream -> when it was asked for last
        self._frames: dict[str, Image] = {}

    def newest(self, stream: str) -> Image | None:
        """A stream's last frame; None if there is none, or not yet."""
        self._asked[stream] = time.monotonic()
        return self._frames.get(stream)

    def fetch(self) -> bool:
        """Get the frames that are asked for, forget the others; whether any are."""
        now = time.monotonic()
        for stream, asked_s in list(self._asked.items()):
            if now - asked_s > _LOOKED_S:
                del self._asked[stream]
                self._frames.pop(stream, None)
                continue
            self._socket.send(stream.encode())
            with suppress(zmq.Again):
                head, *data = self._socket.recv_multipart()
                if data:
                    shape, corners = json.loads(head)
                    self._frames[stream] = outlined(np.frombuffer(data[0], np.uint8).reshape(shape), corners)
        return bool(self._asked)


def main() -> None:
    """The page's process: what it is told first, then labels and frames until standard input ends."""
    begin: dict[str, Any] = json.loads(sys.stdin.readline())
    logs.set_up(begin["log"])
    os.nice(NICENESS)

    from streamer.view.asking import Run  # the recognition's process does without these libraries
    from streamer.view.server import PageServer

    context = zmq.Context()
    labels, frames = context.socket(zmq.PULL), context.socket(zmq.REQ)
    labels.bind(f"ipc://{begin['folder']}/labels")
    for option, value in ((zmq.REQ_RELAXED, 1), (zmq.REQ_CORRELATE, 1), (zmq.RCVTIMEO, _PATIENCE_MS)):
        frames.setsockopt(option, value)
    frames.connect(f"ipc://{begin['folder']}/frames")
    looked_at = Frames(frames)
    poller = zmq.Poller()
    poller.register(labels, zmq.POLLIN)
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    place = Place(socket.socket(fileno=begin["descriptor"]), Guard(begin["token"]), begin["url"], None)
    clips = Path(begin["clips"]) if begin["clips"] else None
    run = Run(f"ipc://{begin['folder']}/requests", changes=begin["changes"], clips=clips)
    with PageServer(place, looked_at.newest, begin["order"], run) as page:
        wait_s = due_s = 0.0
        while sys.stdin.fileno() not in (ready := dict(poller.poll(int(wait_s * 1e3)))):
            if labels in ready:
                page(decode(*labels.recv_multipart()))
            if time.monotonic() >= due_s:
                wait_s = _LOOK_S if looked_at.fetch() else _WAIT_S
                due_s = time.monotonic() + wait_s
    labels.close(linger=0)
    frames.close(linger=0)
    context.term()
    shutil.rmtree(begin["folder"], ignore_errors=True)  # the recognition may have been killed


if __name__ == "__main__":
    main()
