"""Webcams, with a driver that is played: V4L2's answers, laid out as linux/videodev2.h does."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from streamer.discovery import webcams
from streamer.discovery.found import Mode, Webcam

SIZES = {b"MJPG": [(1280, 720), (640, 480)], b"YUYV": [(640, 480)]}
INTERVALS = [(1, 15), (1, 30)]


class Driver:
    """Answers as a webcam's driver; `stepwise`: any size and any rate in a range."""

    def __init__(
        self, card: bytes = b"HD Cam", capabilities: tuple[int, int] = (0x84A00001, 0x04200001), stepwise: bool = False
    ):
        self.card, self.capabilities, self.stepwise = card, capabilities, stepwise

    def __call__(self, _descriptor: int, question: int, asked: bytearray) -> int:
        number, kind, size = question & 0xFF, question >> 8 & 0xFF, question >> 16 & 0x3FFF
        assert (kind, size) == (ord("V"), len(asked))
        index, pixels, width, height = struct.unpack_from("=4I", asked)
        try:
            if number == 0:
                struct.pack_into(
                    "=16s32s32s3I", asked, 0, b"uvcvideo", self.card, b"usb-1", 0x60100, *self.capabilities
                )
            elif number == 2:
                assert pixels == 1  # of capture
                word = list(SIZES)[index]
                struct.pack_into("=3I32s4s", asked, 0, index, 1, 0, b"what it is called", word)
            elif number == 74 and self.stepwise:
                struct.pack_into("=9I", asked, 0, index, pixels, 3, 16, 1920, 8, 16, 1080, 8)
            elif number == 74:
                struct.pack_into("=5I", asked, 0, index, pixels, 1, *SIZES[pixels.to_bytes(4, "little")][index])
            elif number == 75:
                assert width * height
                struct.pack_into(
                    "=7I", asked, 0, index, pixels, width, height, 3 if self.stepwise else 1, *INTERVALS[index]
                )
        except IndexError:
            raise OSError(errno.EINVAL, "no more") from None
        return 0


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Driver], Path]:
    """Plug in one webcam as video0."""
    monkeypatch.setattr(webcams, "_DEVICES", tmp_path)
    (tmp_path / "video0").touch()

    def use(driver: Driver) -> Path:
        monkeypatch.setattr("fcntl.ioctl", driver)
        return tmp_path

    return use


def test_a_webcam_tells_its_name_and_its_modes(plug: Callable[[Driver], Path]) -> None:
    device = plug(Driver()) / "video0"
    modes = (Mode("MJPG", 1280, 720, 30), Mode("MJPG", 640, 480, 30), Mode("YUYV", 640, 480, 30))
    assert webcams.webcams() == [Webcam(device, "HD Cam", modes)]


def test_the_name_that_stays_is_taken_if_there_is_one(plug: Callable[[Driver], Path]) -> None:
    devices = plug(Driver())
    (devices / "v4l/by-id").mkdir(parents=True)
    link = devices / "v4l/by-id/usb-HD_Cam-video-index0"
    link.symlink_to("../../video0")
    assert [webcam.device for webcam in webcams.webcams()] == [link]


def test_sizes_and_rates_in_a_range_are_told_by_the_largest(plug: Callable[[Driver], Path]) -> None:
    plug(Driver(stepwise=True))
    (webcam,) = webcams.webcams()
    assert webcam.modes == (Mode("MJPG", 1920, 1080, 15), Mode("YUYV", 1920, 1080, 15))


@pytest.mark.parametrize("capabilities", [(0x84A00001, 0x04A00000), (0x00000002, 0)], ids=["metadata", "output"])
def test_a_device_without_pictures_is_no_webcam(plug: Callable[[Driver], Path], capabilities: tuple[int, int]) -> None:
    plug(Driver(capabilities=capabilities))
    assert webcams.webcams() == []


def test_a_name_that_is_no_text_is_escaped(plug: Callable[[Driver], Path]) -> None:
    plug(Driver(card=b"\x1b[2J\xff\0rest"))
    (webcam,) = webcams.webcams()
    assert webcam.name == "\\u001b[2J\ufffd"


def test_a_driver_without_an_end_is_asked_for_a_few(
    plug: Callable[[Driver], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver()
    plug(driver)
    monkeypatch.setattr(webcams, "MOST", 3)
    monkeypatch.setitem(SIZES, b"MJPG", [(640, 480)] * 10**6)
    monkeypatch.setattr(f"{__name__}.INTERVALS", INTERVALS * 10**6)
    (webcam,) = webcams.webcams()
    assert len(webcam.modes) == 3 + 1


def test_a_plain_file_is_no_webcam_to_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webcams, "_DEVICES", tmp_path)
    (tmp_path / "video0").write_text("no device")
    assert webcams.webcams() == []


def test_a_webcam_that_may_not_be_opened_is_told(
    plug: Callable[[Driver], Path], caplog: pytest.LogCaptureFixture
) -> None:
    device = plug(Driver()) / "video0"
    device.unlink()
    device.symlink_to("nothing")
    assert webcams.webcams() == []
    assert f"{device}: cannot be opened: No such file or directory" in caplog.text
