"""Many cameras on one engine: steps that they share, frames that are too old, load that is shed, cameras that fail."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from streamer.config import Config, SourceConfig
from streamer.health.metrics import Metrics
from streamer.labels.messages import GapMessage, Message, MessageBuilder, ScoreMessage, StatusMessage
from streamer.labels.publisher import wall_us
from streamer.pipeline import shedding
from streamer.pipeline.batcher import Batcher
from streamer.pipeline.intake import Intake
from streamer.pipeline.meters import Probe
from streamer.pipeline.pipeline import Pipeline
from streamer.pipeline.stream import Stream, advance
from streamer.sources import Source
from streamer.types import Frame

from .seeing import SPEC, Film, SeeingEngine, picture
from .test_pipeline import Camera, Run

WaitFor = Callable[[Callable[[], Any]], None]


class RealCamera(Camera):
    """A camera whose frames tell when they arrived, and whose pictures are never the same unless it is `frozen`."""

    noisy = True

    def __init__(self, name: str = "camera", patience_s: float = 60) -> None:
        super().__init__(name, patience_s)
        self.frozen = threading.Event()
        self._noise = np.random.default_rng(0)
        self._picture = picture(0)

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        for frame in super().frames(connection, stop):
            if not self.frozen.is_set():
                self._picture = picture(self.label)
                self._picture[-1] = self._noise.integers(0, 256, (32, 3))
            shown = self._picture
            yield replace(frame, bgr=lambda shown=shown: shown, arrived_s=time.monotonic())  # type: ignore[misc]


class FedCamera(Source):
    """A camera that gives the frames that the test gives it, and says that they arrived when the test says."""

    def __init__(self, name: str) -> None:
        super().__init__(SourceConfig(uri=f"test://{name}", name=name))
        self._frames: queue.Queue[Frame] = queue.Queue()
        self._index = 0

    def give(self, arrived_s: float) -> None:
        shown = picture(1)
        self._frames.put(Frame(wall_us() + self._index, self._index, 0, lambda: shown, arrived_s))
        self._index += 1

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        while not stop.is_set():
            try:
                yield self._frames.get(timeout=0.01)
            except queue.Empty:
                continue


def active(engine: SeeingEngine) -> list[tuple[bool, ...]]:
    """The rows of each step that were filled."""
    return [tuple(mean >= 0 for mean in row) for row in engine.seen]


def in_a_while(seconds: float) -> float:
    """When a frame must have arrived for the next one to be due in so many seconds, at the full rate."""
    return time.monotonic() + seconds - 1 / SPEC.rate_hz


def test_a_step_waits_for_the_frame_of_a_stream_that_is_due(wait_for: WaitFor) -> None:
    one, two = FedCamera("one"), FedCamera("two")
    run = Run([one, two], Config(batch_wait_ms=60_000, max_age_ms=None))
    two.give(in_a_while(20))  # nothing is known of the other one: no reason to wait
    wait_for(lambda: active(run.engine) == [(False, True)])
    one.give(time.monotonic())
    wait_for(lambda: len(run.pipeline.streams[0].ring) == 1)
    time.sleep(0.1)
    assert len(run.engine.seen) == 1
    time.sleep(0.05)  # the sampler's period is over: the next one is wanted
    two.give(time.monotonic())
    wait_for(lambda: active(run.engine)[1:] == [(True, True)])
    run.finish()


@pytest.mark.parametrize("due_s", [-10, 100])  # it has failed to come; it will not come soon
def test_a_step_does_not_wait_for_a_stream_that_is_not_due(due_s: float, wait_for: WaitFor) -> None:
    one, two = FedCamera("one"), FedCamera("two")
    run = Run([one, two], Config(batch_wait_ms=60_000, max_age_ms=None))
    two.give(in_a_while(due_s))
    wait_for(lambda: active(run.engine) == [(False, True)])
    one.give(time.monotonic())
    wait_for(lambda: active(run.engine)[1:] == [(True, False)])
    run.finish()


@pytest.mark.parametrize(("names", "wait_ms"), [(["one"], 60_000), (["one", "two"], 0)])
def test_with_one_stream_or_without_the_wait_a_frame_is_seen_at_once(
    names: list[str], wait_ms: int, wait_for: WaitFor
) -> None:
    cameras = [FedCamera(name) for name in names]
    run = Run(cameras, Config(batch_wait_ms=wait_ms, max_age_ms=None))
    for camera in cameras * 2:
        seen = len(run.engine.seen)
        camera.give(in_a_while(20))
        wait_for(lambda seen=seen: len(run.engine.seen) > seen)  # type: ignore[misc]
        time.sleep(0.15)  # the sampler's period
    run.finish()


def test_a_camera_that_hangs_does_not_slow_the_others(wait_for: WaitFor) -> None:
    good, bad = RealCamera("good"), RealCamera("bad")
    run = Run([good, bad], Config(batch_wait_ms=60_000))
    wait_for(lambda: run.pipeline.streams[1].inferred)
    bad.hung.set()
    wait_for(bad.hangs.is_set)
    seen = run.pipeline.streams[0].inferred
    wait_for(lambda: run.pipeline.streams[0].inferred > seen + 20)
    run.finish()


class Ages(Probe):
    def __init__(self) -> None:
        self.ages_s: list[float] = []

    def taken(self, _stream: str, age_s: float) -> None:
        self.ages_s.append(age_s)


class SlowEngine(SeeingEngine):
    """Takes 0.3 s for a step while it is `slow`, which is three sample periods."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = threading.Event()
        self.slow.set()

    def _step(self, *arguments: Any) -> Any:
        if self.slow.is_set():
            time.sleep(0.3)
        return super()._step(*arguments)


def test_no_frame_that_is_too_old_enters_a_slow_engine() -> None:
    ages, config = Ages(), Config(duration_s=3, max_age_ms=200)
    pipeline = Pipeline(config, SlowEngine(), [RealCamera("one"), RealCamera("two")], probe=ages)
    summary = pipeline.run(threading.Event())
    assert 0 < max(ages.ages_s) <= 0.2
    assert summary.dropped["too_old"] > 0
    assert summary.inferred == len(ages.ages_s)
    counted = summary.inferred + sum(summary.dropped.values())
    assert summary.captured - 2 * config.buffer <= counted <= summary.captured


def stream(source: Source, config: Config | None = None) -> tuple[Stream, list[Message]]:
    messages: list[Message] = []
    build = MessageBuilder(SPEC.version, SPEC.mode, now_us=lambda: 0)
    intake = Intake(source, SPEC, config or Config())
    return Stream(source.name, intake, config or Config(), build, messages.append), messages


def test_frames_of_a_file_that_is_read_fast_are_never_too_old() -> None:
    film, _ = stream(Film(lambda _: 0, []))
    film.intake.offer(Frame(0, 0, 0, lambda: picture(0)))
    assert film.take(picture(0)[:8, :8], now_s=1e9) == (True, True)
    assert film.dropped["too_old"] == 0


def test_the_age_counts_from_the_arrival_whatever_the_camera_says_of_its_time() -> None:
    camera, _ = stream(FedCamera("one"))
    row = picture(0)[:8, :8].copy()
    for number, (time_us, arrived_s, now_s) in enumerate([(5, 100.0, 100.25), (10**15, 101.0, 101.2501)]):
        camera.intake.offer(Frame(time_us, number, number, lambda: picture(0), arrived_s))
        assert camera.take(row, now_s)[0] == (number == 0)
    assert camera.dropped["too_old"] == 1


@pytest.mark.parametrize("fps", [30, 5])
def test_a_wider_step_takes_every_fourth_frame_and_is_no_gap(fps: int) -> None:
    camera, messages = stream(FedCamera("one"))
    batcher = Batcher(SeeingEngine(), rows=1)
    wanted = min(fps, 10)
    for second, step in enumerate((1, 4, 4, 1)):
        camera.intake.step = step
        for number in range(fps):
            at_us = 1_000_000 * second + round(1e6 * number / fps)
            camera.intake.offer(Frame(at_us, number, 0, lambda: picture(1)))
            while advance(batcher, [camera]):
                pass
    dropped = camera.dropped
    assert camera.inferred + dropped["shed"] + dropped["above_rate"] == 4 * fps
    assert abs(camera.inferred - (2 * wanted + 2 * wanted / 4)) <= 2
    assert not [m for m in messages if isinstance(m, GapMessage)]
    steps_ms = [m.window.step_ms for m in messages if isinstance(m, ScoreMessage)]
    assert steps_ms == sorted(steps_ms[: len(steps_ms) // 2]) + sorted(steps_ms[len(steps_ms) // 2 :], reverse=True)
    assert set(steps_ms) == {100.0, 400.0}


def test_a_slow_engine_degrades_every_stream_and_a_fast_one_restores_them(
    wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(shedding, "LOOK_S", 0.3)
    monkeypatch.setattr(shedding, "CALM_S", 2)
    names, engine = ("one", "two"), SlowEngine()
    run = Run([RealCamera(name) for name in names], Config(buffer=2, max_age_ms=None), engine=engine)
    metrics = Metrics()
    metrics.watch(run.pipeline, None)
    assert b"streamer_shedding_stage 0.0" in metrics.text()
    wait_for(lambda: all(run.said(StatusMessage, source="degraded", stage=2, stream=name) for name in names))
    assert b"streamer_shedding_stage 2.0" in metrics.text()
    told = run.said(StatusMessage, stage=2)[0].detail
    assert told == "the engine was too slow: stage 2 of 5, one frame of 3 is taken, 3.33 a second"
    assert [stream.source for stream in run.pipeline.report().streams] == ["degraded"] * 2
    assert run.pipeline.conditions()[0][1].state == "online"
    engine.slow.clear()
    wait_for(lambda: all(run.said(StatusMessage, stream=name)[-1].source == "online" for name in names))
    wait_for(lambda: all(stream.intake.step == 1 for stream in run.pipeline.streams))
    stages = [message.stage for message in run.said(StatusMessage, stream="one")]
    assert all(abs(after - before) <= 1 for before, after in pairwise(stages))
    assert run.finish().dropped["shed"] > 0
    assert "the engine is too slow: stage 1 of 5" in caplog.text
    assert "the engine has room again: every frame that the model wants is taken" in caplog.text


def test_a_stream_that_comes_while_load_is_shed_is_sampled_like_the_others(
    wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shedding, "LOOK_S", 0.3)
    engine = SlowEngine()
    run = Run([RealCamera()], Config(buffer=2, max_age_ms=None), engine=engine)
    wait_for(lambda: run.pipeline.stage)
    run.pipeline.add(SourceConfig(uri="pattern://still?size=64x48"))
    assert run.pipeline.streams[1].intake.step > 1
    run.finish()


def test_a_file_that_waits_for_the_engine_is_not_degraded_and_loses_nothing(wait_for: WaitFor) -> None:
    camera, film = RealCamera(), Film(lambda _: 1, [n / 10 for n in range(15)])
    run = Run([camera, film], Config(buffer=2), engine=SlowEngine())
    wait_for(lambda: run.said(StatusMessage, stream="film", source="ended"))
    summary = run.finish()
    assert run.pipeline.streams[1].inferred == 15
    assert not run.said(StatusMessage, stream="film", source="degraded")
    assert summary.dropped.get("too_old", 0) + summary.dropped.get("ring_full", 0) > 0
