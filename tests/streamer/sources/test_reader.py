from __future__ import annotations

import threading
import time
from collections.abc import Generator
from dataclasses import replace

import numpy as np
import pytest

from streamer.config import SourceConfig
from streamer.errors import Retry, SourceError
from streamer.sources.base import Source
from streamer.sources.reader import Reader, retry_delay_s
from streamer.types import Frame
from tests.conftest import WaitFor
from tests.streamer.sources.conftest import Started, StartReader

Step = int | SourceError | threading.Event  # frames to give, an error to raise, or an event to hang on


class Scripted(Source):
    """A source that plays one list of steps per connection; after the last list its camera is gone."""

    def __init__(self, *connections: list[Step], live: bool = True) -> None:
        super().__init__(SourceConfig(uri="rtsp://user:secret@cam/a"))
        self.live = live
        self._connections = iter(connections)
        self.threads: list[tuple[int, int]] = []  # those that opened and closed a connection

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        opened, count = threading.get_ident(), 0
        try:
            for step in next(self._connections, [lost()]):
                if isinstance(step, SourceError):
                    raise step
                if isinstance(step, threading.Event):
                    step.wait(30)
                else:
                    for index in range(count, count + step):
                        yield Frame(index * 33_333, index, connection, lambda: np.zeros((2, 2, 3), np.uint8))
                    count += step
        finally:
            self.threads.append((opened, threading.get_ident()))


def lost(retry: Retry = "soon") -> SourceError:
    return SourceError("rtsp://***@cam/a: it is gone; connecting again", retry)


def test_a_file_is_read_to_its_end(start_reader: StartReader) -> None:
    started = start_reader(Scripted([3], live=False))
    started.thread.join(10)
    assert [(frame.index, frame.connection) for frame in started.frames] == [(0, 0), (1, 0), (2, 0)]
    assert started.error is None
    health = started.health(later_s=100)
    assert (health.state, health.captured, health.reconnects) == ("ended", 3, 0)


@pytest.mark.parametrize(("live", "retry"), [(False, "soon"), (False, "never"), (True, "never")])
def test_an_error_that_cannot_pass_is_raised(start_reader: StartReader, live: bool, retry: Retry) -> None:
    started = start_reader(Scripted([2, lost(retry)], live=live))
    started.thread.join(10)
    assert started.error is not None
    assert started.error.retry == retry
    assert started.health().state == "offline"
    assert started.health().detail == str(started.error)


def test_a_camera_that_goes_away_is_connected_again_and_numbered_once_it_gives_a_frame(
    start_reader: StartReader, wait_for: WaitFor
) -> None:
    hang = threading.Event()
    started = start_reader(Scripted([2, lost()], [lost()], [1, hang]))
    wait_for(lambda: len(started.frames) == 3)
    assert [(frame.index, frame.connection) for frame in started.frames] == [(0, 0), (1, 0), (0, 1)]
    assert started.error is None
    health = started.health()
    assert (health.state, health.detail, health.captured, health.reconnects) == ("online", "", 3, 1)
    hang.set()


def test_a_camera_that_is_down_from_the_start_is_tried_again(start_reader: StartReader, wait_for: WaitFor) -> None:
    hang = threading.Event()
    started = start_reader(Scripted([hang, lost()], [lost()], [5, hang]))
    assert (started.health().state, started.health().age_s) == ("connecting", None)
    hang.set()
    wait_for(lambda: started.health().state == "offline")
    assert "it is gone" in started.health().detail
    wait_for(lambda: len(started.frames) == 5)
    assert started.health().reconnects == 0


def test_since_when_a_camera_is_away_and_when_it_is_tried_again_are_told(
    start_reader: StartReader, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.sources.reader.retry_delay_s", lambda *_: 600.0)
    began_s = time.monotonic()
    started = start_reader(Scripted([lost()]))
    wait_for(lambda: started.health().state == "offline")
    health, now_s = started.health(), time.monotonic()
    assert health.since_s is not None
    assert health.retry_s is not None
    assert began_s <= health.since_s <= now_s
    assert began_s + 600 <= health.retry_s <= now_s + 600


def test_what_a_library_says_with_a_password_in_it_is_told_without(
    start_reader: StartReader, wait_for: WaitFor
) -> None:
    started = start_reader(Scripted([SourceError("cannot read rtsp://user:secret@cam/a", "soon")]))
    wait_for(lambda: started.health().state == "offline")
    assert started.health().detail == "cannot read rtsp://***@cam/a"


def test_a_connection_is_opened_and_closed_by_one_thread(start_reader: StartReader, wait_for: WaitFor) -> None:
    source = Scripted([2, lost()], [2, lost()])
    started = start_reader(source)
    wait_for(lambda: len(source.threads) >= 2)
    assert {ident for pair in source.threads for ident in pair} == {started.thread.ident}


def test_silence_is_seen_while_the_thread_hangs(start_reader: StartReader, wait_for: WaitFor) -> None:
    hang, end = threading.Event(), threading.Event()
    started = start_reader(Scripted([50, hang, 10, end]))
    wait_for(lambda: len(started.frames) == 50)
    assert started.health().state == "online"
    health = started.health(later_s=60)
    assert health.state == "stalled"
    assert health.detail.startswith("rtsp://***@cam/a: no frame for 6")
    assert health.fps_in == 0
    assert health.age_s == pytest.approx(60, abs=5)
    hang.set()
    wait_for(lambda: len(started.frames) == 60)
    assert started.health(later_s=-30).state == "online"
    end.set()


def test_a_slow_camera_is_not_stalled_between_its_frames() -> None:
    reader = Reader(Scripted(), lambda _: None, threading.Event())
    for number in range(5):
        reader._arrived(2.0 * number, 0, 1)
    assert reader.health(8.0).fps_in == pytest.approx(0.5)
    assert reader.health(8.0 + 9.9).state == "online"
    assert reader.health(8.0 + 10.1).state == "stalled"


def test_the_frame_rate_is_of_the_last_frames_of_this_connection() -> None:
    reader = Reader(Scripted(), lambda _: None, threading.Event())
    for number in range(100):
        reader._arrived(number / 10, 0, 1)
    for number in range(100):
        reader._arrived(10 + number / 25, 0, 1)
    assert reader.health(14.0).fps_in == pytest.approx(25)
    reader._arrived(1000.0, 1, 1)
    assert reader.health(1000.0).fps_in == 0
    reader._arrived(1000.5, 1, 1)
    assert reader.health(1000.5).fps_in == pytest.approx(2)
    assert reader.health(1000.5).age_s == 0


def test_pictures_that_are_not_decoded_count_as_captured() -> None:
    class Spared(Scripted):
        def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
            for frame in super().frames(connection, stop):
                yield replace(frame, left_out=2)

    reader = Reader(Spared([5], live=False), lambda _: None, threading.Event())
    reader.run()
    assert reader.health(time.monotonic()).captured == 15
    reader = Reader(Scripted(), lambda _: None, threading.Event())
    for number in range(60):
        reader._arrived(number / 10, 0, 3)
    assert reader.health(6.0).fps_in == pytest.approx(30, rel=0.06)


def test_a_file_is_never_stalled() -> None:
    reader = Reader(Scripted(live=False), lambda _: None, threading.Event())
    reader._arrived(0.0, 0, 1)
    assert reader.health(100.0).state == "online"


def test_stop_ends_a_waiting_reader_at_once() -> None:
    stop = threading.Event()
    started = Started(Scripted([lost("slow")]), stop)
    stop.set()
    started.thread.join(5)  # the delay is ten seconds
    assert not started.thread.is_alive()
    assert started.error is None


def test_a_thread_that_hangs_in_a_library_is_told_from_one_that_waits_to_connect(
    start_reader: StartReader, wait_for: WaitFor
) -> None:
    hang, end = threading.Event(), threading.Event()
    started = start_reader(Scripted([1, hang, lost("slow")], [end]))
    wait_for(lambda: len(started.frames) == 1)
    patience_s = started.reader.source.patience_s
    assert not started.reader.hangs(time.monotonic())
    assert started.reader.hangs(time.monotonic() + patience_s)
    hang.set()
    wait_for(lambda: started.health().state == "offline")
    assert not started.reader.hangs(time.monotonic() + patience_s)
    end.set()


def test_numbering_goes_on_where_an_earlier_reader_left_off() -> None:
    frames: list[Frame] = []
    reader = Reader(Scripted([2], live=False), frames.append, threading.Event(), connections=7)
    reader.run()
    assert [frame.connection for frame in frames] == [7, 7]
    assert reader.connections == 8
    assert reader.health(0.0).reconnects == 0


def test_an_error_of_the_consumer_is_its_own() -> None:
    def fail(frame: Frame) -> None:
        raise ZeroDivisionError

    source = Scripted([5])
    with pytest.raises(ZeroDivisionError):
        Reader(source, fail, threading.Event()).run()
    assert len(source.threads) == 1, "the connection was not closed"


@pytest.mark.parametrize(
    ("failures", "retry", "least", "most"),
    [
        (0, "soon", 0.125, 0.25),
        (1, "soon", 0.25, 0.5),
        (3, "soon", 1, 2),
        (5, "soon", 2.5, 5),
        (5000, "soon", 2.5, 5),
        (0, "slow", 10.125, 10.25),
        (9, "slow", 12.5, 15),
    ],
)
def test_delays_grow_and_are_bounded(failures: int, retry: Retry, least: float, most: float) -> None:
    assert retry_delay_s(failures, retry, lambda low, _: low) == least
    assert retry_delay_s(failures, retry, lambda _, high: high) == most
    assert least <= retry_delay_s(failures, retry) <= most


def test_delays_start_over_only_after_a_healthy_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def note(failures: int, retry: Retry) -> float:
        asked.append(failures)
        return 0.0

    monkeypatch.setattr("streamer.sources.reader.retry_delay_s", note)
    now, between_s = [0.0], (1.0, 5.0, 1.0)  # the two frames of each connection

    def pass_time(frame: Frame) -> None:
        now[0] += between_s[frame.connection]

    monkeypatch.setattr("streamer.sources.reader.time.monotonic", lambda: now[0])
    source = Scripted([lost()], [lost()], [2, lost()], [2, lost()], [2, lost()], [lost()], [])
    Reader(source, pass_time, threading.Event()).run()
    assert asked == [0, 1, 2, 0, 1, 2]


def test_a_frame_that_comes_after_the_end_is_not_counted() -> None:
    late = threading.Event()
    source = Scripted([3, late, 2])
    stop = threading.Event()
    started = Started(source, stop)
    while len(started.frames) < 3:
        time.sleep(0.01)
    stop.set()
    late.set()
    started.thread.join(30)
    assert len(started.frames) == started.reader.health(time.monotonic()).captured == 3
