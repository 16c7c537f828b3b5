"""What a stream sees of its source's pictures: all, or the part that its view names, as its network was trained to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines import EngineSpec
from engines.opencv import cv2
from streamer.pipeline.ring import centre, fit, scaled_size
from streamer.region import Corners, is_box
from streamer.types import Frame, Image, Size

FILL = (104, 116, 124)
"""Blue, green and red of what lies outside a polygon: the mean of ImageNet, which networks take for nothing at all."""


class Sight:
    """A view's part of pictures, scaled for a network. `corners` None: the whole of them.

    The network sees the bounding box of a polygon, filled with one colour outside of it: where a pixel of the network
    is not wholly inside. So nothing outside moves or shines in.
    """

    def __init__(self, corners: Corners | None, spec: EngineSpec) -> None:
        self._corners, self._spec = corners, spec
        self._size: tuple[int, ...] = ()  # of the pictures that box and outside are for
        self._box = np.s_[:, :]
        self._outside: NDArray[np.uint8] | None = None
        self._filled = np.full((spec.height, spec.width, 3), FILL, np.uint8)

    def see(self, frame: Frame) -> Image:
        """The frame as [height, width, 3] of the network; converted in one go where the whole of it is seen."""
        small = None if self._corners else frame.small(self._scaled)
        return self.cut(frame.bgr()) if small is None else centre(small, self._spec.height, self._spec.width)

    def cut(self, picture: Image) -> Image:
        """[H, W, 3] -> [height, width, 3] of the network; the picture stays as it is."""
        if self._corners and picture.shape[:2] != self._size:
            self._look_at(self._corners, picture.shape[:2])
        image = self._fit(picture[self._box])
        if self._outside is not None:
            cv2.copyTo(self._filled, self._outside, image)
        return image

    def _look_at(self, corners: Corners, size: tuple[int, ...]) -> None:
        """Pictures have another size [H, W]."""
        self._size, (height, width) = size, size
        points = np.array(corners) * (width, height)  # [corners, 2]: x, y in pixels
        (left, top), (right, bottom) = np.floor(points.min(0)).astype(int), np.ceil(points.max(0)).astype(int)
        left, top = min(left, width - 1), min(top, height - 1)  # a line at the edge is a pixel wide
        self._box = np.s_[top : max(bottom, top + 1), left : max(right, left + 1)]
        self._outside = None
        if not is_box(corners):
            part = np.zeros((max(bottom, top + 1) - top, max(right, left + 1) - left, 3), np.uint8)
            cv2.fillPoly(part, [np.round(points - (left + 0.5, top + 0.5)).astype(np.int32)], (255, 255, 255))
            inside = self._fit(part)[..., 0]
            self._outside = (inside < inside.max()).astype(np.uint8)  # of a very narrow one the best is inside

    def _scaled(self, size: Size) -> Size:
        return scaled_size(size, self._spec.height, self._spec.width, self._spec.fit)

    def _fit(self, image: Image) -> Image:
        return fit(image, self._spec.height, self._spec.width, self._spec.fit)
