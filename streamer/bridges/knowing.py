"""The labels of a run's model, asked at its control socket: a subscriber hears of a label only when it happens."""

from __future__ import annotations

import logging
import threading

import msgspec

from streamer.errors import StreamerError
from streamer.labels.curve import Curve
from streamer.labels.requests import ask
from streamer.labels.runtime import find_address

MOST_ASKED = 1000  # runs and models

_log = logging.getLogger(__name__)


class _Told(msgspec.Struct):
    """What is read of the reply to `status`."""

    session: str
    model: str
    knows: list[str] = []
    events: dict[str, object] = {}


class Knowing:
    """Asks once for each model of a run, in a thread; `news` has what came, until it is taken.

    address  the control address; None: that of the user's only run on this machine, if there is one
    """

    def __init__(self, address: str | None, curve: Curve | None = None) -> None:
        self.news: list[tuple[str, list[str]]] = []
        self._address, self._curve = address, curve
        self._asked: set[tuple[str, str]] = set()
        self._asking = threading.Thread()  # one at a time

    def wants(self, session: str, model: str) -> None:
        """Ask for the labels of this run, if that has not been done. Returns at once."""
        if (session, model) in self._asked or self._asking.is_alive():
            return
        if len(self._asked) >= MOST_ASKED:
            self._asked.clear()
        self._asked.add((session, model))
        self._asking = threading.Thread(target=self._ask, args=(session,), name="labels of the model", daemon=True)
        self._asking.start()

    def _ask(self, session: str) -> None:
        try:
            address = self._address or find_address()
            told = msgspec.convert(ask(address, {"command": "status"}, self._curve), _Told)
        except (StreamerError, ValueError) as error:
            (_log.warning if self._address else _log.info)("labels are known as they happen: %s", error)
            return
        background = told.events.get("background")
        left_out = set(background) if isinstance(background, list) else set()
        if told.session == session:
            self.news.append((session, [label for label in told.knows if label not in left_out]))
