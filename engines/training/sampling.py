"""Which frames of a video a network sees: the numbers of frames, from 0, as int64 arrays [clips, frames].

With a random generator, the random form for training, of one clip; without, the fixed form for tests.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Indices = NDArray[np.int64]
WINDOW = 64
"""Frames of the part of a video that dense sampling looks at."""


def uniform(count: int, frames: int, rng: Generator | None = None, clips: int = 1) -> Indices:
    """TSN's sparse sampling: one frame from each of `frames` equal parts of a video of `count` frames.

    Training: a random one of each part, whose length is floor(count / frames); a shorter video gives a random
    selection in time order. Tests: floor(tick * (i + 1/2)) where tick = count / frames; several clips are shifted
    against each other by equal shares of a tick (the second one of two takes the beginning of each part).
    """
    if rng is None:
        tick = count / frames
        shifts = (0.5 + np.arange(clips) / clips) % 1
        return (tick * shifts[:, None] + tick * np.arange(frames)).astype(np.int64)
    length = count // frames
    if length == 0:
        return np.sort(rng.integers(count, size=(1, frames)))
    return np.arange(frames) * length + rng.integers(length, size=(1, frames))


def dense(count: int, frames: int, rng: Generator | None = None, clips: int = 1, window: int = WINDOW) -> Indices:
    """I3D's dense sampling: every (window // frames)-th frame of a part of `window` frames; a short video is repeated.

    Training: a part at a random place. Tests: `clips` parts from the first one to the last one, or the middle one.
    """
    last = max(0, count - window)
    if rng is not None:
        starts = rng.integers(last + 1, size=1)
    else:
        starts = np.linspace(0, last, clips).astype(np.int64) if clips > 1 else np.array([last // 2])
    return (starts[:, None] + np.arange(frames) * (window // frames)) % count


def steady(count: int, frames: int, rng: Generator | None, video_fps: float, fps: float) -> Indices:
    """What a live stream at `fps` would see of a video at `video_fps`; the last frame stays where the video ends.

    Training: `frames` successive ones from a random moment on. Tests: all of the video, and at least `frames`.
    """
    step = video_fps / fps
    if rng is None:
        start, length = 0.0, max(frames, math.ceil(count / step))
    else:
        start, length = rng.uniform(0, max(0.0, count - (frames - 1) * step)), frames
    moments = start + np.arange(length) * step
    return np.minimum(moments.astype(np.int64), count - 1)[None]
