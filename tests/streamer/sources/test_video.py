from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.sources.video import MOST_AT_ONCE, bgr, open_video


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_a_frame_is_converted_without_threads_of_its_own() -> None:
    frames = [av.VideoFrame.from_ndarray(np.zeros((360, 320), np.uint8), format="yuv420p") for _ in range(5)]
    before = threads()
    pictures = [bgr(frame) for frame in frames]
    assert threads() <= before
    assert {picture.shape for picture in pictures} == {(240, 320, 3)}


def test_ffmpeg_takes_a_limited_piece_of_memory_at_a_time(write_video: Callable[..., Path]) -> None:
    open_video(str(write_video())).close()
    ffmpeg = ctypes.CDLL(av._core.__file__)
    if not hasattr(ffmpeg, "av_malloc"):
        pytest.skip("this FFmpeg shows no names")
    ffmpeg.av_malloc.restype, ffmpeg.av_free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    assert ffmpeg.av_malloc(ctypes.c_size_t(MOST_AT_ONCE + 1)) is None
    ffmpeg.av_free(some := ffmpeg.av_malloc(ctypes.c_size_t(1000)))
    assert some
