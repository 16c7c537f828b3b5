from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.labels.events import State
from streamer.labels.messages import Message, MessageBuilder, Stamp
from streamer.view.feed import _LOG, Feed

from ..labels.peers import END, STAMP, START


@given(st.lists(st.integers(0, 5), max_size=20))
def test_whatever_the_pace_a_page_reads_each_message_once_and_in_order(counts: list[int]) -> None:
    feed, build = Feed(), MessageBuilder("test@0", "stream")
    cursor, anew, _ = feed.since(None)
    assert anew
    sent: list[Message] = []
    read: list[Message] = []
    for count in counts:
        for _ in range(count):
            sent.append(build.state("cam", Stamp(), State()))
            feed(sent[-1])
        cursor, anew, messages = feed.since(cursor)
        assert not anew
        read += messages
    assert read == sent


def test_a_page_that_is_too_far_behind_starts_over_from_where_things_stand() -> None:
    feed, build = Feed(), MessageBuilder("test@0", "stream")
    cursor, _, _ = feed.since(None)
    for _ in range(_LOG + 1):
        feed(last := build.state("cam", Stamp(), State()))
    _, anew, messages = feed.since(cursor)
    assert (anew, messages) == (True, [last])


def test_only_the_last_minutes_events_are_told_again() -> None:
    now_us = 0
    feed, build = Feed(), MessageBuilder("test@0", "stream", now_us=lambda: now_us)
    feed(build.event("cam", STAMP, START))
    now_us = 61_000_000
    feed(recent := build.event("cam", STAMP, END))
    feed(status := build.status("cam", STAMP, "online"))
    feed(state := build.state("cam", STAMP, State()))
    assert feed.since(None)[2] == [status, recent, state]
