"""What models say of clips: of a data set's, for their score, and of drawn ones, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines import Engine, EngineSpec
from engines.backends.eager import EagerEngine
from engines.training.feed import IGNORE
from streamer.pipeline.ring import fit
from tools.errors import ToolError
from tools.evaluate.metrics import Counts, confusion_matrix
from tools.motion.clips import motion_clips
from tools.motion.paths import LABELS

ROWS = 4  # drawn clips that a model sees at a time
CLIP_FRAMES = 20  # of a drawn clip


def score_clips(engine: Engine, clips: Tensor) -> NDArray[np.float32]:
    """Clips uint8 RGB [V, T, 3, H, W] -> logits [V, K] of each clip, from the initial state on.

    Of T frames: what the network says of a clip, the mean of its frames' logits. Of more: the mean of what a stream is
    told, from its T-th frame on. In torch the pictures may have any size, but for windows over more than T frames;
    else they must have the model's: raises ToolError.
    """
    spec = engine.spec
    length, height, width = clips.shape[1], *clips.shape[3:]
    whole = length == spec.frames
    if isinstance(engine, EagerEngine) and (whole or spec.mode == "stream"):
        stepper = engine.stepper
        with torch.inference_mode():
            pictures = (clips.to(stepper.mean.device) - stepper.mean) / stepper.std
            logits = finite(spec, stepper.network.frame_logits(pictures).cpu().numpy())
        return np.asarray(logits[:, 0 if whole else spec.frames - 1 :].mean(1))
    if (height, width) != (spec.height, spec.width):
        raise ToolError(
            f"{spec.name} takes pictures of {spec.width}x{spec.height}, not of {width}x{height}: it was built for one "
            "size; take its .pt file, which runs in torch"
        )
    logits, ready = step_clips(engine, clips.permute(0, 1, 3, 4, 2).numpy()[..., ::-1])
    return np.asarray((logits if whole and spec.mode == "stream" else logits[:, ready[0]]).mean(1))


def step_clips(engine: Engine, clips: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Clips uint8 BGR [V, T, H, W, 3], one frame of each at a step -> logits [V, T, K], ready [V, T]."""
    rows, length = clips.shape[:2]
    state = engine.new_state(rows)
    logits, ready = [], []
    for number in range(length):
        fresh = np.full(rows, number == 0)
        answer = engine.step(np.ascontiguousarray(clips[:, number]), np.ones(rows, np.bool_), fresh, state)
        logits.append(answer[0].copy())
        ready.append(answer[1].copy())
    return finite(engine.spec, np.stack(logits, 1)), np.stack(ready, 1)


def finite(spec: EngineSpec, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same logits; raises ToolError where they are no numbers, which would count as the first label."""
    if not np.isfinite(logits).all():
        raise ToolError(
            f"{spec.name} gives scores that are not finite: its weights are damaged; copy or train it again"
        )
    return logits


# ---------------------------------------------------------------------------------------------------- drawn clips


def drawn_numbers(labels: Sequence[str], name: str) -> NDArray[np.int64]:
    """The model's numbers of the drawn motions, in the order of LABELS; raises ToolError where it lacks one."""
    for label in LABELS:
        if label not in labels:
            raise ToolError(
                f"{name} has no label {label!r}, so drawn motions cannot measure it; it knows {', '.join(labels)}"
            )
    return np.array([labels.index(label) for label in LABELS])


def measure_drawn(engine: Engine, clips: int, seed: int) -> tuple[Counts, Counts]:
    """Confusion matrices [K, K] on about so many drawn clips, half of one motion and half of up to three.

    Of frames: all that have a label, from the model's first answer on. Of clips: those of one motion, at their last
    answer. Training never sees these clips: its seeds differ.
    """
    spec = engine.spec
    numbers, classes = drawn_numbers(spec.labels, spec.name), len(spec.labels)
    of_frames, of_clips = np.zeros((2, classes, classes), np.int64)
    length = max(CLIP_FRAMES, spec.frames + spec.hop)
    size = drawn_size(spec)
    for index in range(-(-clips // (2 * ROWS * len(LABELS)))):
        for motions in (1, 3):
            for only in range(len(LABELS)):
                draw_seed = (seed, 2, index, motions, only)
                video, drawn = motion_clips(ROWS, length, size, draw_seed, spec.rate_hz, motions=motions, only=only)
                pictures = video.permute(0, 1, 3, 4, 2).numpy()[..., ::-1]
                frames = [[fit(image, spec.height, spec.width, spec.fit) for image in clip] for clip in pictures]
                logits, ready = step_clips(engine, np.array(frames))
                labels, given = drawn.numpy(), logits.argmax(2)
                asked = ready & (labels != IGNORE)
                of_frames += confusion_matrix(numbers[labels[asked]], given[asked], classes)
                if motions == 1:
                    last = np.flatnonzero(ready[0])[-1]
                    known = asked[:, last]
                    of_clips += confusion_matrix(numbers[labels[known, last]], given[known, last], classes)
    return of_frames, of_clips


def drawn_size(spec: EngineSpec) -> int:
    """The size of pictures to draw for a model, px: a multiple of 8, not smaller than its own."""
    return -8 * (-max(spec.height, spec.width) // 8)
