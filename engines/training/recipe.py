"""What a training run is told, whoever has the clips."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Keys(BaseModel):
    """A part of a recipe. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(Keys):
    """One part of a run, on clips of one kind; the next part begins with its average."""

    steps: Count | None = None  # updates of the weights, or
    epochs: Count | None = None  # walks through the data set
    batch: Count  # clips of a step, over all processes
    size: Annotated[int, Field(ge=32, multiple_of=8)]  # pixels: small pictures train many times faster
    learning_rate: Positive  # of the whole batch
    drops: tuple[Count, ...] = ()  # after so many steps (or epochs) a tenth of it; without drops a cosine to zero
    clip_frames: Annotated[int, Field(ge=4)]  # more than T: every frame from the T-th on is asked, as in a stream

    @model_validator(mode="after")
    def _has_one_length(self) -> Part:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self


class Recipe(Keys):
    """A network, how to train it, and the parts of the run in their order."""

    network: str
    backbone: str
    width: Positive = 1.0
    frames: Count = 8  # T, the network's memory
    causal: bool = True  # the streaming form
    options: dict[str, int | str] = {}  # of the network, as for build_network
    size: Annotated[int, Field(ge=32, multiple_of=8)] = 112  # pixels, of the pictures that the trained network gets
    fps: Positive = 10.0  # frames per second that it gets
    fit: Literal["stretch", "crop"] = "stretch"  # how a picture becomes a square
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    seed: Annotated[int, Field(ge=0)] = 0

    init: str | None = None  # weights to begin with, or --init: see initial.py
    freeze: tuple[Name, ...] = ()  # modules that keep them, or --freeze
    distill_from: str | None = None  # a clip-form teacher, or --distill-from
    distill_weight: Share = 0.5  # of its word against the label's
    temperature: Positive = 2.0  # softens both when they are compared

    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # of sgd
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 0.05  # of matrices and kernels, not of biases and norms
    bias_rate: Positive = 1.0  # factors of the learning rate: of all biases,
    head_rate: Positive = 1.0  # of the last layer's matrix,
    head_bias_rate: Positive = 1.0  # and of its bias
    clip_norm: Positive | None = 5.0
    warmup_steps: Annotated[int, Field(ge=0)] = 20  # of each part
    average: Annotated[float, Field(ge=0, lt=1)] = 0.98  # decay of the weights' exponential average; 0: the last ones

    processes: Count = 1  # on this machine; torchrun has its own say
    precision: Literal["fp32", "bf16"] = "fp32"  # of the convolutions, by autocast
    checkpoint_steps: Count = 100
    parts: Annotated[tuple[Part, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _keys_fit(self) -> Recipe:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum")
        for part in self.parts:
            if part.batch % self.processes:
                raise ValueError(f"a batch of {part.batch} cannot be shared evenly by {self.processes} processes")
            if part.clip_frames < self.frames:
                raise ValueError(f"clips of {part.clip_frames} frames are too short for T = {self.frames}")
            if part.clip_frames > self.frames and not self.causal:
                raise ValueError(f"the clip form takes clips of T = {self.frames} frames, not {part.clip_frames}")
        return self
