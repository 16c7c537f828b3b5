"""Sources that are slower than the model: labels as far as they go, and a sentence that says how far."""

from __future__ import annotations

import itertools
import logging
import random
import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest

from engines import load_engine
from streamer.config import Config, SourceConfig
from streamer.labels.messages import (
    EventMessage,
    GapMessage,
    Message,
    MessageBuilder,
    ScoreMessage,
    StatusMessage,
    encode,
)
from streamer.labels.publisher import wall_us
from streamer.pipeline.batcher import Batcher
from streamer.pipeline.intake import Intake
from streamer.pipeline.replay import replay
from streamer.pipeline.stream import Stream, advance
from streamer.sources import open_source
from streamer.types import Frame

from .seeing import Film, SeeingEngine, picture
from .test_pipeline import Camera, Run

WaitFor = Callable[[Callable[[], Any]], None]


def messages_of(times: list[float], config: Config | None = None) -> tuple[list[Message], SeeingEngine]:
    messages: list[Message] = []
    engine = SeeingEngine()
    replay(Film(lambda at: int(at / 3) % 4, times), engine, config or Config(), messages.append)
    return messages, engine


def of(messages: list[Message], kind: type) -> list[Any]:
    return [message for message in messages if isinstance(message, kind)]


def starts(messages: list[Message]) -> list[str]:
    return [message.label for message in of(messages, EventMessage) if message.type == "start"]


@pytest.mark.parametrize("fps", [2, 3, 3.3, 3.4, 5, 7, 8.5])
def test_a_slow_source_has_every_label_and_no_gap(fps: float) -> None:
    messages, engine = messages_of([number / fps for number in range(round(12 * fps))])
    assert starts(messages) == ["dark", "dim", "light", "bright"]
    assert not of(messages, GapMessage)
    assert len(engine.seen) == pytest.approx(120, abs=12), "the network sees its own rate"
    (status,) = of(messages, StatusMessage)
    assert status.captured == status.inferred == round(12 * fps), "pictures between frames are no frames"
    assert status.detail.endswith("pictures in between are interpolated, and labels are less sure")


@pytest.mark.parametrize("seed", range(3))
def test_uneven_distances_of_a_slow_source_are_no_gaps_either(seed: int) -> None:
    rng, times = random.Random(seed), [0.0]
    while times[-1] < 12:
        times.append(times[-1] + rng.uniform(0.08, 0.6))
    messages, _ = messages_of(times)
    assert {*starts(messages)} == {"dark", "dim", "light", "bright"}
    assert len(of(messages, GapMessage)) <= 2, "only where a distance is longer than any before it"


def test_a_file_that_becomes_slow_and_fast_again_loses_little() -> None:
    times = [n / 30 for n in range(120)] + [4 + n / 3 for n in range(12)] + [8 + n / 30 for n in range(120)]
    messages, _ = messages_of(times)
    assert len(of(messages, GapMessage)) == 1, "the first long distance may have been a loss"
    assert set(starts(messages)) == {"dark", "dim", "light", "bright"}


def test_pictures_between_frames_have_times_between_theirs() -> None:
    messages, _ = messages_of([n / 4 for n in range(48)])
    times = [message.ts.frame_us for message in of(messages, ScoreMessage)]
    distances = {after - before for before, after in itertools.pairwise(times)}
    assert len(times) > 100
    assert max(distances) <= 125_000
    assert min(distances) >= 83_333


def test_a_source_as_fast_as_the_model_gets_nothing_in_between() -> None:
    times = [n / 30 for n in range(360) if n not in (100, 101, 102, 103, 104, 200, 201, 202, 203, 204, 205)]
    messages, engine = messages_of(times)
    (status,) = of(messages, StatusMessage)
    assert len(engine.seen) == status.inferred
    assert status.detail == ""


@pytest.mark.parametrize("fps", [0.2, 0.5, 1])
def test_what_is_too_slow_for_any_label_is_said(fps: float) -> None:
    messages, _ = messages_of([n / fps for n in range(12)])
    assert not of(messages, ScoreMessage)
    (status,) = of(messages, StatusMessage)
    assert f"no frame for {1 / fps:.2g} s, again and again; the model needs one every 0.75 s" in status.detail
    assert "raise its frame rate, or max_gap" in status.detail


def test_with_a_longer_max_gap_a_source_of_one_frame_a_second_is_seen_as_it_is() -> None:
    messages, engine = messages_of([float(n) for n in range(12)], Config(max_gap=15))
    assert len(engine.seen) == 12
    assert len(of(messages, ScoreMessage)) == 9


def test_one_hole_in_a_good_camera_is_not_called_slow() -> None:
    messages, _ = messages_of([n / 30 for n in range(360) if not 100 < n < 190])
    assert len(of(messages, GapMessage)) == 1
    assert of(messages, StatusMessage)[0].detail == ""


def test_a_slow_recording_gives_the_same_bytes_every_time() -> None:
    runs = []
    for _ in range(2):
        lines: list[bytes] = []
        source = open_source(SourceConfig(uri="pattern://swipe?fps=3&duration=8&size=320x240", pace="fast"))
        replay(source, load_engine("default"), Config(), lambda message: lines.append(encode(message)))  # noqa: B023
        runs.append(lines)
    assert runs[0] == runs[1]
    assert len(runs[0]) > 50


@pytest.mark.parametrize(("fps", "least"), [(5, 18), (3, 16)])
def test_the_default_model_names_most_motions_of_a_slow_source(fps: int, least: int) -> None:
    source = open_source(SourceConfig(uri=f"pattern://swipe?fps={fps}&duration=56&size=320x240&seed=1", pace="fast"))
    truth: Callable[[int], str] = source.truth  # type: ignore[attr-defined]
    messages: list[Message] = []
    replay(source, load_engine("default"), Config(), messages.append)
    ended = [m for m in of(messages, EventMessage) if m.type == "end" and m.label != "still"]
    right = [m for m in ended if truth((m.t_start_us + m.t_end_us) // 2) == m.label]
    assert len(right) >= least, "of 22"
    assert len(right) >= 0.7 * len(ended)


class SlowCamera(Camera):
    """A camera of so many frames a second, by its own clock."""

    def __init__(self, every_s: float) -> None:
        super().__init__()
        self.every_s = every_s

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        begin_us, index = wall_us(), 0
        while not stop.wait(self.every_s / 4):  # sooner than its times say, so that the test is over soon
            yield Frame(begin_us + round(index * self.every_s * 1e6), index, connection, lambda: picture(self.label))
            index += 1


@pytest.mark.parametrize(
    ("every_s", "sentence"), [(0.34, "2.9 frames a second, the model takes 10"), (1.1, "no labels; raise its")]
)
def test_a_run_says_in_status_report_and_once_in_the_log_that_its_source_is_slow(
    every_s: float, sentence: str, wait_for: WaitFor, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run([SlowCamera(every_s)])
    wait_for(lambda: any(sentence in message.detail for message in run.said(StatusMessage, source="online")))
    assert sentence in run.pipeline.report().streams[0].detail
    assert sentence in run.pipeline.conditions()[0][1].detail
    seen = run.pipeline.streams[0].inferred
    wait_for(lambda: run.pipeline.streams[0].inferred > seen + 5)
    assert run.pipeline.streams[0].source.name in caplog.text
    run.finish()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len([text for text in warnings if sentence in text]) == 1


def test_the_last_pictures_of_a_slow_file_are_seen_before_its_end_is_told() -> None:
    run = Run([Film(lambda at: int(at / 3), [n / 3 for n in range(36)])])
    run.thread.join(30)
    run.finish()
    events = run.said(EventMessage)
    assert [m.label for m in events if m.type == "start"] == ["dark", "dim", "light", "bright"]
    assert [m.type for m in events].count("end") == 4
    assert [m.source for m in run.said(StatusMessage)][-2:] == ["ended", "stopped"]
    assert run.said(ScoreMessage)[-1].ts.frame_us == round(35 / 3 * 1e6)


def test_in_a_slow_source_under_load_frames_are_left_out_and_nothing_is_put_between() -> None:
    messages: list[Message] = []
    source, engine = Film(lambda _: 1, [n / 5 for n in range(100)]), SeeingEngine()
    intake = Intake(source, engine.spec, Config())
    stream = Stream(source.name, intake, Config(), MessageBuilder("m", "stream", "s"), messages.append)
    intake.step = 2
    batcher = Batcher(engine, 1)
    for frame in source.frames(0, threading.Event()):
        intake.offer(frame)
        while advance(batcher, [stream]):
            pass
    assert len(engine.seen) == stream.inferred == 50
    assert not of(messages, GapMessage)
