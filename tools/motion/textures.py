"""What the synthetic clips show: textures that fill a picture, and sprites (textured shapes with soft edges).

Drawn on the CPU with numpy and OpenCV, once per clip; all values are float32, colours RGB in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Rng = np.random.Generator
Surface = Callable[[Rng, int], Floats]

# ---------------------------------------------------------------------------------------------------- textures


def _clipped(pattern: Floats | Doubles) -> Floats:
    return np.asarray(np.clip(pattern, 0, 1), np.float32)


def blurred(picture: Floats, sigma: float) -> Floats:
    """A picture or sprite out of focus, the same shape; sigma in pixels."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.float32)


def _fractal(rng: Rng, size: int) -> Floats:
    """Multi-octave noise, [S, S], about 0..1: from clouds (steep spectrum) to gravel (flat spectrum)."""
    steepness = rng.uniform(0.2, 1.4)
    total = np.zeros((size, size), np.float32)
    for cells in (3, 6, 12, 24, 48):
        grid = rng.standard_normal((cells, cells), np.float32) * cells**-steepness
        total += cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray(0.5 + 0.22 * (total - total.mean()) / (total.std() + 1e-6), np.float32)


def _wave(rng: Rng, size: int, angle: float, periods: float) -> Floats:
    """A sine along one direction, [S, S], -1..1."""
    axis = np.linspace(0, 2 * np.pi * periods, size, dtype=np.float32)
    phase = axis[None, :] * np.float32(np.cos(angle)) + axis[:, None] * np.float32(np.sin(angle))
    return np.sin(phase + np.float32(rng.uniform(0, 6.3)), dtype=np.float32)


def _stripes(rng: Rng, size: int) -> Floats:
    """Stripes, [S, S], 0..1, from soft waves to hard bars."""
    wave = _wave(rng, size, rng.uniform(0, np.pi), rng.uniform(2, 12))
    return _clipped(0.5 + wave * np.float32(rng.uniform(0.5, 5)))


def _checker(rng: Rng, size: int) -> Floats:
    """A turned checkerboard, [S, S], 0..1; unequal periods make bricks and tiles."""
    angle = rng.choice([0.0, rng.uniform(0, np.pi)])
    first, second = _wave(rng, size, angle, rng.uniform(2, 9)), _wave(rng, size, angle + np.pi / 2, rng.uniform(2, 9))
    return _clipped(0.5 + first * second * np.float32(rng.uniform(1, 8)))


def _blobs(rng: Rng, size: int) -> Floats:
    """Patches with an outline, [S, S], 0..1: noise cut at a level."""
    cells = int(rng.integers(4, 22))
    grid = cv2.resize(rng.standard_normal((cells, cells), np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    return _clipped(0.5 + (grid - rng.uniform(-0.5, 0.8)) * np.float32(rng.uniform(1, 8)))


def _gradient(rng: Rng, size: int) -> Floats:
    """A linear ramp, [S, S], 0..1."""
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    ramp = axis[None, :] * np.float32(np.cos(angle)) + axis[:, None] * np.float32(np.sin(angle))
    return _clipped(0.5 + ramp)


_PATTERNS = (_fractal, _stripes, _checker, _blobs, _gradient)


def _colour(rng: Rng) -> Floats:
    """One colour, [3]: greys and muted colours more often than vivid ones, as in rooms."""
    grey = rng.uniform(0.03, 0.97)
    return np.clip(grey + rng.normal(0, rng.choice([0.02, 0.08, 0.25]), 3), 0, 1).astype(np.float32)


def _paint(rng: Rng, pattern: Floats) -> Floats:
    """[S, S] 0..1 -> [S, S, 3]: the pattern between two colours."""
    low, high = _colour(rng), _colour(rng)
    if np.abs(high - low).sum() < 0.5:  # two like colours would hide the pattern
        high = np.where(low > 0.5, low - rng.uniform(0.2, 0.45), low + rng.uniform(0.2, 0.45)).astype(np.float32)
    return np.asarray(low + pattern[..., None] * (high - low), np.float32)


def texture(rng: Rng, size: int) -> Floats:
    """A picture whose motion can be seen anywhere and in any direction, [S, S, 3]: a pattern mixed with noise.

    The noise (at least a quarter) is what shows a motion along stripes or a gradient.
    """
    pattern = _PATTERNS[rng.integers(len(_PATTERNS))](rng, size)
    picture = _paint(rng, pattern)
    share = np.float32(rng.uniform(0.25, 0.8))
    return picture + share * (_paint(rng, _fractal(rng, size)) - picture)


def plain(rng: Rng, size: int) -> Floats:
    """A picture with little in it, [S, S, 3]: a wall, a sky. It can stand behind a motion but cannot show its own."""
    low = _colour(rng)
    high = low + rng.normal(0, 0.12, 3).astype(np.float32)
    return low + _gradient(rng, size)[..., None] * (high - low)


def room(rng: Rng, size: int) -> Floats:
    """Things with outlines before a wall, [S, S, 3]: mostly flat areas and few edges, like indoor scenes."""
    picture = plain(rng, size) if rng.random() < 0.6 else texture(rng, size)
    for _ in range(rng.integers(5, 12)):
        radius = rng.uniform(0.08, 0.4) * size
        thing = sprite(rng, max(16, int(2 * radius)), shapes=1, surface=plain if rng.random() < 0.5 else texture)
        paste(picture, thing, rng.uniform(0, 1, 2) * size)
    return picture


# ------------------------------------------------------------------------------------------------------ shapes

# Limbs as (x0, y0, x1, y1, width) in a box from -1 to 1, y down.
_PERSON = np.array(
    [
        (0.0, -0.78, 0.0, -0.74, 0.34),  # head
        (0.0, -0.45, 0.0, 0.05, 0.44),  # trunk
        (-0.2, -0.45, -0.38, 0.12, 0.14),  # arms
        (0.2, -0.45, 0.38, 0.12, 0.14),
        (-0.1, 0.1, -0.18, 0.9, 0.2),  # legs
        (0.1, 0.1, 0.18, 0.9, 0.2),
    ]
)
_HAND = np.array(
    [
        (0.0, 0.2, 0.0, 0.3, 0.75),  # palm
        (-0.28, 0.1, -0.45, -0.55, 0.18),  # fingers
        (-0.1, 0.0, -0.15, -0.8, 0.19),
        (0.1, 0.0, 0.12, -0.82, 0.19),
        (0.28, 0.1, 0.38, -0.62, 0.17),
        (0.3, 0.4, 0.75, 0.0, 0.2),  # thumb
        (0.0, 0.6, 0.0, 1.2, 0.5),  # wrist
    ]
)


def _limbs(rng: Rng, canvas: Floats, table: Doubles) -> None:
    """Draw a figure of limbs, each moved and thickened a little."""
    size = len(canvas)
    lean = rng.normal(0, 0.05, table.shape)
    for x0, y0, x1, y1, width in (table * rng.uniform(0.85, 1.1) + lean).clip(-1.3, 1.3):
        ends = [(int((x + 1) / 2 * size), int((y + 1) / 2 * size)) for x, y in ((x0, y0), (x1, y1))]
        cv2.line(canvas, ends[0], ends[1], 1.0, max(1, int(abs(width) / 2 * size)), cv2.LINE_AA)


def _person(rng: Rng, canvas: Floats) -> None:
    _limbs(rng, canvas, _PERSON)


def _hand(rng: Rng, canvas: Floats) -> None:
    side = rng.choice([-1.0, 1.0])  # left or right
    _limbs(rng, canvas, _HAND * np.array([side, 1, side, 1, 1]))


def _ellipse(rng: Rng, canvas: Floats) -> None:
    half = len(canvas) // 2
    axes = (int(half * rng.uniform(0.7, 0.95)), int(half * rng.uniform(0.35, 0.9)))
    cv2.ellipse(canvas, (half, half), axes, rng.uniform(0, 180), 0, 360, 1.0, -1, cv2.LINE_AA)


def _polygon(rng: Rng, canvas: Floats) -> None:
    """Polygons and stars: corners around the centre, every second one drawn in by a random share."""
    half = len(canvas) / 2
    corners = int(rng.integers(3, 11))
    angles = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners + rng.uniform(0, 6.3)
    radii = half * rng.uniform(0.7, 0.95, corners)
    if corners % 2 == 0:
        radii[::2] *= rng.uniform(0.35, 1)
    points = half + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    cv2.fillPoly(canvas, [points.astype(np.int32)], 1.0, cv2.LINE_AA)


def _box(rng: Rng, canvas: Floats) -> None:
    half = len(canvas) / 2
    sides, angle = half * rng.uniform(0.5, 1.35, 2), rng.choice([0, rng.uniform(0, 90)])
    box = ((half, half), (float(sides[0]), float(sides[1])), float(angle))
    cv2.fillPoly(canvas, [cv2.boxPoints(box).astype(np.int32)], 1.0, cv2.LINE_AA)


_SHAPES = (_ellipse, _polygon, _box, _person, _hand)


def _filling(coverage: Floats) -> Floats:
    """The square part of a coverage [S, S] that holds all of its shape, enlarged to [S, S]."""
    x, y, width, height = cv2.boundingRect((coverage > 0.5).astype(np.uint8))
    half = max(width, height, 8) * 0.53  # a little room for the rim
    middle = np.array([x + width / 2, y + height / 2])
    scale = len(coverage) / (2 * half)
    onto = np.array([[scale, 0, scale * (half - middle[0])], [0, scale, scale * (half - middle[1])]])
    return np.asarray(cv2.warpAffine(coverage, onto, coverage.shape, flags=cv2.INTER_LINEAR), np.float32)


def sprite(rng: Rng, size: int, shapes: int = 1, surface: Surface = texture) -> Floats:
    """One object or a group that moves as one, [S, S, 4]: RGB already multiplied by the coverage, then the coverage."""
    coverage = np.zeros((size, size), np.float32)
    for _ in range(shapes):
        part = size if shapes == 1 else int(size * rng.uniform(0.4, 0.65))
        canvas = np.zeros((part, part), np.float32)
        _SHAPES[rng.integers(len(_SHAPES))](rng, canvas)
        y, x = rng.integers(0, size - part + 1, 2)
        region = coverage[y : y + part, x : x + part]
        np.maximum(region, canvas, out=region)
    coverage = _filling(coverage)
    if rng.random() < 0.4:  # out of focus
        coverage = blurred(coverage, size * rng.uniform(0.005, 0.04))
    coverage[0] = coverage[-1] = coverage[:, 0] = coverage[:, -1] = 0  # the outside continues the rim
    colours = surface(rng, size)
    return np.concatenate([colours * coverage[..., None], coverage[..., None]], axis=2)


def paste(picture: Floats, thing: Floats, centre: Doubles) -> None:
    """Lay a sprite [s, s, 4] into a picture [S, S, 3] with its centre at (x, y), pixels; parts outside are cut off."""
    size, half = len(picture), len(thing) // 2
    x, y = (int(c) - half for c in centre)
    left, top, right, bottom = max(0, x), max(0, y), min(size, x + len(thing)), min(size, y + len(thing))
    cut = thing[top - y : bottom - y, left - x : right - x]
    region = picture[top:bottom, left:right]
    region *= 1 - cut[..., 3:]
    region += cut[..., :3]


def contrast(thing: Floats, scene: Floats) -> float:
    """How a sprite [s, s, 4] stands out from a scene [S, S, 3]: by its mean colour, and by the texture of the scene."""
    colour = thing[..., :3].sum((0, 1)) / max(1.0, float(thing[..., 3].sum()))
    return float(np.abs(colour - scene.mean((0, 1))).mean() + scene.std((0, 1)).mean())


def structure(scene: Floats) -> float:
    """How well a scene [S, S, 3] shows a motion in whatever direction, in grey levels (0..1) a pixel.

    The root of the smaller eigenvalue of the structure tensor (Foerstner and Guelch, 1987), the median over 4 x 4 parts
    of the scene: near zero where it is flat, and where it has stripes, along which nobody sees a motion.
    """
    grey = cv2.GaussianBlur(scene.mean(2), (0, 0), 1.0)
    x, y = (cv2.Sobel(grey, cv2.CV_32F, dx, 1 - dx, scale=1 / 8)[3:-3, 3:-3] for dx in (1, 0))  # the rim is made up
    parts = cv2.resize(np.dstack([x * x, y * y, x * y]), (4, 4), interpolation=cv2.INTER_AREA)
    xx, yy, xy = parts[..., 0], parts[..., 1], parts[..., 2]
    smaller = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    return float(np.median(np.sqrt(smaller.clip(min=0))))
