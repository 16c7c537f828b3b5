"""Where training gets its clips: drawn on the fly, or cut from the videos of a data set."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, product

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from engines.networks import Network
from engines.training.feed import IGNORE, Batch, Feed, normalise
from tools.data.clips import TestClips, TrainClips, View, batches_per_epoch, begin_worker, loader
from tools.data.datasets import read_dataset
from tools.errors import ToolError
from tools.evaluate.metrics import confusion_matrix, in_top
from tools.motion.clips import motion_clips
from tools.motion.paths import LABELS
from tools.train.recipe import Data, Part, Recipe

LOGGER = logging.getLogger(__name__)


# ------------------------------------------------------------------------------------------------ synthetic motion


@dataclass(frozen=True)
class MotionReport:
    """Held-out results. `confusion` [K, K] counts frames: true label by row, given label by column.

    accuracy       over `frames` labelled frames from the T-th of a clip on: what a running stream gives
    clip_accuracy  at the last frame of `clips` clips of one motion
    """

    accuracy: float
    frames: int
    clip_accuracy: float
    clips: int
    confusion: Tensor

    def __str__(self) -> str:
        """Two figures and the confusion matrix in percent of each true label."""
        lines = [f"frames {self.accuracy:.1%} of {self.frames}, clips {self.clip_accuracy:.1%} of {self.clips}"]
        shares = 100 * self.confusion / self.confusion.sum(1, keepdim=True).clamp(min=1)
        for label, row in zip(LABELS, shares.tolist(), strict=True):
            lines.append(f"{label:>24} " + " ".join(f"{share:5.1f}" for share in row))
        return "\n".join(lines)


def _scores(net: Network, clips: Tensor) -> Tensor:
    """uint8 clips [B, T, 3, H, W] -> logits [B, T, K]. Raises ToolError where these are no numbers."""
    logits = net.frame_logits(normalise(clips.to(next(net.parameters()).device))).cpu()
    if not logits.isfinite().all():
        raise ToolError("the network's answers to held-out clips are no numbers; take a smaller learning_rate")
    return logits


class _Drawn(Dataset[Batch]):
    """One process's share of the batch of each step of a run."""

    def __init__(self, recipe: Recipe, part: Part, share: int, rank: int) -> None:
        self.recipe, self.part, self.share, self.rank = recipe, part, share, rank

    def __getitem__(self, step: int) -> Batch:
        part = self.part
        seed = (self.recipe.seed, 0, step, self.rank)
        clips, labels = motion_clips(
            self.share, part.clip_frames, part.size, seed, self.recipe.fps, motions=part.motions, whole=part.whole
        )
        if part.clip_frames == self.recipe.frames:
            labels = labels[:, -1]
        return Batch(clips, labels, torch.arange(self.share), (), ())


class Motions:
    """Synthetic motion. Clips of T frames have one label, their last frame's; in longer ones each frame has its own."""

    labels = LABELS

    def __init__(self, recipe: Recipe, world: int) -> None:
        self.recipe, self.world = recipe, world

    def steps(self, number: int) -> int:
        """What the recipe says: there are no epochs."""
        steps = self.recipe.parts[number].steps
        assert steps is not None
        return steps

    def batches(self, number: int, begin: int, before: int, rank: int) -> Iterator[Batch]:
        """Clips by the number of the step in the run: no other has the same."""
        part = self.recipe.parts[number]
        drawn = _Drawn(self.recipe, part, part.batch // self.world, rank)
        steps = range(before + begin, before + self.steps(number))
        workers = self.recipe.workers
        yield from DataLoader(drawn, batch_size=None, sampler=steps, num_workers=workers, worker_init_fn=begin_worker)

    @torch.no_grad()
    def held_out(self, net: Network, *, last: bool) -> MotionReport:
        """Half clips of one motion, half of up to three (where a clip has one label: all of one), all labels alike."""
        net.eval()
        recipe, part, classes = self.recipe, self.recipe.parts[-1], len(LABELS)
        whole_clip = part.clip_frames == recipe.frames
        confusion = torch.zeros(classes, classes, dtype=torch.int64)
        right = asked = 0
        rounds = math.ceil((recipe.held_out_at_end if last else recipe.held_out) / (4 * 2 * classes))
        for index, most, only in product(range(rounds), (1, 3), range(classes)):
            motions = 1 if whole_clip else most
            seed = (recipe.seed, 1, index, most, only)
            clips, labels = motion_clips(4, part.clip_frames, recipe.size, seed, recipe.fps, motions=motions, only=only)
            logits = _scores(net, clips)
            given = (logits.mean(1, keepdim=True) if whole_clip else logits[:, recipe.frames - 1 :]).argmax(2)
            labels = labels[:, -given.shape[1] :]
            known = labels != IGNORE
            confusion += torch.from_numpy(confusion_matrix(labels[known].numpy(), given[known].numpy(), classes))
            if motions == 1:
                known = labels[:, -1] != IGNORE
                right += int((given[:, -1] == labels[:, -1])[known].sum())
                asked += int(known.sum())
        counted = int(confusion.sum())
        return MotionReport(int(confusion.trace()) / max(1, counted), counted, right / max(1, asked), asked, confusion)


# ------------------------------------------------------------------------------------------------ videos of a set


@dataclass(frozen=True)
class VideoReport:
    """Held-out results: top-1 (`accuracy`) and top-5 over `videos`; one sentence for each that could not be used."""

    accuracy: float
    top5: float
    videos: int
    faults: tuple[str, ...]

    def __str__(self) -> str:
        """One line, and one more for each fault."""
        line = f"top-1 {self.accuracy:.1%}, top-5 {self.top5:.1%} of {self.videos} videos"
        return "\n".join([line, *(f"left out: {fault}" for fault in self.faults)])


class Videos:
    """A data set. Clips of T frames have one label; longer ones one at each frame from the T-th on, as in a stream."""

    def __init__(self, recipe: Recipe, data: Data, world: int) -> None:
        if data.root is None:
            raise ToolError("where is the data set? give --data FOLDER, or data.root in the recipe")
        self.recipe, self.data, self.world = recipe, data, world
        videos = read_dataset(data.layout, data.root, data.train, data.annotations)
        self.test = videos
        if data.layout == "folders" and len(videos.videos) == len(videos.labels) and not (data.root / "train").is_dir():
            LOGGER.warning("one clip a label, so that none is held out: figures are of the clips of the training")
        else:
            self.test = read_dataset(data.layout, data.root, data.held_out, data.annotations).in_order(videos.labels)
        self.labels = videos.labels
        if missing := videos.missing + self.test.missing:
            LOGGER.warning("%d videos of the data set are missing, among them %s", len(missing), missing[0])
        self.videos = replace(videos, videos=videos.videos * data.repeats)

    def steps(self, number: int) -> int:
        """As many as the epochs have, or the recipe says."""
        part = self.recipe.parts[number]
        return part.steps or part.epochs * self._each(part)  # type: ignore[operator]

    def batches(self, number: int, begin: int, before: int, rank: int) -> Iterator[Batch]:
        """Clips by epoch and number of the video; each part draws others."""
        part, steps = self.recipe.parts[number], self.steps(number)
        epoch, start = divmod(begin, self._each(part))
        batches = loader(
            self._clips(part, before), part.batch // self.world, self.data.workers,
            epoch, start, until=-(-steps // self._each(part)), rank=rank, world=self.world,
        )  # fmt: skip
        for batch in islice(batches, steps - begin):
            yield batch._replace(labels=self._each_frame(batch.labels, part))

    @torch.no_grad()
    def held_out(self, net: Network, *, last: bool) -> VideoReport:  # noqa: ARG002
        """One centre clip of each video; with steady sampling all of it, which the clip form sees in parts of T."""
        net.eval()
        frames, steady = self.recipe.frames, self.data.sampling == "steady"
        view = self._view(self.recipe.parts[-1], self.recipe.size)
        right = top5 = asked = 0
        faults: list[str] = []
        for batch in loader(TestClips(self.test, view), 1 if steady else 8, self.data.workers):
            faults += batch.faults
            count = len(batch.labels)
            if not count:
                continue
            clips = batch.clips[:, 0]  # [B, T', 3, H, W]
            if not self.recipe.causal:
                parts = clips.shape[1] // frames
                clips = clips[:, : parts * frames].unflatten(1, (parts, frames)).flatten(0, 1)
            logits = _scores(net, clips).unflatten(0, (count, -1)).flatten(1, 2)  # [B, T', K]
            if steady and self.recipe.causal:
                logits = logits[:, frames - 1 :]
            scores, labels = logits.mean(1).numpy(), batch.labels.numpy()
            right, top5 = (so_far + int(in_top(scores, labels, k).sum()) for so_far, k in ((right, 1), (top5, 5)))
            asked += count
        if asked == 0:
            raise ToolError(f"none of the {len(self.test.videos)} held-out videos can be used: {faults[0]}")
        return VideoReport(right / asked, top5 / asked, asked, tuple(faults))

    def _each(self, part: Part) -> int:
        return batches_per_epoch(self._clips(part, 0), part.batch // self.world, self.world)

    def _clips(self, part: Part, before: int) -> TrainClips:
        return TrainClips(self.videos, self._view(part, part.size), self.data.augment, self.recipe.seed + before)

    def _view(self, part: Part, size: int) -> View:
        """How clips are cut for pictures of a size; a stretched picture is seen whole."""
        data, stretched = self.data, self.recipe.fit == "stretch"
        return View(
            data.sampling,
            part.clip_frames,
            size,
            self.recipe.fps if data.sampling == "steady" else None,
            (size, size) if stretched else data.resize,
            short_side=size if stretched else None,
        )

    def _each_frame(self, labels: Tensor, part: Part) -> Tensor:
        if part.clip_frames == self.recipe.frames:
            return labels
        asked = labels[:, None].repeat(1, part.clip_frames)
        asked[:, : self.recipe.frames - 1] = IGNORE
        return asked


def open_feed(recipe: Recipe, world: int) -> Feed:
    """The feed that a recipe asks for. Raises ToolError for a data set that cannot be used."""
    return Motions(recipe, world) if recipe.data is None else Videos(recipe, recipe.data, world)
