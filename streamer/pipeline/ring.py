"""The queue between the thread that captures a stream and the one that runs the network: short and preallocated.

A network that is too slow must see recent frames, not old ones: a full ring gives up its oldest frame, and counts it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from engines.opencv import cv2
from streamer.pipeline.pace import UNKNOWN, Distance
from streamer.types import ONE_TIMELINE, Image, Size, Timeline

_STOP_POLL_S = 0.05  # how often a push that waits for space looks whether it should give up
_CROP_MARGIN = 256 / 224  # networks with a centre crop were trained on pictures this much larger than their input

Fit = Literal["stretch", "crop"]


def fit(image: Image, height: int, width: int, mode: Fit) -> Image:
    """[H, W, 3] -> [height, width, 3], as the network was trained to see it.

    `stretch` ignores the aspect ratio; `crop` keeps it: the picture is scaled to cover 256/224 of the size, and its
    centre is cut out.
    """
    scaled = scaled_size(image.shape[:2], height, width, mode)
    return centre(np.asarray(cv2.resize(image, scaled[::-1], interpolation=cv2.INTER_AREA), np.uint8), height, width)


def scaled_size(size: Size, height: int, width: int, mode: Fit) -> Size:
    """What a picture of this size is scaled to, before its centre is cut out."""
    if mode == "stretch":
        return height, width
    scale = max(height * _CROP_MARGIN / size[0], width * _CROP_MARGIN / size[1])
    return round(size[0] * scale), round(size[1] * scale)


def centre(image: Image, height: int, width: int) -> Image:
    """[H, W, 3] -> [height, width, 3], a view of it."""
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a picture of the ring comes from: the fields of its `Frame`, and how many sample periods the next one is
    away. `distance`: how far it is from the one before it.
    """

    time_us: int
    index: int
    connection: int
    arrived_s: float | None = None
    step: int = 1
    timeline: Timeline = ONE_TIMELINE
    distance: Distance = UNKNOWN


class Ring:
    """At most `capacity` pictures [height, width, 3] uint8, oldest first. One thread pushes, one pops.

    `on_push` is called after every push, in the pushing thread: it wakes the thread that pops. `dropped` counts by
    reason.
    """

    def __init__(self, capacity: int, height: int, width: int, on_push: Callable[[], None] = lambda: None) -> None:
        self.capacity = capacity
        self._slots = np.zeros((capacity, height, width, 3), np.uint8)
        self._free = deque(range(capacity))
        self._queue: deque[tuple[int, Origin]] = deque()
        self._changed = threading.Condition()
        self._on_push = on_push
        self._closed = False
        self.dropped = {"ring_full": 0}

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def waits_since_s(self) -> float | None:
        """When the oldest picture arrived, by the monotonic clock; None if there is none, or it has no such time."""
        with self._changed:
            return self._queue[0][1].arrived_s if self._queue else None

    def push(self, origin: Origin, image: Image, wait: threading.Event | None = None) -> bool:
        """Add a copy of `image` [height, width, 3].

        Without `wait` a full ring drops its oldest picture. With `wait` nothing is dropped: the call blocks until
        there is space, and gives up, with False, once that event is set. A ring that was closed takes nothing.
        """
        with self._changed:
            while wait is not None and not self._free and not self._closed:
                if wait.is_set():
                    return False
                self._changed.wait(_STOP_POLL_S)
            if self._closed:
                return False
            if not self._free:
                self._free.append(self._queue.popleft()[0])
                self.dropped["ring_full"] += 1
            slot = self._free.popleft()
            np.copyto(self._slots[slot], image)
            self._queue.append((slot, origin))
        self._on_push()
        return True

    def close(self) -> int:
        """Take no more pictures; how many are left, which nobody will see."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            return len(self._queue)

    def pop(self, out: Image) -> Origin | None:
        """Move the oldest picture into `out` [height, width, 3]; None when there is none."""
        with self._changed:
            if not self._queue:
                return None
            slot, origin = self._queue.popleft()
            np.copyto(out, self._slots[slot])
            self._free.append(slot)
            self._changed.notify()
            return origin
