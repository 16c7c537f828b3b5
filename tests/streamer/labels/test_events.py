from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.config import EventConfig
from streamer.errors import StreamerError
from streamer.labels.events import PEAK_STEP, UPDATE_EVERY_S, CloseReason, Decider, Event
from streamer.types import Probabilities

LABELS = ("none", "wave", "left", "right")
Segment = tuple[float, dict[str, float]]  # seconds, probabilities; "none" gets the rest


def config(**values: Any) -> EventConfig:
    """The defaults with "none" in the background and without smoothing, so that times come out exact."""
    return EventConfig.model_validate({"smoothing_s": 0, "background": ["none"], **values})


def row(shares: dict[str, float]) -> Probabilities:
    rest = {"none": 1 - sum(shares.values())}
    return np.array([{**rest, **shares}.get(label, 0.0) for label in LABELS], dtype=np.float32)


def play(decider: Decider, segments: Sequence[Segment], rate_hz: int = 100) -> list[tuple[float, Event]]:
    """Evaluate the segments one after the other from time 0: the events, each with the second at which it was told."""
    ends_s = np.cumsum([duration_s for duration_s, _ in segments])
    told = []
    for step in range(round(ends_s[-1] * rate_hz)):
        time_us = round(step * 1e6 / rate_hz)
        shares = segments[int(np.searchsorted(ends_s, time_us / 1e6 + 1e-9, side="right"))][1]
        told += [(time_us / 1e6, event) for event in decider.update(time_us, row(shares), ready=True)]
    return told


def spans(told: Sequence[tuple[float, Event]]) -> list[tuple[str, float, float, str | None]]:
    """The finished events: label, start and end in seconds, reason."""
    return [
        (event.label, event.t_start_us / 1e6, event.t_end_us / 1e6, event.reason)
        for _, event in told
        if event.t_end_us is not None
    ]


WAVE, LEFT, RIGHT, QUIET = {"wave": 0.9}, {"left": 0.9}, {"right": 0.9}, {"wave": 0.1}

CASES: dict[str, tuple[dict[str, Any], list[Segment], list[tuple[str, float, float, str]]]] = {
    "an action has its times, not those of the decisions": (
        {},
        [(1, QUIET), (1, WAVE), (1, QUIET)],
        [("wave", 1, 2, "score")],
    ),
    "a flicker shorter than enter_s is nothing": ({}, [(1, QUIET), (0.14, WAVE), (1, QUIET)], []),
    "below enter nothing starts": ({}, [(3, {"wave": 0.59})], []),
    "between leave and enter an event goes on": (
        {},
        [(1, WAVE), (1, {"wave": 0.4}), (1, QUIET)],
        [("wave", 0, 2, "score")],
    ),
    "a dip shorter than leave_s does not end an event": (
        {},
        [(1, WAVE), (0.25, QUIET), (1, WAVE), (1, QUIET)],
        [("wave", 0, 2.25, "score")],
    ),
    "the same label within merge_gap_s continues": (
        {"merge_gap_s": 1},
        [(1, WAVE), (0.9, QUIET), (1, WAVE), (2, QUIET)],
        [("wave", 0, 2.9, "score")],
    ),
    "after leave_s only a return to enter continues": (
        {"merge_gap_s": 1},
        [(1, WAVE), (0.5, QUIET), (3, {"wave": 0.5})],
        [("wave", 0, 1, "score")],
    ),
    "after merge_gap_s the same label is a second event": (
        {"merge_gap_s": 0.8},
        [(1, WAVE), (0.9, QUIET), (1, WAVE), (1, QUIET)],
        [("wave", 0, 1, "score"), ("wave", 1.9, 2.9, "score")],
    ),
    "another label does not wait for a merge": (
        {"merge_gap_s": 5},
        [(1, WAVE), (0.4, QUIET), (1, LEFT), (6, QUIET)],
        [("wave", 0, 1, "score"), ("left", 1.4, 2.4, "score")],
    ),
    "another label takes over at once": (
        {},
        [(1, WAVE), (1, LEFT), (1, QUIET)],
        [("wave", 0, 1, "switch"), ("left", 1, 2, "score")],
    ),
    "a lead below enter ends the event and starts none": (
        {},
        [(1, WAVE), (1, {"wave": 0.4, "left": 0.55})],
        [("wave", 0, 1, "switch")],
    ),
    "a lead too small or too short does not switch": (
        {},
        [(1, WAVE), (1, {"wave": 0.45, "left": 0.5}), (0.1, LEFT), (1, WAVE), (1, QUIET)],
        [("wave", 0, 3.1, "score")],
    ),
    "a label that leads while a background label is above both does not switch": (
        {},
        [(1, WAVE), (0.25, {"wave": 0.05, "left": 0.2}), (1, WAVE), (1, QUIET)],
        [("wave", 0, 2.25, "score")],
    ),
    "a background label in the lead does not switch": (
        {},
        [(1, WAVE), (1, {"wave": 0.4, "none": 0.6}), (1, QUIET)],
        [("wave", 0, 2, "score")],
    ),
    "a background label makes no event": ({"background": ["none", "wave"]}, [(3, WAVE)], []),
    "min_s keeps an event until then": ({"min_s": 1}, [(0.3, WAVE), (2, QUIET)], [("wave", 0, 1, "score")]),
    "max_s cuts a long event, and it starts again after refractory_s": (
        {"max_s": 1},
        [(2.7, WAVE), (1, QUIET)],
        [("wave", 0, 1, "max_length"), ("wave", 1.5, 2.5, "max_length")],
    ),
    "without refractory_s the pieces of a long event join": (
        {"max_s": 1, "refractory_s": 0},
        [(2, WAVE), (1, QUIET)],
        [("wave", 0, 1, "max_length"), ("wave", 1, 2, "max_length")],
    ),
    "refractory_s counts from the end": (
        {},
        [(1, WAVE), (0.35, QUIET), (1, WAVE), (1, QUIET)],
        [("wave", 0, 1, "score"), ("wave", 1.5, 2.35, "score")],
    ),
    "refractory_s does not silence other labels": (
        {"refractory_s": 9},
        [(1, WAVE), (0.35, QUIET), (1, LEFT), (1, QUIET)],
        [("wave", 0, 1, "score"), ("left", 1.35, 2.35, "score")],
    ),
    "a return stroke is inhibited": (
        {"inhibit": {"left": ["right"]}},
        [(1, LEFT), (0.5, RIGHT), (1, QUIET), (1, RIGHT), (1, QUIET)],
        [("left", 0, 1, "switch"), ("right", 2.5, 3.5, "score")],
    ),
    "inhibition is for the labels named, not their reverse": (
        {"inhibit": {"left": ["right"]}},
        [(1, RIGHT), (0.5, LEFT), (1, QUIET)],
        [("right", 0, 1, "switch"), ("left", 1, 1.5, "score")],
    ),
    "a label has its own thresholds": (
        {"labels": {"wave": {"enter": 0.95}, "left": {"enter_s": 0.8, "leave_s": 2}}},
        [(1, WAVE), (0.7, LEFT), (1, QUIET), (1, LEFT), (1.5, QUIET), (1, LEFT), (3, QUIET)],
        [("left", 2.7, 6.2, "score")],
    ),
    "with a lead of zero a label does not take over from itself": (
        {"switch_lead": 0},
        [(2, WAVE), (1, QUIET)],
        [("wave", 0, 2, "score")],
    ),
    "a label that was high all along starts where the one before it ends": (
        {"enter": 0.3, "leave": 0.2},
        [(1, {"wave": 0.5, "left": 0.35}), (1, {"wave": 0.35, "left": 0.5}), (1, QUIET)],
        [("wave", 0, 1, "switch"), ("left", 1, 2, "score")],
    ),
    "the best of two labels starts": (
        {"enter": 0.3, "leave": 0.2, "switch_lead": 0.5},
        [(1, {"wave": 0.35, "left": 0.45}), (1, QUIET)],
        [("left", 0, 1, "score")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_scores_become_events(case: str) -> None:
    values, segments, expected = CASES[case]
    decider = Decider(LABELS, config(**values))
    told = play(decider, segments)
    assert spans(told) == expected
    assert all((event.t_end_us or event.t_start_us) / 1e6 <= second for second, event in told)
    assert decider.close("shutdown", 0) == []


def test_a_start_is_told_after_enter_s_and_an_end_after_leave_s() -> None:
    told = play(Decider(LABELS, config()), [(1, WAVE), (1, QUIET)])
    assert [(second, event.type) for second, event in told] == [(0.15, "start"), (1.3, "end")]


def test_scores_are_raw_while_decisions_are_smoothed() -> None:
    told = play(Decider(LABELS, config(smoothing_s=0.3, enter_s=0)), [(1, QUIET), (4, WAVE), (2, QUIET)])
    (begun, start), (_, end) = told
    # 0.1 + 0.8 (1 - exp(-t / 0.3)) reaches 0.6 at t = 0.294; 0.1 + 0.8 exp(-t / 0.3) falls to 0.35 at t = 0.349
    assert begun == pytest.approx(1.294, abs=0.011)
    assert end.t_end_us == pytest.approx(5.349e6, abs=11_000)
    assert (start.score, start.peak) == pytest.approx((0.9, 0.9))
    assert (end.score, end.peak) == pytest.approx((0.1, 0.9))


def test_the_peak_counts_from_the_start_of_the_condition() -> None:
    told = play(Decider(LABELS, config()), [(0.05, {"wave": 0.99}), (0.5, {"wave": 0.7}), (1, QUIET)])
    assert [event.peak for _, event in told] == pytest.approx([0.99, 0.99])


def test_an_update_is_told_when_the_peak_rises_and_not_more_often_than_the_limit() -> None:
    rise = [(0.1, {"wave": share}) for share in np.linspace(0.61, 0.99, 39)]
    told = play(Decider(LABELS, config()), rise)
    updates = [(second, event) for second, event in told if event.type == "update"]
    assert len(updates) == 7  # the rise lasts 3.9 s
    seconds = [second for second, _ in told]
    assert np.diff(seconds).min() >= UPDATE_EVERY_S - 1e-6
    assert np.diff([event.peak for _, event in told]).min() >= PEAK_STEP - 1e-6
    assert all(event.label == "wave" and event.t_end_us is None and event.score == event.peak for _, event in updates)


def test_a_steady_score_tells_no_updates() -> None:
    assert [event.type for _, event in play(Decider(LABELS, config()), [(20, WAVE)])] == ["start"]


def test_nothing_is_decided_before_ready() -> None:
    decider = Decider(LABELS, config())
    assert [decider.update(step * 10_000, row(WAVE), ready=False) for step in range(100)] == [[]] * 100
    assert decider.state.label is None
    (_, start), *_ = play(decider, [(1, WAVE)])
    assert start.t_start_us == 0


def test_not_ready_any_more_is_a_reset() -> None:
    decider = Decider(LABELS, config())
    play(decider, [(1, WAVE)])
    (end,) = decider.update(2_000_000, row(WAVE), ready=False)
    assert (end.type, end.reason, end.t_end_us) == ("end", "reset", 2_000_000)


@pytest.mark.parametrize("reason", get_args(CloseReason))
def test_closing_ends_the_open_event_once_and_forgets_the_past(reason: CloseReason) -> None:
    decider = Decider(LABELS, config(smoothing_s=5, refractory_s=60))
    play(decider, [(1, WAVE)])
    (end,) = decider.close(reason, 1_234_567)
    assert (end.type, end.label, end.reason, end.t_end_us) == ("end", "wave", reason, 1_234_567)
    assert decider.close(reason, 1_234_568) == []
    (again,) = (event for _, event in play(decider, [(1, LEFT)]))  # from time 0, and without waiting for the average
    assert (again.type, again.label, again.t_start_us) == ("start", "left", 0)


def test_an_end_never_lies_before_its_start() -> None:
    decider = Decider(LABELS, config())
    play(decider, [(1, QUIET), (1, WAVE)])
    (end,) = decider.close("gap", 0)
    assert end.t_end_us == end.t_start_us == 1_000_000


def test_the_state_tells_the_label_in_force() -> None:
    decider = Decider(LABELS, config())
    assert (decider.state.label, decider.state.since_us) == (None, None)
    play(decider, [(1, QUIET)])
    assert (decider.state.label, decider.state.label_id, decider.state.since_us) == (None, None, 0)
    decider = Decider(LABELS, config())
    play(decider, [(1, QUIET), (1, WAVE)])
    state = decider.state
    assert (state.label, state.label_id, state.since_us) == ("wave", 1, 1_000_000)
    assert state.score == pytest.approx(0.9)
    decider.close("reset", 2_500_000)
    assert (decider.state.label, decider.state.score, decider.state.since_us) == (None, None, 2_500_000)


def test_settings_change_in_the_middle_and_an_open_event_ends_by_the_new_ones() -> None:
    decider, later = Decider(LABELS, config()), []
    assert [event.type for _, event in play(decider, [(1, {"wave": 0.7})])] == ["start"]
    assert decider.change(config(enter=0.9, leave=0.8)) == []
    for step in range(100):
        later += decider.update(1_000_000 + step * 10_000, row({"wave": 0.7}), ready=True)
    assert [(event.type, event.t_end_us, event.reason) for event in later] == [("end", 1_000_000, "score")]


def test_an_open_event_of_what_becomes_background_ends_at_once_and_only_that() -> None:
    decider = Decider(LABELS, config())
    play(decider, [(1, WAVE)])
    assert decider.change(config(background=["left"])) == []
    (end,) = decider.change(config(background=["wave"]))
    assert (end.type, end.label, end.t_end_us, end.reason) == ("end", "wave", 990_000, "set")
    assert decider.state.label is None
    assert decider.change(config(background=["wave"])) == []
    assert decider.update(1_000_000, row(WAVE), ready=True) == []


@pytest.mark.parametrize("rate_hz", [15, 30, 60])
def test_the_evaluation_rate_does_not_change_the_events(rate_hz: int) -> None:
    signal: list[Segment] = [
        (1, QUIET), (1.2, WAVE), (0.2, QUIET), (0.8, WAVE), (1.5, QUIET),
        (1, LEFT), (1.2, RIGHT), (0.6, LEFT), (2, QUIET),
    ]  # fmt: skip
    values = {"smoothing_s": 0.3, "inhibit": {"right": ["left"]}}
    reference = spans(play(Decider(LABELS, config(**values)), signal, rate_hz=1000))
    assert [(label, reason) for label, _, _, reason in reference] == [
        ("wave", "score"), ("left", "switch"), ("right", "switch")
    ]  # fmt: skip
    measured = spans(play(Decider(LABELS, config(**values)), signal, rate_hz=rate_hz))
    assert [(label, reason) for label, _, _, reason in measured] == [(label, reason) for label, *_, reason in reference]
    for got, expected in zip(measured, reference, strict=True):
        assert got[1:3] == pytest.approx(expected[1:3], abs=2 / rate_hz)


shares = st.lists(st.integers(0, 10), min_size=4, max_size=4).filter(any)
steps = st.tuples(st.integers(1, 800_000), shares, st.booleans() | st.just(True))
closes = st.tuples(st.integers(-2_000_000, 800_000), st.sampled_from(get_args(CloseReason)))
thresholds = st.fixed_dictionaries(
    {},
    optional={
        "preset": st.sampled_from(["gesture", "activity"]),
        "enter": st.sampled_from([0.4, 0.6]),
        "leave": st.sampled_from([0.0, 0.3]),
        "smoothing_s": st.sampled_from([0.0, 0.3]),
        "enter_s": st.sampled_from([0.0, 0.15]),
        "leave_s": st.sampled_from([0.0, 0.3]),
        "min_s": st.sampled_from([0.0, 0.9]),
        "max_s": st.sampled_from([1.0, 2.0]),
        "merge_gap_s": st.sampled_from([0.0, 2.0]),
        "refractory_s": st.sampled_from([0.0, 1.0]),
        "switch_lead": st.sampled_from([0.0, 0.1]),
        "inhibit": st.just({"wave": ["left", "right"]}),
    },
)


@given(thresholds, st.lists(steps | closes, max_size=60))
def test_every_start_has_exactly_one_end_whatever_happens(values: dict[str, Any], actions: list[Any]) -> None:
    decider = Decider(LABELS, EventConfig.model_validate({"background": ["none"], **values}))
    time_us, events = 0, []
    for action in actions:
        time_us += action[0]
        if len(action) == 3:
            probabilities = (np.array(action[1]) / sum(action[1])).astype(np.float32)
            told = decider.update(time_us, probabilities, ready=action[2])
        else:
            told = decider.close(action[1], time_us)
        events += told
        last = events[-1] if events else None
        in_force = None if last is None or last.type == "end" else last.label
        assert decider.state.label == in_force
    events += decider.close("shutdown", time_us)

    open_event: Event | None = None
    for event in events:
        assert event.label == LABELS[event.label_id] != "none"
        assert 0 <= event.score <= event.peak <= 1
        if event.type == "start":
            assert open_event is None
            open_event = event
            continue
        assert open_event is not None
        assert (event.label, event.t_start_us) == (open_event.label, open_event.t_start_us)
        assert (event.t_end_us is None) == (event.reason is None) == (event.type == "update")
        if event.t_end_us is not None:
            assert event.t_end_us >= event.t_start_us
            open_event = None
    assert open_event is None


@given(thresholds, st.lists(steps.map(lambda step: (step[0], step[1], True)), max_size=60))
def test_events_do_not_overlap_nor_lie_in_the_future(values: dict[str, Any], actions: list[Any]) -> None:
    decider = Decider(LABELS, EventConfig.model_validate({"background": ["none"], **values}))
    time_us = ended_us = 0
    for step_us, numbers, _ in actions:
        time_us += step_us
        for event in decider.update(time_us, (np.array(numbers) / sum(numbers)).astype(np.float32), ready=True):
            assert ended_us <= event.t_start_us <= time_us
            if event.t_end_us is not None:
                ended_us = event.t_end_us
                assert event.t_start_us <= ended_us <= time_us


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_probabilities_that_are_not_finite_are_an_error(value: float) -> None:
    probabilities = row(WAVE)
    probabilities[2] = value
    with pytest.raises(StreamerError, match=r"not finite, at 5 us; try `engine\.precision: fp32`"):
        Decider(LABELS, config()).update(5, probabilities, ready=True)


def test_probabilities_of_another_model_are_an_error() -> None:
    with pytest.raises(StreamerError, match=r"shape \(3,\) for 4 labels"):
        Decider(LABELS, config()).update(0, row(WAVE)[:3], ready=True)


def test_time_that_does_not_advance_is_an_error() -> None:
    decider = Decider(LABELS, config())
    decider.update(7, row(WAVE), ready=True)
    with pytest.raises(ValueError, match="7 us came after 7 us"):
        decider.update(7, row(WAVE), ready=True)


def test_the_activity_preset_bridges_an_interruption_that_ends_a_gesture() -> None:
    segments: list[Segment] = [(4, WAVE), (1.5, QUIET), (4, WAVE), (4, QUIET)]
    gesture = Decider(LABELS, EventConfig(preset="gesture", background=("none",)))
    activity = Decider(LABELS, EventConfig(preset="activity", background=("none",)))
    assert len(spans(play(gesture, segments, rate_hz=10))) == 2
    assert len(spans(play(activity, segments, rate_hz=10))) == 1
