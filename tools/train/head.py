"""Train the last layer alone: what it reads is computed once, and then it is solved for, in seconds.

    python -m tools.train.head --data clips --init efficientnet-lite0-57934424.pth --out runs/mine

The network is TSN with motion pooling on the light backbone whose ImageNet file is given; nothing but the last
layer is new. --data is a folder of clips for each label (or LAYOUT:FOLDER, see tools/data/datasets.py, with --split).
The weight decay is the one that does best on a fifth of the clips, chosen by the video that they were cut from. In the
output folder: the model, called as the folder, as from `python -m tools.train`.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engines.build.model import build_model
from engines.errors import EngineError
from engines.networks import Network
from engines.spec import NAME, EngineSpec
from engines.training.augment import Augment
from engines.training.head import Layer, Look, Vectors, at_moments, choose, imagenet, joined, layer_of, vectors_of
from engines.training.loop import keep_memory
from engines.training.progress import writing
from tools.data.clips import Clip, TestClips, TrainClips, View
from tools.data.datasets import VideoSet, read_dataset
from tools.errors import ToolError
from tools.train.folds import fold_of, source_of

NOTHING = "nothing"
AUGMENT = Augment(colour=0.3, speed=0.2, rotation=6, grey=0.1, blur=0.1)


def whole(videos: VideoSet, look: Look) -> Callable[[int], Clip]:
    """The clips of a set as a stream shows them: whole in space and time; by number."""
    side = (look.size, look.size)
    clips = TestClips(videos, View("steady", look.frames, look.size, look.rate_hz, side, short_side=look.size))

    def get(index: int) -> Clip:
        clip = clips[0, index]
        return clip if clip.pictures is None else replace(clip, pictures=clip.pictures[0])

    return get


def varied(videos: VideoSet, look: Look, frames: int, seed: int) -> Callable[[int], Clip]:
    """The clips of a set cut and distorted at random, `frames` of each; by number."""
    side = round(look.size * 7 / 6)
    view = View("steady", frames, look.size, look.rate_hz, (side, side))
    clips = TrainClips(videos, view, AUGMENT, seed)
    return lambda index: clips[0, index]


def nothing(videos: VideoSet, look: Look, seed: int) -> Callable[[int], Clip]:
    """Clips in which nobody acts, by number: of a clip one frame, in turn held still with a camera's noise, panned over
    as by a camera that moves, and held until the picture changes to one of the next clip. Their label is the one after
    the last.
    """
    frame = whole(videos, replace(look, size=look.size * 5 // 4))

    def held(index: int, kind: int, rng: np.random.Generator) -> Tensor | None:
        """uint8 [T + 2, 3, size, size]."""
        pictures = frame(index).pictures
        if pictures is None:
            return None
        picture = pictures[rng.integers(len(pictures))]
        room, count = picture.shape[-1] - look.size, look.frames + 2
        start = rng.integers(room + 1, size=2)
        end = rng.integers(room + 1, size=2) if kind == 1 else start
        places = np.rint(np.linspace(start, end, count)).astype(int)
        return torch.stack([picture[:, y : y + look.size, x : x + look.size] for y, x in places])

    def get(index: int) -> Clip:
        rng, kind = np.random.default_rng((seed, index)), index % 3
        pictures = held(index, kind, rng)
        if pictures is None:
            return frame(index)
        after = held((index + 1) % len(videos.videos), 0, rng) if kind == 2 else None
        if after is not None:
            change = rng.integers(1, len(pictures))
            pictures = torch.cat([pictures[:change], after[change:]])
        noise = torch.from_numpy(rng.uniform(0, 4) * rng.standard_normal(pictures.shape, np.float32))
        pictures = (pictures.float() + noise).round().clamp(0, 255).to(torch.uint8)
        return Clip(pictures, len(videos.labels), index)

    return get


def between_rests(clips: Callable[[int], Clip], look: Look) -> Callable[[int], Clip]:
    """The clips, each with its first frame held still before it, for T - 1 frames, and its last one after it."""

    def get(index: int) -> Clip:
        clip = clips(index)
        if clip.pictures is None:
            return clip
        before, after = (clip.pictures[place].expand(look.frames - 1, -1, -1, -1) for place in (0, -1))
        return replace(clip, pictures=torch.cat([before, clip.pictures, after]))

    return get


def read_between_rests(net: Network, videos: VideoSet, look: Look) -> Vectors:
    """As a stream shows them: of each clip, held still before and after it, the moments of its label; and as further
    clips of the label after the last, nothing, what is left at three quarters of T after its end, and near T.
    """
    rest, count = look.frames - 1, len(videos.videos)

    def pick(vectors: Tensor) -> Tensor:
        ends = [-1 - rest + look.frames * 3 // 4, -1]
        return torch.cat([at_moments(vectors[rest:-rest]), vectors[ends]])

    found = read_vectors(net, between_rests(whole(videos, look), look), count, pick)
    after = torch.where(found.labels < 0, -1, len(videos.labels))
    learned = at_moments(torch.zeros(1, 1)).shape[0]
    acting, rests = (replace(found, values=part) for part in found.values.tensor_split([learned], 1))
    return joined(acting, replace(rests, labels=after, faults=()))


def read_vectors(
    net: Network, clips: Callable[[int], Clip], count: int, pick: Callable[[Tensor], Tensor] = at_moments
) -> Vectors:
    """The vectors of `count` clips. Raises ToolError where none can be read."""
    found: list[Tensor] = []
    labels, faults = [], []
    for index in range(count):
        clip = clips(index)
        if clip.pictures is None:
            faults.append(clip.fault)
            found.append(torch.empty(0))
        else:
            found.append(pick(vectors_of(net, clip.pictures)))
        labels.append(clip.label if clip.pictures is not None else -1)
    good = [values for values in found if len(values)]
    if not good:
        raise ToolError(
            f"none of the {count} videos can be used; the first: {faults[0] if faults else 'there is none'}"
        )
    nothing = torch.zeros_like(good[0])
    values = torch.stack([values if len(values) else nothing for values in found])
    return Vectors(values, torch.tensor(labels), tuple(faults), net.emphasis)


def check_labels(videos: VideoSet, what: str) -> None:
    """Raises ToolError where a label has a single clip, so that none could be held out."""
    counts = Counter(video.label for video in videos.videos)
    single = [repr(label) for number, label in enumerate(videos.labels) if counts[number] < 2]
    if single:
        raise ToolError(
            f"{what}: a label needs 2 clips or more, not one as {', '.join(single)}: add some, or leave it out"
        )


def read_views(
    net: Network, videos: VideoSet, look: Look, views: int, seed: int, say: Callable[[str], None]
) -> Iterator[Vectors]:
    """The whole clips first, then `views` times varied ones."""
    for number in range(views + 1):
        started = time.monotonic()
        clips = whole(videos, look) if number == 0 else varied(videos, look, look.frames + 2, seed * 1000 + number)
        yield read_vectors(net, clips, len(videos.videos))
        say(f"view {number} of {views}: {len(videos.videos)} clips in {time.monotonic() - started:.0f} s")


def model_of(net: Network, layer: Layer, labels: Sequence[str], look: Look, out: Path) -> EngineSpec:
    """Put the layer into the network and write the model's files into a folder, called as it; weights in half, and
    `nothing` among the labels as background. Raises ToolError.
    """
    with torch.no_grad():
        net.fc.weight.copy_(layer.weight)
        net.fc.bias.copy_(layer.bias)
    spec = EngineSpec(
        name=out.resolve().name, labels=tuple(labels), height=look.size, width=look.size, rate_hz=look.rate_hz,
        frames=look.frames, mode="stream", fit="stretch", network="tsn", backbone=net.backbone, channel_width=1.0,
        options={"pooling": "motion"}, states=(), files={},
        events={"background": (NOTHING,)} if NOTHING in labels else {},
    )  # fmt: skip
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        return build_model(net, spec, out, half=True)


def train(options: argparse.Namespace, say: Callable[[str], None] = print) -> EngineSpec:
    """What the command line asks for. Raises ToolError and EngineError."""
    layout, _, folder = options.data.rpartition(":")
    out: Path = options.out
    if not re.fullmatch(NAME, out.resolve().name):
        raise ToolError(f"--out {out}: the model is called as the folder; take letters, digits, - and _")
    if out.exists() and any(out.iterdir()):
        raise ToolError(f"{out} is not empty: give another --out, or remove it")
    videos = read_dataset(layout or "folders", Path(folder), options.split)
    check_labels(videos, folder)
    labels = videos.labels + ((NOTHING,) if options.nothing else ())
    if options.nothing and NOTHING in videos.labels:
        raise ToolError(f"{folder} has clips of {NOTHING!r}: leave out --nothing, which would make some")
    classes, look = len(labels), Look(options.rate, options.size, options.frames)
    torch.manual_seed(options.seed)
    net = imagenet(options.init, classes, look.frames, pooling="motion")
    views = list(read_views(net, videos, look, options.views, options.seed, say))
    sources = [source_of(video.path) for video in videos.videos]
    if options.nothing:
        count = min(options.nothing, len(videos.videos))
        order = np.random.default_rng(options.seed).permutation(len(videos.videos))[:count].tolist()
        made = nothing(videos, look, options.seed)
        empty = read_vectors(net, lambda index: made(order[index]), count)
        say(f"{NOTHING}: {count} clips of frames that are held still, panned over, or change")
        rests = read_between_rests(net, videos, look)
        say(f"{NOTHING}: after each of the {len(videos.videos)} clips, which are held still before and after")
        views = [joined(joined(view, empty), rests) for view in views]
        sources += [sources[index] for index in order] + 2 * sources
    for fault in sorted({fault for view in views for fault in view.faults}):
        say(f"left out: {fault}")
    rows = torch.arange(len(sources))
    held = torch.tensor([fold_of(source) == 0 for source in sources])
    choice = choose(views, rows, held, classes)
    decay, sharpness = options.decay or choice.decay, options.sharpness or choice.sharpness
    said = f"top-1 {choice.accuracy:.1%} of {int(held.sum())} held-out clips of other videos"
    none = "too few videos to hold some out"
    say(f"weight decay {choice.decay:g}, logits times {choice.sharpness:.2g}: {said if held.any() else none}")
    if (decay, sharpness) != (choice.decay, choice.sharpness):
        say(f"taken, as asked for: weight decay {decay:g}, logits times {sharpness:.2g}")
    layer = layer_of(views, rows, classes, decay)
    layer = Layer(sharpness * layer.weight, sharpness * layer.bias)
    spec = model_of(net, layer, labels, look, out)
    say(f"wrote {out / spec.name}.onnx, {spec.version}: try `streamer run --model {out / spec.name}.onnx`")
    return spec


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.train.head", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, metavar="[LAYOUT:]FOLDER", help="clips by label")
    parser.add_argument("--split", default="train", help="of the data set (default: train)")
    parser.add_argument("--init", required=True, metavar="FILE", help="ImageNet weights of a light backbone")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for the model, called as it")
    parser.add_argument("--views", type=int, default=0, help="varied looks at each clip, too (default: none)")
    parser.add_argument(
        "--nothing", type=int, default=0, metavar="N",
        help="make N clips of a further label `nothing`: frames of the clips, held still, panned over, or changing",
    )  # fmt: skip
    for name, what in (("--decay", "weight decay"), ("--sharpness", "factor of the logits")):
        parser.add_argument(
            name, type=float,
            help=f"{what}; default: what held-out clips say, which they cannot of --init weights that have seen them",
        )  # fmt: skip
    parser.add_argument("--rate", type=float, default=Look.rate_hz, help="frames a second")
    parser.add_argument("--size", type=int, default=Look.size, help="pixels")
    parser.add_argument("--frames", type=int, default=Look.frames, help="T, the frames that statistics are of")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if (
        options.views < 0
        or options.nothing < 0
        or options.frames < 2
        or options.size < 32
        or not 0 < options.rate <= 240
    ):
        parser.error(
            "--views and --nothing are 0 or more, --frames 2 or more, --size 32 or more, --rate above 0 and at most 240"
        )
    if any(value is not None and not value > 0 for value in (options.decay, options.sharpness)):
        parser.error("--decay and --sharpness are above 0")
    keep_memory()
    try:
        train(options)
    except EngineError as error:
        print(f"head: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
