"""An engine that computes its rows in parts of two, and cameras whose frames arrive one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streamer.types import Frame

from .seeing import SeeingEngine, picture
from .test_rows import Scene


class Clock:
    """What the batcher goes by."""

    now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s


CLOCK = Clock()


class Parts(SeeingEngine):
    """Takes `part_s` of the clock for each part with an active row."""

    def __init__(self, part_s: float = 0.0) -> None:
        super().__init__()
        self.together, self.part_s = 2, part_s

    def _step(
        self, frames: NDArray[np.uint8], active: NDArray[np.bool_], fresh: NDArray[np.bool_], state: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        CLOCK.now_s += self.part_s * sum(active[at : at + 2].any() for at in range(0, len(active), 2))
        return super()._step(frames, active, fresh, state)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.pipeline.batcher.time", CLOCK)


class Cameras(Scene):
    """Time is told: tenths of a second, and what each camera is late within them."""

    def __init__(self, names: str, engine: Parts) -> None:
        super().__init__(*names, engine=engine)
        self.now_s = 1000.0

    def show(self, name: str, at_s: float) -> None:
        """A frame of a camera, which arrives so long after the time."""
        (stream,) = (stream for stream in self.streams if stream.name == name)
        image = picture("abcd".index(name))
        at_s += self.now_s
        stream.intake.offer(Frame(round(at_s * 1e6), 0, 0, lambda: image, at_s))

    def wait_s(self, at_s: float, patience_s: float = 0.003) -> float:
        return self.rows.wait_s(self.now_s + at_s, patience_s)

    def step(self, at_s: float) -> str:
        """The streams of a step."""
        return "".join(stream.name for stream in self.rows.step(lambda: 0, self.now_s + at_s))

    def all_at(self, late_s: dict[str, float]) -> None:
        """All cameras show a frame, all of which are seen at once; then a tenth of a second is over."""
        for name, at_s in late_s.items():
            self.show(name, at_s)
        self.wait_s(0.09, 0.0)
        self.step(0.09)
        self.now_s += 0.1


def test_a_part_is_held_back_for_a_frame_that_comes_sooner_than_computing_it_takes() -> None:
    cameras = Cameras("ab", Parts(0.02))
    for _ in range(12):  # until it is known how long a step takes
        cameras.all_at({"a": 0.0, "b": 0.012})
    cameras.show("a", 0.0)
    assert 0 < cameras.wait_s(0.001) < 0.06
    assert cameras.step(0.001) == ""
    cameras.show("b", 0.012)
    assert not cameras.wait_s(0.012)
    assert cameras.step(0.012) == "ab"


@pytest.mark.parametrize(("part_s", "b_s", "patience_s"), [(0.0, 0.02, 0.003), (0.01, 0.06, 0.003), (0.02, 0.012, 0.0)])
def test_it_is_not_where_that_would_save_nothing_or_nobody_is_to_wait(
    part_s: float, b_s: float, patience_s: float
) -> None:
    cameras = Cameras("ab", Parts(part_s))
    for _ in range(12):
        cameras.all_at({"a": 0.0, "b": b_s})
    cameras.show("a", 0.0)
    assert not cameras.wait_s(0.001, patience_s)
    assert cameras.step(0.001) == "a"


def test_it_is_never_held_back_for_most_of_a_period() -> None:
    cameras = Cameras("ab", Parts(0.06))
    for _ in range(12):
        cameras.all_at({"a": 0.0, "b": 0.055})
    cameras.show("a", 0.0)
    assert cameras.wait_s(0.001)
    assert not cameras.wait_s(0.061)
    assert cameras.step(0.061) == "a"


def test_a_part_that_is_complete_does_not_wait_for_the_others() -> None:
    cameras = Cameras("abcd", Parts(0.02))
    for _ in range(12):
        cameras.all_at({"a": 0.0, "b": 0.005, "c": 0.001, "d": 0.02})
    for name, at_s in (("a", 0.0), ("c", 0.001), ("b", 0.005)):
        cameras.show(name, at_s)
    assert not cameras.wait_s(0.005)
    first = cameras.step(0.005)
    assert first == "ac"
    cameras.show("d", 0.02)
    assert not cameras.wait_s(0.02)
    assert sorted(first + cameras.step(0.02)) == ["a", "b", "c", "d"]


def test_streams_move_beside_those_whose_frames_arrive_with_theirs_and_remember_what_they_saw() -> None:
    cameras = Cameras("abcd", Parts())
    late_s = {"a": 0.0, "b": 0.05, "c": 0.004, "d": 0.054}
    for number in range(60):  # c and d come later than the others
        cameras.all_at({name: late_s[name] for name in ("abcd" if number > 57 else "ab")})
    assert cameras.engine.seen[-1] == [32, 96, 160, 224]
    cameras.readiness()
    for _ in range(60):
        cameras.all_at(late_s)
    assert cameras.engine.seen[-1] == [32, 160, 96, 224]
    ready = cameras.readiness()
    assert len(ready["a"]) == len(ready["b"]) == 60
    assert len(ready["c"]) == len(ready["d"]) == 59  # from the fourth frame on, two of which were before the move
