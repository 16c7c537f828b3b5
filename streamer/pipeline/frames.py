"""A recording, or somebody's own pictures -> what a network takes, for programs that run a model themselves.

It goes the way of the program, up to the engine: the same rate, size and fit, and the same start anew after lost time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from os import PathLike
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines import EngineSpec
from streamer.config import Config, SourceConfig
from streamer.errors import SourceError
from streamer.sources import Source, open_source
from streamer.types import Frame, Image

Order = Literal["bgr", "rgb"]
_NAME = "pictures"
_log = logging.getLogger(__name__)


class ModelFrame(NamedTuple):
    """A frame as a network takes it.

    time_s  seconds since the first frame of a file; of pictures the time that was given with it
    inputs  what `Engine.step` takes before the state: frames [1, H, W, 3], active [1], fresh [1]
    """

    time_s: float
    inputs: tuple[Image, NDArray[np.bool_], NDArray[np.bool_]]


def open_frames(
    source: str | PathLike[str] | Iterable[tuple[float, Image]], spec: EngineSpec, order: Order | None = None
) -> Iterator[ModelFrame]:
    """What a model takes of a video, frame by frame: at its rate, in its size, fitted and ordered as it was trained.

        state = engine.new_state(rows=1)
        for frame in open_frames("clip.mp4", engine.spec):
            logits, ready = engine.step(*frame.inputs, state)

    source  a video file, or pattern:// with a duration; or pairs of a time in seconds and a picture [H, W, 3] uint8, at
            any rate and size, for pictures of your own (a camera's, a simulator's)
    spec    of the model
    order   of the colours in pictures of your own, "bgr" (OpenCV) or "rgb"; nothing is guessed

    Frames have `time_s` and `inputs`, which are yours to keep. After time was lost, `fresh` in `inputs` starts the
    state anew. A source that is slower than the model is told in the log once.
    Raises SourceError for what cannot be read, for pictures of another form, for times that do not advance.
    """
    if isinstance(source, str | int | PathLike):
        opened = open_source(SourceConfig(uri=str(source), pace="fast"))
        if opened.live:
            raise SourceError(
                f"{opened.uri}: is live; `streamer run` recognises in it, and `Subscriber` gets the labels; or read it "
                "yourself and give the pictures with their times"
            )
        if order is not None:
            raise SourceError(f"{opened.uri}: a file's colours are known; leave out order")
    else:
        if order not in ("bgr", "rgb"):
            raise SourceError(f"{_NAME}: say how their colours are ordered: order='bgr' (OpenCV) or order='rgb'")
        opened = _Pictures(source, order)
    return _frames(opened, spec)


def _frames(source: Source, spec: EngineSpec) -> Iterator[ModelFrame]:
    from streamer.labels.messages import MessageBuilder  # with OpenCV, which importing this package shall not
    from streamer.pipeline.intake import Intake
    from streamer.pipeline.stream import Stream

    config = Config()
    intake = Intake(source, spec, config)
    stream = Stream(source.name, intake, config, MessageBuilder(spec.version, spec.mode), lambda _: None)
    row, told = np.empty((spec.height, spec.width, 3), np.uint8), 0
    with closing(source.frames(0, threading.Event())) as frames:
        for frame in frames:
            intake.offer(frame)
            while (taken := stream.take(row))[0]:
                inputs = (row[None].copy(), np.ones(1, bool), np.array([taken[1]]))
                yield ModelFrame((stream.frame_us or 0) / 1e6, inputs)
            for sentence in list(stream.slowness.spells.values())[told:]:
                told += 1
                _log.warning("%s", sentence)


class _Pictures(Source):
    """Pictures of a program's own, with their times."""

    live = False

    def __init__(self, pairs: Iterable[tuple[float, Image]], order: Order) -> None:
        super().__init__(SourceConfig(uri=_NAME, pace="fast"))
        self._pairs, self._order = pairs, order

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        last_us = None
        for index, pair in enumerate(self._pairs):
            if stop.is_set():
                return
            try:
                time_s, picture = pair
                time_us = round(time_s * 1e6)
            except (TypeError, ValueError, OverflowError) as error:
                raise SourceError(f"{_NAME}: number {index} is no pair of a time in seconds and a picture") from error
            if last_us is not None and time_us <= last_us:
                raise SourceError(
                    f"{_NAME}: number {index} is at {time_s:g} s, but the one before it at {last_us / 1e6:g} s; give "
                    "each the time at which it was taken, in seconds"
                )
            yield Frame(time_us, index, connection, partial(self._bgr, index, picture))
            last_us = time_us

    def _bgr(self, index: int, picture: Any) -> Image:
        shape: tuple[int, ...] = getattr(picture, "shape", ())
        kind = getattr(picture, "dtype", type(picture).__name__)
        if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise SourceError(
                f"{_NAME}: number {index} is {kind} {list(shape)}, but a picture is uint8 [height, width, 3]: three "
                "colours from 0 to 255"
            )
        image: Image = picture if self._order == "bgr" else picture[..., ::-1]
        return np.ascontiguousarray(image)
