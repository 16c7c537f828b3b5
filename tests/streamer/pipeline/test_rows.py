from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from engines import EngineError, EngineState, load_engine
from engines.backends.scripted import ScriptedState
from streamer.config import Config
from streamer.labels.messages import Message, MessageBuilder
from streamer.pipeline.batcher import Batcher
from streamer.pipeline.intake import Intake
from streamer.pipeline.rows import Rows
from streamer.pipeline.stream import Stream
from streamer.types import Frame, Probabilities

from .seeing import SPEC, Film, SeeingEngine, picture


class Later:
    """Does what is asked of it when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Callable[[], EngineState], Future[EngineState]]] = []

    def __call__(self, make: Callable[[], EngineState]) -> Future[EngineState]:
        self.asked.append((make, Future()))
        return self.asked[-1][1]

    def work(self) -> None:
        make, made = self.asked.pop(0)
        try:
            made.set_result(make())
        except EngineError as error:
            made.set_exception(error)


class Scene:
    """Streams that show a grey each, and the rows that see them."""

    def __init__(self, *names: str, engine: SeeingEngine | None = None) -> None:
        self.engine = engine or SeeingEngine()
        self.messages: list[Message] = []
        self.later = Later()
        self.build = MessageBuilder("seeing@00", "stream")
        self.streams = [self.stream(name) for name in names]
        self.rows = Rows(self.engine, self.streams, self.later)
        self.time_us = 0

    def stream(self, name: str) -> Stream:
        intake = Intake(Film(lambda _: 0, [], name), SPEC, Config())
        return Stream(name, intake, Config(), self.build, self.messages.append)

    def steps(self, count: int) -> None:
        """Every stream shows its grey: that of its place in the alphabet."""
        for _ in range(count):
            self.time_us += 100_000
            for stream in self.streams:
                image = picture("abcd".index(stream.name))
                stream.intake.offer(Frame(self.time_us, 0, 0, lambda image=image: image))  # type: ignore[misc]
            self.rows.step(lambda: self.time_us)

    def readiness(self) -> dict[str, list[bool]]:
        """Of each stream's scores so far, and forget them."""
        found: dict[str, list[bool]] = {}
        for message in self.messages:
            if message.kind == "score":
                found.setdefault(message.stream, []).append(message.ready)
        self.messages.clear()
        return found


def test_a_stream_that_comes_is_seen_once_it_has_a_row_and_the_others_never_pause() -> None:
    scene = Scene("a", "b")
    scene.steps(4)
    scene.streams.append(scene.stream("c"))
    scene.rows.arrange(scene.streams)
    scene.readiness()
    scene.steps(3)
    assert scene.readiness() == {"a": [True] * 3, "b": [True] * 3}
    assert scene.rows.waiting(scene.streams) == scene.streams[2:]
    scene.later.work()
    scene.rows.arrange(scene.streams)
    scene.steps(5)
    assert scene.readiness() == {"a": [True] * 5, "b": [True] * 5, "c": [True] * 2}  # c begins with its fourth frame
    assert scene.engine.seen[-1] == [32, 96, 160]


def test_a_stream_that_goes_frees_its_row_for_the_next() -> None:
    scene = Scene("a", "b")
    scene.steps(4)
    del scene.streams[0]
    scene.rows.arrange(scene.streams)
    scene.streams.append(scene.stream("c"))
    scene.rows.arrange(scene.streams)
    scene.readiness()
    scene.steps(5)
    assert scene.engine.seen[-1] == [160, 96]
    assert scene.readiness() == {"b": [True] * 5, "c": [True] * 2}
    scene.later.work()  # for the one stream that there was in between
    scene.rows.arrange(scene.streams)
    scene.steps(1)
    assert scene.engine.seen[-1] == [160, 96]
    assert not scene.later.asked


def test_rows_that_nobody_uses_are_given_up() -> None:
    scene = Scene("a", "b", "c")
    scene.steps(4)
    del scene.streams[1]
    scene.rows.arrange(scene.streams)
    scene.later.work()
    scene.rows.arrange(scene.streams)
    scene.readiness()
    scene.steps(2)
    assert scene.engine.seen[-1] == [32, 160]
    assert scene.readiness() == {"a": [True] * 2, "c": [True] * 2}


def test_many_streams_that_come_at_once_cost_two_new_states() -> None:
    scene = Scene("a")
    for name in "bcd":
        scene.streams.append(scene.stream(name))
        scene.rows.arrange(scene.streams)
    made = 0
    while scene.later.asked:
        scene.later.work()
        made += 1
        scene.rows.arrange(scene.streams)
        scene.rows.arrange(scene.streams)
    assert made == 2
    scene.steps(1)
    assert scene.engine.seen[-1] == [32, 96, 160, 224]


def test_without_any_stream_the_rows_wait_for_one() -> None:
    scene = Scene("a")
    scene.steps(1)
    scene.streams.clear()
    scene.rows.arrange(scene.streams)
    scene.steps(1)
    assert len(scene.engine.seen) == 1
    scene.streams.append(scene.stream("b"))
    scene.rows.arrange(scene.streams)
    scene.steps(1)
    assert scene.engine.seen[-1] == [96]
    assert not scene.later.asked


class Small(SeeingEngine):
    """Has room for one stream."""

    def new_state(self, rows: int) -> ScriptedState:
        if rows > 1:
            raise EngineError("out of memory")
        return super().new_state(rows)


def test_an_engine_without_room_is_told_and_the_others_go_on() -> None:
    scene = Scene("a", engine=Small())
    scene.streams.append(scene.stream("b"))
    assert scene.rows.arrange(scene.streams) is None
    scene.later.work()
    error = scene.rows.arrange(scene.streams)
    assert str(error) == "out of memory"
    assert scene.rows.waiting(scene.streams) == [scene.streams.pop()]
    assert scene.rows.arrange(scene.streams) is None
    scene.steps(1)
    assert scene.engine.seen[-1] == [32]
    assert not scene.later.asked


def test_closing_waits_for_a_state_that_is_being_made() -> None:
    scene = Scene("a")
    scene.streams.append(scene.stream("b"))
    scene.rows.arrange(scene.streams)
    working = threading.Timer(0.1, scene.later.work)
    working.start()
    scene.rows.close()
    assert not scene.later.asked
    working.join()


def test_a_network_remembers_what_it_saw_when_its_row_moves() -> None:
    engine = load_engine("default", threads=1)
    rng = np.random.default_rng(0)
    films = rng.integers(0, 256, (12, 2, engine.spec.height, engine.spec.width, 3), np.uint8)
    moved, still = Batcher(engine, rows=2), Batcher(engine, rows=2)

    def step(batcher: Batcher, frames: NDArray[np.uint8], fresh: bool) -> Probabilities:
        for index, frame in enumerate(frames):
            batcher.row(index)[:] = frame
            batcher.fill(index, fresh=fresh)
        return batcher.step()[0].copy()

    for number, pair in enumerate(films[:8]):
        step(moved, pair, fresh=number == 0)
        step(still, pair, fresh=number == 0)
    moved.move(engine.new_state(3), kept=[1])
    for pair in films[8:]:
        expected = step(still, pair, fresh=False)[1]
        np.testing.assert_allclose(step(moved, pair[1:], fresh=False)[0], expected, atol=1e-5)
    engine.close()


def test_sizes_that_are_made_ready_at_the_start_are_those_that_streams_get_later() -> None:
    class Counting(SeeingEngine):
        def __init__(self) -> None:
            super().__init__()
            self.made: list[int] = []

        def new_state(self, rows: int) -> ScriptedState:
            self.made.append(rows)
            return super().new_state(rows)

    scene = Scene("a", "b", "c", "d", "e", "f", engine=(engine := Counting()))
    later = Later()
    rows = Rows(engine, [], later, ready=5)
    assert engine.made[-5:] == [1, 2, 4, 5, 1]
    for count, size in ((1, 1), (2, 2), (3, 4), (4, 4), (5, 5), (6, 6), (3, 4), (0, 1)):
        rows.arrange(scene.streams[:count])
        if later.asked:
            later.work()
        rows.arrange(scene.streams[:count])
        assert engine.made[-1] == size
        assert not rows.waiting(scene.streams[:count])
