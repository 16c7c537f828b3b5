"""Tiny training runs on the clips of the tools: drawn ones, or those of a folder."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.engines.training import runs
from tests.engines.training.runs import PART
from tools.train.feeds import open_feed
from tools.train.recipe import Recipe

TINY = runs.TINY | {"held_out": 8, "held_out_at_end": 8}
CLIP = PART | {"steps": None, "epochs": 3, "batch": 2, "clip_frames": 4}  # of a video

trainer_of = partial(runs.trainer_of, open_feed=open_feed)
interrupt = partial(runs.interrupt, open_feed=open_feed)
resume = partial(runs.resume, open_feed=open_feed)


def recipe_of(**changes: Any) -> Recipe:
    """The tiny recipe, some keys changed."""
    return Recipe.model_validate(TINY | changes)


def set_recipe(root: object, *parts: dict[str, Any], causal: bool = True, **data: Any) -> Recipe:
    """On a folder of videos; keys of `data`."""
    return recipe_of(causal=causal, parts=parts or [CLIP], data={"layout": "folders", "root": root, **data}, fit="crop")
