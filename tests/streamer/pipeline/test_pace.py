from __future__ import annotations

import itertools
import random

import pytest

from streamer.pipeline.pace import UNKNOWN, Pace
from streamer.types import Frame, Timeline

from .seeing import picture


def frame(time_us: int, connection: int = 0, timeline: Timeline = Timeline()) -> Frame:  # noqa: B008
    return Frame(time_us, 0, connection, lambda: picture(0), timeline=timeline)


def watched(times_s: list[float], rate_hz: float = 10) -> Pace:
    pace = Pace(rate_hz)
    for time_s in times_s:
        pace.see(frame(round(time_s * 1e6)))
    return pace


def steady(fps: float, seconds: float, jitter_s: float = 0.0) -> list[float]:
    rng = random.Random(0)
    return [number / fps + rng.uniform(0, jitter_s) for number in range(round(fps * seconds))]


@pytest.mark.parametrize("fps", [1.5, 2, 3, 3.4, 5, 8, 8.8])
@pytest.mark.parametrize("jitter_s", [0.0, 0.03])
def test_a_source_slower_than_the_model_is_known_after_seconds(fps: float, jitter_s: float) -> None:
    pace = watched(steady(fps, 6, jitter_s))
    assert pace.slow
    assert pace.rate_hz == pytest.approx(fps, rel=0.15)


@pytest.mark.parametrize("fps", [9.3, 10, 15, 30, 120])
@pytest.mark.parametrize("jitter_s", [0.0, 0.03])
def test_a_source_about_as_fast_as_the_model_is_not_slow(fps: float, jitter_s: float) -> None:
    assert not watched(steady(fps, 6, min(jitter_s, 0.5 / fps))).slow


def test_holes_in_a_fast_source_do_not_make_it_a_slow_one() -> None:
    times = [at for at in steady(30, 20) if at % 5 > 3.5]
    pace = watched(times)
    assert not pace.slow
    assert pace.rate_hz == pytest.approx(30, rel=0.1)


def test_a_rate_near_the_limit_does_not_flicker() -> None:
    pace, told = Pace(10), []
    rng, at = random.Random(1), 0.0
    for _ in range(3000):
        at += 1 / 9.1 + rng.uniform(-0.01, 0.01)
        pace.see(frame(round(at * 1e6)))
        told.append(pace.slow)
    assert sum(before != after for before, after in itertools.pairwise(told)) <= 1


def test_the_rate_that_is_told_rests_and_follows_a_change() -> None:
    pace, told = Pace(10), set()
    for at in [*steady(3, 20, 0.02), *(20 + at for at in steady(5, 20, 0.02))]:
        pace.see(frame(round(at * 1e6)))
        told.add(pace.rate_hz)
    assert pace.rate_hz == pytest.approx(5, rel=0.1)
    assert len(told - {None}) <= 6


def test_what_is_usual_for_a_slow_source_is_no_gap_and_what_is_twice_as_long_is() -> None:
    pace = watched(steady(3, 6))
    distance = pace.see(frame(6_333_333))
    assert (distance.before_us, distance.slow) == (5_666_667, True)
    assert 400_000 < distance.patience_us < 600_000


def test_beyond_seven_and_a_half_periods_nothing_is_usual() -> None:
    pace = watched(steady(1, 10))
    assert pace.see(frame(10_000_000)).patience_us == 750_000
    assert pace.rate_hz is None


@pytest.mark.parametrize(
    "other", [frame(6_000_000, connection=1), frame(6_000_000, timeline=Timeline(set_us=5)), frame(5_000_000)]
)
def test_another_connection_another_clock_and_time_that_runs_back_are_a_new_beginning(other: Frame) -> None:
    pace = watched(steady(3, 6))
    assert pace.see(other) == UNKNOWN
    after = Frame(other.time_us + 300_000, 0, other.connection, other.bgr, timeline=other.timeline)
    assert pace.see(after).before_us == other.time_us
