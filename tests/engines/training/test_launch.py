"""A whole run with a feed of one's own: from the recipe to the model."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from engines import load_engine
from engines.errors import EngineError
from engines.training.feed import Feed
from engines.training.launch import train
from tests.engines.training.runs import LABELS, PART, Shades, recipe_of

torch.set_num_threads(1)


def test_a_run_ends_with_a_model_and_says_where_it_is(tmp_path: Path) -> None:
    recipe, out, said = recipe_of(network="tsn", parts=[PART]), tmp_path / "shades", list[str]()
    assert train(recipe, partial(Shades, recipe), out, device="cpu", say=said.append) == 0
    spec = load_engine(out / "shades.onnx").spec
    assert (spec.labels, spec.mode, spec.rate_hz) == (LABELS, "stream", 10.0)
    assert said == [f"wrote {out / 'shades.onnx'}, {spec.version}: try `streamer run --model {out / 'shades.onnx'}`"]


def test_clips_that_cannot_be_used_end_the_run_with_the_feeds_own_words(tmp_path: Path) -> None:
    def no_clips(_processes: int) -> Feed:
        raise EngineError("there is no folder clips")

    with pytest.raises(EngineError, match=r"^there is no folder clips$"):
        train(recipe_of(), no_clips, tmp_path / "out", device="cpu")
