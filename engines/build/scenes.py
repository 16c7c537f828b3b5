"""Drawn video for certificates: moving textures at several speeds, objects before them, cuts, covered lenses, noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..opencv import cv2

Image = NDArray[np.uint8]

SPEEDS = (0.0, 0.004, 0.015, 0.05, 0.15)  # of the picture's width from frame to frame
ZOOMS = (1.0, 1.0, 1.02, 0.98, 1.06)
TURNS = (0.0, 0.0, 0.02, -0.1)  # rad from frame to frame


def video(height: int, width: int, seed: int) -> Iterator[Image]:
    """Frames [H, W, 3] without end: shots of 4 to 47 frames, cut after each other. The same seed, the same frames."""
    rng = np.random.default_rng(seed)
    while True:
        length = int(rng.integers(4, 48))
        if rng.random() < 0.1:
            yield from _covered(rng, height, width, length // 4)
        else:
            yield from _shot(rng, height, width, length)


def _covered(rng: np.random.Generator, height: int, width: int, length: int) -> Iterator[Image]:
    """A hand on the lens: one colour, or nothing at all."""
    colour = rng.integers(0, 256, 3) * rng.integers(0, 2)
    for _ in range(length):
        yield np.full((height, width, 3), colour, np.uint8)


def _shot(rng: np.random.Generator, height: int, width: int, length: int) -> Iterator[Image]:
    """A background and an object before it, each with a motion of its own, in the grain of a sensor."""
    scene, thing = texture(rng, height, width), texture(rng, height, width)
    mask = np.zeros((height, width), np.float32)
    axes = (int(width * rng.uniform(0.1, 0.3)), int(height * rng.uniform(0.1, 0.3)))
    cv2.ellipse(mask, (width // 2, height // 2), axes, 0, 0, 360, 1.0, -1, cv2.LINE_AA)
    camera, path = _motion(rng, width), _motion(rng, width)
    grain = float(rng.choice([0, 2, 6]))
    for _ in range(length):
        behind, before = next(camera), next(path)
        picture = cv2.warpAffine(
            scene, _around_centre(behind, height, width), (width, height), borderMode=cv2.BORDER_REFLECT_101
        )
        matrix = _around_centre(before, height, width)
        alpha = cv2.warpAffine(mask, matrix, (width, height))[..., None]
        picture += alpha * (cv2.warpAffine(thing, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101) - picture)
        picture = picture + rng.uniform(-grain, grain, picture.shape)
        yield np.clip(picture, 0, 255).astype(np.uint8)


def texture(rng: np.random.Generator, height: int, width: int) -> NDArray[Any]:
    """Float32 [H, W, 3] of 0 to 255: noise on four scales, the coarse ones strongest, as in photographs."""
    picture = np.zeros((height, width, 3), np.float32)
    for cells in (2, 6, 18, 54):
        noise = rng.standard_normal((cells, cells, 3)).astype(np.float32)
        picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) * (2 / cells) ** 0.5
    contrast = rng.uniform(20, 70)
    return np.clip(picture * contrast + rng.uniform(60, 190, 3), 0, 255).astype(np.float32)


def _motion(rng: np.random.Generator, width: int) -> Iterator[tuple[float, float, float, float]]:
    """(x, y, scale, angle) frame by frame, in pixels and rad, at a constant velocity."""
    speed, direction = width * float(rng.choice(SPEEDS)), rng.uniform(0, 2 * np.pi)
    zoom, turn = float(rng.choice(ZOOMS)), float(rng.choice(TURNS))
    n = 0
    while True:
        yield n * speed * np.cos(direction), n * speed * np.sin(direction), zoom**n, n * turn
        n += 1


def _around_centre(pose: tuple[float, float, float, float], height: int, width: int) -> NDArray[Any]:
    """The affine matrix [2, 3] of a pose."""
    x, y, scale, angle = pose
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), np.degrees(angle), scale)
    return np.asarray(matrix + np.array([[0, 0, x], [0, 0, y]]))
