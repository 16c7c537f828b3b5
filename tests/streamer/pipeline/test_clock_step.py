"""The wall clock of the machine is set while cameras are connected."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from streamer.config import Config, SourceConfig
from streamer.labels.messages import EventMessage, GapMessage, Message, MessageBuilder, ScoreMessage, StateMessage
from streamer.labels.publisher import Publisher
from streamer.labels.subscriber import Subscriber
from streamer.pipeline.batcher import Batcher
from streamer.pipeline.intake import Intake
from streamer.pipeline.stream import Stream, advance
from streamer.sources import open_source
from streamer.types import Frame, Timeline

from .seeing import SPEC, Film, SeeingEngine, picture
from .test_pipeline import Run

WaitFor = Callable[[Callable[[], Any]], None]


@pytest.mark.parametrize("by_s", [-172_800, -3600, -5, 5, 3600, 172_800])
def test_ages_are_right_again_at_once_and_every_stream_starts_anew(
    by_s: float, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("one", "two")
    sources = [open_source(SourceConfig(uri="pattern://still?size=64x48", name=name)) for name in names]
    publisher = Publisher("tcp://127.0.0.1:*", SPEC.version, "stream")
    with Subscriber(publisher.address, kinds=["score"], max_age_ms=2000, timeout_s=30) as subscriber:
        run = Run(sources, publisher=publisher)
        wait_for(lambda: all(run.said(EventMessage, stream=name, type="start") for name in names))
        assert next(subscriber).kind == "score"
        real_ns, real = time.time_ns, time.time
        monkeypatch.setattr(time, "time_ns", lambda: real_ns() + round(by_s * 1e9))
        monkeypatch.setattr(time, "time", lambda: real() + by_s)
        wait_for(lambda: all(run.said(GapMessage, stream=name, reason="clock", epoch=1) for name in names))
        wait_for(lambda: all(run.said(EventMessage, stream=name, type="start", epoch=1) for name in names))
        wait_for(lambda: f"the clock of this machine was set by {by_s:+.1f} s" in caplog.text)
        after = [m for m in run.said(ScoreMessage) if m.epoch == 1]
        assert all(0 <= m.age_ms < 2000 for m in after if m.age_ms is not None)
        wait_for(lambda: next(subscriber).epoch == 1)  # which are not stale
        run.finish()
    for name in names:
        (gap,) = run.said(GapMessage, stream=name)
        assert abs(gap.to_us - gap.from_us - by_s * 1e6) < 2e6
        ends = run.said(EventMessage, stream=name, type="end", epoch=0)
        assert [m.reason for m in ends] == ["gap"]
        state = run.said(StateMessage, stream=name, epoch=1)[0]
        assert state.since_us is None or abs(state.since_us - gap.to_us) < 2e6
    assert all(stream.lost_us["clock"] == 0 for stream in run.pipeline.streams)


def test_a_slew_changes_nothing(wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run([open_source(SourceConfig(uri="pattern://still?size=64x48"))])
    wait_for(lambda: run.said(EventMessage, type="start"))
    real_ns, begin = time.time_ns, time.monotonic()
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + round((time.monotonic() - begin) * 500_000))  # 500 ppm
    seen = run.pipeline.streams[0].inferred
    wait_for(lambda: run.pipeline.streams[0].inferred > seen + 15)
    run.finish()
    assert not run.said(GapMessage)


def test_what_the_sidecar_says_of_events_holds_after_the_clock_was_set() -> None:
    spec = msgspec.structs.replace(SPEC, events={"background": ["dark"]})
    messages: list[Message] = []
    intake = Intake(Film(lambda _: 0, []), spec, Config())
    stream = Stream("film", intake, Config(), MessageBuilder(spec.version, spec.mode), messages.append)
    batcher = Batcher(SeeingEngine(), rows=1)
    for set_us in (0, 5_000_000):
        for number in range(20):
            at_us = set_us + number * 100_000
            intake.offer(Frame(at_us, number, 0, lambda: picture(0), timeline=Timeline(set_us=set_us)))
            advance(batcher, [stream])
    assert [m.reason for m in messages if isinstance(m, GapMessage)] == ["clock"]
    assert not [m for m in messages if isinstance(m, EventMessage)]
