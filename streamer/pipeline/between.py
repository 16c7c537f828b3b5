"""Pictures between the frames of a source that is slower than the model: what moves is moved part of the way.

The motion from one frame to the next is estimated by dense inverse search (Kroeger et al., "Fast Optical Flow using
Dense Inverse Search", ECCV 2016). A picture between them is both frames, each moved to its time, blended. It shows no
more than the two frames tell; but the model, which was trained at its own rate, sees motion as fast as it is.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from engines.opencv import cv2
from streamer.pipeline.ring import Origin
from streamer.pipeline.sampler import Decision
from streamer.types import Image

_SMALLEST = 32  # pixels; in smaller pictures no motion can be found, and they are only blended


class Coming:
    """Frames on their way into the network, and the pictures between those of a slow source, in the order of time."""

    def __init__(self) -> None:
        self._queue: deque[tuple[int, Image]] = deque()
        self._last: tuple[int, Image] | None = None  # time and picture of the last frame

    def __len__(self) -> int:
        return len(self._queue)

    def follows(self, origin: Origin) -> bool:
        """Whether the source gave this frame right after the one that was added last: nothing was left out."""
        return self._last is not None and self._last[0] == origin.distance.before_us

    def add(self, image: Image, origin: Origin, decision: Decision) -> None:
        """Add a copy of the next frame [H, W, 3]; first the pictures between, if its source is slow by habit."""
        distance, frame = origin.distance, (origin.time_us, image.copy())
        if self._last and self.follows(origin) and not decision.gap and decision.missed and distance.slow:
            before_us, before = self._last
            if (length_us := origin.time_us - before_us) <= distance.patience_us:
                for number, picture in enumerate(between(before, image, decision.missed), 1):
                    self._queue.append((before_us + length_us * number // (decision.missed + 1), picture))
        self._queue.append(frame)
        self._last = frame

    @property
    def last(self) -> tuple[int, Image] | None:
        """Time and picture of the frame that was added last."""
        return self._last

    def follow(self, last: tuple[int, Image] | None) -> None:
        """Go on after a frame that another has added."""
        self._last = last

    def pop(self, out: Image) -> int:
        """Copy the next picture into `out` [H, W, 3]; its time."""
        time_us, image = self._queue.popleft()
        np.copyto(out, image)
        return time_us


def between(before: Image, after: Image, count: int) -> list[Image]:
    """`count` pictures, evenly in time between two of [H, W, 3]. The same two give the same pictures."""
    greys = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in (before, after)]
    there, back = (np.zeros((*greys[0].shape, 2), np.float32) for _ in range(2))  # [H, W, 2], pixels
    if min(greys[0].shape) >= _SMALLEST:
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        search.calc(greys[0], greys[1], there)
        search.calc(greys[1], greys[0], back)
    shares = [number / (count + 1) for number in range(1, count + 1)]
    pairs = [(_moved(before, there, share), _moved(after, back, 1 - share), share) for share in shares]
    return [np.asarray(cv2.addWeighted(one, 1 - share, other, share, 0), np.uint8) for one, other, share in pairs]


def _moved(image: Image, flow: NDArray[np.float32], share: float) -> Image:
    """The picture [H, W, 3] with everything moved by a share of its flow [H, W, 2], the flow taken where it arrives."""
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = x - share * flow[..., 0], y - share * flow[..., 1]
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)
