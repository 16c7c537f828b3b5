"""Streams that come, go and start anew while the pipeline runs."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from engines.backends.scripted import ScriptedState
from streamer.config import Config, SourceConfig
from streamer.errors import ConfigError
from streamer.labels.control import Control
from streamer.labels.messages import EventMessage, GapMessage, Message, ScoreMessage, StateMessage, StatusMessage
from streamer.labels.requests import ask, make_request
from streamer.labels.subscriber import Subscriber
from streamer.pipeline import pipeline as pipeline_module
from streamer.pipeline.pipeline import Pipeline

from .directed import SWIPE, Direct, direct
from .seeing import Film, SeeingEngine
from .test_pipeline import WaitFor

__all__ = ["direct"]


def test_a_stream_is_added_and_those_that_are_there_keep_their_memory(direct: Direct, wait_for: WaitFor) -> None:
    class Patient(SeeingEngine):
        making, go = threading.Event(), threading.Event()

        def new_state(self, rows: int) -> ScriptedState:
            if rows > 1:
                self.making.set()
                assert self.go.wait(30)
            return super().new_state(rows)

    engine = Patient()
    run = direct("one", engine=engine)
    wait_for(lambda: run.said(EventMessage, stream="one", type="start"))
    assert run.ask("add", SWIPE, "two") == {"stream": "two"}
    assert engine.making.wait(30)
    before = len(run.said(ScoreMessage, stream="one"))
    wait_for(lambda: len(run.said(ScoreMessage, stream="one")) > before + 5)  # while the state is being made
    assert not run.said(ScoreMessage, stream="two")
    engine.go.set()
    wait_for(lambda: run.said(ScoreMessage, stream="two"))
    assert [stream["stream"] for stream in run.ask("status")["streams"]] == ["one", "two"]
    assert {message["stream"] for message in run.ask("snapshot")} == {"one", "two"}
    run.finish()
    assert not run.said(GapMessage, stream="one")
    assert all(m.ready and m.epoch == 0 for m in run.said(ScoreMessage, stream="one"))


def test_settings_of_events_change_in_all_streams_and_status_tells_them(direct: Direct, wait_for: WaitFor) -> None:
    run = direct("one", "two")
    wait_for(lambda: len(run.said(EventMessage, type="start")) == 2)
    for wrong, message in (
        ("events.background=[drak]", "the model has no label 'drak'; did you mean 'dark'"),
        ("events.leave=0.9", "`leave` 0.9 is above `enter` 0.6"),
        ("events.enter=2", "less than or equal to 1"),
        ("model=other", "cannot be changed while the run goes on"),
    ):
        with pytest.raises(ConfigError, match=message):
            run.ask("set", wrong)
    assert run.ask("status")["set"] == {}
    assert not run.said(EventMessage, type="end")
    assert run.ask("set", "events.background=[dark]") == {"set": {"events.background": ["dark"]}}
    wait_for(lambda: len(run.said(EventMessage, type="end")) == 2)
    assert {message.reason for message in run.said(EventMessage, type="end")} == {"set"}
    status = run.ask("status")
    assert (status["set"], status["knows"]) == ({"events.background": ["dark"]}, ["dark", "dim", "light", "bright"])
    assert (status["events"]["background"], status["events"]["enter"]) == (["dark"], 0.6)
    run.ask("add", SWIPE)  # obeys them, too
    wait_for(lambda: run.said(StateMessage, stream="swipe"))
    assert run.ask("set", "events.background=") == {"set": {}}
    wait_for(lambda: len(run.said(EventMessage, type="start")) >= 4)
    run.finish()


def test_the_term_of_a_stream_is_in_its_messages_and_an_older_one_cannot_remove_it(
    direct: Direct, wait_for: WaitFor
) -> None:
    run = direct("one")
    request = {"command": "add", "source": {"uri": SWIPE, "name": "two"}, "term": 7}
    assert ask(run.control.address, request, timeout_s=30) == {"stream": "two"}
    wait_for(lambda: run.said(ScoreMessage, stream="two"))
    with pytest.raises(ConfigError, match="two has term 7 by now, which is later than 6; it goes on"):
        ask(run.control.address, {"command": "remove", "stream": "two", "term": 6}, timeout_s=30)
    assert [one["term"] for one in run.ask("status")["streams"]] == [0, 7]
    ask(run.control.address, {"command": "remove", "stream": "two", "term": 7}, timeout_s=30)
    run.finish()
    assert {message.term for message in run.messages if message.stream == "two"} == {7}
    assert {message.term for message in run.messages if message.stream == "one"} == {UNSET}


def test_a_name_that_is_taken_is_refused_and_one_that_was_made_up_is_changed(direct: Direct) -> None:
    run = direct("swipe")
    with pytest.raises(ConfigError, match="two sources are called swipe"):
        run.ask("add", SWIPE, "swipe")
    assert run.ask("add", SWIPE) == {"stream": "swipe-2"}
    with pytest.raises(ConfigError, match="there is no stream 'swip'; did you mean 'swipe'"):
        run.ask("reset", "swip")
    with pytest.raises(ConfigError, match="there is no stream 'x'; there are swipe, swipe-2"):
        run.ask("remove", "x")


def test_streams_are_not_added_without_end(direct: Direct, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "MAX_STREAMS", 1)
    with pytest.raises(ConfigError, match="there are 1 streams already; remove one first"):
        direct("one").ask("add", SWIPE)


def test_a_stream_that_is_removed_ends_and_may_come_back_as_a_new_epoch(direct: Direct, wait_for: WaitFor) -> None:
    run = direct("one", "two", publish=True)
    wait_for(lambda: run.said(EventMessage, stream="two", type="start"))
    with Subscriber(run.labels, streams=["two"], timeout_s=30) as subscriber:
        next(subscriber)
        assert run.ask("remove", "two") == {"stream": "two"}
        assert [m.reason for m in run.said(EventMessage, stream="two", type="end")] == ["shutdown"]
        assert run.said(StatusMessage, stream="two")[-1].source == "stopped"
        assert [stream["stream"] for stream in run.ask("status")["streams"]] == ["one"]
        assert {message["stream"] for message in run.ask("snapshot")} == {"one"}
        run.ask("add", SWIPE, "two")
        for message in subscriber:
            if isinstance(message, ScoreMessage) and message.epoch == 1:
                break
        assert subscriber.missed == 0
    summary = run.finish()
    assert summary.inferred >= len(run.said(ScoreMessage))


def test_the_last_stream_may_go_and_another_may_come(direct: Direct, wait_for: WaitFor) -> None:
    run = direct("one")
    run.ask("remove", "one")
    assert run.ask("status")["streams"] == []
    run.ask("add", SWIPE, "two")
    wait_for(lambda: run.said(ScoreMessage, stream="two"))
    assert run.thread.is_alive()


def test_a_reset_forgets_what_one_stream_saw(direct: Direct, wait_for: WaitFor) -> None:
    run = direct("one", "two")
    wait_for(lambda: run.said(EventMessage, stream="one") and run.said(EventMessage, stream="two"))
    assert run.ask("reset", "one") == {"stream": "one", "epoch": 1}
    wait_for(lambda: run.said(EventMessage, stream="one", type="start", epoch=1))
    events = [(m.type, m.reason, m.epoch) for m in run.said(EventMessage, stream="one")]
    assert [("end", "reset", 0), ("start", None, 1)] in [events[n : n + 2] for n in range(len(events))]
    (gap,) = run.said(GapMessage)
    assert (gap.stream, gap.reason, gap.epoch, gap.ready) == ("one", "reset", 1, False)
    assert gap.from_us == gap.to_us
    run.finish()
    assert all(m.ready and m.epoch == 0 for m in run.said(ScoreMessage, stream="two"))


def test_a_reset_before_the_first_frame_changes_nothing(direct: Direct) -> None:
    run = direct()
    run.ask("add", "rtsp://127.0.0.1:1/none", "dark")
    assert run.ask("reset", "dark") == {"stream": "dark", "epoch": 0}
    assert not run.said(GapMessage)


def test_draining_sees_what_was_taken_and_ends(direct: Direct, wait_for: WaitFor) -> None:
    class Slow(SeeingEngine):
        def _step(self, *arguments: Any) -> Any:
            time.sleep(0.3)
            return super()._step(*arguments)

    run = direct("one", engine=Slow())
    wait_for(lambda: run.said(EventMessage, type="start"))
    assert run.ask("drain") == {}
    run.thread.join(10)
    assert run.error is None
    assert run.said(EventMessage)[-1].reason == "shutdown"
    assert run.said(StatusMessage)[-1].source == "stopped"
    assert [len(stream.ring) for stream in run.pipeline.streams] == [0]
    with pytest.raises(ConfigError, match="the run is ending"):
        run.pipeline.add(SourceConfig(uri=SWIPE))


class Hand:
    """In the place of the control socket: does one of the test's operations each time, then ends the run."""

    def __init__(self, operations: list[tuple[str, str]]) -> None:
        self._operations = iter(operations)

    def poll(self, on: Pipeline) -> None:
        command, name = next(self._operations, ("drain", ""))
        there = {stream.name for stream in on.streams}
        if command == "drain":
            on.drain()
        elif command == "add" and name not in there and not on.draining:
            on.add(SourceConfig(uri=name, name=name))
        elif name in there and command in ("reset", "remove"):
            getattr(on, command)(name)


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "reset", "wait", "wait"]), st.sampled_from(["a", "b", "c"])),
    min_size=20,
    max_size=80,
)


@given(OPERATIONS)
@settings(max_examples=10)
def test_every_start_has_exactly_one_end_whatever_is_added_removed_and_reset(operations: list[tuple[str, str]]) -> None:
    def film(config: SourceConfig, taken: object = (), capture: object = None) -> Film:
        return Film(lambda t: int(t / 1.5), [n / 10 for n in range(10_000)], config.uri)

    messages: list[Message] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline_module, "open_source", film)
        sources = [film(SourceConfig(uri="a"))]
        Pipeline(Config(), SeeingEngine(), sources, None, [messages.append], Hand(operations)).run(threading.Event())  # type: ignore[arg-type]
    open_events: dict[str, str] = {}
    numbers: dict[tuple[str, str], int] = {}
    epochs: dict[str, int] = {}
    for message in messages:
        key = message.stream, message.kind
        assert message.seq == numbers.get(key, -1) + 1
        assert message.epoch >= epochs.get(message.stream, 0)
        numbers[key], epochs[message.stream] = message.seq, message.epoch
        if isinstance(message, EventMessage):
            if message.type == "start":
                assert message.stream not in open_events
                open_events[message.stream] = message.id
            else:
                assert open_events[message.stream] == message.id
                if message.type == "end":
                    del open_events[message.stream]
    assert not open_events


def test_a_run_of_a_fleet_goes_on_without_sources_and_tells_what_reading_one_costs(wait_for: WaitFor) -> None:
    control, stop = Control("auto"), threading.Event()
    pipeline = Pipeline(Config(node="north", rows=2), SeeingEngine(), [], control=control)
    thread = threading.Thread(target=pipeline.run, args=(stop,))
    thread.start()

    def streams() -> list[dict[str, Any]]:
        return list(ask(control.address, make_request("status"), timeout_s=30)["streams"])

    try:
        assert streams() == []
        ask(control.address, make_request("add", ["pattern://swipe?size=640x480"], "one"), timeout_s=30)
        wait_for(lambda: streams()[0]["work_ms"] > 0)
        ask(control.address, make_request("remove", ["one"]), timeout_s=30)
        assert streams() == []
        assert thread.is_alive()
    finally:
        stop.set()
        thread.join()
        control.close()
