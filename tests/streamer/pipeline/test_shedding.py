from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.pipeline.shedding import STEPS, Shedding

PERIOD_S = 0.1
HOUR = 3600
FINE, BAD = (0, 10, 0.01), (5, 5, 0.2)  # (lost, seen, turn_s)


def hear(shedding: Shedding, *seconds: tuple[int, int, float]) -> list[int]:
    """The stage after each second."""
    stages = []
    for second in seconds:
        before = shedding.stage
        assert shedding.second(*second) == (shedding.stage != before)
        stages.append(shedding.stage)
    return stages


def test_every_third_second_of_loss_widens_by_one_stage_up_to_the_last() -> None:
    shedding = Shedding(PERIOD_S)
    assert hear(shedding, *[BAD] * 20) == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 5, 5, 5]
    assert str(shedding) == "stage 5 of 5, one frame of 8 is taken, 1.25 a second"


@pytest.mark.parametrize("trouble", [[BAD], [BAD, BAD], [(1, 160, 0.01)] * HOUR, [BAD, BAD, FINE, FINE] * 100])
def test_a_hiccup_or_a_lost_frame_now_and_then_changes_nothing(trouble: list[tuple[int, int, float]]) -> None:
    assert set(hear(Shedding(PERIOD_S), *trouble, *[FINE] * 10)) == {0}


def test_ten_calm_seconds_lead_back_by_one_stage() -> None:
    shedding = Shedding(PERIOD_S)
    hear(shedding, *[BAD] * 6)
    assert hear(shedding, *[FINE] * 20) == [2] * 9 + [1] * 10 + [0]


@pytest.mark.parametrize("restless", [(1, 10, 0.01), (0, 10, 0.071)])  # a loss; no room for the narrower step
def test_calm_begins_anew_after_a_second_that_was_not(restless: tuple[int, int, float]) -> None:
    shedding = Shedding(PERIOD_S)
    hear(shedding, *[BAD] * 3)
    assert hear(shedding, *[FINE] * 9, restless, *[FINE] * 10) == [1] * 19 + [0]


def test_each_setback_doubles_the_time_before_the_next_attempt() -> None:
    shedding = Shedding(PERIOD_S)
    hear(shedding, *[BAD] * 3)
    for wait in (10, 20, 40, 80, 160, 320, 320):
        assert hear(shedding, *[FINE] * wait) == [1] * (wait - 1) + [0]
        hear(shedding, *[BAD] * 3)
        assert shedding.stage == 1


def test_two_successes_in_a_row_make_the_next_attempt_quick_again() -> None:
    shedding = Shedding(PERIOD_S)
    hear(shedding, *[BAD] * 9, *[FINE] * 10, *[BAD] * 3)
    assert hear(shedding, *[FINE] * 50) == [3] * 19 + [2] * 20 + [1] * 10 + [0]


def test_without_a_camera_nothing_is_learnt() -> None:
    shedding = Shedding(PERIOD_S)
    hear(shedding, *[BAD] * 3)
    assert set(hear(shedding, *[(0, 0, 0.0)] * HOUR)) == {1}


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 160), st.floats(0, 2)), max_size=300))
def test_whatever_happens_stages_change_by_one_and_have_their_time(seconds: list[tuple[int, int, float]]) -> None:
    stages = [0, *hear(Shedding(PERIOD_S), *seconds)]
    last = 0
    for at, (before, after) in enumerate(pairwise(stages), 1):
        assert 0 <= after < len(STEPS)
        if after != before:
            assert abs(after - before) == 1
            assert at - last >= (3 if after > before else 10)
            last = at


@given(st.floats(0.001, 0.79), st.integers(1, 64))
def test_an_engine_of_constant_speed_finds_its_stage_and_stays_there(turn_s: float, streams: int) -> None:
    shedding = Shedding(PERIOD_S)
    stages = []
    for _ in range(600):
        wanted = 10 * streams / shedding.step
        seen = min(wanted, streams / turn_s)
        shedding.second(round(wanted - seen), round(seen), turn_s)
        stages.append(shedding.stage)
    assert stages == sorted(stages)
    assert len(set(stages[30:])) == 1
    assert stages[-1] == 0 or turn_s > STEPS[stages[-1] - 1] * PERIOD_S
    wanted = 10 * streams / shedding.step
    assert wanted - streams / turn_s <= 0.05 * wanted + 0.6  # 5 % are borne, and frames are counted whole


@given(st.integers(1, len(STEPS) - 1), st.lists(st.booleans(), min_size=1, max_size=20))
def test_even_where_the_time_of_a_turn_misleads_the_stage_comes_to_rest(needed: int, misses: list[bool]) -> None:
    """Frames are lost below the stage `needed`, in most seconds, though each turn of the loop is quick."""
    shedding = Shedding(PERIOD_S)
    changes = too_low = 0
    for second in range(HOUR):
        short = shedding.stage < needed and not (misses[second % len(misses)] and second % 5 == 0)
        too_low += shedding.stage < needed
        changes += shedding.second(3 if short else 0, 7, 0.001)
    assert changes <= 2 * (HOUR // 320 + 12) + needed
    assert too_low < HOUR / 20
