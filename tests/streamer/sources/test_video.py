from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from streamer.sources.video import bgr


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_a_frame_is_converted_without_threads_of_its_own() -> None:
    frames = [av.VideoFrame.from_ndarray(np.zeros((360, 320), np.uint8), format="yuv420p") for _ in range(5)]
    before = threads()
    pictures = [bgr(frame) for frame in frames]
    assert threads() <= before
    assert {picture.shape for picture in pictures} == {(240, 320, 3)}
