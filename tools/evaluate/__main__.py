"""Measure models.

    python -m tools.evaluate clips MODEL... --data something-v2:/data/sthv2 --protocol 2x3
    python -m tools.evaluate stream default --minutes 5
    python -m tools.evaluate synthetic default --confusion docs/pictures/confusion.png

`clips` asks for the label of each video of a data set: as a stream at the model's own rate or, with --protocol, in the
papers' way, some clips and crops of each, one score. Several models are an ensemble. `stream` is what users get:
minutes of video through the live pipeline, events against what really happens, and how soon. `synthetic` asks for the
label of drawn clips, frame by frame.

A MODEL is a shipped name or a file: NAME.onnx, NAME.pt (in torch), also the weights.pt of a running training.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines import BACKENDS, Engine, EngineError, EngineSpec, load_engine
from engines.spec import IDLE
from engines.training.feed import Batch
from streamer.config import Config
from streamer.errors import StreamerError
from streamer.settings import load_settings
from tools.data.clips import TestClips, View, loader
from tools.data.datasets import LAYOUTS, VideoSet, read_dataset
from tools.errors import ToolError
from tools.evaluate.figures import write_confusion
from tools.evaluate.metrics import Counts, accuracy, class_accuracies, confusion_matrix, in_top
from tools.evaluate.scoring import measure_drawn, score_clips
from tools.evaluate.streaming import Scenes, measure_stream, open_recording
from tools.motion.paths import LABELS, STILL
from tools.results import check_result, write_result

Protocol = tuple[int, Literal[1, 3, "full"], Literal["uniform", "dense", "steady"]]
PROTOCOLS: dict[str, Protocol] = {  # clips of a video, crops of a clip, how its frames are chosen
    "live": (1, 1, "steady"),
    "1x1": (1, 1, "uniform"),
    "2x3": (2, 3, "uniform"),
    "10x3": (10, 3, "dense"),
    "full": (1, "full", "uniform"),
}
TELL_EVERY = 500  # videos


# ------------------------------------------------------------------------------------------------ videos of a set


@dataclass
class ClipReport:
    """Scores of all videos that could be read: `scores` [N, K], `labels` [N]. Of the others, why not; and of those
    that are damaged, how.
    """

    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    faults: list[str]
    damaged: list[str]

    @property
    def confusion(self) -> Counts:
        """True label by row, given label by column."""
        return confusion_matrix(self.labels, self.scores.argmax(1), self.scores.shape[1])

    def top(self, k: int) -> float:
        """The share of videos whose label is among the k best."""
        return float(in_top(self.scores, self.labels, k).mean())


def view_of(spec: EngineSpec, options: argparse.Namespace) -> View:
    """How a model sees a video in a protocol.

    Three crops side by side cover the picture, as in the papers' tests; one crop leaves out a rim. A model that was
    trained on stretched pictures gets them stretched, where the protocol has one crop. With steady sampling it sees
    what it would in a run, unless another size is asked for.
    """
    clips, crops, sampling = PROTOCOLS[options.protocol]
    sampling = options.sampling or sampling
    if sampling == "steady" and crops == 1 and not options.size and not options.resize:
        return View(sampling, spec.frames, spec.height, spec.rate_hz, live=spec)
    size = options.size or spec.height
    resize = options.resize or ((size, size) if spec.fit == "stretch" and crops == 1 else None)
    return View(
        sampling=sampling,
        frames=spec.frames,
        size=size,
        fps=spec.rate_hz if sampling == "steady" else None,
        resize=resize,
        clips=1 if sampling == "steady" else clips,
        crops=crops,
        short_side=min(resize) if resize else size if crops == 3 else None,
    )


def score_videos(
    engines: Sequence[Engine], weights: Sequence[float], videos: VideoSet, views: Sequence[View], workers: int
) -> ClipReport:
    """Sum of the models' scores, each times its weight; a model's score of a video is the mean of its views' logits.

    Videos that a model cannot read are left out for all. Raises ToolError when none is left.
    """
    loaders = [loader(TestClips(videos, view), batch=1, workers=workers) for view in views]
    faults = [f"{path}: does not exist" for path in videos.missing]
    damaged: dict[str, None] = {}  # a set in order: an ensemble meets a video more than once
    scores, labels = [], []
    batches: Iterator[tuple[Batch, ...]] = zip(*loaders, strict=True)
    for number, views_of_video in enumerate(batches, 1):
        damaged |= dict.fromkeys(damage for batch in views_of_video for damage in batch.damaged)
        if unread := [batch.faults[0] for batch in views_of_video if batch.faults]:
            faults.append(unread[0])
            continue
        parts = [score_clips(engine, batch.clips[0]) for engine, batch in zip(engines, views_of_video, strict=True)]
        means = [part.astype(np.float64).mean(0) for part in parts]
        scores.append(sum(weight * mean for weight, mean in zip(weights, means, strict=True)))
        labels.append(int(views_of_video[0].labels[0]))
        if number % TELL_EVERY == 0:
            right = np.mean(np.argmax(scores, 1) == labels)
            print(f"{number} of {len(videos.videos)} videos, top-1 {right:.2%} so far", file=sys.stderr, flush=True)
    if not scores:
        raise ToolError(f"none of the {len(faults)} videos can be read; the first: {faults[0]}")
    return ClipReport(np.array(scores), np.array(labels), faults, list(damaged))


def clips_command(options: argparse.Namespace) -> None:
    """`clips`: top-1 and top-5 of one model, or of an ensemble."""
    engines = [load_engine(model, options.backend) for model in options.model]
    weights = options.weights or [1.0] * len(engines)
    if len(weights) != len(engines):
        raise ToolError(f"--weights: there are {len(weights)} for {len(engines)} models; give one for each")
    labels = engines[0].spec.labels
    for engine in engines[1:]:
        for number, (ours, theirs) in enumerate(zip_longest(labels, engine.spec.labels)):
            if ours != theirs:
                raise ToolError(
                    f"these models cannot be an ensemble: label {number} is {ours!r} in {engines[0].spec.name} and "
                    f"{theirs!r} in {engine.spec.name}; their labels must be the same, in the same order"
                )
    layout, root = options.data
    videos = read_dataset(layout, root, options.split, options.annotations).in_order(labels, spare=IDLE)
    views = [view_of(engine.spec, options) for engine in engines]
    report = score_videos(engines, weights, videos, views, options.workers)
    count, unread = len(report.labels), len(report.faults)
    for label, share, row in zip(labels, class_accuracies(report.confusion), report.confusion, strict=True):
        if row.any():
            print(f"{share:7.1%} of {row.sum():<5} {label}")
    rates = " and ".join(dict.fromkeys(f"{view.fps:g}" for view in views if view.fps is not None))
    asked = f"as a stream at {rates} frames a second, as the model's sidecar tells" if rates else views[0].sampling
    print(f"{layout} {options.split}, {options.protocol}, {asked}: {count} videos")
    print(f"top-1 {report.top(1):.2%}, top-5 {report.top(5):.2%}")
    for title, lines in (("left out, because they cannot be read", report.faults), ("damaged", report.damaged)):
        if lines:
            print(f"{len(lines)} of {count + unread} videos are {title}:", *lines, sep="\n  ")
    figures = {
        "data": layout,
        "split": options.split,
        "protocol": options.protocol,
        "sampling": views[0].sampling,
        "weights": weights,
        "videos": count,
        "top1": report.top(1),
        "top5": report.top(5),
        "left_out": report.faults,
        "damaged": report.damaged,
    }
    write_results(options, engines, report.confusion, labels, "videos", figures)


# ---------------------------------------------------------------------------------------------- streams and clips


def stream_command(options: argparse.Namespace) -> None:
    """`stream`: events, their delays and accuracy since onset, of drawn scenes or of recordings."""
    engine = load_engine(options.model, options.backend)
    spec = engine.spec
    config = load_settings(options.config, {}, options.set).config
    if options.video:
        recordings = [open_recording(video, spec.labels) for video in options.video]
    else:
        scenes = Scenes(spec, options.minutes, options.seed, options.fps)
        recordings = [(scenes, scenes.truth)]
        config = with_background(config, spec)
    report = measure_stream(engine, config, recordings)
    print("answers by the time since what happens began:", *report.ages.lines(), sep="\n  ")
    print("events:", f"  {'hits':>6} {'missed':>6} {'false':>6} {'F1':>6} {'median':>7}", sep="\n")
    for label in spec.labels:
        found = report.matching.of(label)
        counts = [len(part) for part in (found.hits, found.missed, found.false)]
        if any(counts):
            delay = f"{found.delay_s(50):5.2f} s" if found.hits else "      -"
            print("  {:6} {:6} {:6}".format(*counts), f"{found.f1:6.3f} {delay}  {label}")
    found = report.matching
    print(f"{report.minutes:.1f} minutes, {report.ages.accuracy:.1%} of {report.ages.asked.sum()} answers are right")
    print(f"events: F1 {found.f1:.3f}, precision {found.precision:.3f}, recall {found.recall:.3f}")
    print(f"time to detect: median {found.delay_s(50):.2f} s, p90 {found.delay_s(90):.2f} s")
    print(f"false events: {report.false_per_minute:.2f} a minute")
    figures = {
        "minutes": report.minutes,
        "frame_accuracy": report.ages.accuracy,
        "f1": found.f1,
        "precision": found.precision,
        "recall": found.recall,
        "median_delay_s": found.delay_s(50),
        "p90_delay_s": found.delay_s(90),
        "false_per_minute": report.false_per_minute,
    }
    write_results(options, [engine], report.confusion, spec.labels, "answers", figures)


def with_background(config: Config, spec: EngineSpec) -> Config:
    """In drawn scenes stillness is no event, unless the configuration or the model says what is none."""
    if "background" in config.events.model_fields_set or "background" in spec.events:
        return config
    events = config.events.model_copy(update={"background": (LABELS[STILL],)})
    return config.model_copy(update={"events": events})


def synthetic_command(options: argparse.Namespace) -> None:
    """`synthetic`: accuracy on drawn clips that training never sees."""
    engine = load_engine(options.model, options.backend)
    of_frames, of_clips = measure_drawn(engine, options.clips, options.seed)
    labels = engine.spec.labels
    for label, share, row in zip(labels, class_accuracies(of_frames), of_frames, strict=True):
        print(f"{share:7.1%} of {row.sum():<6} {label}")
    print(f"frames: {accuracy(of_frames):.1%} of {of_frames.sum()}")
    print(f"clips of one motion, at their last frame: {accuracy(of_clips):.1%} of {of_clips.sum()}")
    figures = {
        "frames": int(of_frames.sum()),
        "frame_accuracy": accuracy(of_frames),
        "clips": int(of_clips.sum()),
        "clip_accuracy": accuracy(of_clips),
    }
    write_results(options, [engine], of_frames, labels, "frames", figures)


def write_results(
    options: argparse.Namespace,
    engines: Sequence[Engine],
    confusion: Counts,
    labels: Sequence[str],
    what: str,
    figures: dict[str, Any],
) -> None:
    """The confusion matrix as a picture and the figures as JSON, where these are wanted. NaN becomes null."""
    if options.confusion:
        write_confusion(options.confusion, confusion, labels, what)
    if options.json:
        classes = dict(zip(labels, class_accuracies(confusion).tolist(), strict=True))
        content = {"models": [engine.spec.version for engine in engines], **figures, "classes": classes}
        write_result("--json", options.json, msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")


def check_results(options: argparse.Namespace) -> None:
    """Raise ToolError if a result would be written over something that is read, or over another result."""
    models = options.model if isinstance(options.model, list) else [options.model]
    videos = getattr(options, "video", None) or []
    read = [
        path.with_suffix(suffix)
        for path in map(Path, filter(None, models))
        for suffix in (".json", ".onnx", ".pt", path.suffix)
    ]
    read += [*videos, *(video.with_suffix(".csv") for video in videos)]
    read += [path for path in (getattr(options, "config", None), getattr(options, "annotations", None)) if path]
    check_result("--json", options.json, read)
    check_result("--confusion", options.confusion, [*read, *([options.json] if options.json else [])])


# ------------------------------------------------------------------------------------------------ the command line


def data_set(text: str) -> tuple[str, Path]:
    """LAYOUT:ROOT."""
    layout, colon, root = text.partition(":")
    if not colon or not root:
        raise argparse.ArgumentTypeError(f"{text!r} is not LAYOUT:FOLDER; layouts are {', '.join(LAYOUTS)}")
    return layout, Path(root)


def height_and_width(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH, pixels."""
    match = re.fullmatch(r"([1-9]\d{1,3})x([1-9]\d{1,3})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH in pixels, such as 240x320")
    return int(match[1]), int(match[2])


def above_zero(kind: type[int] | type[float]) -> Any:
    """Reads a number above 0."""

    def number(text: str) -> int | float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    number.__name__ = kind.__name__  # argparse names it when the text is no number
    return number


def make_parser() -> argparse.ArgumentParser:
    """All commands and options."""
    parser = argparse.ArgumentParser(prog="python -m tools.evaluate", description="Measure models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--backend", default="auto", choices=("auto", *BACKENDS))
    shared.add_argument("--confusion", type=Path, metavar="FILE.png", help="draw the confusion matrix")
    shared.add_argument("--json", type=Path, metavar="FILE.json", help="write the figures")

    clips = commands.add_parser("clips", parents=[shared], help="videos of a data set")
    clips.add_argument("model", nargs="+", help="several are an ensemble")
    clips.add_argument("--data", type=data_set, required=True, metavar="LAYOUT:FOLDER", help=", ".join(LAYOUTS))
    clips.add_argument("--split", default="validation")
    clips.add_argument("--annotations", type=Path, help="where the annotation files are (default: with the videos)")
    clips.add_argument(
        "--protocol", choices=PROTOCOLS, default="live",
        help="live: the whole video at the model's rate, as a stream; else the papers' clips x crops, or full pictures",
    )  # fmt: skip
    clips.add_argument(
        "--sampling", choices=("uniform", "dense", "steady"),
        help="which frames (default: live steady, 10x3 dense, else uniform); steady: at the model's rate",
    )  # fmt: skip
    clips.add_argument("--size", type=above_zero(int), help="px of the crops (default: the model's; papers: 256)")
    clips.add_argument("--resize", type=height_and_width, metavar="HxW", help="of all pictures first (TCM: 240x320)")
    clips.add_argument("--weights", type=above_zero(float), nargs="+", metavar="W", help="of the models (default: 1)")
    clips.add_argument("--workers", type=int, default=2, help="processes that decode")
    clips.set_defaults(run=clips_command)

    stream = commands.add_parser("stream", parents=[shared], help="minutes of video through the live pipeline")
    stream.add_argument("model")
    stream.add_argument("--minutes", type=above_zero(float), default=5.0, help="of drawn scenes")
    stream.add_argument("--seed", type=int, default=7)
    stream.add_argument("--fps", type=above_zero(float), help="of a slower camera (default: the model's rate)")
    stream.add_argument(
        "--video", type=Path, action="append", metavar="FILE.mp4",
        help="a recording instead, with FILE.csv beside it: label,start_s,end_s; repeatable",
    )  # fmt: skip
    stream.add_argument("-c", "--config", type=Path, help="YAML as for `streamer run`; its `events` count")
    stream.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="such as events.enter=0.7")
    stream.set_defaults(run=stream_command)

    synthetic = commands.add_parser("synthetic", parents=[shared], help="drawn clips, frame by frame")
    synthetic.add_argument("model")
    synthetic.add_argument("--clips", type=above_zero(int), default=2000)
    synthetic.add_argument("--seed", type=int, default=7)
    synthetic.set_defaults(run=synthetic_command)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; the exit code is 2 for what a tool cannot use, else that of `streamer`'s errors."""
    options = make_parser().parse_args(arguments)
    try:
        check_results(options)
        options.run(options)
    except (EngineError, StreamerError) as error:
        print(f"evaluate: {str(error).splitlines()[0]}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
