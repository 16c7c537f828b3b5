"""Decoding on a GPU, as far as it goes without one: it is asked for, cannot be had, and software does it as before."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import av
import pytest

from streamer.config import Capture, Hwaccel, SourceConfig
from streamer.sources import Source, hardware, open_source
from streamer.sources.video import decode, open_video, video_stream
from tools.cameras import HttpCamera, RtspServer
from tools.cameras.barcode import read_barcode

TOLD = "is decoded in software: no NVIDIA GPU can be used; nvidia-smi must list one (hwaccel: cuda)"

needs_no_gpu = pytest.mark.skipif(hardware.no_decoder() is None, reason="an NVIDIA GPU is here")


@pytest.fixture
def opened() -> Iterator[Callable[..., Source]]:
    """Open sources; they are closed with the test."""
    sources: list[Source] = []

    def open_one(uri: Path | str, hwaccel: Hwaccel, capture: Capture = "thread") -> Source:
        sources.append(open_source(SourceConfig(uri=str(uri), pace="fast", hwaccel=hwaccel, capture=capture)))
        return sources[-1]

    yield open_one
    for source in sources:
        source.close()


def numbers(source: Source, most: int = 100) -> list[int]:
    """The numbers in the first pictures of a source."""
    with closing(source.frames(0, threading.Event())) as frames:
        return [read_barcode(frame.bgr()) for frame in islice(frames, most)]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@needs_no_gpu
@pytest.mark.parametrize("capture", ["thread", "process"])
def test_a_file_is_decoded_in_software_where_no_gpu_is_and_it_is_told_once(
    write_video: Callable[..., Path], opened: Callable[..., Source], capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    source = opened(write_video(count=8), "cuda", capture)
    assert numbers(source) == numbers(source) == list(range(8))
    assert source.note == TOLD
    assert warnings(caplog) == [f"clip: {TOLD}"]
    assert source.corrupt == 0


@needs_no_gpu
def test_an_rtsp_camera_is_decoded_in_software_and_its_status_says_why(
    rtsp_server: Callable[..., RtspServer], opened: Callable[..., Source]
) -> None:
    source = opened(rtsp_server().url(), "cuda")
    assert len(numbers(source, 3)) == 3
    assert source.note == TOLD


@needs_no_gpu
def test_auto_takes_software_where_no_gpu_is_and_says_nothing(
    write_video: Callable[..., Path], opened: Callable[..., Source], caplog: pytest.LogCaptureFixture
) -> None:
    source = opened(write_video(count=8), "auto")
    assert numbers(source) == list(range(8))
    assert source.note == ""
    assert warnings(caplog) == []


def test_the_jpegs_of_an_http_camera_are_decoded_in_software_and_it_is_told(
    http_camera: Callable[[], HttpCamera], opened: Callable[..., Source]
) -> None:
    source = opened(http_camera().url(), "cuda")
    assert len(numbers(source, 3)) == 3
    assert source.note == "its JPEGs are decoded in software (hwaccel: cuda)"


def test_a_video_that_the_gpu_cannot_decode_says_so(
    write_video: Callable[..., Path], opened: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "no_decoder", lambda: None)
    source = opened(write_video("clip.avi", count=4, codec="ffv1"), "cuda")  # FFmpeg knows no GPU's way for it
    assert numbers(source) == list(range(4))
    assert source.note.startswith("is decoded in software: the GPU, or FFmpeg, cannot decode its video (ffv1)")


def test_an_ffmpeg_without_cuda_is_not_given_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "hwdevices_available", lambda: ["drm"])
    assert hardware.accelerator("cuda") is None
    assert "made without CUDA" in str(hardware.no_decoder())


def test_a_frame_comes_with_the_packet_that_completes_it_however_it_is_decoded(
    write_video: Callable[..., Path],
) -> None:
    path = write_video(count=30, codec="libx264")
    assert delays(path, "none") == delays(path, "auto")


def delays(path: Path, hwaccel: Hwaccel) -> list[int | None]:
    """The timestamp of each frame, and of the packet behind which it came."""
    with open_video(f"file:{path}", hwaccel=hwaccel) as container:
        stream = video_stream(container)
        assert stream is not None
        found: list[int | None] = []
        for frame, packet in decode(container, stream, lambda: pytest.fail("damaged"), threading.Event()):
            assert isinstance(frame, av.VideoFrame)
            found += [frame.pts, packet.pts]
        return found
