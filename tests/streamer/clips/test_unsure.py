from __future__ import annotations

import numpy as np
import pytest

from streamer.clips.unsure import DAY_US, Unsure, lead

SURE = [0.9, 0.05, 0.05]


def picked(scores: dict[float, list[float]], a_day: int = 6, until_s: float = 60) -> list[float]:
    """When a moment is picked, in seconds, if the scores change at these times and come ten times a second."""
    unsure, found, now = Unsure(a_day), [], SURE
    for tenth in range(round(until_s * 10)):
        now = scores.get(tenth / 10, now)
        if unsure.saw(tenth * 100_000, np.array(now, np.float32)):
            found.append(tenth / 10)
    return found


def test_the_lead_is_that_of_the_best_label_over_the_second() -> None:
    assert lead(np.array([0.2, 0.7, 0.1], np.float32)) == pytest.approx(0.5)
    assert lead(np.array([1.0], np.float32)) == pytest.approx(1)


def test_a_model_that_is_sure_that_it_knows_nothing_of_this_is_sure() -> None:
    assert lead(np.array([0.05, 0.05], np.float32)) == pytest.approx(0.85)


def test_a_model_that_is_sure_has_no_moments() -> None:
    assert picked({}) == []


def test_a_moment_between_two_actions_is_none() -> None:
    assert picked({10: [0.5, 0.5, 0.0], 10.2: [0.0, 1.0, 0.0]}) == []


def test_a_long_moment_is_picked_when_the_model_is_least_sure() -> None:
    found = picked({10: [0.45, 0.45, 0.1], 14: SURE})
    assert 10 < found[0] < 12
    assert 13 < found[-1] < 14.1


def test_only_a_moment_that_is_less_sure_takes_the_place_of_another() -> None:
    unsure, sure = [0.5, 0.3, 0.2], SURE
    found = picked({10: [0.45, 0.45, 0.1], 14: sure, 20: unsure, 24: sure, 30: [0.4, 0.4, 0.2], 40: sure})
    assert not [at for at in found if 20 <= at < 30]
    assert picked({20: unsure, 24: sure})


def test_each_part_of_the_day_has_its_own() -> None:
    unsure = Unsure(6)
    assert unsure.part_us == DAY_US // 6
    times = []
    for part in range(6):
        for tenth in range(40):
            at_us = part * unsure.part_us + tenth * 100_000
            if unsure.saw(at_us, np.array([0.5, 0.5], np.float32)):
                times.append(at_us // unsure.part_us)
                break
    assert times == [0, 1, 2, 3, 4, 5]


def test_an_average_over_lost_time_begins_anew() -> None:
    unsure = Unsure(6)
    assert not unsure.saw(0, np.array([0.5, 0.5], np.float32))
    assert not unsure.saw(5_000_000, np.array([0.5, 0.5], np.float32))  # what was between is not known
