"""Peers, side by side with the engine of CPUs here: online TSM as it is published, and a continual ResNet."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engines.backends.openvino import OpenVINOEngine, has_bf16
from engines.networks.inverted import InvertedNet, InvertedResidual
from engines.networks.temporal import TemporalShift
from tools.bench.graphs import Subject, graphs
from tools.bench.timing import Times, in_turns, stepping

LAYERS = ((3, 64, 1, 1), (4, 128, 2, 1), (6, 256, 2, 3), (3, 512, 2, 3))  # blocks, planes, stride, taps in time


class PublishedStep(nn.Module):
    """A step of the online TSM MobileNetV2 in the way of its published code: eager torch, batch norms apart, each
    block's shift by concatenation with a buffer that is handed in, and the new buffers handed out.

    It gets a picture that is normalised already; the published program does that in Python, outside of the network.
    """

    def __init__(self, network: InvertedNet) -> None:
        super().__init__()
        self.features, self.fc = network.features, network.fc

    def forward(self, picture: Tensor, *buffers: Tensor) -> tuple[Tensor, ...]:
        """Picture [1, 3, H, W], ten buffers [1, C // 8, H', W'] -> logits [1, K], the buffers after."""
        before, after = iter(buffers), []
        x = picture
        for layer in self.features:
            if not isinstance(layer, InvertedResidual):
                x = layer(x)
            elif isinstance(layer.shift, TemporalShift):
                moving, staying = x[:, : layer.shift.fold], x[:, layer.shift.fold :]
                x = x + layer.conv(torch.cat([next(before), staying], 1))
                after.append(moving)
            else:
                x = layer.conv(x)
        return (self.fc(x.mean(3).mean(2)), *after)


def torch_step(forward: Callable[[Tensor], object], picture: Tensor) -> Callable[[], None]:
    """One call, eager."""

    @torch.no_grad()
    def run() -> None:
        forward(picture)

    return run


def published(subject: Subject) -> Callable[[], None]:
    """Steps of the published kind on one random picture."""
    network = subject.build()
    assert isinstance(network, InvertedNet)
    step = PublishedStep(network)
    picture = torch.randn(1, 3, subject.size, subject.size)
    buffers = tuple(network.initial_state(1, subject.size, subject.size).values())

    @torch.no_grad()
    def run() -> None:
        nonlocal buffers
        _, *buffers = step(picture, *buffers)

    return run


def ours(subject: Subject, threads: int, folder: Path) -> dict[str, Callable[[], None]]:
    """Steps of this project's engine in the precisions of this processor."""
    path, spec = graphs([subject], folder)[subject]
    precisions = ("fp32", "bf16") if has_bf16() else ("fp32",)
    return {
        f"here, OpenVINO {precision}": stepping(OpenVINOEngine(path, spec, threads=threads, precision=precision), 1)
        for precision in precisions
    }


def show(title: str, found: dict[str, Times]) -> None:
    """The times of a group, each with how many times the first one it is fast."""
    print(title)
    first = next(iter(found.values()))
    for name, times in found.items():
        print(
            f"  {name:44} {times.median:8.2f} ms ({times.low:.2f} to {times.high:.2f})"
            f"  {first.median / times.median:6.2f} x as fast"
        )


def continual_resnet(co: Any, width: float) -> nn.Module:
    """CoSlow (Hedegaard and Iosifidis, "Continual 3D Convolutional Neural Networks", ECCV 2022) of that package's
    blocks: the slow path of SlowFast on ResNet-50, three taps in time in layer3 and layer4, each convolution with a
    memory of its own.
    """

    def conv(inplanes: int, planes: int, taps: int, size: int, stride: int = 1) -> list[nn.Module]:
        padding, strides = (taps // 2, size // 2, size // 2), (1, stride, stride)
        made = co.Conv3d(inplanes, planes, (taps, size, size), stride=strides, padding=padding, bias=False)
        return [made, nn.BatchNorm3d(planes)]

    first = round(64 * width)
    layers: list[nn.Module] = [*conv(3, first, 1, 7, 2), nn.ReLU(), co.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))]
    inplanes = first
    for blocks, base, first_stride, taps in LAYERS:
        planes = round(base * width)
        for index in range(blocks):
            stride = first_stride if index == 0 else 1
            branch = co.Sequential(
                *conv(inplanes, planes, taps, 1), nn.ReLU(), *conv(planes, planes, 1, 3, stride), nn.ReLU(),
                *conv(planes, 4 * planes, 1, 1),
            )  # fmt: skip
            if index == 0:
                layers.append(co.BroadcastReduce(co.Sequential(*conv(inplanes, 4 * planes, 1, 1, stride)), branch))
            else:
                layers.append(co.Residual(branch))
            layers.append(nn.ReLU())
            inplanes = 4 * planes
    network: nn.Module = co.Sequential(*layers)
    return network.eval()


def continual_runs(frames: int, size: int, width: float) -> dict[str, Callable[[], None]]:
    """CoSlow's step, its clip of T frames at once, and the 2-D ResNet-50 on one frame, all in eager torch; nothing if
    the package is not installed.
    """
    if importlib.util.find_spec("continual") is None:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, of Python and torch as they are now
        co = importlib.import_module("continual")
        network: Any = continual_resnet(co, width)
        clip = torch.randn(1, 3, frames, size, size)
        step, whole = torch_step(network.forward_step, clip[:, :, 0]), torch_step(network.forward, clip)
        for _ in range(network.receptive_field):  # until every memory is full
            step()
    limit = Subject("limit", "tsn", "resnet50", 1, size, width).build()
    return {
        "CoSlow-ResNet-50, step, torch eager": step,
        f"CoSlow-ResNet-50, {frames} frames at once, torch eager": whole,
        "ResNet-50 alone on one frame, torch eager": torch_step(limit.frame_logits, clip[:, None, :, 0]),
    }


def report(folder: Path, rounds: int, *, size: int = 224, width: float = 1.0) -> None:
    """Print the peers' figures beside this project's, with one thread and with two."""
    mobile = Subject("step", "tsm", "mobilenet_v2", 8, size, width)
    resnet = Subject("step", "tsm", "resnet50", 8, size, width)
    for threads in sorted({1, min(2, os.cpu_count() or 1)}):
        torch.set_num_threads(threads)
        runs = {"as published, torch eager": published(mobile), **ours(mobile, threads, folder)}
        found = in_turns(runs, list(runs), 4 * rounds)
        show(f"online TSM MobileNetV2, one step at {size} px, {threads} thread(s):", found)
    continual = continual_runs(8, size, width)
    if not continual:
        print("continual-inference: left out: pip install --no-deps continual-inference")
        return
    torch.set_num_threads(1)
    runs = {**continual, **{f"TSM-ResNet-50, step, {name}": run for name, run in ours(resnet, 1, folder).items()}}
    show(f"continual-inference, {size} px, 1 thread:", in_turns(runs, list(runs), rounds))
