"""What a training recipe says (configs/train/*.yaml): that of engines/training, and where the clips come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from engines.training import recipe
from engines.training.augment import Augment
from engines.training.recipe import Count, Keys, Share
from tools.data.datasets import LAYOUTS
from tools.errors import ToolError


class Part(recipe.Part):
    """One part of a run; of drawn clips also how hard they are."""

    whole: Share = 0.4  # of the synthetic clips, those in which the whole picture moves: the easy ones
    motions: Count = 3  # the most successive motions in a synthetic clip


class Data(Keys):
    """A data set of labelled videos, and how clips are cut from them: see datasets.py and clips.py in tools/data."""

    layout: str
    root: Path | None = None  # or --data
    annotations: Path | None = None
    train: str = "train"  # split
    held_out: str = "validation"
    sampling: Literal["uniform", "dense", "steady"] = "uniform"
    resize: tuple[Count, Count] | None = None  # height and width of the whole picture before the crop
    augment: Augment = Augment()
    repeats: Count = 1  # so often an epoch shows each video: for small sets
    workers: Annotated[int, Field(ge=0)] = 0  # processes that decode, for each process that trains

    @model_validator(mode="after")
    def _layout_is_known(self) -> Data:
        if self.layout not in LAYOUTS:
            raise ValueError(f"no layout {self.layout!r}; there are {', '.join(LAYOUTS)}")
        return self


class Recipe(recipe.Recipe):
    """A network, how to train it, on what, and the parts of the run in their order."""

    data: Data | None = None  # none: synthetic motion clips
    workers: Annotated[int, Field(ge=0)] = 0  # processes that draw synthetic clips, for each process that trains
    held_out: Count = 200  # synthetic clips at each checkpoint
    held_out_at_end: Count = 2000
    parts: Annotated[tuple[Part, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _clips_can_be_drawn(self) -> Recipe:
        for part in self.parts:
            if self.data is None and (part.epochs is not None or part.clip_frames < 8):
                raise ValueError("synthetic clips have no epochs, give steps; and they have at least 8 frames")
        return self


def read_recipe(path: Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe in a YAML file, some of its keys changed. Raises ToolError with one sentence that names the file, the
    key and the fault.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ToolError(f"cannot read the recipe {path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ToolError(f"the recipe {path} must be a mapping of keys to values, see configs/train/default.yaml")
    try:
        return Recipe.model_validate(content | dict(changes or {}))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'] or ['parts']))}: {fault['msg']}" for fault in error.errors()
        )
        raise ToolError(f"the recipe {path} cannot be used: {faults}") from error
