"""Where a head takes orders: a control socket as a run's, in the same folder, for its user alone."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from typing import Any

from streamer.fleet.orders import Order, Orders, parse
from streamer.labels.control import REQUESTS_PER_POLL, Control

SUFFIX = "fleet"


class Desk(Control):
    """As `Control`; `serve` does in the caller's thread what was asked."""

    def __init__(self) -> None:
        self._orders: deque[tuple[Order, Future[Any]]] = deque()
        super().__init__("auto", suffix=SUFFIX)

    def ask(self, request: bytes) -> Future[Any]:
        """Ask for something. Any thread may."""
        done: Future[Any] = Future()
        try:
            self._orders.append((parse(request), done))
        except Exception as error:  # `answer` tells it
            done.set_exception(error)
        return done

    def serve(self, orders: Orders) -> None:
        """Do what was asked, at most eight requests. Never waits."""
        for _ in range(min(REQUESTS_PER_POLL, len(self._orders))):
            order, done = self._orders.popleft()
            try:
                done.set_result(orders.act(order))
            except Exception as error:  # no order ends the head; `answer` tells it
                done.set_exception(error)
