"""A published checkpoint -> the files of a model that runs. Needs the extra `train`; running the model does not."""

from __future__ import annotations

import importlib.util
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EngineError, install
from ..spec import NAME, EngineSpec, background, check_spec

if TYPE_CHECKING:
    from ..networks.checkpoints import Checkpoint

LOGGER = logging.getLogger(__name__)
NEEDS = ("torch", "onnx", "onnxscript")
CLIP_S = 4.0  # what the T frames of a clip are spread over: Something-Something's clips last about so long
ONLINE_HZ = 12.0  # online TSM learnt from Jester, which was recorded at 12 frames a second


def import_model(
    source: Path,
    out: Path,
    labels: Path | None = None,
    *,
    frames: int | None = None,
    causal: bool = False,
    rate_hz: float | None = None,
    size: int = 224,
    hop: int = 1,
) -> EngineSpec:
    """Write `OUT.pt`, `OUT.onnx` and `OUT.json` for a published checkpoint; returns the sidecar.

    source    the checkpoint: see `engines.networks.checkpoints`
    out       where to, without a suffix; its last part names the model
    labels    a text file with one label a line, in the order of the classes; not needed for online TSM on Jester
    frames    T, where the checkpoint does not tell it (default 8)
    causal    stream mode also for weights that were trained in the clip form; default: the form that they were
              trained in, which is window mode for all but online TSM
    rate_hz   frames a second that the network is to see; default: 12 for online TSM, else T frames in 4 seconds
    size      height and width of the frames, pixels; 224 is what the published networks were trained at
    hop       window mode: frames from one evaluation to the next

    Raises EngineError for what cannot be read, does not fit or is not installed.
    """
    missing = [library for library in NEEDS if importlib.util.find_spec(library) is None]
    if missing:
        raise EngineError(f"a checkpoint can only be imported with {', '.join(missing)}; {install('train')}")
    from ..networks.checkpoints import read_checkpoint
    from .model import build_model

    if not re.search(NAME, out.name) or out.suffix in (".onnx", ".pt", ".json"):
        raise EngineError(f"{out}: give a name of letters, digits, - and _ without a suffix, such as models/gestures")
    checkpoint = read_checkpoint(source, frames=frames)
    names = label_names(checkpoint, source, labels)
    streams = causal or checkpoint.causal
    if streams and not checkpoint.causal:
        LOGGER.warning(
            "%s was trained to see later frames, and runs without those connections now (--causal): it loses accuracy, "
            "nobody has measured how much, and should be trained further in this form",
            source,
        )
    rate_hz = rate_hz or (ONLINE_HZ if checkpoint.causal else checkpoint.frames / CLIP_S)
    spec = described(checkpoint, out.name, names, rate_hz, size, hop, streams=streams)
    check_spec(spec)
    return build_model(checkpoint.build(causal=streams), spec, out.parent)


def described(
    checkpoint: Checkpoint, name: str, labels: tuple[str, ...], rate_hz: float, size: int, hop: int, *, streams: bool
) -> EngineSpec:
    """What a model's sidecar says before its files are made: no states and no hashes yet."""
    return EngineSpec(
        name=name,
        labels=labels,
        height=size,
        width=size,
        rate_hz=rate_hz,
        frames=checkpoint.frames,
        mode="stream" if streams else "window",
        fit="crop",
        network=checkpoint.network,
        backbone=checkpoint.backbone,
        channel_width=1.0,
        states=(),
        files={},
        hop=hop,
        options=checkpoint.options,
        events=background(labels),
    )


def label_names(checkpoint: Checkpoint, source: Path, labels: Path | None) -> tuple[str, ...]:
    """The names of a checkpoint's classes: those of a text file, or the ones that online TSM on Jester is known by."""
    from ..networks.checkpoints import JESTER_LABELS

    if labels is not None:
        return read_labels(labels, checkpoint.classes)
    if checkpoint.causal and checkpoint.classes == len(JESTER_LABELS):
        return JESTER_LABELS
    raise EngineError(f"{source}: has {checkpoint.classes} classes without names; give --labels, one label a line")


def read_labels(path: Path, classes: int) -> tuple[str, ...]:
    """The labels of a text file, one a line, empty lines aside; EngineError if not `classes` different ones."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows' editors begin a file with a mark
    except OSError as error:
        raise EngineError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise EngineError(f"{path}: is not a text file in UTF-8: {error}") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    labels = tuple(label for _, label in lines)
    if len(labels) != classes:
        raise EngineError(
            f"{path}: has {len(labels)} labels, but the checkpoint has {classes} classes; one label a line"
        )
    seen: set[str] = set()
    for number, label in lines:
        if label in seen:
            raise EngineError(
                f"{path}: line {number} has {label!r} for the second time; every class needs a name of its own"
            )
        seen.add(label)
    return labels
