"""The body of a capture thread: it reads one source, connects again when a camera goes away, and tells how it is."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from streamer.errors import Retry, SourceError
from streamer.sources.base import Source
from streamer.text import redact
from streamer.types import Frame

_HEALTHY_S = 5.0  # a connection that lasted this long counts as good: the delays start over
_SLOW_S = 10.0  # least distance of attempts with a wrong password, which cameras answer with a ban
_STALL_S, _STALL_PERIODS = 1.0, 5  # without a frame for the longer of both, a camera is stalled
_FPS_FRAMES = 60  # the frame rate is measured over the last frames

SourceState = Literal["connecting", "online", "stalled", "offline", "ended"]


@dataclass(frozen=True, slots=True)
class Health:
    """A source's condition.

    `detail` says what is wrong, without passwords. `age_s` is the time since the last frame; None before the first.
    `since_s` is when it came into this state, `retry_s` when it is connected again, both by the monotonic clock.
    """

    state: SourceState
    detail: str
    captured: int
    corrupt: int
    reconnects: int
    fps_in: float
    age_s: float | None
    since_s: float | None = None
    retry_s: float | None = None


def retry_delay_s(failures: int, retry: Retry, uniform: Callable[[float, float], float] = random.uniform) -> float:
    """How long to wait after failure number `failures` (from 0) in a row: random, lest many cameras come at once."""
    most = min(5.0, 0.25 * 2.0 ** min(failures, 10))
    return uniform(most / 2, most) + (_SLOW_S if retry == "slow" else 0)


class Reader:
    """Reads a source in the thread that calls `run`, and calls `on_frame` there with every frame.

    Each connection that gave a frame has its own number, from `connections` on. Everything but `run` may be used from
    any thread.
    """

    def __init__(
        self, source: Source, on_frame: Callable[[Frame], None], stop: threading.Event, connections: int = 0
    ) -> None:
        self.source = source
        self._on_frame = on_frame
        self._stop = stop
        self._lock = threading.Lock()
        self._state: SourceState = "connecting"
        self._detail = ""
        self._since_s = time.monotonic()
        self._retry_s: float | None = None
        self._captured = 0
        self._first_connection = connections
        self._connections = connections  # that gave a frame
        self._busy_since: float | None = None  # the library has been asked for a frame, by the monotonic clock
        self._first = 0.0  # frame of the last connection, and the ones after it, in seconds by the monotonic clock
        self._arrivals: deque[float] = deque(maxlen=_FPS_FRAMES)
        self._corrupt = 0  # how many were damaged when the last frame came

    def run(self) -> None:
        """Read until the source ends or `stop` is set. SourceError when trying again makes no sense."""
        with contextlib.closing(self.source):
            self._run()

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            before = self._connections
            try:
                self._read()
            except SourceError as error:
                if self._connections > before and self._arrivals[-1] - self._first >= _HEALTHY_S:
                    failures = 0
                delay_s = retry_delay_s(failures, error.retry)
                self._become("offline", redact(str(error)), time.monotonic() + delay_s)
                if error.retry == "never" or not self.source.live:
                    raise
                self._stop.wait(delay_s)
                failures += 1
            else:
                if not self._stop.is_set():
                    self._become("ended", "")
                return

    def _read(self) -> None:
        """One connection, from beginning to end."""
        connection = self._connections
        self._busy_since = time.monotonic()
        try:
            with contextlib.closing(self.source.recorded(connection, self._stop)) as frames:
                for frame in frames:
                    if self._stop.is_set():
                        return  # nobody will take it, so it does not count
                    self._busy_since = now = time.monotonic()
                    self._arrived(now, connection, 1 + frame.left_out)
                    self._on_frame(frame)
        finally:
            self._busy_since, self.source.note = None, ""

    def _arrived(self, now: float, connection: int, pictures: int) -> None:
        with self._lock:
            if self._connections == connection:
                self._connections += 1
                self._first = now
                self._arrivals.clear()
                self._state, self._detail, self._since_s, self._retry_s = "online", "", now, None
            self._captured += pictures
            self._corrupt = self.source.corrupt
            self._arrivals.extend([now] * pictures)

    def _become(self, state: SourceState, detail: str, retry_s: float | None = None) -> None:
        with self._lock:
            if self._state != state:
                self._since_s = time.monotonic()
            self._state, self._detail, self._retry_s = state, detail, retry_s

    @property
    def connections(self) -> int:
        """The number of the next connection."""
        return self._connections

    def hangs(self, now: float) -> bool:
        """Whether the thread has been inside a library for longer than any time limit allows, at `now` (monotonic)."""
        busy_since = self._busy_since
        if busy_since is None or not self.source.live:
            return False
        return now - max(busy_since, self.source.heard_s) > self.source.patience_s

    def health(self, now: float) -> Health:
        """The source's condition at `now`, monotonic. Silence is seen even while the reading thread hangs."""
        with self._lock:
            state, detail, note = self._state, self._detail, self.source.note
            age_s = max(0.0, now - self._arrivals[-1]) if self._arrivals else None
            span_s = self._arrivals[-1] - self._arrivals[0] if self._arrivals else 0.0
            fps_in = (len(self._arrivals) - 1) / span_s if span_s > 0 and state == "online" else 0.0
            damaged = self.source.corrupt > self._corrupt
            since_s, retry_s = self._since_s, self._retry_s
            captured, reconnects = self._captured, max(0, self._connections - self._first_connection - 1)
        if note and state in {"connecting", "offline", "online"}:
            state, detail = "online" if state == "online" else "connecting", f"{self.source.uri}: {note}"
        patience_s = max(_STALL_S, _STALL_PERIODS / fps_in if fps_in else 0)
        if state == "online" and self.source.live and age_s is not None and age_s > patience_s:
            what = "only damaged frames, check the network," if damaged else "no frame"
            state, detail, fps_in = "stalled", f"{self.source.uri}: {what} for {age_s:.1f} s", 0.0
            since_s = now - age_s
        return Health(state, detail, captured, self.source.corrupt, reconnects, fps_in, age_s, since_s, retry_s)
