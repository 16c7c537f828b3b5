"""A model of one's own labels, from a few clips.

A start, a model that knows motion, stays as it is. What its last layer reads of the clips, and of their mirror images,
is computed once; a last layer is solved for. Clips that are held out in turn tell how often it is right, how sure it
may be, and which score of a label is enough.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..build.model import build_model
from ..errors import EngineError
from ..loading import find_model
from ..networks import Network, build_network
from ..networks.checkpoints import read_state_dict
from ..spec import EngineSpec, check_file, read_spec
from .head import Layer, sharpness_of, solve, vectors_of
from .mirror import mirror_labels

NOTHING = "nothing"
"""The label of clips in which nobody does anything that has a name; it makes no event."""

MEMORY_S = 1.6  # that a last layer reads where the start's own reads one frame
DECAYS = (0.03, 0.1, 0.3)
SHARPNESSES = tuple(2 ** (step / 2) for step in range(-4, 9))  # factors of the logits: a quarter to 16
FOLDS = 5
ACTING = tuple(np.linspace(0.5, 1, 6).tolist())  # shares of an action after which its clip is looked at
IDLING = tuple(np.linspace(0.1, 1, 16).tolist())  # of a clip of nothing
ENTER = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # scores that may begin an event
USUAL, HIGHEST = 0.6, 0.98
LEAVE = 0.6  # of it, below which the event ends
CERTIFIED_STEPS = 300

Show = Callable[[str], object]


@dataclass(frozen=True)
class Example:
    """A clip to learn from: `label` is its number, `begin` and `end` the shares of the clip between which it holds."""

    label: int
    begin: float = 0.0
    end: float = 1.0


Read = Callable[[int, EngineSpec], NDArray[np.uint8] | None]
"""The number of an example, and what is to see it -> frames [T, H, W, 3] BGR; None for one that cannot be used."""


@dataclass(frozen=True)
class Start:
    """What a model begins with: a network for new labels that lacks nothing but the last layer, and its sidecar."""

    name: str
    net: Network
    spec: EngineSpec


@dataclass(frozen=True)
class Features:
    """What the last layer reads: `values` [N, D], one row for each moment, of the example `owner` [N]; `mirrored` [N]
    tells rows of a mirror image, `labels` [N] their labels.
    """

    values: Tensor
    owner: Tensor
    labels: Tensor
    mirrored: Tensor


@dataclass(frozen=True)
class Trial:
    """What clips that were held out in turn say.

    given     [E] the label that each example was given by a layer that had not seen it, -1 for one without features
    scores    [E, K] the highest probability of each label at a moment of the example
    decay, mirror   that did best: the weight decay, and whether mirror images are learned from
    sharpness the factor of the logits with which the probabilities are as sure as they are right
    """

    given: Tensor
    scores: Tensor
    decay: float
    mirror: bool
    sharpness: float
    accuracy: float


def open_start(model: str, labels: Sequence[str]) -> Start:
    """A model as a start for these labels. Raises EngineError for one that cannot be."""
    path = find_model(model).with_suffix(".pt")
    spec = read_spec(path)
    if spec.mode != "stream":
        raise EngineError(f"{model}: looks at windows; start from a model that runs as a stream, such as default")
    check_file(path, spec)
    frames, options = spec.frames, dict[str, Any](spec.options)
    if spec.network == "tcm" and spec.backbone.startswith("resnet") and "pooling" not in options:
        frames, options = round(MEMORY_S * spec.rate_hz), {**options, "pooling": "statistics", "span": spec.frames}
    net = build_network(
        spec.network,
        spec.backbone,
        frames,
        len(labels),
        causal=True,
        width=spec.channel_width,
        dropout=0.0,
        **options,
    )
    own = net.state_dict()
    known = {key: value for key, value in read_state_dict(path, str(path)).items() if not key.startswith("fc.")}
    if lacking := [key for key in own if key not in known and not key.startswith("fc.")]:
        raise EngineError(
            f"{path}: lacks {', '.join(lacking[:3])}: it is damaged, or no start for teaching; take default"
        )
    net.load_state_dict({key: value for key, value in known.items() if key in own}, strict=False)
    taught = EngineSpec(
        name=spec.name, labels=tuple(labels), height=spec.height, width=spec.width, rate_hz=spec.rate_hz,
        frames=frames, mode="stream", fit=spec.fit, network=spec.network, backbone=spec.backbone,
        channel_width=spec.channel_width, options=options, states=(), files={},
    )  # fmt: skip
    return Start(spec.name, net.to(memory_format=torch.channels_last).eval(), taught)  # type: ignore[call-overload]


def read_features(start: Start, examples: Sequence[Example], read: Read, show: Show) -> Features:
    """What the last layer reads of the examples that can be read, and of their mirror images where their labels have
    some. Tells how far it is. Raises EngineError where none can be read.
    """
    mirrors = mirror_labels(start.spec.labels)
    rows: list[Tensor] = []
    owner, labels, mirrored = [], [], []
    began = time.monotonic()
    for number, example in enumerate(examples):
        left_s = (time.monotonic() - began) / number * (len(examples) - number) if number else 0
        show(f"{start.name}: clip {number + 1} of {len(examples)}" + (f", {left_s:.0f} s left" if number else ""))
        frames = read(number, start.spec)
        if frames is None:
            continue
        clip = torch.from_numpy(frames[..., ::-1].transpose(0, 3, 1, 2).copy())  # [T, 3, H, W] RGB
        chosen = moments(len(clip), example, idle=start.spec.labels[example.label] == NOTHING)
        for flipped, label in ((False, example.label), (True, mirrors[example.label])):
            if label is None:
                continue
            rows.append(vectors_of(start.net, clip.flip(3) if flipped else clip)[chosen])
            owner += [number] * len(chosen)
            labels += [label] * len(chosen)
            mirrored += [flipped] * len(chosen)
    if not rows:
        raise EngineError("not one of the clips can be read; they are listed above")
    return Features(torch.cat(rows), torch.tensor(owner), torch.tensor(labels), torch.tensor(mirrored))


def moments(count: int, example: Example, *, idle: bool) -> list[int]:
    """The frames of a clip of so many at which it is looked at, each once."""
    first, last = example.begin * (count - 1), example.end * (count - 1)
    return sorted({round(first + (last - first) * share) for share in (IDLING if idle else ACTING)})


def try_out(features: Features, examples: Sequence[Example], classes: int, show: Show) -> Trial:
    """Hold out a fifth of each label's clips in turn; a clip and its mirror image are held out together."""
    fold = torch.tensor(folds(examples))[features.owner]
    plain = ~features.mirrored
    truth = torch.tensor([example.label for example in examples])
    ways = [(decay, mirror) for mirror in ((True, False) if features.mirrored.any() else (False,)) for decay in DECAYS]
    trials = []
    for done, (decay, mirror) in enumerate(ways, 1):
        show(f"holding out clips in turn, way {done} of {len(ways)}")
        logits = torch.zeros(len(features.values), classes)
        for number in range(FOLDS):
            held = fold == number
            if (held & plain).any() and not held.all():
                logits[held & plain] = solved(features, ~held & (plain | mirror), classes, decay)(
                    features.values[held & plain]
                )
        given = given_by(logits, features, plain, len(examples))
        right = int((given == truth)[given >= 0].sum())
        trials.append(((right, mirror, decay), logits, given))
    (right, mirror, decay), logits, given = max(trials, key=lambda trial: trial[0])
    rows, labels = logits[plain], features.labels[plain]
    sharpness = sharpness_of(rows, labels, SHARPNESSES)
    scores = torch.zeros(len(examples), classes)
    for owner, row in zip(features.owner[plain].tolist(), (sharpness * rows).softmax(1), strict=True):
        scores[owner] = torch.maximum(scores[owner], row)
    return Trial(given, scores, decay, mirror, sharpness, right / int((given >= 0).sum()))


def solved(features: Features, rows: Tensor, classes: int, decay: float) -> Layer:
    """The layer for some rows, in which each clip counts as much as any other, whatever its number of rows."""
    owner = features.owner[rows]
    weights = 1 / owner.bincount()[owner]
    return solve(features.values[rows], features.labels[rows], classes, decay, weights)


def folds(examples: Sequence[Example]) -> list[int]:
    """For each example its fold: the clips of a label are dealt out in order."""
    dealt: dict[int, int] = {}
    found = []
    for example in examples:
        found.append(dealt.get(example.label, 0) % FOLDS)
        dealt[example.label] = dealt.get(example.label, 0) + 1
    return found


def given_by(logits: Tensor, features: Features, rows: Tensor, count: int) -> Tensor:
    """The label of each of `count` examples by the mean of its rows' logits; -1 for one without rows."""
    sums = torch.zeros(count, logits.shape[1]).index_add_(0, features.owner[rows], logits[rows])
    here = torch.zeros(count, dtype=torch.bool).index_fill_(0, features.owner[rows], value=True)
    return torch.where(here, sums.argmax(1), -1)


def thresholds(trial: Trial, examples: Sequence[Example], labels: Sequence[str]) -> dict[str, float]:
    """For each label but nothing the score that begins its event: of ENTER the one that most of its held-out clips
    reach and few of the others.
    """
    truth = torch.tensor([example.label for example in examples])
    found = {}
    for number, label in enumerate(labels):
        if label == NOTHING:
            continue
        own, others = (trial.scores[(trial.given >= 0) & mask, number] for mask in (truth == number, truth != number))

        def worth(enter: float, own: Tensor = own, others: Tensor = others) -> tuple[float, float]:
            reached, false = (float((scores >= enter).float().mean()) for scores in (own, others))
            return reached - 2 * false, -abs(enter - USUAL)

        found[label] = max(ENTER, key=worth)
    return found


def guarded(
    enter: dict[str, float], layer: Layer, features: Features, wrong: Sequence[int], labels: Sequence[str]
) -> dict[str, float]:
    """The thresholds, raised where a correction, of the numbers `wrong` of examples, would reach one once more."""
    rows = torch.isin(features.owner, torch.tensor(wrong, dtype=torch.int64)) & ~features.mirrored
    raised = dict(enter)
    if not rows.any():
        return raised
    scores, truth = layer(features.values[rows]).softmax(1), features.labels[rows]
    for number, label in enumerate(labels):
        if label in enter and (truth != number).any():
            highest = float(scores[truth != number, number].max())
            raised[label] = max(enter[label], min(HIGHEST, highest + 0.02))
    return raised


@dataclass(frozen=True)
class Lesson:
    """What was learned: a start, the last layer for it, what held-out clips said, and the thresholds."""

    start: Start
    layer: Layer
    trial: Trial
    enter: dict[str, float]


def learn(
    starts: Sequence[str],
    labels: Sequence[str],
    examples: Sequence[Example],
    read: Read,
    *,
    corrected: Sequence[int] = (),
    show: Show = len,
    say: Show = len,
) -> Lesson:
    """Learn from each start, and keep the one that is right most often on held-out clips.

    starts     models; of equally good ones the first
    corrected  numbers of examples that a model was wrong about, and that the next one must not be
    read       may raise KeyboardInterrupt: then what was learned from the starts before counts

    Raises EngineError where a start cannot be used, or no example be read.
    """
    best: Lesson | None = None
    for name in starts:
        start = open_start(name, labels)
        try:
            features = read_features(start, examples, read, show)
        except KeyboardInterrupt:
            if best is None:
                raise
            say(f"stopped: {name} was not tried to the end, {best.start.name} is kept")
            break
        trial = try_out(features, examples, len(labels), show)
        usable = int((trial.given >= 0).sum())
        say(f"{name}: {trial.accuracy:.0%} of {usable} clips right, each asked of a layer that had not seen it")
        if best is None or trial.accuracy > best.trial.accuracy:
            rows = torch.ones_like(features.mirrored) if trial.mirror else ~features.mirrored
            plain = solved(features, rows, len(labels), trial.decay)
            layer = Layer(trial.sharpness * plain.weight, trial.sharpness * plain.bias)
            enter = guarded(thresholds(trial, examples, labels), layer, features, corrected, labels)
            best = Lesson(start, layer, trial, enter)
    assert best is not None
    return best


def write_model(lesson: Lesson, out: Path) -> EngineSpec:
    """The model's files in a folder, called as it: all of them, or none. Raises EngineError and OSError."""
    net, labels = lesson.start.net, lesson.start.spec.labels
    with torch.no_grad():
        net.fc.weight.copy_(lesson.layer.weight)
        net.fc.bias.copy_(lesson.layer.bias)
    rules = {
        label: {"enter": round(enter, 3), "leave": round(LEAVE * enter, 3)} for label, enter in lesson.enter.items()
    }
    events: dict[str, Any] = {"labels": rules}
    if NOTHING in labels:
        events["background"] = (NOTHING,)
    spec = msgspec.structs.replace(lesson.start.spec, name=out.resolve().name, events=events)
    return build_model(net, spec, out, steps=CERTIFIED_STEPS)


def confusions(trial: Trial, examples: Sequence[Example], labels: Sequence[str]) -> Iterator[str]:
    """For each label how many of its held-out clips were right, and for what the others were taken; a line each."""
    for number, label in enumerate(labels):
        given = [
            int(one) for one, example in zip(trial.given, examples, strict=True) if example.label == number and one >= 0
        ]
        wrong = [labels[one] for one in given if one != number]
        taken = ", ".join(f"{wrong.count(other)} as {other}" for other in sorted(set(wrong)))
        yield f"  {label}: {len(given) - len(wrong)} of {len(given)}" + (f"; {taken}" if taken else "")
