"""Streams that come while the pipeline runs and cannot be read, fail, hang or leave."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import pytest

from engines import EngineError
from engines.backends.scripted import ScriptedState
from streamer.errors import ConfigError, SourceError
from streamer.labels.messages import EventMessage, ScoreMessage, StateMessage, StatusMessage
from streamer.pipeline import pipeline as pipeline_module
from streamer.pipeline.intake import Intake
from streamer.pipeline.pipeline import Pipeline
from streamer.pipeline.stream import Stream
from streamer.types import Frame

from .directed import SWIPE, Direct, direct
from .seeing import Film, SeeingEngine
from .test_pipeline import WaitFor

__all__ = ["direct"]


def test_streams_that_were_removed_but_hang_count_until_they_return(
    direct: Direct, monkeypatch: pytest.MonkeyPatch, wait_for: WaitFor
) -> None:
    hold = threading.Event()

    class Hanging(Film):
        def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
            hold.wait()
            yield from ()

    run = direct("one")
    monkeypatch.setattr(pipeline_module, "MAX_STREAMS", 3)
    with monkeypatch.context() as patched:
        patched.setattr(pipeline_module, "open_source", lambda *_: Hanging(lambda t: 1, [], "hanging"))
        for _ in range(2):
            run.ask("add", "hanging")
            run.ask("remove", "hanging")
    with pytest.raises(ConfigError, match="1 streams already, and 2 threads of streams that were removed still hang"):
        run.ask("add", SWIPE)
    hold.set()

    def added() -> bool:
        try:
            return bool(run.ask("add", SWIPE))
        except ConfigError:
            return False

    wait_for(added)


def test_a_stream_that_cannot_be_read_leaves_and_the_others_go_on(
    direct: Direct, wait_for: WaitFor, caplog: pytest.LogCaptureFixture
) -> None:
    run = direct("one")
    run.ask("add", __file__, "broken")
    wait_for(lambda: run.said(StatusMessage, stream="broken", source="stopped"))
    assert "is not a video" in run.said(StatusMessage, stream="broken")[-1].detail
    assert "broken: removed: " in caplog.text
    assert [stream["stream"] for stream in run.ask("status")["streams"]] == ["one"]


@pytest.mark.parametrize("uri", [SWIPE, __file__])
def test_a_stream_that_has_left_takes_no_memory_even_before_the_garbage_collector_comes(
    uri: str, direct: Direct, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Stream]] = []
    make = Pipeline._stream

    def remember(pipeline: Pipeline, name: str, intake: Intake) -> Stream:
        stream = make(pipeline, name, intake)
        made.append(weakref.ref(stream))
        return stream

    run = direct("one")
    monkeypatch.setattr(Pipeline, "_stream", remember)
    gc.disable()
    try:
        run.ask("add", uri, "two")
        if uri == SWIPE:
            wait_for(lambda: run.said(ScoreMessage, stream="two"))
            run.ask("remove", "two")
        wait_for(lambda: run.said(StatusMessage, stream="two", source="stopped") and made[0]() is None)
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [ValueError("embedded null byte"), MemoryError(), OSError("File name too long")])
def test_whatever_an_added_stream_fails_with_only_it_ends(
    error: Exception, direct: Direct, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Film):
        def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
            yield from ()
            raise error

    run = direct("one")
    with monkeypatch.context() as patched:
        patched.setattr(pipeline_module, "open_source", lambda *_: Broken(lambda t: 1, [0.1], "broken"))
        run.ask("add", "broken")
    wait_for(lambda: run.said(StatusMessage, stream="broken", source="stopped"))
    assert run.said(StatusMessage, stream="broken")[-1].detail == f"{type(error).__name__}: {error}"
    before = len(run.said(ScoreMessage, stream="one"))
    wait_for(lambda: len(run.said(ScoreMessage, stream="one")) > before)


@pytest.mark.parametrize("source", ["7" * 59, "/dev/" + "a" * 300, "file:a\0b", "http://[", "v4l2:" + "a" * 1000])
def test_a_source_that_cannot_be_is_refused_or_leaves_and_the_others_go_on(
    source: str, direct: Direct, wait_for: WaitFor
) -> None:
    run = direct("one")
    with suppress(ConfigError):
        run.ask("add", source)
    before = len(run.said(ScoreMessage, stream="one"))
    wait_for(lambda: len(run.said(ScoreMessage, stream="one")) > before + 5)
    assert run.thread.is_alive()


def test_a_stream_that_breaks_off_says_nothing_after_its_end(
    direct: Direct, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(SeeingEngine):
        def _step(self, *arguments: Any) -> Any:
            time.sleep(0.05)  # so that a full ring lasts until the end is noticed
            return super()._step(*arguments)

    class Torn(Film):
        def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
            yield from super().frames(connection, stop)
            raise SourceError("torn: this film is torn")

    run = direct("one", engine=Slow())
    torn = Torn(lambda t: 1, [n / 10 for n in range(30)], "torn")
    with monkeypatch.context() as patched:
        patched.setattr(pipeline_module, "open_source", lambda *_: torn)
        run.ask("add", "torn")
    wait_for(lambda: run.said(StatusMessage, stream="torn", source="stopped"))
    before = len(run.said(StateMessage, stream="one"))
    wait_for(lambda: len(run.said(StateMessage, stream="one")) > before)
    said = [message for message in run.messages if message.stream == "torn"]
    assert isinstance(said[-1], StatusMessage)
    starts, ends = (run.said(EventMessage, stream="torn", type=kind) for kind in ("start", "end"))
    assert len(starts) == len(ends) == 1


def test_a_stream_that_the_engine_has_no_room_for_leaves_and_the_others_go_on(
    direct: Direct, wait_for: WaitFor
) -> None:
    class Small(SeeingEngine):
        def new_state(self, rows: int) -> ScriptedState:
            if rows > 1:
                raise EngineError("out of memory")
            return super().new_state(rows)

    run = direct("one", engine=Small())
    run.ask("add", SWIPE, "two")
    wait_for(lambda: run.said(StatusMessage, stream="two", source="stopped"))
    assert run.said(StatusMessage, stream="two")[-1].detail == "the engine has no room for it: out of memory"
    before = len(run.said(StateMessage, stream="one"))
    wait_for(lambda: len(run.said(StateMessage, stream="one")) > before)
