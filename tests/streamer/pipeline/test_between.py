from __future__ import annotations

import threading

import numpy as np
import pytest

from engines.opencv import cv2
from streamer.config import SourceConfig
from streamer.pipeline.between import between
from streamer.sources import open_source
from streamer.types import Image

SIZE = 112


def scene(at_s: list[float]) -> list[Image]:
    """The drawn scene at times from its beginning on, [112, 112, 3]."""
    source = open_source(SourceConfig(uri="pattern://swipe?fps=100&duration=6&size=320x240", pace="fast"))
    wanted = {round(100 * at) for at in at_s}
    frames = (frame.bgr() for frame in source.frames(0, threading.Event()) if frame.index in wanted)
    return [np.asarray(cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA), np.uint8) for image in frames]


def error(one: Image, other: Image) -> float:
    return float(np.abs(one.astype(float) - other).mean())


def test_what_moves_is_moved_part_of_the_way() -> None:
    before, truth, after = scene([3.2, 3.35, 3.5])
    (found,) = between(before, after, 1)
    blended = cv2.addWeighted(before, 0.5, after, 0.5, 0)
    assert error(found, truth) < 0.5 * error(np.asarray(blended, np.uint8), truth)


def test_the_pictures_lie_evenly_between_the_two() -> None:
    before, *truths, after = scene([3.2, 3.3, 3.4, 3.5])
    found = between(before, after, 2)
    assert error(found[0], truths[0]) < error(found[0], truths[1])
    assert error(found[1], truths[1]) < error(found[1], truths[0])


@pytest.mark.parametrize("size", [(8, 8), (32, 48), (224, 224)])
def test_of_two_pictures_that_are_the_same_comes_the_same_whatever_their_size(size: tuple[int, int]) -> None:
    still = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    assert all(error(image, still) <= 1 for image in between(still, still, 7))


def test_the_same_pictures_give_the_same_bytes_with_any_number_of_threads() -> None:
    before, after = scene([3.2, 3.5])
    threads, found = cv2.getNumThreads(), []
    try:
        for number in (1, 2, 7):
            cv2.setNumThreads(number)
            found.append([image.tobytes() for image in between(before, after, 3)])
    finally:
        cv2.setNumThreads(threads)
    assert found[0] == found[1] == found[2]
