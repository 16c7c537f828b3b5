"""Cuts and distortions of clips: uint8 RGB [..., H, W, 3] in, the same kind out.

Every random draw holds for a whole clip, except noise: what is done to one frame is done to all of them.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ..opencv import cv2

Share = Annotated[float, Field(ge=0, le=1)]
Scale = Annotated[float, Field(gt=0, le=1)]
Matrix = NDArray[np.float64]
Image = NDArray[np.uint8]

PLACES = tuple((x, y) for x in range(5) for y in range(5) if x % 2 == y % 2)
"""TSN's 13 fixed places of a crop, in quarters of the space that it leaves: corners, sides, centre, and between."""


class Augment(BaseModel):
    """How training clips are varied. By default as the papers do it; the rest is for sets of few clips.

    scales       of the crop's sides, relative to the picture's short side; one drawn for each side, neighbours at most
    flip         half of the clips, where the data set has a label for the mirror image
    colour       most change of brightness, contrast, saturation (1 is all) and, a third of it in radians, hue
    speed        most change of speed: 0.5 is up to 1.5 times as fast or as slow; uniform sampling only slows down
    rotation     most degrees
    translation  most shift, relative to the clip's sides
    erase, grey, blur   share of the clips in which a rectangle is blank, that have no colour, that are out of focus
    noise        most standard deviation, in grey levels
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scales: Annotated[tuple[Scale, ...], Field(min_length=1)] = (1.0, 0.875, 0.75, 0.66)
    flip: bool = True
    colour: Share = 0.0
    speed: Annotated[float, Field(ge=0)] = 0.0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    translation: Share = 0.0
    erase: Share = 0.0
    grey: Share = 0.0
    blur: Share = 0.0
    noise: Annotated[float, Field(ge=0)] = 0.0

    def draw_speed(self, rng: Generator) -> float:
        """How many times as fast a clip shall be."""
        return math.exp(rng.uniform(-1, 1) * math.log1p(self.speed))


# --------------------------------------------------------------------------------------------------------- geometry


def resized(picture: Image, height: int, width: int) -> Image:
    """[H, W, 3] -> [height, width, 3], as the live pipeline resizes."""
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def scaled(picture: Image, short_side: int) -> Image:
    """[H, W, 3] in its aspect ratio, so that the shorter side is `short_side`."""
    height, width = picture.shape[:2]
    scale = short_side / min(height, width)
    return resized(picture, round(height * scale), round(width * scale))


def centre(clip: Image, size: int) -> Image:
    """[..., H, W, 3] -> the middle [..., size, size, 3]."""
    top, left = (clip.shape[-3] - size) // 2, (clip.shape[-2] - size) // 2
    return clip[..., top : top + size, left : left + size, :]


def three_crops(clip: Image, size: int) -> Image:
    """[..., H, W, 3] -> [3, ..., size, size, 3]: beginning, middle and end of the longer side; the other's middle."""
    height, width = clip.shape[-3:-1]
    top, left = (height - size) // 2, (width - size) // 2
    if width >= height:
        corners = [(top, x) for x in (0, left, width - size)]
    else:
        corners = [(y, left) for y in (0, top, height - size)]
    return np.stack([clip[..., y : y + size, x : x + size, :] for y, x in corners])


def multi_scale_crop(clip: Image, size: int, scales: tuple[float, ...], rng: Generator) -> Image:
    """TSN's: [T, H, W, 3] -> [T, size, size, 3], a crop of random height and width at one of the fixed places."""
    height, width = clip.shape[1:3]
    sides = [max(1, int(min(height, width) * scale)) for scale in scales]
    pairs = [(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1]
    tall, wide = pairs[rng.integers(len(pairs))]
    column, row = PLACES[rng.integers(len(PLACES))]
    top, left = row * ((height - tall) // 4), column * ((width - wide) // 4)
    return np.stack([resized(frame[top : top + tall, left : left + wide], size, size) for frame in clip])


# ------------------------------------------------------------------------------------------------------ distortions


def distort(clip: Image, augment: Augment, rng: Generator) -> Image:
    """Everything but crop, flip and speed: [T, H, W, 3] -> [T, H, W, 3]."""
    if augment.rotation or augment.translation:
        clip = _moved(clip, augment, rng)
    grey = rng.random() < augment.grey
    if augment.colour or grey:
        clip = _coloured(clip, augment.colour, grey, rng)
    if rng.random() < augment.blur:
        sigma = rng.uniform(0.3, 1.5)
        clip = np.stack([np.asarray(cv2.GaussianBlur(frame, (0, 0), sigma), np.uint8) for frame in clip])
    if augment.noise:
        noisy = clip + rng.uniform(0, augment.noise) * rng.standard_normal(clip.shape, np.float32)
        clip = np.rint(noisy).clip(0, 255).astype(np.uint8)
    if rng.random() < augment.erase:
        clip = _erased(clip, rng)
    return clip


def _moved(clip: Image, augment: Augment, rng: Generator) -> Image:
    """Turned and shifted; what comes in from outside mirrors the inside."""
    height, width = clip.shape[1:3]
    angle = rng.uniform(-augment.rotation, augment.rotation)
    matrix = np.asarray(cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0), np.float64)
    matrix[:, 2] += rng.uniform(-augment.translation, augment.translation, 2) * (width, height)
    frames = [cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101) for frame in clip]
    return np.asarray(np.stack(frames), np.uint8)


def _coloured(clip: Image, most: float, grey: bool, rng: Generator) -> Image:
    """Brightness, contrast, saturation and hue in one matrix: [T, H, W, 3] @ [3, 3] + offset."""
    brightness, contrast, saturation, hue = rng.uniform(-most, most, 4)
    luma = np.tile([0.299, 0.587, 0.114], (3, 1))
    kept = 0.0 if grey else 1 + saturation
    turn = cv2.Rodrigues(np.full(3, hue / 3 / math.sqrt(3)))[0]  # about the axis of the greys
    matrix: Matrix = (1 + contrast) * (kept * np.eye(3) + (1 - kept) * luma) @ turn
    offset = 128 * (brightness - contrast)
    rows = clip.reshape(-1, clip.shape[2], 3)
    return np.asarray(cv2.transform(rows, np.c_[matrix, np.full(3, offset)]), np.uint8).reshape(clip.shape)


def _erased(clip: Image, rng: Generator) -> Image:
    """A rectangle of 2 to 20 percent of the picture becomes the clip's mean colour."""
    height, width = clip.shape[1:3]
    area, slope = rng.uniform(0.02, 0.2), math.exp(rng.uniform(-0.7, 0.7))
    tall, wide = round(height * math.sqrt(area * slope)), round(width * math.sqrt(area / slope))
    top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
    erased = clip.copy()
    erased[:, top : top + tall, left : left + wide] = clip.mean(axis=(0, 1, 2))
    return erased
