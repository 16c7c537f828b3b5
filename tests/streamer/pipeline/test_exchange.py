"""Another model takes over while the pipeline runs."""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engines import EngineError, EngineSpec
from engines.backends.scripted import ScriptedState
from streamer.clips.room import Clips
from streamer.config import ClipsConfig, Config, EventConfig
from streamer.errors import ConfigError
from streamer.health.metrics import Metrics
from streamer.labels.control import Control
from streamer.labels.messages import EventMessage, GapMessage, ScoreMessage, StateMessage, StatusMessage
from streamer.labels.publisher import Publisher
from streamer.labels.requests import ask, make_request
from streamer.labels.subscriber import Subscriber
from streamer.pipeline import exchange, shedding
from streamer.pipeline.exchange import Loader
from streamer.sources import Source

from .seeing import SPEC, Film, SeeingEngine
from .test_pipeline import Camera, Run, WaitFor

ANY = "tcp://127.0.0.1:*"


class Other(SeeingEngine):
    """Another model: of another size and rate, with other labels for the same greys."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        spec = {"name": "other", "labels": ("night", "dusk", "day", "noon"), "height": 12, "width": 10, "rate_hz": 15.0}
        self.spec = msgspec.structs.replace(SPEC, **{**spec, **changes})
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


class Held(Other):
    """One whose states are made when the test says so."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(**changes)
        self.making, self.go = threading.Event(), threading.Event()

    def new_state(self, rows: int) -> ScriptedState:
        self.making.set()
        assert self.go.wait(30)
        return super().new_state(rows)


class Exchanged(Run):
    """A pipeline with a control socket, a client, and the engine that takes over when `other` is asked for."""

    def __init__(
        self,
        *sources: Source,
        other: Any = None,
        config: Config | None = None,
        engine: SeeingEngine | None = None,
        keeper: Clips | None = None,
    ) -> None:
        self.other, self.control, self.publisher = (
            other or Other(),
            Control("auto"),
            Publisher(ANY, SPEC.version, "stream"),
        )
        config = config or Config(max_gap=600)  # pauses make no gap
        super().__init__(sources, config, self.publisher, self.control, engine, keeper=keeper)

    def make(self, _config: Config, model: str, rows: int) -> Any:
        if model != "other":
            raise EngineError(f"no model is called {model!r}")
        return self.other

    def ask(self, command: str, *what: str) -> Any:
        return ask(self.control.address, make_request(command, what), timeout_s=30)

    def close(self) -> None:
        self.stop.set()
        self.thread.join(15)
        self.control.close()


Start = Callable[..., Exchanged]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    runs: list[Exchanged] = []

    def make(*asked: Any) -> Any:
        return runs[-1].make(*asked)

    monkeypatch.setattr(exchange, "make_engine", make)

    def begin(*sources: Source, **options: Any) -> Exchanged:
        runs.append(Exchanged(*sources, **options))
        return runs[-1]

    yield begin
    for run in runs:
        run.close()


def test_streams_go_over_between_two_steps_and_cameras_stay_connected(start: Start, wait_for: WaitFor) -> None:
    camera = Camera("one")
    run = start(camera)
    wait_for(lambda: run.said(EventMessage, type="start"))
    with Subscriber(run.publisher.address, timeout_s=30) as subscriber:
        assert next(subscriber).model == "seeing@e3b0c442"
        assert run.ask("model", "other") == {"model": "other@e3b0c442"}
        with Subscriber(run.publisher.address, kinds=["state", "status"], timeout_s=30) as late:
            found = {message.kind: message for message in (next(late), next(late))}
        assert {message.model for message in found.values()} == {"other@e3b0c442"}
        wait_for(lambda: run.said(EventMessage, type="start", label="night"))
        for message in subscriber:
            if isinstance(message, EventMessage) and message.label == "night":
                break
        assert subscriber.missed == 0
    status = run.ask("status")
    assert (status["model"], status["knows"][0], status["loading"]) == ("other@e3b0c442", "night", None)
    run.finish()
    (gap,) = run.said(GapMessage)
    at = run.messages.index(gap)
    assert {message.model for message in run.messages[:at]} == {"seeing@e3b0c442"}
    assert {message.model for message in run.messages[at:]} == {"other@e3b0c442"}
    assert (gap.reason, gap.epoch, gap.ready, gap.to_us - gap.from_us) == ("model", 1, False, 0)
    (end,) = run.said(EventMessage, type="end", model="seeing@e3b0c442")
    assert (end.label, end.reason, end.t_end_us, end.epoch) == ("dark", "model", gap.from_us, 0)
    known = {label for message in run.said(ScoreMessage, model="other@e3b0c442") for label, _ in message.topk}
    assert known == {"night", "dusk", "day", "noon"}
    step_ms = {message.window.step_ms for message in run.said(ScoreMessage, model="other@e3b0c442")}
    assert step_ms == {1000 / 15}
    assert camera.opened == [0]
    assert camera.rate_hz == 15.0
    assert run.other.closed.is_set()  # with the run, whose own it was


def test_the_last_values_of_late_joiners_are_of_the_new_model_alone(start: Start, wait_for: WaitFor) -> None:
    run = start(Camera("one"), Camera("two"))
    wait_for(lambda: len({m.stream for m in run.said(StateMessage, label="dark")}) == 2)
    run.ask("model", "other")
    snapshot = run.ask("snapshot")
    assert {message["model"] for message in snapshot} == {"other@e3b0c442"}
    assert len(snapshot) == 4
    assert not [message for message in snapshot if message.get("label") == "dark"]


def test_a_file_that_waits_for_the_engine_goes_on_and_every_frame_is_counted(start: Start, wait_for: WaitFor) -> None:
    class Slow(SeeingEngine):
        def _step(self, *arguments: Any) -> Any:
            time.sleep(0.02)
            return super()._step(*arguments)

    film = Film(lambda t: int(t / 5), [n / 30 for n in range(600)])
    run = start(film, engine=Slow(), config=Config(buffer=2))  # the capture thread waits for room in the ring
    wait_for(lambda: len(run.said(ScoreMessage)) > 20)
    run.ask("model", "other")
    run.thread.join(30)
    summary = run.finish()
    assert summary.captured == 600
    assert summary.dropped["model"] in (1, 2)
    assert summary.inferred + sum(summary.dropped.values()) == 600
    assert run.said(EventMessage)[-1].label == "noon"


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        (EventConfig(background=("dark",)), "events.background: the model has no label 'dark'"),
        (EventConfig(labels={"bright": {"enter": 0.9}}), "events.labels: the model has no label 'bright'"),  # type: ignore[dict-item]
    ],
)
def test_settings_that_the_new_model_cannot_obey_are_told_and_nothing_changes(
    events: EventConfig, sentence: str, start: Start, wait_for: WaitFor
) -> None:
    run = start(Camera("one"), config=Config(max_gap=600, events=events))
    wait_for(lambda: run.said(ScoreMessage))
    with pytest.raises(ConfigError, match=sentence):
        run.ask("model", "other")
    with pytest.raises(ConfigError, match="no model is called 'otter'"):
        run.ask("model", "otter")
    assert run.other.closed.is_set()
    assert run.ask("status")["model"] == SPEC.version
    before = len(run.said(ScoreMessage))
    wait_for(lambda: len(run.said(ScoreMessage)) > before + 3)
    run.finish()
    assert not run.said(GapMessage)


def test_labels_whose_clips_are_kept_must_be_there_too(start: Start, tmp_path: Path, wait_for: WaitFor) -> None:
    clips = ClipsConfig(folder=tmp_path, labels=("dark",))
    run = start(Camera("one"), keeper=Clips(clips, EventConfig(), SPEC))
    wait_for(lambda: run.said(ScoreMessage))
    with pytest.raises(ConfigError, match=r"clips.labels: the model has no label 'dark'"):
        run.ask("model", "other")
    run.finish()
    assert not run.said(GapMessage)


def test_what_was_set_while_the_run_went_on_holds_for_the_new_model_too(start: Start, wait_for: WaitFor) -> None:
    run = start(Camera("one"))
    wait_for(lambda: run.said(EventMessage, type="start"))
    run.ask("set", "events.enter=1")
    run.ask("model", "other")
    wait_for(lambda: len(run.said(ScoreMessage, epoch=1)) > 10)
    assert run.ask("status")["events"]["enter"] == 1
    run.ask("set", "events.background=[night]")
    run.other = SeeingEngine()
    with pytest.raises(ConfigError, match="the model has no label 'night'"):
        run.ask("model", "other")
    run.finish()
    assert not run.said(EventMessage, epoch=1)


def test_settings_that_came_while_it_was_loaded_count_too(start: Start, wait_for: WaitFor) -> None:
    held = Held()
    run = start(Camera("one"), other=held)
    wait_for(lambda: run.said(ScoreMessage))
    loaded = run.control.ask(b'{"command": "model", "model": "other"}')
    assert held.making.wait(30)
    run.ask("set", "events.background=[dark]")
    held.go.set()
    with pytest.raises(ConfigError, match="the model has no label 'dark'"):
        loaded.result(30)
    assert held.closed.is_set()
    run.finish()
    assert not run.said(GapMessage)


def test_what_the_sidecar_of_the_new_model_says_of_events_applies(start: Start, wait_for: WaitFor) -> None:
    run = start(Camera("one"), other=Other(events={"background": ["night"], "leave_s": 0.4}))
    wait_for(lambda: run.said(EventMessage, type="start"))
    run.ask("model", "other")
    wait_for(lambda: len(run.said(ScoreMessage, epoch=1)) > 15)
    assert run.ask("status")["events"]["leave_s"] == 0.4
    run.finish()
    assert not run.said(EventMessage, epoch=1)


def test_while_a_model_is_loaded_labels_go_on_and_another_is_refused(start: Start, wait_for: WaitFor) -> None:
    held = Held()
    run = start(Camera("one"), other=held)
    wait_for(lambda: run.said(ScoreMessage))
    loaded = run.control.ask(b'{"command": "model", "model": "other"}')
    assert held.making.wait(30)
    assert run.ask("status")["loading"] == "other"
    before = len(run.said(ScoreMessage))
    with pytest.raises(ConfigError, match="other is being loaded; ask again when that was answered"):
        run.ask("model", "other")
    wait_for(lambda: len(run.said(ScoreMessage)) > before + 5)
    held.go.set()
    assert loaded.result(30) == {"model": "other@e3b0c442"}
    run.other = Other(name="third")
    assert run.ask("model", "other")["model"].startswith("third@")
    assert held.closed.is_set()
    run.finish()
    assert [m.reason for m in run.said(GapMessage)] == ["model"] * 2


def test_eight_streams_go_over_together_whoever_came_and_went_while_it_was_loaded(
    start: Start, wait_for: WaitFor
) -> None:
    cameras = [Camera(f"c{number}") for number in range(8)]
    for number, camera in enumerate(cameras):
        camera.label = number % 4
    held = Held()
    run = start(*cameras, other=held)
    wait_for(lambda: len({m.stream for m in run.said(EventMessage, type="start")}) == 8)
    loaded = run.control.ask(b'{"command": "model", "model": "other"}')
    assert held.making.wait(30)
    run.ask("remove", "c0")
    run.ask("add", "pattern://swipe?size=64x48")
    run.ask("add", "pattern://still?size=64x48")
    held.go.set()
    loaded.result(30)
    names = {f"c{number}" for number in range(1, 8)} | {"swipe", "still"}
    wait_for(lambda: {m.stream for m in run.said(ScoreMessage, model="other@e3b0c442")} == names)
    wait_for(lambda: names <= {m.stream for m in run.said(EventMessage, model="other@e3b0c442", type="start")})
    run.finish()
    for number in range(1, 8):
        label = run.other.spec.labels[number % 4]
        events = run.said(EventMessage, stream=f"c{number}", model="other@e3b0c442")
        assert {m.label for m in events} == {label}
        assert [m.reason for m in run.said(GapMessage, stream=f"c{number}")] == ["model"]
        assert cameras[number].opened == [0]


def test_a_camera_that_is_away_comes_back_to_the_new_model(start: Start, wait_for: WaitFor) -> None:
    camera = Camera("one")
    run = start(camera, Camera("two"))
    wait_for(lambda: run.said(EventMessage, stream="one", type="start"))
    camera.broken.set()
    wait_for(lambda: run.said(StatusMessage, stream="one", source="offline"))
    run.ask("model", "other")
    assert run.said(StatusMessage, stream="one")[-1].model == "other@e3b0c442"
    camera.broken.clear()
    wait_for(lambda: run.said(EventMessage, stream="one", type="start", label="night"))
    run.finish()
    assert [m.reason for m in run.said(GapMessage, stream="one")] == ["model"]  # it begins anew: nothing more is lost


def test_a_stream_that_saw_no_frame_yet_has_no_gap(start: Start, wait_for: WaitFor) -> None:
    camera = Camera("one")
    camera.broken.set()
    run = start(camera)
    wait_for(lambda: run.said(StatusMessage, source="offline"))
    run.ask("model", "other")
    camera.broken.clear()
    wait_for(lambda: run.said(EventMessage, type="start", label="night", epoch=0))
    run.finish()
    assert not run.said(GapMessage)


def test_load_that_was_shed_for_the_old_model_is_not_shed_for_the_new_one(
    start: Start, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shedding, "LOOK_S", 0.3)

    class Slow(SeeingEngine):
        def _step(self, *arguments: Any) -> Any:
            time.sleep(0.3)
            return super()._step(*arguments)

    run = start(Camera("one"), engine=Slow(), config=Config(buffer=2, max_gap=600))
    wait_for(lambda: run.said(StatusMessage, source="degraded", stage=2))
    run.ask("model", "other")
    status = run.said(StatusMessage)[-1]
    assert (status.source, status.stage, status.model) == ("online", 0, "other@e3b0c442")
    assert status.step_ms_p50 is None  # of the new engine nothing is known yet
    wait_for(lambda: len(run.said(ScoreMessage, epoch=1)) > 20)
    run.finish()
    assert {m.window.step_ms for m in run.said(ScoreMessage, epoch=1)} == {1000 / 15}


def test_a_run_that_ends_takes_no_other_model(start: Start, wait_for: WaitFor) -> None:
    class Slow(SeeingEngine):
        def _step(self, *arguments: Any) -> Any:
            time.sleep(0.2)
            return super()._step(*arguments)

    held = Held()
    run = start(Camera("one"), other=held, engine=Slow())
    wait_for(lambda: run.said(EventMessage, type="start"))
    loaded = run.control.ask(b'{"command": "model", "model": "other"}')
    assert held.making.wait(30)
    run.pipeline.drain()
    with pytest.raises(ConfigError, match="the run is ending; no other model can take over"):
        run.pipeline.load("other")
    held.go.set()
    run.thread.join(30)
    assert run.error is None
    assert not run.said(GapMessage)
    assert run.said(EventMessage)[-1].reason == "shutdown"
    if loaded.done():  # it was loaded before the last frame was seen
        with pytest.raises(ConfigError, match="the run is ending"):
            loaded.result()


def test_who_waits_for_a_model_when_the_run_ends_is_told(start: Start, wait_for: WaitFor) -> None:
    held = Held()
    run = start(Camera("one"), other=held)
    wait_for(lambda: run.said(ScoreMessage))
    asking: list[str] = []

    def request() -> None:
        try:
            run.ask("model", "other")
        except ConfigError as error:
            asking.append(str(error))

    client = threading.Thread(target=request)
    client.start()
    assert held.making.wait(30)
    run.stop.set()
    time.sleep(0.1)
    assert run.thread.is_alive()  # a compiler must not outlive the interpreter
    held.go.set()
    run.thread.join(30)
    run.control.close()
    client.join(30)
    assert asking == ["the run has ended; this was not done any more"]


def test_the_engine_before_is_closed_and_its_memory_given_back(start: Start, wait_for: WaitFor) -> None:
    run = start(Camera("one"), Camera("two"))
    wait_for(lambda: run.said(ScoreMessage))
    run.ask("model", "other")
    before = weakref.ref(run.other)
    run.other = Other(name="third")
    gc.disable()
    try:
        run.ask("model", "other")
        wait_for(lambda: before() is None)
    finally:
        gc.enable()


def test_an_engine_that_makes_a_state_is_closed_when_that_is_made(start: Start, wait_for: WaitFor) -> None:
    held = Held()
    held.go.set()
    run = start(Camera("one"), other=held)
    wait_for(lambda: run.said(ScoreMessage))
    run.ask("model", "other")
    held.go.clear()
    held.making.clear()
    run.ask("add", "pattern://swipe?size=64x48")
    assert held.making.wait(30)
    run.other = Other(name="third")
    run.ask("model", "other")
    wait_for(lambda: {m.stream for m in run.said(EventMessage) if m.model.startswith("third")} == {"one", "swipe"})
    assert not held.closed.is_set()
    held.go.set()
    wait_for(held.closed.is_set)


def test_metrics_tell_the_model_that_runs_and_count_the_gap(start: Start, wait_for: WaitFor) -> None:
    run = start(Camera("one"))
    metrics = Metrics()
    metrics.watch(run.pipeline, None)
    wait_for(lambda: run.said(ScoreMessage))
    assert b'model="seeing@e3b0c442"' in metrics.text()
    run.ask("model", "other")
    text = metrics.text()
    assert b'model="other@e3b0c442"' in text
    assert b"seeing@" not in text
    assert b'streamer_gaps_total{reason="model",stream="one"} 1.0' in text


def test_a_script_of_scores_and_a_shipped_model_take_over_as_they_are_named(tmp_path: Path, wait_for: WaitFor) -> None:
    path = tmp_path / "two.scores.json"
    path.write_text(json.dumps({"labels": ["up", "down"], "scores": [[0.9, 0.1]]}))
    broken = tmp_path / "broken.scores.json"
    broken.write_text('{"labels": ["up"]}')
    control = Control("auto")
    run = Run([Camera("one")], Config(max_gap=600, backend="openvino"), control=control)
    try:
        wait_for(lambda: run.said(ScoreMessage))
        for name, sentence in ((str(broken), "is not a script of scores"), ("x.onnx", "x.onnx: no such model file")):
            with pytest.raises(ConfigError, match=sentence):
                ask(control.address, make_request("model", [name]), timeout_s=30)
        assert ask(control.address, make_request("model", [str(path)]), timeout_s=30)["model"].startswith("two@")
        wait_for(lambda: run.said(EventMessage, type="start", label="up"))
        name = ask(control.address, make_request("model", ["default"]), timeout_s=60)["model"]
        wait_for(lambda: run.said(ScoreMessage, model=name))
        run.finish()
    finally:
        run.stop.set()
        run.thread.join(15)
        control.close()
    assert [m.reason for m in run.said(GapMessage)] == ["model", "model"]


def test_a_model_that_the_run_cannot_take_is_closed_before_a_state_is_made() -> None:
    def check(spec: EngineSpec) -> None:
        raise ConfigError("it cannot obey")

    other, loader = Held(), Loader()
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as thread:
        patch.setattr(exchange, "make_engine", lambda *_: other)
        with pytest.raises(ConfigError, match="cannot obey"):
            thread.submit(loader.load, Config(), "other", 1, SeeingEngine(), check).result(30)
    assert other.closed.is_set()
    assert not other.making.is_set()
    assert loader.model is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
@pytest.mark.parametrize("same", [True, False])
def test_only_where_the_runtime_has_its_threads_already_a_model_is_loaded_with_low_priority(same: bool) -> None:
    class Watched(Other):
        niceness = 0

        def new_state(self, rows: int) -> ScriptedState:
            self.niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
            return super().new_state(rows)

    other, beside = Watched(), SeeingEngine()
    other.backend = beside.backend if same else "another"
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as thread:
        patch.setattr(exchange, "make_engine", lambda *_: other)
        loaded = thread.submit(Loader().load, Config(), "other", 3, beside, lambda _: None).result(30)
    assert loaded.state.rows == 3
    assert other.niceness == (min(19, own + exchange.NICENESS) if same else own)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own
