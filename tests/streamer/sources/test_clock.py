from __future__ import annotations

import random
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from streamer.pipeline.sampler import Gap, Sampler
from streamer.sources.clock import CaptureClock, UtcClock

START = 1_800_000_000_000_000
FRAME = 33_333
LATENCY = 40_000

Seen = list[
    tuple[int, int, int]
]  # when a frame was captured, its timestamp by the camera, when it arrived; all microseconds


def errors(frames: Seen) -> list[int]:
    """How far off the mapped times are: positive is late."""
    clock = CaptureClock()
    return [clock.utc_us(pts, arrival) - captured for captured, pts, arrival in frames]


def sampled(frames: Seen) -> list[tuple[int, Gap | None]]:
    """When the frames that the network sees were captured, with the gaps, at 10 Hz."""
    clock, sampler = CaptureClock(), Sampler(10)
    decisions = [(captured, sampler.offer(clock.utc_us(pts, arrival), 0)) for captured, pts, arrival in frames]
    return [(captured, decision.gap) for captured, decision in decisions if decision.take]


def camera(seconds: float, delay: Callable[[int], int], ppm: float = 0, every: int = FRAME) -> Seen:
    """Frames that arrive `delay(number)` after capture, in order, from a camera whose clock is `ppm` too fast."""
    frames: Seen = []
    arrival = 0
    for number in range(round(seconds * 1e6 / every)):
        captured = START + number * every
        arrival = max(arrival, captured + delay(number))
        frames.append((captured, 12_345 + round(number * every * (1 + ppm / 1e6)), arrival))
    return frames


def test_even_arrival_is_mapped_exactly() -> None:
    assert set(errors(camera(10, lambda _: LATENCY))) == {LATENCY}


def test_jitter_of_the_network_is_removed() -> None:
    rng = random.Random(0)
    found = errors(camera(60, lambda _: LATENCY + rng.randint(0, 60_000)))[30:]
    assert min(found) >= LATENCY
    assert max(found) <= LATENCY + 8_000


@pytest.mark.parametrize("ppm", [-200, -100, 100, 200])
def test_a_camera_clock_that_is_off_by_a_little_does_not_drift_away_in_hours(ppm: float) -> None:
    rng = random.Random(0)
    found = errors(camera(3 * 3600, lambda _: LATENCY + rng.randint(0, 60_000), ppm, every=100_000))[100:]
    assert min(found) >= LATENCY - 1_000
    assert max(found) <= LATENCY + 15_000


def test_frames_of_a_burst_keep_their_distances() -> None:
    # thirty frames at a time, once a second
    frames = camera(20, lambda number: LATENCY + (29 - number % 30) * FRAME)
    found = errors(frames)[30:]
    assert max(found) - min(found) <= 1_000
    distances = [after - before for (before, _), (after, _) in pairwise(sampled(frames)[10:])]
    assert set(distances) == {3 * FRAME}


def test_a_hiccup_of_the_network_does_not_move_the_frames() -> None:
    # nothing comes for three seconds, then everything at once
    found = errors(camera(10, lambda number: LATENCY + max(0, 180 - number) * FRAME if number >= 90 else LATENCY))
    assert max(abs(error - LATENCY) for error in found) <= 2_000


@pytest.mark.parametrize("jump_us", [-(10**12), -3_000_000, -100_000, 3_000_000, 10**12])
def test_a_camera_clock_that_jumps_neither_freezes_nor_tears_the_stream(jump_us: int) -> None:
    frames = camera(10, lambda _: LATENCY)
    jumped = frames[:150] + [(captured, pts + jump_us, arrival) for captured, pts, arrival in frames[150:]]
    assert set(errors(jumped)) == {LATENCY}
    assert len(sampled(jumped)) == 100
    assert {gap for _, gap in sampled(jumped)} == {None}


def test_a_camera_clock_that_stood_still_is_followed_after_a_second() -> None:
    frames = camera(10, lambda _: LATENCY)
    # it stood still for three seconds, and made no frame
    found = errors(frames[:60] + [(captured, pts - 90 * FRAME, arrival) for captured, pts, arrival in frames[150:]])
    assert max(abs(error - LATENCY) for error in found[:60] + found[100:]) <= 2_000


def test_a_camera_whose_timestamps_stand_still_is_stamped_by_arrival() -> None:
    frames = [(captured, 77, arrival) for captured, _, arrival in camera(10, lambda _: LATENCY)]
    assert set(errors(frames)) == {LATENCY}


def test_times_always_increase() -> None:
    rng = random.Random(1)
    clock = CaptureClock()
    arrival, found = START, []
    for _ in range(3000):
        arrival += rng.choice([0, 0, 1, 33_333, 2_000_000])
        pts = rng.choice([None, arrival + rng.randint(-2_000_000, 2_000_000), rng.randint(0, 10**12)])
        found.append(clock.utc_us(pts, arrival, rng.choice([None, arrival - rng.randint(-500_000, 1_500_000)])))
    assert all(before < after for before, after in pairwise(found))
    assert all(time_us <= arrival + 3000 for time_us in found)


def test_frames_without_timestamps_have_the_time_of_their_arrival() -> None:
    clock = CaptureClock()
    assert [clock.utc_us(None, START + at) for at in (0, 40_000, 70_000)] == [START, START + 40_000, START + 70_000]


def test_the_time_that_the_camera_tells_is_used_where_it_can_be_true() -> None:
    clock = CaptureClock()
    assert clock.utc_us(0, START) == START
    assert clock.utc_us(FRAME, START + FRAME, START + FRAME - 20_000) == START + FRAME - 20_000
    # and keeps the place of frames that come without one
    assert clock.utc_us(2 * FRAME, START + 2 * FRAME) == pytest.approx(START + 2 * FRAME - 20_000, abs=20)


@pytest.mark.parametrize("lie_us", [-(10**15), -3_600_000_000, -1_000_001, 1, 3_600_000_000])
def test_a_camera_with_a_wrong_clock_is_not_believed(lie_us: int) -> None:
    clock = CaptureClock()
    for number in range(10):
        arrival = START + number * FRAME
        assert clock.utc_us(number * FRAME, arrival, arrival + lie_us) == arrival


HOUR = 3_600_000_000


@pytest.mark.parametrize("by_us", [-48 * HOUR, -HOUR, -500_000, 200_000, 60_000_000, HOUR])
def test_when_the_clock_is_set_frames_go_on_by_the_new_one_and_keep_their_distances(by_us: int) -> None:
    rng = random.Random(0)
    frames = camera(20, lambda _: LATENCY + rng.randint(0, 60_000))
    clock, found = CaptureClock(), []
    for number, (captured, pts, arrival) in enumerate(frames):
        set_us = by_us if number >= 300 else 0
        found.append(clock.utc_us(pts, arrival + set_us, set_us=set_us) - set_us - captured)
    assert min(found[30:]) >= LATENCY
    assert max(found[30:]) <= LATENCY + 8_000


class Machine:
    """Clocks in the hand of a test: the monotonic one goes on by 1 ms with every look."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._ns = 10**12
        self.slept_ns, self.wall_ns = 5 * 10**9, START * 1000
        patch.setattr(time, "monotonic_ns", self._look)
        patch.setattr(time, "clock_gettime_ns", lambda _: self._ns + self.slept_ns)
        patch.setattr(time, "time_ns", lambda: self._ns + self.slept_ns + self.wall_ns)

    def _look(self) -> int:
        self._ns += 10**6
        return self._ns

    def right(self, clock: UtcClock) -> bool:
        """Whether it tells the time that is set, to 10 ms."""
        return abs(clock.now_us() - time.time_ns() // 1000) < 10_000


@pytest.mark.parametrize("by_s", [-86_400 * 3, -3600, -60, -0.15, 0.15, 60, 3600, 86_400 * 3])
def test_a_clock_that_is_set_is_followed_at_once_and_told(by_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    clock = UtcClock()
    assert machine.right(clock)
    machine.wall_ns += round(by_s * 1e9)
    assert machine.right(clock)
    assert clock.set_us == pytest.approx(by_s * 1e6, abs=2)
    machine.wall_ns -= round(by_s * 1e9)
    assert machine.right(clock)
    assert clock.set_us == pytest.approx(0, abs=4)


def test_a_clock_that_is_slewed_was_not_set_and_many_small_steps_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    clock = UtcClock()
    for step in range(1, 12):
        machine.wall_ns += 10_000_000
        clock.now_us()
        assert clock.set_us == (0 if step <= 10 else 110_000)


def test_sleep_of_the_machine_is_time_that_went_by_and_no_clock_that_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    clock = UtcClock()
    machine.slept_ns += 8 * 3600 * 10**9
    assert machine.right(clock)
    assert clock.set_us == 0


def test_frames_that_waited_while_the_machine_slept_do_not_pass_as_new() -> None:
    frames = camera(20, lambda number: LATENCY if number < 300 else max(LATENCY, 8 * HOUR - (number - 300) * FRAME))
    found = errors(frames)
    assert set(found[:300]) == {LATENCY}
    assert max(found) <= LATENCY + 8 * HOUR // 2000 + 1, "what two clocks may differ by in such a time, and no more"


def test_utc_runs_evenly_with_the_monotonic_clock() -> None:
    clock = UtcClock()
    assert abs(clock.now_us() - time.time_ns() // 1000) < 1_000_000
    assert clock.utc_us(5_000_000) - clock.utc_us(4_000_000) == 1_000_000
