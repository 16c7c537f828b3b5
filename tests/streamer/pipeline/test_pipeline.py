from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

import pytest

from streamer.clips.room import Clips
from streamer.config import Config, SourceConfig
from streamer.errors import SourceError
from streamer.labels.control import Control
from streamer.labels.messages import EventMessage, GapMessage, Message, StateMessage, StatusMessage
from streamer.labels.publisher import Publisher, wall_us
from streamer.labels.subscriber import Subscriber
from streamer.pipeline.pipeline import Pipeline
from streamer.pipeline.summary import Summary
from streamer.sources import Source, open_source
from streamer.types import Frame

from .seeing import SPEC, Film, SeeingEngine, picture


class Camera(Source):
    """A live source that a test holds in its hand: it shows `label` at 30 fps and does what it is told."""

    def __init__(self, name: str = "camera", patience_s: float = 60) -> None:
        super().__init__(SourceConfig(uri=f"test://{name}", name=name))
        self.patience_s = patience_s
        self.label = 0
        self.silent = threading.Event()
        self.broken = threading.Event()
        self.hung, self.hangs = threading.Event(), threading.Event()  # told to, and does
        self.opened: list[int] = []

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        self.opened.append(connection)
        index = 0
        while not stop.wait(1 / 30):
            if self.hung.is_set():
                self.hangs.set()
                threading.Event().wait()  # as a driver does: for ever, whatever it is told
            if self.broken.is_set():
                raise SourceError("test://camera: the plug was pulled", retry="soon")
            if not self.silent.is_set():
                image = picture(self.label)
                yield Frame(wall_us(), index, connection, lambda image=image: image)  # type: ignore[misc]
                index += 1


class Run:
    """A pipeline in a thread of the test's, and what it said."""

    def __init__(
        self,
        sources: Sequence[Source],
        config: Config | None = None,
        publisher: Publisher | None = None,
        control: Control | None = None,
        engine: SeeingEngine | None = None,
        listeners: Sequence[Callable[[Message], None]] = (),
        keeper: Clips | None = None,
    ) -> None:
        self._control = control
        self.messages: list[Message] = []
        self.engine = engine or SeeingEngine()
        self.stop = threading.Event()
        self.error: Exception | None = None
        self.summary: Summary | None = None
        listeners = [self.messages.append, *listeners]
        self.pipeline = Pipeline(config or Config(), self.engine, sources, publisher, listeners, control, keeper=keeper)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.summary = self.pipeline.run(self.stop)
        except Exception as error:
            self.error = error

    def finish(self) -> Summary:
        self.stop.set()
        self.thread.join(10)
        assert not self.thread.is_alive()
        assert self.error is None, self.error
        assert self.summary
        return self.summary

    def close(self) -> None:
        """End it, if it goes on; and the socket of its control."""
        self.stop.set()
        self.thread.join(15)
        if self._control:
            self._control.close()

    def said(self, kind: type[Any], **fields: Any) -> list[Any]:
        found = [message for message in list(self.messages) if isinstance(message, kind)]
        return [m for m in found if all(getattr(m, name) == value for name, value in fields.items())]


WaitFor = Callable[[Callable[[], Any]], None]
R = TypeVar("R", bound=Run)


def begun(kind: Callable[..., R]) -> Iterator[Callable[..., R]]:
    """For fixtures: begins runs of a kind, which end with the test."""
    runs: list[R] = []

    def begin(*what: Any, **options: Any) -> R:
        runs.append(kind(*what, **options))
        return runs[-1]

    yield begin
    for run in runs:
        run.close()


@pytest.fixture
def no_thread_stays() -> Generator[None, None, None]:
    before = set(threading.enumerate())
    yield
    assert {thread for thread in threading.enumerate() if not thread.daemon} <= before


@pytest.mark.usefixtures("no_thread_stays")
def test_a_camera_goes_in_and_labels_come_out_to_subscribers(wait_for: WaitFor) -> None:
    camera = Camera()
    publisher = Publisher("tcp://127.0.0.1:*", SPEC.version, "stream")
    with Subscriber(publisher.address, kinds=["event"]) as subscriber:
        run = Run([camera], publisher=publisher)
        camera.label = 2
        received = iter(subscriber)
        first = next(received)
        assert isinstance(first, EventMessage)
        assert (first.stream, first.type) == ("camera", "start")
        wait_for(lambda: run.said(StateMessage, label="light"))
        summary = run.finish()
        rest = [next(received)]
        while not (isinstance(rest[-1], EventMessage) and rest[-1].reason == "shutdown"):
            rest.append(next(received))
    assert subscriber.missed == 0
    assert summary.inferred > 0
    assert summary.events >= 1
    assert run.said(StatusMessage)[-1].source == "stopped"
    assert "\n".join(summary.lines()).startswith("frames  ")


def test_a_camera_that_is_unplugged_closes_its_event_and_comes_back_as_a_new_epoch(wait_for: WaitFor) -> None:
    camera = Camera()
    run = Run([camera])
    wait_for(lambda: run.said(EventMessage, type="start"))
    camera.broken.set()
    wait_for(lambda: run.said(EventMessage, type="end", reason="gap"))
    wait_for(lambda: run.said(StatusMessage, source="offline"))
    assert run.said(StateMessage)[-1].label is None
    assert "plug was pulled" in run.said(StatusMessage, source="offline")[0].detail
    camera.broken.clear()
    wait_for(lambda: run.said(GapMessage, reason="reconnect"))
    wait_for(lambda: len(run.said(EventMessage, type="start")) == 2)
    assert run.said(EventMessage)[-1].epoch == 1
    summary = run.finish()
    assert summary.reconnects == 1
    assert any(fresh[0] for fresh in run.engine.fresh[1:])


def test_a_silent_camera_is_stalled_and_its_label_does_not_stay(wait_for: WaitFor) -> None:
    camera = Camera()
    run = Run([camera])
    wait_for(lambda: run.said(StateMessage, label="dark"))
    camera.silent.set()
    wait_for(lambda: run.said(StatusMessage, source="stalled"))
    assert run.said(EventMessage)[-1].reason == "gap"
    assert run.said(StateMessage)[-1].label is None
    camera.silent.clear()
    wait_for(lambda: run.said(StatusMessage)[-1].source == "online")
    wait_for(lambda: run.said(GapMessage, reason="gap", epoch=1))
    run.finish()


def test_a_capture_thread_that_hangs_is_replaced_and_counted(
    wait_for: WaitFor, caplog: pytest.LogCaptureFixture
) -> None:
    camera = Camera(patience_s=0.5)
    run = Run([camera])
    wait_for(lambda: run.said(EventMessage, type="start"))
    camera.hung.set()
    wait_for(lambda: "hangs" in caplog.text)
    camera.hung.clear()
    wait_for(lambda: len(run.said(EventMessage, type="start")) == 2)
    assert camera.opened == sorted(set(camera.opened))
    assert run.finish().reconnects >= 1


def test_no_more_than_three_threads_of_a_source_hang_at_a_time(wait_for: WaitFor) -> None:
    camera = Camera(patience_s=0.05)
    camera.hung.set()
    run = Run([camera])
    wait_for(lambda: bool(run.said(StatusMessage, source="offline")))
    assert "3 threads hang in it, so no other is started" in run.said(StatusMessage, source="offline")[0].detail
    time.sleep(0.5)  # ten times as long as one is waited for
    assert len(camera.opened) == 3
    run.finish()


def test_one_camera_that_fails_does_not_stop_the_other(wait_for: WaitFor) -> None:
    good, bad = Camera("good"), Camera("bad")
    bad.broken.set()
    good.label = 3
    run = Run([bad, good])
    wait_for(lambda: run.said(EventMessage, stream="good", type="start", label="bright"))
    wait_for(lambda: run.said(StatusMessage, stream="bad", source="offline"))
    assert not run.said(EventMessage, stream="bad")
    run.finish()
    assert all(row[0] == -1 for row in run.engine.seen)


def test_rows_of_two_cameras_do_not_mix(wait_for: WaitFor) -> None:
    one, two = Camera("one"), Camera("two")
    one.label, two.label = 0, 3
    run = Run([one, two])
    wait_for(lambda: run.said(EventMessage, stream="one") and run.said(EventMessage, stream="two"))
    run.finish()
    assert {m.label for m in run.said(EventMessage, stream="one")} == {"dark"}
    assert {m.label for m in run.said(EventMessage, stream="two")} == {"bright"}


def test_files_end_the_run_by_themselves_and_no_frame_is_lost() -> None:
    run = Run([Film(lambda t: int(t / 2), [n / 30 for n in range(180)])], Config(buffer=1))
    run.thread.join(30)
    summary = run.finish()
    assert (summary.captured, summary.inferred) == (180, 60)
    assert summary.dropped == {"above_rate": 120}
    assert [m.label for m in run.said(EventMessage, type="start")] == ["dark", "dim", "light"]
    assert [m.source for m in run.said(StatusMessage)][-2:] == ["ended", "stopped"]


def test_a_file_that_cannot_be_read_stops_the_run_with_its_error() -> None:
    class Broken(Film):
        def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
            yield from super().frames(connection, stop)
            raise SourceError("film: the rest is garbage")

    run = Run([Broken(lambda _: 1, [n / 30 for n in range(60)])])
    run.thread.join(30)
    assert isinstance(run.error, SourceError)
    assert run.said(EventMessage)[-1].type == "end"


def test_an_error_of_the_engine_surfaces_and_leaves_no_thread(no_thread_stays: None) -> None:
    class Failing(SeeingEngine):
        def _step(self, *_: Any) -> Any:
            raise RuntimeError("the device is gone")

    pipeline = Pipeline(Config(), Failing(), [Camera()])
    with pytest.raises(RuntimeError, match="the device is gone"):
        pipeline.run(threading.Event())


def test_a_run_ends_after_its_duration() -> None:
    run = Run([Camera()], Config(duration_s=0.5))
    run.thread.join(10)
    assert not run.thread.is_alive()


def test_stopping_is_prompt_even_while_a_thread_hangs() -> None:
    camera = Camera()
    camera.hung.set()
    run = Run([camera])
    run.finish()  # fails when the pipeline waits for the thread


def test_asking_for_the_summary_starts_no_thread_in_the_place_of_one_that_hangs(wait_for: WaitFor) -> None:
    camera = Camera()
    camera.hung.set()
    run = Run([camera])
    wait_for(camera.hangs.is_set)
    run.finish()
    camera.patience_s = 0
    before = set(threading.enumerate())
    assert run.pipeline.summary().captured == 0
    assert set(threading.enumerate()) == before


def test_a_slow_engine_drops_the_oldest_frames_and_counts_them() -> None:
    class Slow(SeeingEngine):
        def _step(self, *arguments: Any) -> Any:
            time.sleep(0.3)
            return super()._step(*arguments)

    config = Config(buffer=2, duration_s=3)
    pipeline = Pipeline(config, Slow(), [open_source(SourceConfig(uri="pattern://swipe?size=64x48"))])
    summary = pipeline.run(threading.Event())
    assert summary.dropped["ring_full"] > 0
    counted = summary.inferred + sum(summary.dropped.values())
    assert summary.captured - config.buffer <= counted <= summary.captured
