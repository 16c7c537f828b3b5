"""What tools.bench compares: four forms of a network, as networks that every engine runs, and their step graphs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import msgspec
import torch
from torch import Tensor, nn

import engines
from engines.networks import Network, build_network
from engines.networks.stepper import make_stepper
from engines.networks.temporal import State
from engines.spec import EngineSpec, TensorSpec, read_spec

FORMS = ("limit", "step", "window", "recompute")
CLASSES = 174  # of Something-Something


class WholeClip(Network):
    """A clip form that computes all T frames from their pixels at every step, and keeps nothing.

    The step's frame stands for all T: the work is the same, but for bringing the other frames to the device and
    normalising them, which is not held against it. To the stepper it is a causal network without a state.
    """

    def __init__(self, clip_form: Network) -> None:
        nn.Module.__init__(self)
        self.clip_form = clip_form
        self.frames = clip_form.frames
        self.causal = True

    def half(self) -> WholeClip:
        """What the network itself makes half."""
        self.clip_form.half()
        return self

    def initial_state(self, rows: int, height: int, width: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Nothing is kept."""
        return {}

    def forward(self, clip: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG002
        """Frame [B, 1, 3, H, W] -> the clip's logits [B, 1, K], {}."""
        frames = clip.expand(-1, self.frames, -1, -1, -1)
        return self.clip_form.frame_logits(frames).mean(1, keepdim=True), {}


@dataclass(frozen=True)
class Subject:
    """A form of a network, at a size:

    limit      the 2-D backbone on one frame, with the same preprocessing and head: TSN as a stream, without memory
    step       the causal form, one frame
    window     the clip form over the last T frames; what looks at single frames is kept, the rest computed again
    recompute  the clip form, all T frames from their pixels
    """

    form: str
    network: str
    backbone: str
    frames: int
    size: int
    width: float = 1.0
    precision: Literal["fp32", "fp16"] = "fp32"  # of the graph

    @property
    def name(self) -> str:
        """For files."""
        return f"{self.form}-{self.network}-{self.backbone}-{self.width:g}-{self.frames}x{self.size}px-{self.precision}"

    def build(self) -> Network:
        """With random weights, in eval mode."""
        torch.manual_seed(0)
        causal = self.form in ("limit", "step")
        network = build_network(self.network, self.backbone, self.frames, CLASSES, causal, self.width).eval()
        for path, module in network.named_modules():
            if path.endswith(".bn3") and isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.weight, 0.25)  # else the maps of a fresh network grow beyond fp16's range
        return WholeClip(network) if self.form == "recompute" else network

    def spec(self, network: Network) -> EngineSpec:
        """What an engine must know."""
        stepper = make_stepper(network, self.size, self.size)
        state = zip(stepper.state_names, stepper.initial_state(1), strict=True)
        return EngineSpec(
            name=self.name, labels=tuple(map(str, range(CLASSES))), height=self.size, width=self.size, rate_hz=10.0,
            frames=self.frames, mode="stream" if network.causal else "window", fit="crop", network=self.network,
            backbone=self.backbone, channel_width=self.width, files={},
            states=tuple(TensorSpec(name, tuple(value.shape[1:]), "float32") for name, value in state),
        )  # fmt: skip


def forms(network: str, backbone: str, frames: int, size: int, width: float) -> dict[str, Subject]:
    """The four of a network; the limit is the same for all networks on a backbone."""
    return {
        form: Subject(form, "tsn", backbone, 1, size, width)
        if form == "limit"
        else Subject(form, network, backbone, frames, size, width)
        for form in FORMS
    }


def sources_digest() -> str:
    """Of the code that graphs are made from: another version's graphs are not measured for this one's."""
    folder = Path(engines.__file__).parent
    files = [folder / "build" / "export.py", *sorted((folder / "networks").glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]


def export(subject: Subject, path: Path) -> None:
    """Write the step graph of a subject, and its sidecar when the graph is complete."""
    from engines.build.export import export_onnx  # needs onnx, which a machine with a GPU need not have

    torch.set_num_threads(1)
    network = subject.build()
    export_onnx(network, subject.size, subject.size, path, precision=subject.precision)
    path.with_suffix(".json").write_bytes(msgspec.json.encode(subject.spec(network)))


def graphs(subjects: Iterable[Subject], folder: Path) -> dict[Subject, tuple[Path, EngineSpec]]:
    """The step graphs of subjects and their sidecars, from the folder where it has them, else exported into it, one
    process a core: a ResNet-50 takes half a minute.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digest = sources_digest()
    paths = {subject: folder / f"{subject.name}-{digest}.onnx" for subject in subjects}
    missing = {subject: path for subject, path in paths.items() if not path.with_suffix(".json").exists()}
    workers = min(len(missing), os.cpu_count() or 1)
    if workers < 2:
        for subject, path in missing.items():
            export(subject, path)
    else:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            list(pool.map(export, missing.keys(), missing.values()))
    return {subject: (path, read_spec(path)) for subject, path in paths.items()}
