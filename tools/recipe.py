"""What a training recipe says (configs/train/*.yaml), and the network that it asks for."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import nn

from engines.errors import EngineError
from engines.networks import Network, build_network
from engines.networks.tcm import TAM, TCM
from tools.motion_paths import LABELS

Count = Annotated[int, Field(ge=1)]
Size = Annotated[int, Field(ge=32, multiple_of=8)]


class TrainError(Exception):
    """A recipe or a file that training cannot use; the message says what, where and what to do."""


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(_Keys):
    """One part of a run: a warm-up and a cosine, on clips of one kind; the next part begins with its average."""

    steps: Count
    batch: Count  # clips of a step, over all processes
    size: Size  # pixels: small pictures train many times faster, and most of the task can be learned on them
    learning_rate: Annotated[float, Field(gt=0)]
    clip_frames: Annotated[int, Field(ge=8)] = 20
    whole: Annotated[float, Field(ge=0, le=1)] = 0.4  # share of clips in which the whole picture moves: the easy ones


class Recipe(_Keys):
    """A network, how to train it, and the parts of the run in their order. An unknown key is an error."""

    network: str
    backbone: str
    width: Annotated[float, Field(gt=0)] = 1.0
    frames: Count = 8  # T, the network's memory
    size: Size = 112  # pixels, of the pictures that the trained network will get
    fps: Annotated[float, Field(gt=0)] = 10.0  # frames per second that it will get
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    start_from: Path | None = None  # a state dict to begin with; what it lacks (the TCM layer, say) begins fresh
    seed: Annotated[int, Field(ge=0)] = 0
    processes: Count = 1
    precision: Literal["fp32", "bf16"] = "fp32"  # of the convolutions, by autocast
    warmup_steps: Annotated[int, Field(ge=0)] = 20
    weight_decay: Annotated[float, Field(ge=0)] = 0.05  # of matrices and kernels, not of biases and norms
    clip_norm: Annotated[float, Field(gt=0)] = 5.0
    average: Annotated[float, Field(ge=0, lt=1)] = 0.98  # decay of the weights' exponential average
    checkpoint_steps: Count = 100
    held_out: Count = 200  # clips at each checkpoint
    held_out_at_end: Count = 2000
    parts: Annotated[tuple[Part, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _batches_can_be_shared(self) -> Recipe:
        for part in self.parts:
            if part.batch % self.processes:
                raise ValueError(f"a batch of {part.batch} cannot be shared evenly by {self.processes} processes")
        return self

    @property
    def steps(self) -> int:
        """Steps of all parts."""
        return sum(part.steps for part in self.parts)

    def part_at(self, step: int) -> tuple[Part, int]:
        """The part that step number `step` (from 0) belongs to, and its number within that part."""
        for part in self.parts:
            if step < part.steps:
                return part, step
            step -= part.steps
        raise IndexError("the recipe has fewer steps")


def read_recipe(path: Path) -> Recipe:
    """The recipe in a YAML file. Raises TrainError with one sentence that names the file, the key and the fault."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TrainError(f"cannot read the recipe {path}: {error}") from error
    if not isinstance(content, dict):
        raise TrainError(f"the recipe {path} must be a mapping of keys to values, see configs/train/default.yaml")
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'] or ['parts']))}: {fault['msg']}" for fault in error.errors()
        )
        raise TrainError(f"the recipe {path} cannot be used: {faults}") from error


def load(path: Path) -> dict[str, Any]:
    """What torch.save wrote there, tensors and plain values only. Raises TrainError where it is not that."""
    try:
        content = torch.load(path, weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise TrainError(f"cannot load {path}: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise TrainError(f"cannot load {path}: it holds a {type(content).__name__} instead of a dict")
    return content


def build(recipe: Recipe) -> Network:
    """The recipe's causal network, with the weights of `start_from`. Raises TrainError where these do not fit."""
    torch.manual_seed(recipe.seed)
    try:
        net = build_network(
            recipe.network,
            recipe.backbone,
            frames=recipe.frames,
            classes=len(LABELS),
            causal=True,
            width=recipe.width,
            dropout=recipe.dropout,
        )
        if recipe.start_from is not None:
            left_over = net.load_state_dict(load(recipe.start_from), strict=False).unexpected_keys
            if left_over:
                raise TrainError(f"{recipe.start_from} is of another network: it has {', '.join(left_over)} too many")
        elif isinstance(net, TCM):
            _open(net.tcm.tam)
    except (EngineError, RuntimeError) as error:
        raise TrainError(f"cannot build the network of the recipe: {error}") from error
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@torch.no_grad()
def _open(tam: TAM) -> None:
    """Let a fresh TAM pass its motion maps on: at random, its narrow first layers lose the signs of u and v."""
    convs = [layer for layer in tam.conv1 if isinstance(layer, nn.Conv2d)][:3]
    norms = [layer for layer in tam.conv1 if isinstance(layer, nn.BatchNorm2d)][:3]
    for conv, norm in zip(convs, norms, strict=True):
        conv.weight.normal_(0, 0.05)
        for plane in range(6):
            conv.weight[plane, plane % 2] += 1 / 9  # the mean of its own 3x3 neighbourhood
        norm.bias.fill_(2.0)
