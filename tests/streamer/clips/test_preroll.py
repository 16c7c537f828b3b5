from __future__ import annotations

import pytest

from streamer.clips.preroll import LONGEST_GROUP_S, Preroll
from streamer.sources.packets import Format

from .films import FORM, SECOND, delta, key

LARGE = 10**9


def seconds(packets: object) -> list[float]:
    return [packet.time_us / SECOND for packet in packets]  # type: ignore[attr-defined]


def filled(preroll: Preroll, until_s: int, every_s: int = 2, since_s: int = 0) -> None:
    """A keyframe every so many seconds, and a picture each second."""
    for second in range(since_s, until_s + 1):
        preroll.put(key(second) if second % every_s == 0 else delta(second))


def test_a_clip_begins_at_the_keyframe_before_its_time_and_ends_when_it_is_told() -> None:
    preroll = Preroll(5, LARGE)
    filled(preroll, 10)
    take = preroll.begin(7 * SECOND, 60 * SECOND)
    assert take.start_us == 6 * SECOND
    filled(preroll, 12, since_s=11)
    preroll.end(take, 13 * SECOND)
    filled(preroll, 20, since_s=13)
    assert take.closed
    assert seconds(take.packets) == list(range(6, 14))


def test_a_clip_whose_end_is_told_late_gives_back_what_is_too_much() -> None:
    preroll = Preroll(5, LARGE)
    filled(preroll, 4)
    take = preroll.begin(2 * SECOND, 60 * SECOND)
    filled(preroll, 10, since_s=5)
    preroll.end(take, 6 * SECOND)
    assert take.closed
    assert seconds(take.packets) == [2, 3, 4, 5, 6]


def test_an_event_longer_than_the_longest_clip_is_cut_there() -> None:
    preroll = Preroll(5, LARGE)
    filled(preroll, 4)
    take = preroll.begin(3 * SECOND, 4 * SECOND)
    filled(preroll, 30, since_s=5)
    assert take.closed
    preroll.end(take, 29 * SECOND)
    assert seconds(take.packets) == [2, 3, 4, 5, 6, 7]


def test_the_last_seconds_are_kept_from_a_keyframe_on_and_no_more() -> None:
    preroll = Preroll(5, LARGE)
    filled(preroll, 100)
    assert preroll.bytes == 7 * 10  # from 94 s on: at 95 s there is no keyframe
    take = preroll.begin(0, LARGE)
    assert seconds(take.packets) == list(range(94, 101))


@pytest.mark.parametrize(
    ("every_s", "kept"),
    [
        (30, [60, 90]),  # longer than what is to be kept: all of the group
        (5 + LONGEST_GROUP_S + 20, []),  # no camera that shall have clips: nothing
    ],
)
def test_a_group_of_pictures_longer_than_the_preroll_is_kept_within_bounds(every_s: int, kept: list[float]) -> None:
    preroll = Preroll(5, LARGE)
    filled(preroll, 80 if not kept else 92, every_s)
    keys = [packet.time_us / SECOND for packet in preroll.begin(0, LARGE).packets if packet.form]
    assert keys == kept


def test_more_than_the_memory_allows_is_not_kept_neither_before_nor_in_a_clip() -> None:
    preroll = Preroll(50, 100)
    filled(preroll, 40)
    assert preroll.bytes <= 100
    take = preroll.begin(39 * SECOND, LARGE)
    filled(preroll, 80, since_s=41)
    assert take.closed
    assert take.bytes <= 100
    assert seconds(take.packets)[:2] == [38, 39]
    preroll.put(key(90, size=200))  # a single one that is too large
    assert preroll.bytes == 0
    preroll.put(delta(91))
    assert preroll.begin(0, LARGE).start_us is None


@pytest.mark.parametrize(
    "form", [Format("h264", 128, 96, b""), Format("h264", 64, 48, b"other"), Format("hevc", 64, 48, b"")]
)
def test_a_clip_ends_where_the_camera_changes_its_size_or_format(form: Format) -> None:
    preroll = Preroll(5, LARGE)
    filled(preroll, 4)
    before = preroll.begin(2 * SECOND, LARGE)
    preroll.put(key(5, form))
    preroll.put(delta(6))
    assert before.closed
    assert seconds(before.packets) == [2, 3, 4]
    assert seconds(preroll.begin(2 * SECOND, LARGE).packets) == [5, 6]


def test_a_clip_goes_on_over_a_connection_that_was_lost() -> None:
    preroll = Preroll(50, LARGE)
    filled(preroll, 4)
    take = preroll.begin(2 * SECOND, LARGE)
    preroll.put(delta(9, run=(1, 0)))  # its keyframe was not seen
    preroll.put(key(10, run=(1, 0)))
    preroll.put(delta(11, run=(1, 0)))
    assert seconds(take.packets) == [2, 3, 4, 10, 11]


def test_a_clip_ends_where_a_camera_is_away_for_long() -> None:
    preroll = Preroll(50, LARGE)
    filled(preroll, 4)
    take = preroll.begin(2 * SECOND, 10**18)
    preroll.put(key(5000, run=(1, 0)))
    assert take.closed
    assert seconds(preroll.begin(0, LARGE).packets) == [5000]


def test_time_that_runs_back_begins_anew() -> None:
    preroll = Preroll(50, LARGE)
    filled(preroll, 4)
    take = preroll.begin(2 * SECOND, LARGE)
    preroll.put(key(3, run=(0, -SECOND)))  # the machine's clock was set
    preroll.put(delta(4, run=(0, -SECOND)))
    assert take.closed
    assert seconds(take.packets) == [2, 3, 4]
    assert seconds(preroll.begin(0, LARGE).packets) == [3, 4]


def test_a_clip_that_begins_before_the_first_keyframe_waits_for_it() -> None:
    preroll = Preroll(5, LARGE)
    preroll.put(delta(0))
    take = preroll.begin(0, LARGE)
    assert take.start_us is None
    preroll.put(delta(1))
    preroll.put(key(2))
    assert take.start_us == 2 * SECOND


def test_clips_that_nobody_wants_any_more_take_nothing() -> None:
    preroll = Preroll(5, LARGE)
    filled(preroll, 4)
    one, other = (preroll.begin(2 * SECOND, LARGE) for _ in range(2))
    preroll.drop(one)
    preroll.put(key(5, FORM))
    assert len(one.packets) + 1 == len(other.packets)
