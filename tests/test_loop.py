"""The loop in one session, with real processes and a real browser: a motion that the model does not know is recorded,
taught, and swapped in while the camera runs; what the model gets wrong is corrected on the page, and is right then.
"""

from __future__ import annotations

import json
import math
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from streamer.labels.messages import EventMessage
from streamer.labels.subscriber import Subscriber
from tests.conftest import needs_torch
from tests.streamer.commands.test_cli import command, environment, line_with, start
from tests.streamer.view.conftest import browser, visit
from tests.streamer.view.test_process import page_of
from tools.cameras import HttpCamera

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["browser", "start", "visit"]  # fixtures

PATIENCE_S = 60
LONGER_S = 1.5  # an event lasts for so long after it was told
BACKGROUND = cv2.resize(
    np.random.default_rng(0).integers(60, 160, (6, 8, 3)).astype(np.float32), (128, 96), interpolation=cv2.INTER_CUBIC
)


class Scene(HttpCamera):
    """A camera before a box that does what it is told: `still`, `blink` or `slide`."""

    fps = 20
    doing = "still"

    def jpeg(self, number: int) -> bytes:
        picture, x, grey = np.clip(BACKGROUND, 0, 255).astype(np.uint8), 64, 220
        if self.doing == "blink" and number // 4 % 2:
            grey = 25
        if self.doing == "slide":
            x += round(30 * math.sin(2 * math.pi * number / self.fps))
        cv2.rectangle(picture, (x - 24, 24), (x + 24, 72), (grey, grey, grey), -1)
        return bytes(cv2.imencode(".jpg", picture)[1])


@pytest.fixture
def scene() -> Iterator[Scene]:
    camera = Scene({})
    threading.Thread(target=camera.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield camera
    camera.kill()


class Listener:
    """The events that a run publishes."""

    def __init__(self, address: str) -> None:
        self._events: list[EventMessage] = []
        self._messages = Subscriber(address, kinds=["event"])
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        self._events.extend(message for message in self._messages if isinstance(message, EventMessage))

    def starts(self) -> list[str]:
        """The labels of the events so far."""
        return [event.label for event in self._events if event.type == "start"]

    def event(self, camera: Scene, doing: str, label: str) -> EventMessage:
        """The end of the event that begins when the camera shows something."""
        known = len(self._events)
        camera.doing = doing
        start = self._next(known, "start", label)
        time.sleep(LONGER_S)
        camera.doing = "still"
        end = self._next(known, "end", label)
        assert end.id == start.id
        return end

    def _next(self, known: int, kind: str, label: str) -> EventMessage:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for event in self._events[known:]:
                if (event.type, event.label) == (kind, label):
                    return event
            time.sleep(0.05)
        raise AssertionError(f"no {kind} of {label} came; there were {self._events[known:]}")


def told(*arguments: object) -> str:
    """What a command says; it succeeds."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Session:
    """What one who uses the program does in another terminal."""

    def __init__(self, control: str, clips: Path) -> None:
        self._control, self.clips = control, clips

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(told("ctl", "status", "--address", self._control))
        return status

    def record(self, label: str, source: str) -> None:
        form = ("--clips", 5, "--seconds", 1.5, "--countdown", 0, "--pause", 0)
        told("record", label, "--source", source, "--out", self.clips, *form)

    def teach(self, out: Path) -> None:
        """Learn from all that is there, and let the run go on with it."""
        told("teach", self.clips, "--out", out, "--start", "default")
        told("ctl", "model", out / f"{out.name}.onnx", "--address", self._control)
        deadline = time.monotonic() + PATIENCE_S
        while not self.status()["model"].startswith(f"{out.name}@"):
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def wait_for(self, clip: str) -> None:
        """A clip is written a moment after the end of its event was told."""
        deadline = time.monotonic() + PATIENCE_S
        while clip not in told("ctl", "clips", "--address", self._control):
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def look(self, frames: int) -> None:
        """Wait until the model has seen so many frames more."""
        until = self.status()["streams"][0]["inferred"] + frames
        while self.status()["streams"][0]["inferred"] < until:
            time.sleep(0.1)


@needs_torch
@pytest.mark.timeout(1200)  # it teaches twice
def test_a_motion_is_taught_swapped_in_corrected_and_taught_again(
    scene: Scene, start: Callable[..., subprocess.Popen[str]], visit: Callable[..., Page], tmp_path: Path
) -> None:
    clips = tmp_path / "clips"
    settings = (f"folder={clips}", "before_s=1", "after_s=0.5", "unsure_a_day=0")
    sets = [argument for setting in settings for argument in ("--set", f"clips.{setting}")]
    run = start("run", scene.url(), "--publish", "tcp://127.0.0.1:*", "--view", "127.0.0.1:0", *sets)
    page = page_of(run)
    listener = Listener(line_with(run, "labels  ").split()[1])
    session = Session(line_with(run, "control ").split()[1], clips)

    assert "blink" not in session.status()["knows"]
    session.record("nothing", scene.url())
    scene.doing = "blink"
    session.record("blink", scene.url())
    scene.doing = "still"
    session.teach(tmp_path / "first")
    right = listener.event(scene, "blink", "blink")
    assert right.model.startswith("first@")

    wrong = listener.event(scene, "slide", "blink")
    assert wrong.clip
    session.wait_for(wrong.clip.name)
    tab = visit(page)
    tab.locator("#clips").wait_for()  # until then the page does not know that there are clips
    tab.keyboard.press("c")
    tab.locator(f'#clips-list [data-name="{wrong.clip.name}"]').click()
    tab.wait_for_function("() => document.querySelector('video').readyState >= 2")
    tab.keyboard.press("0")
    tab.locator("#clips-said", has_text="answered nothing").wait_for()
    assert (clips / "answers" / "nothing" / f"{wrong.clip.name}.mp4").is_file()

    session.teach(tmp_path / "second")
    known = len(listener.starts())
    scene.doing = "slide"
    session.look(40)
    assert "blink" not in listener.starts()[known:]
    scene.doing = "still"
    session.look(10)
    assert listener.event(scene, "blink", "blink").model.startswith("second@")

    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 0, err
