"""The engine inside the program: python -m tools.bench --parts inside [--cameras 8,16,32]

Cameras whose frames come at random phases, and the way from the ring to the logits as it is in the program. The time is
that of a clock which only the processor time of the engine's thread moves, so that the figures hold on a busy machine:
as if that thread had a core of its own. Beside it stands the engine alone, which gets all rows in one step.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from unittest import mock

import msgspec
import numpy as np

from engines import Engine, load_engine
from streamer.config import Config, SourceConfig
from streamer.labels.messages import MessageBuilder
from streamer.pipeline import batcher
from streamer.pipeline.intake import Intake
from streamer.pipeline.rows import Rows
from streamer.pipeline.stream import Stream
from streamer.sources import Source
from streamer.types import Frame

CAMERAS = (8, 16, 32)
_BEGIN_S = 1000.0
_JITTER_S = 0.003
_ALONE = 7  # steps


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine cost with so many cameras.

    cores      processor seconds a second
    alone      the same, of the engine alone
    rows       in a step, on average
    late       frames that were lost, since it was too slow
    """

    cameras: int
    cores: float
    alone: float
    rows: float
    age_ms_p50: float
    age_ms_p99: float
    late: int


class _Quiet(Source):
    """A camera whose frames are offered by hand."""

    def frames(self, _connection: int, _stop: threading.Event) -> Generator[Frame, None, None]:
        """None."""
        yield from ()


class _Played:
    """The cameras, and what happens to their frames."""

    def __init__(self, engine: Engine, cameras: int, seconds: float) -> None:
        self._spec = spec = engine.spec
        build, config = MessageBuilder(spec.version, spec.mode), Config(frozen_s=None)
        intakes = [Intake(_Quiet(SourceConfig(uri="camera")), spec, config) for _ in range(cameras)]
        self.streams = [Stream(intake.source.name, intake, config, build, lambda _: None) for intake in intakes]
        self.rows = Rows(engine, self.streams, mock.Mock())
        self._patience_s, self._seconds = config.batch_wait_ms / 1e3, seconds
        chance, period_s = random.Random(1), 1 / spec.rate_hz
        begins = [chance.uniform(0, period_s) for _ in range(cameras)]
        self._arrivals = sorted(
            (_BEGIN_S + begin_s + number * period_s + chance.uniform(0, _JITTER_S), camera)
            for camera, begin_s in enumerate(begins)
            for number in range(int(seconds / period_s))
        )[::-1]
        self._pictures = np.random.default_rng(0).integers(0, 256, (cameras, spec.height, spec.width, 3), np.uint8)
        self._now_s = _BEGIN_S
        self._came_s: list[list[float]] = [[] for _ in range(cameras)]
        self.ages_s: list[float] = []
        self.steps, self.cpu_s = 0, 0.0

    def play(self) -> None:
        """All of it."""
        while self._arrivals:
            self._offer()
            began_s = time.thread_time()
            wait_s = self.rows.wait_s(self._now_s, self._patience_s)
            advanced = [] if wait_s else self.rows.step(lambda: 0, self._now_s)
            took_s = time.thread_time() - began_s
            self.cpu_s += took_s
            if advanced:
                self._now_s += took_s
                self.steps += 1
                for stream in advanced:
                    came_s = self._came_s[self.streams.index(stream)].pop(0)
                    if came_s > _BEGIN_S + self._seconds / 4:  # by then it is known when frames come
                        self.ages_s.append(self._now_s - came_s)
            elif self._arrivals:
                next_s = self._arrivals[-1][0]
                self._now_s = max(self._now_s, min(next_s, self._now_s + wait_s) if wait_s else next_s)

    def _offer(self) -> None:
        """What has come by now."""
        while self._arrivals and self._arrivals[-1][0] <= self._now_s:
            at_s, camera = self._arrivals.pop()
            self._came_s[camera].append(at_s)
            shown = partial(self._pictures.__getitem__, camera)
            self.streams[camera].intake.offer(Frame(round(at_s * 1e6), 0, 0, shown, at_s))


def _alone_s(engine: Engine, cameras: int) -> float:
    """Processor time of a step of all rows, seconds."""
    spec, state = engine.spec, engine.new_state(cameras)
    shape = cameras, spec.height, spec.width, 3
    frames = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    active, fresh, took_s = np.ones(cameras, bool), np.zeros(cameras, bool), []
    for _ in range(_ALONE):
        began_s = time.thread_time()
        engine.step(frames, active, fresh, state)
        took_s.append(time.thread_time() - began_s)
    return float(np.median(took_s[2:]))


def measure(cameras: int, seconds: float, model: str = "default") -> Row:
    """One number of cameras; the engine has one thread, this one."""
    engine = load_engine(model, "openvino", threads=1, rows=cameras, precision="fp32")
    before_s = _alone_s(engine, cameras)
    with mock.patch.object(batcher, "time", SimpleNamespace(perf_counter=time.thread_time)):
        played = _Played(engine, cameras, seconds)
        played.play()
    step_s = (before_s + _alone_s(engine, cameras)) / 2
    inferred = sum(stream.inferred for stream in played.streams)
    p50, p99 = np.percentile(played.ages_s, (50, 99)) * 1e3
    engine.close()
    return Row(
        cameras=cameras, cores=played.cpu_s / seconds, alone=step_s / cameras * inferred / seconds,
        rows=inferred / played.steps, age_ms_p50=float(p50), age_ms_p99=float(p99),
        late=sum(stream.late for stream in played.streams),
    )  # fmt: skip


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The rows as lines."""
    yield f"{'cameras':>7}{'core':>7}{'times alone':>13}{'rows a step':>13}{'age p50':>10}{'p99 ms':>8}{'late':>6}"
    for row in rows:
        cells = f"{row.cameras:7}{row.cores:7.2f}{row.cores / row.alone:13.2f}{row.rows:13.1f}"
        yield f"{cells}{row.age_ms_p50:10.0f}{row.age_ms_p99:8.0f}{row.late:6}"
