"""Any source, read in a process of its own: a decoder that crashes or hangs there costs a connection, not the run.

The process is `child.py`; it stays from one connection to the next, so that a camera which is away costs no processor
time. Pictures come through anonymous shared memory, everything else through a socket pair: nothing has a name or a
place on the disk, so nothing can be left behind, and no password is on a command line.
"""

from __future__ import annotations

import logging
import math
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from functools import partial

import msgspec
import numpy as np

from streamer.config import SourceConfig
from streamer.errors import SourceError
from streamer.sources.base import Source
from streamer.sources.child import LONGEST, NEXT, PICTURE, ROOM, Answer, Drawn, Ended, Failed, Got, Noted, Part
from streamer.sources.packets import Packet
from streamer.types import Frame, Image

_START_S = 20.0  # a busy machine takes long to start a process
_LOOK_S = 0.1  # how often a wait looks whether it should stop
_END_S = 0.3  # how long the process may take to leave its camera in order; shutdown waits little longer
_ABORT_S = 1.0  # how long a process that hangs may take to say where
_DUMP_S = 10.0  # how long a crashed process may take to write its core
_WORDS = 4000  # characters of its last ones that are logged

log = logging.getLogger(__name__)


class ProcessSource(Source):
    """Reads `inner` in a process. That this process crashes or hangs is a SourceError, and counted in `crashes`."""

    def __init__(self, inner: Source) -> None:
        super().__init__(inner.config)
        self.live, self.noisy, self.path = inner.live, inner.noisy, inner.path
        self._silence_s = inner.patience_s if inner.live else float("inf")  # a file may rest for hours
        self.patience_s = _START_S + inner.patience_s + _DUMP_S
        self._child: Child | None = None
        self._corrupt_before = 0  # told by processes that are gone
        self._parts = b""  # of the compressed picture that is coming

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        """As in `Source`; its pictures are converted in the process, when they are asked for."""
        child = self._child = self._child or self._start()
        waits = False  # for the number of another connection
        try:
            answer = self._ask(child, str(connection).encode(), stop)
            while isinstance(answer, Got):
                convert = partial(self._picture, child)
                yield Frame(
                    answer.time_us, answer.index, connection, convert, answer.arrived_s, answer.timeline, answer.key,
                    left_out=answer.left_out,
                )  # fmt: skip
                answer = self._ask(child, NEXT, stop)
            if isinstance(answer, Failed):
                waits = self.live
                raise SourceError(answer.text, answer.retry)
        finally:
            if not waits:
                self.close()

    def recorded(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        """As in `Source`; the compressed pictures come from the process."""
        return self.frames(connection, stop)

    def _start(self) -> Child:
        self._parts = b""
        try:
            config = self.config.model_copy(update={"capture": "thread"})
            return Child(config, self.rate_hz, records=self.on_packet is not None)
        except OSError as error:
            raise SourceError(
                f"{self.uri}: no process can be started ({error.strerror}); trying again", "soon"
            ) from error

    def close(self) -> None:
        """End the process, if there is one."""
        if self._child:
            self._child.end(_END_S)
            self._child = None
            self._corrupt_before = self.corrupt

    def _picture(self, child: Child) -> Image:
        """The frame that the process is at, [H, W, 3]."""
        answer = self._ask(child, PICTURE)
        if isinstance(answer, Failed):
            raise SourceError(f"{self.uri}: {answer.text}", answer.retry)
        assert isinstance(answer, Drawn)
        return child.picture(answer)

    def _ask(self, child: Child, question: bytes, stop: threading.Event | None = None) -> Answer | None:
        """What the process says; None if `stop` was set before it said anything."""
        child.tell(question)
        while isinstance(answer := self._heard(child, stop), Noted | Part):
            if isinstance(answer, Noted):
                self.say(answer.note)
            else:
                self._take(answer)
        if isinstance(answer, Got | Ended | Failed):
            self.corrupt = self._corrupt_before + answer.corrupt
        return answer

    def _take(self, part: Part) -> None:
        self._parts += part.data
        if part.last and self.on_packet:
            self.on_packet(msgspec.msgpack.decode(self._parts, type=Packet))
            self._parts = b""

    def _heard(self, child: Child, stop: threading.Event | None) -> Answer | None:
        """The next thing that the process says; None if `stop` was set before."""
        deadline = time.monotonic() + self._silence_s + (0.0 if child.answered else _START_S)
        while (data := child.hear()) is None:
            if stop and stop.is_set():
                return None
            if time.monotonic() > deadline:
                child.abort()
                raise self._lost(child, f"the decoder hangs: nothing for {self._silence_s:g} s")
        if not data:
            raise self._lost(child, f"the decoder crashed: {child.ending()}")
        answer: Answer = msgspec.msgpack.decode(data, type=Answer)
        return answer

    def _lost(self, child: Child, what: str) -> SourceError:
        """The process is of no use any more."""
        self.crashes += 1
        log.warning("%s: %s; %s", self.name, what, child.last_words(), extra={"stream": self.name})
        self.close()
        advice = "connecting again" if self.live else "leave the file out, or convert it (ffmpeg -i FILE OUT.mp4)"
        return SourceError(f"{self.uri}: {what}; {advice}", "soon" if self.live else "never")


class Child:
    """A process that runs child.py, seen from here. Everything belongs to the thread that captures.

    answered  whether it has said anything yet
    """

    def __init__(self, config: SourceConfig, rate_hz: float | None, *, records: bool = False) -> None:
        self.answered = False
        self._errors = open(os.memfd_create("errors"), "w+b")  # noqa: PTH123, SIM115
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link.settimeout(_LOOK_S)
        memory = os.memfd_create("frames")
        try:
            os.ftruncate(memory, ROOM)
            self._memory = mmap.mmap(memory, ROOM, access=mmap.ACCESS_READ)
            descriptors = theirs.fileno(), memory
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streamer.sources.child", *map(str, (*descriptors, rate_hz or 0, int(records)))],
                stdin=None if config.uri == "-" else subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._errors,
                pass_fds=descriptors,
                start_new_session=True,  # Ctrl-C is for the recognition, which then ends this process
            )  # fmt: skip
        finally:
            theirs.close()
            os.close(memory)
        self.tell(config.model_dump_json(context={"secrets": True}).encode())

    def tell(self, message: bytes) -> None:
        """Send a message; one that does not arrive has no answer, either."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._link.send(message)

    def hear(self) -> bytes | None:
        """Its next message; None if there is none yet, empty if it is gone."""
        try:
            message = self._link.recv(LONGEST)
        except TimeoutError:
            return None
        except ConnectionResetError:
            return b""
        self.answered = True
        return message

    def picture(self, drawn: Drawn) -> Image:
        """A copy of the picture in the shared memory, [H, W, 3]."""
        shape = drawn.height, drawn.width, 3
        return np.frombuffer(self._memory, np.uint8, math.prod(shape)).reshape(shape).copy()

    def end(self, patience_s: float) -> None:
        """Let it end by itself for so long, then kill it."""
        self._link.close()
        self._wait(patience_s)
        self._memory.close()
        self._errors.close()

    def abort(self) -> None:
        """Let it write its stack and crash."""
        self._process.send_signal(signal.SIGABRT)
        self._wait(_ABORT_S)

    def ending(self) -> str:
        """How it ended: the signal's name, or the exit code."""
        code = self._wait(_DUMP_S)
        return signal.Signals(-code).name if -code in signal.valid_signals() else f"exit code {code}"

    def last_words(self) -> str:
        """What it wrote to standard error, in one line: its stack, if it crashed."""
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").partition("Extension modules:")[0]
        return " | ".join(line.strip() for line in words.splitlines() if line.strip())[-_WORDS:]

    def _wait(self, patience_s: float) -> int:
        try:
            return self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
