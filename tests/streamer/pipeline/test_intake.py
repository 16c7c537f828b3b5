from __future__ import annotations

import threading
from collections.abc import Callable, Generator

import numpy as np

from streamer.config import Config, SourceConfig
from streamer.pipeline.intake import Intake
from streamer.sources import Source
from streamer.types import Frame, Image, Size

from .seeing import SPEC


class Still(Source):
    """A camera of which nothing is asked here."""

    noisy = True

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        yield from ()


class Offered:
    """Frames at the model's rate that can be made smaller at once; `whole` counts those that are converted in full."""

    def __init__(self, config: Config | None = None) -> None:
        self.intake = Intake(Still(SourceConfig(uri="camera")), SPEC, config or Config())
        self.whole = 0
        self.seen: list[Size] = []
        self._number = 0

    def offer(self, value: int, whole: int | None = None) -> None:
        def bgr() -> Image:
            self.whole += 1
            return np.full((48, 64, 3), value if whole is None else whole, np.uint8)

        def small(sized: Callable[[Size], Size]) -> Image:
            self.seen.append(sized((48, 64)))
            return np.full((*self.seen[-1], 3), value, np.uint8)

        at_us = round(self._number * 1e6 / SPEC.rate_hz)
        self.intake.offer(Frame(at_us, self._number, 0, bgr, at_us / 1e6, small=small))
        self._number += 1


def test_a_frame_is_made_as_small_as_the_model_takes_it_and_never_converted_in_full() -> None:
    frames = Offered()
    for number in range(10):
        frames.offer(number)
    assert frames.seen == [(SPEC.height, SPEC.width)] * 10
    assert not frames.whole
    (ring,) = frames.intake.lens.rings.values()
    row = np.empty((SPEC.height, SPEC.width, 3), np.uint8)
    assert ring.pop(row)
    assert (row == 10 - len(ring) - 1).all()


def test_pictures_that_were_not_even_decoded_are_told_with_those_above_the_rate() -> None:
    intake = Offered().intake
    intake.offer(Frame(0, 0, 0, lambda: np.zeros((48, 64, 3), np.uint8), 0.0, left_out=2))
    assert intake.left_out["above_rate"] == 2


def test_whole_pictures_are_there_for_as_long_as_somebody_looks() -> None:
    frames = Offered()
    frames.offer(0)
    assert frames.intake.look() is None
    for number in range(1, 100):
        frames.offer(number)
    converted = frames.whole
    assert 0 < converted < 30
    shown = frames.intake.look()
    assert shown is not None
    assert shown.shape == (48, 64, 3)
    frames.offer(100)
    assert frames.whole == converted + 1


def test_a_camera_that_looks_frozen_is_looked_at_in_full() -> None:
    frames = Offered(Config(frozen_s=1))
    for number in range(40):
        frames.offer(7, whole=number)  # its noise is lost where it is made smaller
    assert frames.whole > 30
    assert not frames.intake.frozen
    for _ in range(25):
        frames.offer(7)
    assert "the very same picture" in frames.intake.frozen
