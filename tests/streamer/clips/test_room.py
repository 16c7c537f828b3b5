"""The clips of a run: a real pipeline with cameras, and disks that fail."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from streamer.clips import room
from streamer.clips.folder import Folder
from streamer.clips.room import Clips
from streamer.config import ClipsConfig, Config
from streamer.errors import ConfigError
from streamer.labels.control import Control
from streamer.labels.messages import EventMessage
from streamer.labels.requests import ask
from streamer.types import Frame
from tests.conftest import WaitFor

from ..pipeline.seeing import SPEC
from ..pipeline.test_pipeline import Camera, Run
from .films import SECOND, film

DARK, LIGHT = 0, 2
Start = Callable[..., tuple[Run, Clips]]


def ends(run: Run) -> list[EventMessage]:
    return [message for message in run.messages if isinstance(message, EventMessage) and message.type == "end"]


def greys(path: Path) -> list[int]:
    """The labels that the pictures of a clip show."""
    with av.open(str(path)) as container:
        frames = [np.asarray(frame.to_ndarray(format="bgr24")) for frame in container.decode(video=0)]
        return [int(frame.mean()) // 64 for frame in frames]


@pytest.fixture
def start(tmp_path: Path) -> Any:
    """Runs that keep clips in the folder `clips`; they end with the test."""
    runs: list[Run] = []

    def begin(*cameras: Camera, control: Control | None = None, **settings: object) -> tuple[Run, Clips]:
        clips = {"folder": tmp_path / "clips", "before_s": 0.5, "after_s": 0.3, "unsure_a_day": 0, **settings}
        quick = dict.fromkeys(("smoothing_s", "enter_s", "leave_s", "min_s", "merge_gap_s", "refractory_s"), 0)
        config = Config.model_validate({"clips": clips, "events": {"background": ["dark"], **quick}})
        keeper = Clips(config.clips, config.events, SPEC)
        runs.append(Run(cameras, config, keeper=keeper, control=control))
        return runs[-1], keeper

    yield begin
    for run in runs:
        run.stop.set()
        run.thread.join(30)


def happen(run: Run, camera: Camera, wait_for: WaitFor, label: int = LIGHT) -> EventMessage:
    """Something begins and ends; the message of its end."""
    before = len(run.messages)

    def said(kind: str) -> bool:
        return any(isinstance(one, EventMessage) and one.type == kind for one in run.messages[before:])

    camera.label = label
    wait_for(lambda: said("start"))
    camera.label = DARK
    wait_for(lambda: said("end"))
    return ends(run)[-1]


def test_an_event_gets_a_clip_from_before_its_begin_until_after_its_end(
    start: Start, tmp_path: Path, wait_for: WaitFor
) -> None:
    camera = Camera("door")
    run, _ = start(camera)
    wait_for(lambda: len(run.messages) > 20)
    end = happen(run, camera, wait_for)
    assert end.clip
    assert all(
        message.clip is None for message in run.messages if isinstance(message, EventMessage) and message is not end
    )
    path = tmp_path / "clips" / f"{end.clip.name}.mp4"
    wait_for(path.with_suffix(".json").exists)
    shown = greys(path)
    assert {shown[0], shown[-1]} == {DARK}
    assert LIGHT in shown
    note = json.loads(path.with_suffix(".json").read_text())
    assert note["start_us"] == end.clip.start_us <= end.t_start_us - SECOND // 2
    assert end.t_end_us
    assert end.t_end_us <= note["end_us"] <= end.t_end_us + SECOND * 3 // 10
    assert (note["stream"], note["label"], note["why"], note["model"]) == ("door", "light", "event", SPEC.version)
    assert (note["at_us"], note["until_us"], note["peak"]) == (end.t_start_us, end.t_end_us, end.peak)
    assert note["scores"][0] == ["light", end.peak]


def test_a_clip_that_is_open_is_finished_when_the_run_is_stopped(
    start: Start, tmp_path: Path, wait_for: WaitFor
) -> None:
    camera = Camera("door")
    run, keeper = start(camera, after_s=3600)
    camera.label = LIGHT
    wait_for(lambda: any(isinstance(message, EventMessage) for message in run.messages))
    run.finish()
    end = ends(run)[-1]
    assert end.reason == "shutdown"
    assert end.clip
    assert greys(tmp_path / "clips" / f"{end.clip.name}.mp4")[-1] == LIGHT
    assert keeper.written >= 1
    assert not [path for path in (tmp_path / "clips").iterdir() if path.suffix == ".part"]


def test_a_camera_that_goes_away_does_not_keep_its_clip_waiting(
    start: Start, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_PATIENCE_S", 0)
    camera = Camera("door")
    run, keeper = start(camera)
    camera.label = LIGHT
    wait_for(lambda: any(isinstance(message, EventMessage) for message in run.messages))
    camera.silent.set()
    wait_for(lambda: keeper.written >= 1)
    assert ends(run)[-1].reason == "gap"


def test_only_the_labels_that_are_wanted_get_a_clip(start: Start, wait_for: WaitFor) -> None:
    camera = Camera("door")
    run, _ = start(camera, labels=["bright"])
    assert happen(run, camera, wait_for).clip is None
    assert happen(run, camera, wait_for, label=3).clip


def test_a_label_that_the_model_does_not_have_is_an_error(tmp_path: Path) -> None:
    config = ClipsConfig(folder=tmp_path, labels=("brigth",))
    with pytest.raises(ConfigError, match=r"clips.labels: the model has no label 'brigth'; did you mean 'bright'"):
        Clips(config, Config().events, SPEC)


class Mute(Camera):
    """Its packets never come: it sends no keyframe."""

    def recorded(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        return self.frames(connection, stop)


def test_an_event_before_the_first_keyframe_has_no_clip_and_is_counted(start: Start, wait_for: WaitFor) -> None:
    camera = Mute("door")
    run, keeper = start(camera)
    assert happen(run, camera, wait_for).clip is None
    assert keeper.dropped["no_keyframe"] >= 1


def test_a_disk_that_is_full_costs_clips_and_no_labels_and_is_told_once(
    start: Start, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save, full = Folder.save, threading.Event()
    full.set()

    def refuse(self: Folder, *arguments: Any) -> bool:
        if full.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return save(self, *arguments)

    monkeypatch.setattr(Folder, "save", refuse)
    camera = Camera("door")
    run, keeper = start(camera)
    for lost in (1, 2):
        assert happen(run, camera, wait_for).clip
        wait_for(lambda lost=lost: keeper.dropped["failed"] >= lost)  # type: ignore[misc]
    assert keeper.trouble == "No space left on device"
    full.clear()
    happen(run, camera, wait_for)
    wait_for(lambda: keeper.written >= 1)
    told = [record.getMessage() for record in caplog.records if record.name == room.log.name]
    assert len(told) == 2
    assert "a clip cannot be written: No space left on device; labels go on" in told[0]
    assert "clips are written again" in told[1]


def test_a_folder_that_is_gone_is_not_made_again_and_clips_go_on_when_it_is_back(
    start: Start, tmp_path: Path, wait_for: WaitFor
) -> None:
    camera = Camera("door")
    run, keeper = start(camera)
    happen(run, camera, wait_for)
    wait_for(lambda: keeper.written >= 1)
    (tmp_path / "clips").rename(tmp_path / "elsewhere")
    happen(run, camera, wait_for)
    wait_for(lambda: keeper.dropped["failed"] >= 1)
    assert not (tmp_path / "clips").exists()
    with pytest.raises(ConfigError, match=r"clips.folder .*: No such file or directory; is there space"):
        keeper.reports().result(30)
    (tmp_path / "elsewhere").rename(tmp_path / "clips")
    before = keeper.written
    happen(run, camera, wait_for)
    wait_for(lambda: keeper.written > before)
    assert len(keeper.reports().result(30)) >= 2


def test_clips_that_wait_for_a_slow_disk_are_bounded(
    start: Start, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    monkeypatch.setattr(Folder, "save", lambda *_: free.wait(30))
    monkeypatch.setattr(room, "MOST_BYTES", 1)
    camera = Camera("door")
    run, keeper = start(camera)
    for _ in range(3):
        happen(run, camera, wait_for)
    assert keeper.dropped["busy"] >= 2
    free.set()


def test_requests_that_wait_for_a_slow_disk_are_bounded(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    monkeypatch.setattr(Folder, "reports", lambda _: free.wait(30))
    _, keeper = start(Camera("door"))
    waiting = [keeper.reports() for _ in range(room.MOST_ASKED)]
    with pytest.raises(ConfigError, match="does not answer; try again later"):
        keeper.answer("clip", "wave")
    free.set()
    assert all(one.result(30) for one in waiting)


def test_a_disk_that_hangs_does_not_hold_the_end_of_a_run(
    start: Start, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    free = threading.Event()
    monkeypatch.setattr(Folder, "save", lambda *_: free.wait(60))
    monkeypatch.setattr(room, "CLOSE_S", 0.1)
    camera = Camera("door")
    run, _ = start(camera)
    happen(run, camera, wait_for)
    run.finish()
    free.set()
    assert "does not answer; the last clips may be missing" in caplog.text


def test_streams_that_share_a_source_share_what_is_kept_of_it(tmp_path: Path, wait_for: WaitFor) -> None:
    keeper = Clips(ClipsConfig(folder=tmp_path), Config().events, SPEC)
    camera = Camera("door")
    keeper.of("door-left", camera)
    put = camera.on_packet
    keeper.of("door-right", camera)
    assert camera.on_packet == put
    assert put
    put(film(1)[0])
    assert keeper.memory_bytes > 0
    keeper.forget("door-left")
    assert keeper.memory_bytes > 0
    keeper.forget("door-right")
    assert keeper.memory_bytes == 0
    keeper.close()


def test_clips_are_listed_and_answered_over_the_control_socket(start: Start, wait_for: WaitFor) -> None:
    camera = Camera("door")
    with Control("auto") as control:
        run, _ = start(camera, control=control)
        end = happen(run, camera, wait_for)
        assert end.clip
        name = end.clip.name

        def clip() -> dict[str, Any]:
            found: list[dict[str, Any]] = ask(control.address, {"command": "clips"})
            return next((one for one in found if one["name"] == name), {})

        wait_for(lambda: bool(clip()))
        assert clip().keys() == {"name", "stream", "label", "start_us", "end_us", "bytes", "peak", "answer", "why"}
        assert (clip()["start_us"], clip()["answer"]) == (end.clip.start_us, "")
        answered = ask(control.address, {"command": "answer", "clip": name, "label": "wave"})
        assert answered == {"clip": name, "label": "wave", "before": ""}
        assert clip()["answer"] == "wave"
        with pytest.raises(ConfigError, match="there is no clip 'clip'"):
            ask(control.address, {"command": "answer", "clip": "clip", "label": "wave"})
        run.finish()


def test_a_run_that_keeps_no_clips_says_so() -> None:
    run = Run([Camera("door")])
    with pytest.raises(ConfigError, match="this run keeps no clips; start it with a folder for them"):
        run.pipeline.clips()
    run.finish()


def test_a_run_that_keeps_no_clips_loads_nothing_for_them() -> None:
    code = """
import sys, threading
from streamer.commands.options import make_engine, make_settings, make_sources
from streamer.pipeline.pipeline import Pipeline
settings = make_settings(None, (), sources=["pattern://swipe?size=64x48&duration=1"], backend="scripted").config
pipeline = Pipeline(settings, make_engine(settings), make_sources(settings))
pipeline.run(threading.Event())
ours = {"streamer.clips.room", "streamer.clips.mp4", "streamer.sources.recorder", "streamer.sources.encoder"}
print(ours & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"


def test_the_model_is_asked_about_the_moment_that_it_was_least_sure_of(tmp_path: Path, wait_for: WaitFor) -> None:
    keeper = Clips(ClipsConfig(folder=tmp_path, before_s=0, after_s=0.2), Config().events, SPEC)
    camera = Camera("door")
    clips = keeper.of("door", camera)
    assert camera.on_packet
    packets = film(40, 1000)
    for number, packet in enumerate(packets):
        camera.on_packet(packet)
        unsure = np.array([0.3, 0.3, 0.4, 0] if 10 <= number < 30 else [0, 0, 1, 0], np.float32)
        clips.saw(packet.time_us, unsure, SPEC)
    wait_for(lambda: keeper.written > 0)
    keeper.close()
    (report,) = Folder(tmp_path).reports()
    (note,) = Folder(tmp_path).notes()
    assert (report.why, report.label) == ("unsure", "light")
    assert report.peak == pytest.approx(0.4)
    assert note.lead == pytest.approx(0.2, abs=0.15)
    assert 1001 * SECOND < note.at_us <= 1003 * SECOND
