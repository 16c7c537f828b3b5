from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.pipeline.sampler import SKIP, TAKE, Decision, Gap, Sampler
from streamer.types import Timeline

START = 1_800_000_000_000_000  # a time of day in microseconds UTC
PERIOD = 100_000  # of 10 Hz

Offers = list[tuple[int, int]]


def run(offers: Offers, rate_hz: float = 10, max_gap: float = 3.0) -> list[tuple[int, int, Decision]]:
    """Every frame taken, with the decision."""
    sampler = Sampler(rate_hz, max_gap)
    decisions = [(time_us, connection, sampler.offer(time_us, connection)) for time_us, connection in offers]
    return [decided for decided in decisions if decided[2].take]


def taken(times: list[int], rate_hz: float = 10) -> list[int]:
    return [time_us for time_us, _, _ in run([(t, 0) for t in times], rate_hz)]


def camera(fps: float, seconds: float, jitter_us: int = 0, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [START + round(i * 1e6 / fps) + rng.randint(-jitter_us, jitter_us) for i in range(round(fps * seconds))]


@pytest.mark.parametrize("fps", [10, 12.5, 15, 24, 25, 29.97, 30, 60, 120])
@pytest.mark.parametrize("jitter_us", [0, 3_000])
def test_the_frames_taken_are_the_nearest_to_the_grid(fps: float, jitter_us: int) -> None:
    times = camera(fps, 60, jitter_us)
    found = taken(times)
    reach = 0.5e6 / fps + 3 * jitter_us + 1
    for number, time_us in enumerate(found):
        assert abs(time_us - times[0] - number * PERIOD) <= reach, f"frame {number}"
    assert len(found) == pytest.approx(600, abs=1)


@pytest.mark.parametrize("fps", [1 / 3 * 10.01, 5, 7, 9.99, 10])
def test_a_camera_slower_than_the_rate_is_taken_whole(fps: float) -> None:
    times = camera(fps, 100)
    assert taken(times) == times


def test_the_grid_does_not_drift() -> None:
    times = camera(30, 3600)
    found = taken(times, rate_hz=29.97 / 3)
    period = 3e6 / 29.97
    assert abs(found[-1] - found[0] - round((found[-1] - found[0]) / period) * period) < 17_000
    assert len(found) == pytest.approx(3600 * 9.99, abs=2)


def test_a_rate_equal_to_the_camera_takes_every_frame_for_hours() -> None:
    times = camera(30, 7200, jitter_us=4_000)
    assert taken(times, rate_hz=30) == times


def test_the_first_frame_is_taken_without_a_gap() -> None:
    assert Sampler(10).offer(START, 5) == TAKE


def test_a_hole_is_a_gap_and_the_grid_begins_anew() -> None:
    found = run([(t, 0) for t in [0, PERIOD, PERIOD * 9 // 2, PERIOD * 11 // 2]])
    gap = Gap(PERIOD, PERIOD * 9 // 2, "gap")
    assert [d for _, _, d in found] == [TAKE, TAKE, Decision(take=True, gap=gap), TAKE]


def test_a_hole_of_exactly_max_gap_is_no_gap() -> None:
    found = run([(0, 0), (3 * PERIOD, 0), (6 * PERIOD + 1, 0)])
    assert [d.gap for _, _, d in found] == [None, None, Gap(3 * PERIOD, 6 * PERIOD + 1, "gap")]


def test_frames_that_were_promised_to_be_farther_apart_are_no_gap_until_the_promise_is_broken() -> None:
    sampler = Sampler(10)
    offers = [(0, 4), (4, 4), (16, 4), (28, 1), (31, 1), (35, 1)]  # (periods, how far the next one is)
    found = [sampler.offer(at * PERIOD, 0, step) for at, step in offers]
    assert found == [TAKE] * 5 + [Decision(take=True, gap=Gap(31 * PERIOD, 35 * PERIOD, "gap"))]


def test_a_new_connection_is_taken_at_once_with_a_gap() -> None:
    found = run([(0, 0), (20_000, 1), (120_000, 1)])
    assert [d for _, _, d in found] == [TAKE, Decision(take=True, gap=Gap(0, 20_000, "reconnect")), TAKE]


def test_a_clock_that_jumps_back_is_a_gap_and_sampling_goes_on() -> None:
    times = [start + number * 33_333 for start in (START, START - 10**9) for number in range(30)]
    found = run([(t, 0) for t in times])
    gaps = [d.gap for _, _, d in found if d.gap]
    assert [gap.reason for gap in gaps] == ["clock"]
    assert gaps[0].to_us == START - 10**9
    assert len(found) == 20


def test_a_clock_that_jumps_ahead_is_a_gap_and_sampling_goes_on() -> None:
    times = [start + number * 33_333 for start in (START, START + 10**9) for number in range(30)]
    found = run([(t, 0) for t in times])
    assert [d.gap.reason for _, _, d in found if d.gap] == ["gap"]
    assert len(found) == 20


@pytest.mark.parametrize("by_us", [-(10**12), -200_000, 200_000, 10**12])
def test_a_clock_that_was_set_is_a_gap_that_says_so(by_us: int) -> None:
    sampler = Sampler(10)
    sampler.offer(START, 0)
    found = sampler.offer(START + PERIOD + by_us, 0, timeline=Timeline(set_us=by_us))
    assert found == Decision(take=True, gap=Gap(START, START + PERIOD + by_us, "clock"))
    assert sampler.offer(START + 2 * PERIOD + by_us, 0, timeline=Timeline(set_us=by_us)) == TAKE


def test_a_leap_of_a_file_is_a_gap_although_time_goes_on_evenly() -> None:
    sampler = Sampler(10)
    sampler.offer(0, 0)
    assert sampler.offer(PERIOD, 0, timeline=Timeline(piece=1)).gap == Gap(0, PERIOD, "gap")
    assert sampler.offer(2 * PERIOD, 0, timeline=Timeline(piece=1)) == TAKE


def test_a_distance_that_is_usual_for_the_source_is_no_gap() -> None:
    sampler = Sampler(10)
    sampler.offer(0, 0)
    assert sampler.offer(5 * PERIOD, 0, patience_us=5 * PERIOD).gap is None
    assert sampler.offer(10 * PERIOD + 1, 0, patience_us=5 * PERIOD).gap == Gap(5 * PERIOD, 10 * PERIOD + 1, "gap")


@pytest.mark.parametrize("fps", [2, 3, 4, 7, 9.5, 10])
def test_what_a_slow_source_did_not_give_is_counted(fps: float) -> None:
    sampler = Sampler(10)
    decisions = [sampler.offer(time_us, 0, patience_us=10**6) for time_us in camera(fps, 60)]
    assert len(decisions) + sum(decision.missed for decision in decisions) == pytest.approx(600, abs=6)


def test_frames_slightly_out_of_order_are_skipped() -> None:
    sampler = Sampler(10)
    decisions = [sampler.offer(t, 0) for t in [0, 100_000, 60_000, 99_999, 100_000, 133_000, 120_000, 200_000]]
    assert decisions == [TAKE, TAKE, SKIP, SKIP, SKIP, SKIP, SKIP, TAKE]


steps = st.one_of(
    st.integers(0, 20_000),  # bursts
    st.integers(20_000, 60_000),  # a usual camera
    st.integers(60_000, 350_000),  # a slow one, and holes about as long as the longest that is no gap
    st.sampled_from([0, 1, 16_667, 33_333, 50_000, 100_000, 300_000, 300_001]),  # the edges of decisions
    st.integers(-250_000, -1),  # out of order
    st.sampled_from([-(10**12), 10**7, 10**12]),  # a clock that jumps
)
rates = st.sampled_from([10.0, 7.5, 12.5, 29.97, 30.0, 1 / 3])


@st.composite
def offers(draw: st.DrawFn) -> Offers:
    time_us, connection, made = START, 0, []
    for step in draw(st.lists(steps, max_size=120)):
        time_us += step
        connection += draw(st.integers(0, 20)) == 20
        made.append((time_us, connection))
    return made


@given(offers(), rates, st.sampled_from([1.2, 3.0, 10.0]))
def test_sampling_what_was_sampled_changes_nothing(made: Offers, rate_hz: float, max_gap: float) -> None:
    once = run(made, rate_hz, max_gap)
    assert run([(time_us, connection) for time_us, connection, _ in once], rate_hz, max_gap) == once


@given(offers(), rates)
def test_between_gaps_time_runs_forward_never_faster_than_the_rate(made: Offers, rate_hz: float) -> None:
    period = 1e6 / rate_hz
    run_start, count, before = 0, 0, None
    for time_us, _, decision in run(made, rate_hz):
        if before is None or decision.gap:
            run_start, count = time_us, 0
        else:
            assert time_us - before >= period / 3 - 1
            assert time_us - before <= 3 * period + 1
            count += 1
            assert count <= (time_us - run_start) / period + 0.5 + 1e-6
        before = time_us


@given(offers())
def test_every_gap_says_from_where_to_where(made: Offers) -> None:
    found = run(made)
    for (before, old, _), (time_us, new, decision) in itertools.pairwise(found):
        assert (decision.gap is None) == (new == old and -PERIOD < time_us - before <= 3 * PERIOD)
        if decision.gap:
            assert (decision.gap.from_us, decision.gap.to_us) == (before, time_us)


@given(offers(), st.data())
def test_frames_that_the_ring_drops_are_seen_as_gaps_only_when_they_are_missed(
    made: Offers, data: st.DataObject
) -> None:
    kept = [frame for frame in run(made) if data.draw(st.booleans())]
    found = run([(time_us, connection) for time_us, connection, _ in kept])
    for (before, old, _), (time_us, new, decision) in itertools.pairwise(found):
        assert (decision.gap is None) == (new == old and -PERIOD < time_us - before <= 3 * PERIOD)
