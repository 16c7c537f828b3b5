"""Real videos as batches for training and tests, decoded in worker processes.

    clips = TrainClips(read_dataset("folders", Path("clips")), View("steady", frames=16, size=112, fps=10), Augment())
    for batch in loader(clips, batch=16, workers=2, epoch=3): ...

A video that cannot be read never stops a run: a batch leaves it out and names it in `faults`; one that is damaged but
has frames is used, and named in `damaged`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from engines import EngineSpec
from engines.opencv import cv2
from engines.training import augment as cut
from engines.training.augment import Augment
from engines.training.feed import Batch
from engines.training.sampling import WINDOW, Indices, dense, steady, uniform
from streamer.pipeline.ring import fit
from streamer.types import Image
from tools.data.datasets import VideoSet
from tools.data.decode import UnreadableError, read_pictures
from tools.data.watched import watched
from tools.errors import ToolError

Key = tuple[int, int]
"""An epoch, and the number of a video in its set."""


@dataclass(frozen=True)
class View:
    """What a network sees of a video.

    sampling    uniform: `frames` over all of it; dense: in a window of 64 frames; steady: at `fps`, as a live stream
    frames      T; steady tests see the whole video, which may be longer
    size        pixels of the square that the network gets
    fps         of steady; a folder of frames of unknown rate is taken to have this one
    resize      (height, width) to which all pictures are brought first, whatever their aspect ratio
    clips       tests: how many samples of the video (uniform and dense)
    crops       tests: 1 (centre), 3 (along the longer side), or "full" (the whole picture, for convolutional networks)
    short_side  tests: pixels of the pictures' shorter side before the crop; None: 256/224 of `size`
    live        tests with steady sampling: the model whose run it is as; a file is read as there, and all pictures are
                fitted as there, whatever `size`, `resize` and `short_side` are
    """

    sampling: Literal["uniform", "dense", "steady"] = "uniform"
    frames: int = 8
    size: int = 224
    fps: float | None = None
    resize: tuple[int, int] | None = None
    clips: int = 1
    crops: Literal[1, 3, "full"] = 1
    short_side: int | None = None
    live: EngineSpec | None = None

    def __post_init__(self) -> None:
        """Raises ToolError for what does not fit together."""
        live = self.sampling == "steady"
        if live != (self.fps is not None) or (self.fps is not None and self.fps <= 0):
            raise ToolError(f"fps must be positive with steady sampling and absent without: got {self.fps}")
        if live and self.clips != 1:
            raise ToolError(f"steady sampling sees the whole video in one clip, not in {self.clips}")
        if min(self.frames, self.size, self.clips, *(self.resize or ())) < 1:
            raise ToolError(f"frames, size, clips and resize must be at least 1: got {self}")
        if self.sampling == "dense" and self.frames > WINDOW:
            raise ToolError(f"dense sampling takes at most {WINDOW} frames, not {self.frames}")
        if self.crops != "full" and self.shorter < self.size:
            raise ToolError(f"a crop of {self.size} pixels does not fit in a shorter side of {self.shorter}")

    @property
    def shorter(self) -> int:
        """Pixels of the shorter side in tests."""
        return self.short_side or round(self.size * 256 / 224)

    def indices(self, count: int, video_fps: float | None, rng: Generator | None = None, speed: float = 1.0) -> Indices:
        """Numbers of frames [clips, T] of a video of `count` frames; random ones, at `speed`, for training."""
        if self.sampling == "dense":
            window = max(self.frames, round(WINDOW * speed))
            return dense(count, self.frames, rng, self.clips, window)
        if self.fps is not None:
            return steady(count, self.frames, rng, (video_fps or self.fps) * speed, self.fps)
        if rng is None:
            return uniform(count, self.frames, clips=self.clips)
        part = max(min(count, self.frames), round(count * min(1.0, speed)))  # slower: a part of the video
        return rng.integers(count - part + 1) + uniform(part, self.frames, rng)


@dataclass(frozen=True)
class Clip:
    """One video's pictures, [T, 3, H, W] or [V, T, 3, H, W] uint8, or None and the fault; its label; its number."""

    pictures: Tensor | None
    label: int
    index: int
    fault: str = ""
    damage: str = ""


def _tensor(pictures: Image) -> Tensor:
    """[..., H, W, 3] -> [..., 3, H, W]."""
    return torch.from_numpy(np.moveaxis(pictures, -1, -3).copy())


class TrainClips(Dataset[Clip]):
    """Clips [T, 3, size, size] for training, by epoch and number of the video: the same key gives the same clip."""

    def __init__(self, videos: VideoSet, view: View, augment: Augment, seed: int = 0) -> None:
        self.videos, self.view, self.augment, self.seed = videos, view, augment, seed
        self.shape: tuple[int, ...] = (view.frames, 3, view.size, view.size)

    def __len__(self) -> int:
        return len(self.videos.videos)

    def __getitem__(self, key: Key) -> Clip:
        epoch, index = key
        video = self.videos.videos[index]
        rng = np.random.default_rng((self.seed, epoch, index))
        speed = self.augment.draw_speed(rng)
        try:
            pictures, damage = read_pictures(video, partial(self.view.indices, rng=rng, speed=speed), self._shrink)
        except UnreadableError as error:
            return Clip(None, video.label, index, fault=str(error))
        clip, label = cut.multi_scale_crop(pictures[0], self.view.size, self.augment.scales, rng), video.label
        mirrored = self.videos.mirrored[label]
        if self.augment.flip and mirrored is not None and rng.random() < 0.5:
            clip, label = np.ascontiguousarray(clip[:, :, ::-1]), mirrored
        return Clip(_tensor(cut.distort(clip, self.augment, rng)), label, index, damage=damage)

    def _shrink(self, picture: Image) -> Image:
        """What a crop is cut from: not much larger than needed, or 4K videos would fill the memory."""
        if self.view.resize is not None:
            return cut.resized(picture, *self.view.resize)
        return cut.scaled(picture, 2 * self.view.size) if min(picture.shape[:2]) > 2 * self.view.size else picture


class TestClips(Dataset[Clip]):
    """All views of a video, [clips * crops, T, 3, H, W], by (any epoch, number of the video)."""

    __test__ = False  # its name is not that of a pytest class

    def __init__(self, videos: VideoSet, view: View) -> None:
        self.videos, self.view = videos, view
        views = view.clips * (view.crops if view.crops != "full" else 1)
        sides = (view.live.height, view.live.width) if view.live else (view.size, view.size)
        self.shape: tuple[int, ...] = (views, view.frames, 3, *sides)

    def __len__(self) -> int:
        return len(self.videos.videos)

    def __getitem__(self, key: Key) -> Clip:
        _, index = key
        video, live = self.videos.videos[index], self.view.live
        try:
            if live and video.path.is_file():
                pictures, damage = watched(video.path, live)
                pictures = pictures[None]
            else:
                pictures, damage = read_pictures(video, self.view.indices, self._shrink)  # [clips, T, H, W, 3]
        except UnreadableError as error:
            return Clip(None, video.label, index, fault=str(error))
        if self.view.crops == 1 and not live:
            pictures = cut.centre(pictures, self.view.size)
        elif self.view.crops == 3:
            pictures = np.concatenate(cut.three_crops(pictures, self.view.size))
        return Clip(_tensor(pictures), video.label, index, damage=damage)

    def _shrink(self, picture: Image) -> Image:
        if live := self.view.live:
            return fit(picture, live.height, live.width, live.fit)
        if self.view.resize is not None:
            picture = cut.resized(picture, *self.view.resize)
        return cut.scaled(picture, self.view.shorter)


def _collate(items: list[Clip], shape: tuple[int, ...]) -> Batch:
    """`shape` is a clip's, for a batch without any."""
    good = [item for item in items if item.pictures is not None]
    clips = [item.pictures for item in good if item.pictures is not None]
    return Batch(
        torch.stack(clips) if clips else torch.empty((0, *shape), dtype=torch.uint8),
        torch.tensor([item.label for item in good], dtype=torch.int64),
        torch.tensor([item.index for item in good], dtype=torch.int64),
        tuple(item.fault for item in items if item.fault),
        tuple(item.damage for item in items if item.damage),
    )


class _Batches(Sampler[list[Key]]):
    """The keys of each batch from batch `start` of epoch `epoch` on, up to the epoch `until`; one process's share."""

    def __init__(
        self, clips: TrainClips | TestClips, batch: int, epoch: int, start: int, until: int, rank: int, world: int
    ) -> None:
        self.clips, self.batch, self.epoch, self.start, self.until = clips, batch, epoch, start, until
        self.rank, self.world = rank, world
        self.each = batches_per_epoch(clips, batch, world)

    def __len__(self) -> int:
        return max(0, (self.until - self.epoch) * self.each - self.start)

    def __iter__(self) -> Iterator[list[Key]]:
        whole = self.batch * self.world
        for epoch in range(self.epoch, self.until):
            order = np.arange(len(self.clips))
            if isinstance(self.clips, TrainClips):
                np.random.default_rng((self.clips.seed, epoch)).shuffle(order)
            for number in range(self.start if epoch == self.epoch else 0, self.each):
                share = order[number * whole : (number + 1) * whole][self.rank :: self.world]
                yield [(epoch, index) for index in share.tolist()]


def batches_per_epoch(clips: TrainClips | TestClips, batch: int, world: int = 1) -> int:
    """Training leaves out the videos that do not fill a batch, others each epoch. Raises ToolError where all are."""
    whole = batch * world
    if isinstance(clips, TestClips):
        return -(-len(clips) // whole)
    if len(clips) < whole:
        raise ToolError(f"a batch of {whole} clips is more than the {len(clips)} for training; take a smaller batch")
    return len(clips) // whole


def begin_worker(_worker: int) -> None:
    """How a process that decodes or draws clips begins."""
    cv2.setNumThreads(0)  # the workers are the threads
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one to the whole group is for the run, which ends them


def loader(
    clips: TrainClips | TestClips,
    batch: int,
    workers: int = 0,
    epoch: int = 0,
    start: int = 0,
    until: int | None = None,
    rank: int = 0,
    world: int = 1,
) -> DataLoader[Clip]:
    """Gives `Batch`es: of a training epoch in its own random order, or of a test in order.

    batch    clips in a batch of this process
    workers  processes that decode; 0: this one
    start    the batch of the epoch to begin with: a resumed run gets the rest
    until    the epoch to end before, so that workers live through several; None: only this one
    rank     the number of this process among `world`, which share each epoch's videos

    Raises ToolError where the batch does not fit.
    """
    if isinstance(clips, TestClips) and batch > 1 and (clips.view.crops == "full" or clips.view.sampling == "steady"):
        raise ToolError("the views of whole pictures or whole videos differ in size: take batches of 1")
    batches = _Batches(clips, batch, epoch, start, epoch + 1 if until is None else until, rank, world)
    return DataLoader(
        clips,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=partial(_collate, shape=clips.shape),
        worker_init_fn=begin_worker,
        pin_memory=torch.cuda.is_available(),
    )
