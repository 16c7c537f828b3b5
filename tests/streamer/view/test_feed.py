from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.labels.events import Event, State
from streamer.labels.messages import Message, MessageBuilder, Stamp, Window
from streamer.view import feed as feed_module
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


def test_an_hour_of_events_is_kept_each_by_its_newest_message_and_not_more_than_so_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_us = 0
    feed, build = Feed(), MessageBuilder("test@0", "stream", now_us=lambda: now_us)
    feed(build.event("cam", STAMP, START))
    feed(first := build.event("cam", STAMP, END))
    now_us = 3_000_000_000
    feed(build.event("other", STAMP, START))
    feed(build.event("cam", STAMP, START))
    feed(second := build.event("cam", STAMP, END))
    assert feed.past("cam") == [first, second]
    now_us = 3_601_000_000
    feed(gap := build.gap("cam", STAMP, 1, 2, "gap"))
    assert feed.past("cam") == [second, gap]
    monkeypatch.setattr(feed_module, "MOST_EVENTS", 2)
    feed(build.gap("other", STAMP, 1, 2, "gap"))
    assert feed.past("cam") == [gap]


def test_of_streams_that_ended_only_the_last_are_told_and_nothing_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "MOST_STOPPED", 2)
    feed, build = Feed(["first"]), MessageBuilder("test@0", "stream")
    window = Window(n=1, step_ms=100, first_us=0, last_us=0)
    for name in ("first", *"abc", "first", *"de"):
        feed(build.status(name, STAMP, "online"))
        feed(build.event(name, STAMP, START))
        feed(build.state(name, STAMP, State()))
        feed(build.score(name, STAMP, [("wave", 0.5)], window))
        assert feed.scores(name)
        assert feed.state(name)
        if name != "first":
            feed(build.status(name, STAMP, "stopped"))
            assert (feed.scores(name), feed.state(name)) == ([], None)
    assert feed.order() == ["first", "d", "e"]
    assert [m.stream for m in feed.since(None)[2] if m.kind == "status"] == ["first", "d", "e"]
    assert len(feed.past("a")) == 1  # what happened there stays for its hour
    assert {len(kept) for kept in (feed._next_seq, feed._scores)} == {1}


def test_streams_keep_the_order_of_the_configuration_and_others_come_after_them() -> None:
    feed, build = Feed(["yard", "door"]), MessageBuilder("test@0", "stream")
    for name in ("cam", "door"):
        feed(build.status(name, STAMP, "online"))
    assert feed.order() == ["yard", "door", "cam"]
    assert [feed.knows(name) for name in ("yard", "door", "nobody")] == [False, True, False]
    feed(MessageBuilder("test@0", "stream").status("cam", STAMP, "online"))  # the publisher was restarted
    assert feed.order() == ["yard", "door", "cam"]


def test_scores_of_the_last_minute_are_kept_by_the_streams_own_time() -> None:
    feed, build = Feed(), MessageBuilder("test@0", "stream")
    for second in (0, 30, 61):
        window = Window(n=1, step_ms=100, first_us=second * 1_000_000, last_us=second * 1_000_000)
        feed(build.score("cam", STAMP, [("wave", second / 100)], window))
    assert feed.scores("cam") == [(30_000_000, [("wave", 0.3)]), (61_000_000, [("wave", 0.61)])]
    assert feed.scores("nobody") == []


HAPPENS = st.lists(st.tuples(st.sampled_from(["cam", "other"]), st.sampled_from([START, END])), max_size=4)


@given(st.lists(st.tuples(HAPPENS, st.integers(1, 3)), max_size=20), st.integers(1, 6))
def test_who_follows_the_events_knows_the_newest_of_each_or_is_told_that_some_are_missing(
    turns: list[tuple[list[tuple[str, Event]], int]], kept: int
) -> None:
    feed, build = Feed(), MessageBuilder("test@0", "stream")
    newest: dict[str, Message] = {}
    known: dict[str, Message] = {}
    after: str | None = feed.events(None, 1).next
    whole = True
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(feed_module, "MOST_EVENTS", kept)
        for happens, most in ([("cam", START), ("other", START)], 1), *turns:
            for stream, event in happens:
                message = build.event(stream, STAMP, event)
                newest[message.id] = message
                feed(message)
                feed(build.state("cam", STAMP, State()))
            told = feed.events(after, most)
            assert len(told.events) <= most
            after, whole = told.next, whole and told.whole
            known |= {event.id: event for event in told.events}
        while (told := feed.events(after, 1)).events:
            after, whole = told.next, whole and told.whole
            known |= {event.id: event for event in told.events}
    if whole:
        assert known == newest
    assert whole or len(newest) > kept
