from __future__ import annotations

import pytest

from streamer.sources.waited import Waited

PERIOD_S = 0.04


def waits(arrivals_s: list[float], pts_us: list[int | None] | None = None) -> list[float]:
    """How long each frame waited, of a camera that sends one every 40 ms."""
    waited = Waited()
    stamps = pts_us or [round(number * PERIOD_S * 1e6) for number in range(len(arrivals_s))]
    return [waited.wait_s(pts, arrival) for pts, arrival in zip(stamps, arrivals_s, strict=True)]


def in_time(count: int, first: int = 0) -> list[float]:
    return [(first + number) * PERIOD_S for number in range(count)]


def test_frames_in_time_have_not_waited() -> None:
    assert max(waits(in_time(100))) == 0


def test_frames_that_come_in_a_burst_after_a_halt_waited_each_for_its_own_time() -> None:
    begin, resumed = in_time(50), 50 * PERIOD_S + 3
    burst = [resumed + number * 0.001 for number in range(77)]  # until it has caught up
    found = waits([*begin, *burst, *in_time(20, 127)])
    assert found[50] == pytest.approx(3, abs=0.01)
    assert found[50:127] == sorted(found[50:127], reverse=True)
    assert max(found[127:]) < 0.1


def test_a_slow_burst_is_one_as_long_as_it_gets_less() -> None:
    arrivals = in_time(10)
    arrivals += [10 * PERIOD_S + 3 + number * PERIOD_S / 2 for number in range(140)]
    found = waits(arrivals)
    assert found[10 + 70] == pytest.approx(3 - 70 * PERIOD_S / 2, abs=0.01), "it took longer than a second"


def test_a_camera_whose_clock_was_held_up_is_believed_after_a_second() -> None:
    found = waits([*in_time(10), *[at + 5 for at in in_time(60, 10)]])
    assert found[10] == pytest.approx(5, abs=0.01)
    assert found[-1] < 0.01


def test_a_camera_whose_clock_leaps_is_followed_at_once() -> None:
    ahead: list[int | None] = [0, 40_000, 9_080_000, 9_120_000]
    assert max(waits(in_time(4), ahead)) == 0
    back: list[int | None] = [9_000_000, 9_040_000, 80_000, 120_000]
    assert max(waits(in_time(4), back)) == 0


def test_a_slower_clock_is_followed() -> None:
    pts: list[int | None] = [round(number * PERIOD_S * 1e6 * (1 - 2e-4)) for number in range(5000)]
    assert max(waits(in_time(5000), pts)) < 0.01


def test_nothing_is_known_of_frames_without_a_timestamp() -> None:
    assert waits(in_time(3), [None, None, None]) == [0, 0, 0]
