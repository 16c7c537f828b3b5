"""Events beside what happened, against cases counted by hand, and laws that hold for any input."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.tuning.matching import Detection, Matching, Segment, match_events


def test_of_nothing_there_is_no_share() -> None:
    nothing = Matching()
    assert np.isnan([nothing.f1, nothing.precision, nothing.recall, nothing.delay_s(50)]).all()


def event(label: str, start_s: float, told_s: float | None = None) -> Detection:
    return Detection(label, start_s, start_s if told_s is None else told_s)


def test_events_are_matched_as_counted_by_hand() -> None:
    wave, nod, late, lost = Segment("wave", 1, 2), Segment("nod", 2, 3), Segment("wave", 4, 5), Segment("nod", 8, 9)
    right, right_too, again = event("wave", 1.2, 1.5), event("wave", 5.2, 5.4), event("wave", 1.8)
    early, other, after = event("nod", 1.9), event("wave", 2.9), event("nod", 9.4)
    found = match_events([wave, nod, late, lost], [right, right_too, again, early, other, after])
    assert found.hits == ((wave, right), (late, right_too))
    assert found.false == (again, early, other, after)
    assert found.missed == (nod, lost)
    assert found.precision == pytest.approx(2 / 6)
    assert found.recall == pytest.approx(2 / 4)
    assert found.f1 == pytest.approx(4 / 10)
    assert found.delay_s(50) == pytest.approx((0.5 + 1.4) / 2)
    assert found.of("wave") == Matching(found.hits, (again, other), ())
    assert found.of("nod") == Matching((), (early, after), (nod, lost))
    assert found.of("wave") + found.of("nod") == Matching(found.hits, (again, other, early, after), found.missed)


def test_an_event_may_begin_a_tolerance_after_the_end_but_not_before_the_onset() -> None:
    wave = Segment("wave", 1, 2)
    for start_s, hits in ((0.99, 0), (1, 1), (2.3, 1), (2.31, 0)):
        assert len(match_events([wave], [event("wave", start_s)], tolerance_s=0.3).hits) == hits


def test_an_event_that_two_segments_could_have_leaves_the_later_one_to_the_next() -> None:
    first, second = Segment("wave", 1, 2), Segment("wave", 2.1, 3)
    found = match_events([second, first], [event("wave", 2.2), event("wave", 2.5)])
    assert [segment for segment, _ in found.hits] == [first, second]


def test_an_oracle_is_perfect_and_one_that_lags_is_late_by_its_lag() -> None:
    segments = [Segment("ab"[n % 2], n, n + 1) for n in range(20)]
    found = match_events(segments, [event(s.label, s.start_s + 0.1, s.start_s + 0.4) for s in segments])
    assert found.f1 == 1
    assert found.delay_s(50) == pytest.approx(0.4)
    assert found.delay_s(90) == pytest.approx(0.4)


TIMES = st.integers(0, 8).map(float)
EVENTS = st.lists(st.builds(event, st.sampled_from("ab"), TIMES), max_size=4)
SEGMENTS = st.lists(
    st.builds(lambda label, start, length: Segment(label, start, start + length), st.sampled_from("ab"), TIMES, TIMES),
    max_size=4,
)


@given(SEGMENTS, EVENTS)
def test_no_other_choice_makes_more_hits(segments: list[Segment], events: list[Detection]) -> None:
    def fits(segment: Segment | None, event: Detection) -> bool:
        return (
            segment is not None
            and segment.label == event.label
            and segment.start_s <= event.start_s <= segment.end_s + 0.3
        )

    found = match_events(segments, events)
    assert all(fits(segment, event) for segment, event in found.hits)
    places = [*segments, *[None] * len(events)]
    best = max(
        sum(fits(segment, event) for segment, event in zip(order, events, strict=True))
        for order in permutations(places, len(events))
    )
    assert len(found.hits) == best


@given(SEGMENTS, EVENTS)
def test_every_event_and_every_segment_is_counted_once(segments: list[Segment], events: list[Detection]) -> None:
    found = match_events(segments, events)
    counted = [*(event for _, event in found.hits), *found.false]
    assert sorted(counted, key=repr) == sorted(events, key=repr)
    asked = [*(segment for segment, _ in found.hits), *found.missed]
    assert sorted(asked, key=repr) == sorted(segments, key=repr)
