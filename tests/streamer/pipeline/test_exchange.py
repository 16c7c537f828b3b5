"""Another model takes over while the pipeline runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from streamer.clips.room import Clips
from streamer.config import ClipsConfig, Config, EventConfig
from streamer.errors import ConfigError
from streamer.labels.messages import EventMessage, GapMessage, ScoreMessage, StateMessage, StatusMessage
from streamer.labels.subscriber import Subscriber
from streamer.pipeline import shedding

from .exchanged import Held, Other, Start, start
from .seeing import SPEC, Film, SeeingEngine
from .test_pipeline import Camera, WaitFor

__all__ = ["start"]


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
