"""How another model taking over ends: what becomes of the one before, and of a run that ends meanwhile."""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from engines import EngineSpec
from engines.backends.scripted import ScriptedState
from streamer.config import Config
from streamer.errors import ConfigError
from streamer.health.metrics import Metrics
from streamer.labels.control import Control
from streamer.labels.messages import EventMessage, GapMessage, ScoreMessage
from streamer.labels.requests import ask, make_request
from streamer.pipeline import exchange
from streamer.pipeline.exchange import Loader

from .exchanged import Held, Other, Start, start
from .seeing import SeeingEngine
from .test_pipeline import Camera, Run, WaitFor

__all__ = ["start"]


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
