"""The records that travel through the pipeline: frozen, small, without behaviour of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""A picture, [H, W, 3] uint8, BGR as OpenCV gives it."""

Size = tuple[int, int]
"""Height and width, pixels."""

Probabilities = NDArray[np.float32]
"""One row of softmax outputs, [K] float32."""


class Timeline(NamedTuple):
    """What a frame's time is told by. Times by different ones cannot be compared.

    piece   of a file: how often its timestamps have leapt before
    set_us  by how much this machine's clock has been set since the connection began, microseconds
    """

    piece: int = 0
    set_us: int = 0


ONE_TIMELINE = Timeline()
"""Of a source whose time runs on."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame of a source, not yet converted.

    time_us     when it was captured, microseconds UTC (a file read fast: microseconds since its first frame)
    index       its number within its connection, from 0
    connection  which connection of the source it came from, from 0; a new one is a new epoch of the stream
    bgr         converts it; called only for frames that the sampler wants, in the thread that reads, before the next
                frame is read
    arrived_s   when it reached this machine, in seconds by the monotonic clock, however long it waited in the kernel or
                a library; of a file that is paced in real time: when it was due. None: it is read as fast as it goes,
                and is as old as whoever reads it wants
    timeline    what `time_us` is told by, within the connection
    key         decoded from itself alone; others may only say that nothing has changed
    small       converts it and makes it smaller in one go, where that is quicker than by way of `bgr`: given what makes
                of the picture's size the one that is wanted, it gives the picture, each pixel the mean of what it
                covers; None: only `bgr` will do. Called as `bgr` is
    left_out    pictures before it that were not even decoded, since enough others are
    """

    time_us: int
    index: int
    connection: int
    bgr: Callable[[], Image]
    arrived_s: float | None = None
    timeline: Timeline = ONE_TIMELINE
    key: bool = True
    small: Callable[[Callable[[Size], Size]], Image | None] = lambda _: None
    left_out: int = 0
