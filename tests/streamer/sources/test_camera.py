"""Webcams, as far as they can be tested without one: it is missing, or OpenCV's capture is played by a script."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from streamer.config import SourceConfig
from streamer.errors import SourceError
from streamer.sources import camera
from streamer.sources.camera import CameraSource
from streamer.types import Frame, Image
from tools.cameras.barcode import barcode, read_barcode

FPS = 1000  # of the played camera


class PlayedCapture:
    """cv2.VideoCapture with `count` numbered frames; `timestamp` is CAP_PROP_POS_MSEC, `broken` cannot be decoded."""

    def __init__(
        self,
        count: int = 5,
        opens: bool = True,
        timestamp: Callable[[], float] = lambda: time.monotonic() * 1000 - 20,
        broken: tuple[int, ...] = (),
    ) -> None:
        self.count, self.opens, self.timestamp, self.broken = count, opens, timestamp, broken
        self.device: tuple[Any, ...] = ()
        self.asked: list[tuple[int, float]] = []
        self.released = 0
        self.number = -1

    def __call__(self, *device: object) -> PlayedCapture:
        self.device, self.number = device, -1
        return self

    def isOpened(self) -> bool:  # noqa: N802
        return self.opens

    def set(self, key: int, value: float) -> bool:
        self.asked.append((key, value))
        return True

    def get(self, key: int) -> float:
        assert key == cv2.CAP_PROP_POS_MSEC
        return self.timestamp()

    def grab(self) -> bool:
        time.sleep(1 / FPS)
        self.number += 1
        return self.number < self.count

    def retrieve(self) -> tuple[bool, Image | None]:
        return (False, None) if self.number in self.broken else (True, barcode(self.number))

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Pretend that these cameras are plugged in: number = name."""
    monkeypatch.setattr(camera, "_DEVICES", tmp_path / "dev")
    monkeypatch.setattr(camera, "_NAMES", tmp_path / "sys")
    (tmp_path / "dev/v4l/by-id").mkdir(parents=True)

    def plug(**names: str) -> Path:
        for device, name in names.items():
            (tmp_path / "dev" / device).touch()
            (tmp_path / "sys" / device).mkdir(parents=True)
            (tmp_path / "sys" / device / "name").write_text(name + "\n")
            link = tmp_path / f"dev/v4l/by-id/usb-{name.replace(' ', '_')}_0001-video-index0"
            if not link.exists():
                link.symlink_to(tmp_path / "dev" / device)
        return tmp_path / "dev"

    return plug


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[PlayedCapture], PlayedCapture]:
    def use(capture: PlayedCapture) -> PlayedCapture:
        monkeypatch.setattr("streamer.sources.camera.cv2.VideoCapture", capture)
        return capture

    return use


def collect(source: CameraSource) -> list[tuple[Frame, int]]:
    """Every frame with the number in its picture, up to the end of the script, which looks like an unplugged camera."""
    found: list[tuple[Frame, int]] = []
    with pytest.raises(SourceError, match="unplugged") as caught:
        found.extend((frame, read_barcode(frame.bgr())) for frame in source.frames(4, threading.Event()))
    assert caught.value.retry == "soon"
    return found


def test_frames_come_numbered_and_stamped_with_the_drivers_time(
    devices: Callable[..., Path], play: Callable[[PlayedCapture], PlayedCapture]
) -> None:
    folder, capture = devices(video0="Cam"), play(PlayedCapture())
    before = time.time_ns() // 1000
    found = collect(CameraSource(SourceConfig(uri="0")))
    after = time.time_ns() // 1000
    assert [(frame.index, frame.connection, number) for frame, number in found] == [(i, 4, i) for i in range(5)]
    assert all(before - 20_500 <= frame.time_us <= after - 19_500 for frame, _ in found)
    assert all(earlier.time_us < later.time_us for (earlier, _), (later, _) in pairwise(found))
    assert capture.device == (str(folder / "video0"), cv2.CAP_V4L2)
    assert capture.released == 1


@pytest.mark.parametrize("timestamp", [0.0, -1.0, 1e9])
def test_a_driver_without_a_true_clock_is_stamped_by_arrival(
    devices: Callable[..., Path], play: Callable[[PlayedCapture], PlayedCapture], timestamp: float
) -> None:
    devices(video0="Cam")
    play(PlayedCapture(timestamp=lambda: timestamp))
    before = time.time_ns() // 1000
    found = collect(CameraSource(SourceConfig(uri="0")))
    assert all(before - 500 <= frame.time_us <= time.time_ns() // 1000 + 500 for frame, _ in found)


def test_the_format_is_asked_for_in_the_order_that_works(
    devices: Callable[..., Path], play: Callable[[PlayedCapture], PlayedCapture]
) -> None:
    devices(video0="Cam")
    capture = play(PlayedCapture())
    collect(CameraSource(SourceConfig(uri="0", width=1280, height=720, fps=30)))
    assert capture.asked == [
        (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
        (cv2.CAP_PROP_FRAME_WIDTH, 1280),
        (cv2.CAP_PROP_FRAME_HEIGHT, 720),
        (cv2.CAP_PROP_FPS, 30),
        (cv2.CAP_PROP_BUFFERSIZE, 1),
    ]


def test_broken_pictures_are_counted_and_left_out(
    devices: Callable[..., Path], play: Callable[[PlayedCapture], PlayedCapture]
) -> None:
    devices(video0="Cam")
    play(PlayedCapture(count=6, broken=(1, 4)))
    source = CameraSource(SourceConfig(uri="0"))
    assert [(frame.index, number) for frame, number in collect(source)] == [(0, 0), (1, 2), (2, 3), (3, 5)]
    assert source.corrupt == 2


@pytest.mark.parametrize(
    ("uri", "device"),
    [
        ("1", "video1"),
        ("v4l2:1", "video1"),
        ("v4l2:logi c270", "video2"),
        ("v4l2:usb-Logi_C270_0001", "v4l/by-id/usb-Logi_C270_0001-video-index0"),
    ],
)
def test_a_camera_is_found_by_number_and_by_name(
    devices: Callable[..., Path], play: Callable[[PlayedCapture], PlayedCapture], uri: str, device: str
) -> None:
    folder, capture = devices(video1="Other", video2="Logi C270", video3="Logi C270"), play(PlayedCapture())
    collect(CameraSource(SourceConfig(uri=uri)))
    assert capture.device[0] == str(folder / device)


@pytest.mark.parametrize("uri", ["7", "v4l2:Elgato", "/dev/video-none"])
def test_a_missing_camera_is_told_with_those_that_are_there(devices: Callable[..., Path], uri: str) -> None:
    folder = devices(video0="Cam", video2="Other")
    words = f"{uri}: no such camera; cameras here: {folder}/video0, {folder}/video2; "
    with pytest.raises(SourceError, match=re.escape(words)) as caught:
        next(CameraSource(SourceConfig(uri=uri)).frames(0, threading.Event()))
    assert caught.value.retry == "soon"


def test_without_any_camera_the_list_says_none(devices: Callable[..., Path]) -> None:
    devices()
    with pytest.raises(SourceError, match="cameras here: none"):
        next(CameraSource(SourceConfig(uri="0")).frames(0, threading.Event()))


def test_opencv_itself_refuses_what_is_no_camera_with_advice(devices: Callable[..., Path]) -> None:
    devices(video0="a plain file")
    with pytest.raises(SourceError, match="is another program using it") as caught:
        next(CameraSource(SourceConfig(uri="0")).frames(0, threading.Event()))
    assert caught.value.retry == "soon"


def test_stop_ends_reading_and_releases_the_camera(
    devices: Callable[..., Path], play: Callable[[PlayedCapture], PlayedCapture]
) -> None:
    devices(video0="Cam")
    capture, stop = play(PlayedCapture(count=10**6)), threading.Event()
    frames = CameraSource(SourceConfig(uri="0")).frames(0, stop)
    assert np.array_equal(next(frames).bgr(), barcode(0))
    stop.set()
    assert next(frames, None) is None
    assert capture.released == 1


@pytest.mark.parametrize(("system", "backend"), [("darwin", cv2.CAP_AVFOUNDATION), ("win32", cv2.CAP_MSMF)])
@pytest.mark.parametrize("uri", ["1", "v4l2:1"])
def test_on_other_systems_a_camera_is_opened_by_its_number_with_their_back_end(
    play: Callable[[PlayedCapture], PlayedCapture], monkeypatch: pytest.MonkeyPatch, system: str, backend: int, uri: str
) -> None:
    """What their POS_MSEC counts is not known, so frames are stamped by arrival."""
    monkeypatch.setattr(camera, "LINUX", False)
    monkeypatch.setattr("sys.platform", system)
    capture = play(PlayedCapture(timestamp=lambda: 5.0))
    before = time.time_ns() // 1000
    found = collect(CameraSource(SourceConfig(uri=uri)))
    assert capture.device == (1, backend)
    assert all(before - 500 <= frame.time_us <= time.time_ns() // 1000 + 500 for frame, _ in found)


def test_on_other_systems_a_name_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "LINUX", False)
    with pytest.raises(SourceError, match="names on Linux only; name it by its number") as caught:
        next(CameraSource(SourceConfig(uri="v4l2:Elgato")).frames(0, threading.Event()))
    assert caught.value.retry == "never"


def test_on_other_systems_a_camera_that_does_not_open_is_told_with_their_advice(
    play: Callable[[PlayedCapture], PlayedCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera, "LINUX", False)
    monkeypatch.setattr("sys.platform", "darwin")
    play(PlayedCapture(opens=False))
    with pytest.raises(SourceError, match="may this program use the camera") as caught:
        next(CameraSource(SourceConfig(uri="0")).frames(0, threading.Event()))
    assert caught.value.retry == "soon"
