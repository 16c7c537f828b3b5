"""Hears everything that a run publishes, from its first message to its last, and checks it."""

from __future__ import annotations

import threading
import time
from types import TracebackType

import zmq

from streamer.labels.messages import ROOT
from streamer.labels.publisher import wall_us
from tools.soak.checks import Checker

QUIET_MS = 500  # the run has ended, and this long nothing came: that was all
PATIENCE_S = 10.0  # with a run that goes on all the same


class Observer:
    """A bare ZeroMQ subscriber in a thread of its own, without a limit to what waits for it: it misses nothing.

    Ends when the block does, after it has heard what is on its way.
    """

    def __init__(self, address: str) -> None:
        self.checker = Checker()
        self.error: BaseException | None = None
        self._address = address
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer")

    def _run(self) -> None:
        try:
            self._hear()
        except BaseException as error:  # whoever leaves the block gets it
            self.error = error

    def _hear(self) -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.setsockopt(zmq.RCVHWM, 0)
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RECONNECT_IVL, 5)  # there before the first label is
            socket.setsockopt_string(zmq.SUBSCRIBE, ROOT)
            socket.connect(self._address)
            latest = float("inf")
            while time.monotonic() < latest:
                if over := self._over.is_set():
                    latest = min(latest, time.monotonic() + PATIENCE_S)
                if socket.poll(QUIET_MS):
                    topic, payload = socket.recv_multipart()
                    self.checker.take(topic, payload, time.monotonic(), wall_us())
                elif over:
                    return
                self.checker.listen(time.monotonic())

    def __enter__(self) -> Observer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self.error:
            raise self.error
