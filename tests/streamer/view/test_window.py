"""The window. OpenCV's own drawing on a screen is replaced: there is none where tests run."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from typing import Any

import cv2
import pytest

from streamer.errors import ConfigError
from streamer.labels.events import State
from streamer.labels.messages import MessageBuilder
from streamer.types import Image
from streamer.view.window import Window, check_window

from ..labels.peers import STAMP
from .peers import picture


class Screen:
    """What OpenCV would show, and the key that is pressed once something is shown."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: list[Image] = []
        self.key = -1
        monkeypatch.setattr("streamer.view.window.check_window", lambda: None)
        monkeypatch.setattr(cv2, "imshow", lambda _, image: self.shown.append(image))
        monkeypatch.setattr(cv2, "waitKey", lambda _: self.key if self.shown else -1)
        monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
        monkeypatch.setattr(cv2, "resizeWindow", lambda *_: None)
        monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
        monkeypatch.setattr(cv2, "destroyWindow", lambda _: None)


def work(stop: threading.Event) -> str:
    assert stop.wait(30)
    return "summary"


def test_the_window_shows_the_stream_with_its_label_until_a_key_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch)
    screen.key = ord("q")
    window, stop = Window("cam"), threading.Event()
    build = MessageBuilder("test@0", "stream")
    window(build.state("cam", STAMP, State("wave", 1, 0.75, 0)))
    window(build.state("other", STAMP, State("nod", 1, 0.75, 0)))
    assert window.run(work, stop, lambda _: picture(120)) == "summary"
    assert stop.is_set()
    assert (screen.shown[0][300:] != 120).any()


def test_the_window_ends_with_the_run_and_an_error_of_the_run_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Event) -> None:
        raise ConfigError("the run failed")

    Screen(monkeypatch)
    with pytest.raises(ConfigError, match="the run failed"):
        Window("cam").run(fail, threading.Event(), lambda _: None)


def test_an_opencv_without_windows_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           NONE\n")
    with pytest.raises(ConfigError, match="pip uninstall opencv-python-headless && pip install opencv-python"):
        check_window()


@pytest.fixture
def desktop(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """An OpenCV with windows, and a display that answers like `result`."""

    def make(display: str, result: Any = None) -> None:
        monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           QT5\n")
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        monkeypatch.setenv("DISPLAY", display)
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: result)

    return make


def test_without_a_display_the_page_is_recommended(desktop: Callable[..., None]) -> None:
    desktop("")
    with pytest.raises(ConfigError, match=r"there is no display here.*use --view"):
        check_window()


def test_a_display_that_cannot_be_reached_ends_another_process_and_is_told(desktop: Callable[..., None]) -> None:
    desktop(":99", subprocess.CompletedProcess([], -6))
    with pytest.raises(ConfigError, match="the display ':99' cannot be used"):
        check_window()
