"""Recipes: what they may say, and one sentence for what they may not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.engines.training.runs import PART
from tests.tools.train.runs import TINY
from tools.errors import ToolError
from tools.train.recipe import read_recipe

FOLDERS = {"layout": "folders"}


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a tiny recipe with some keys changed; its path."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(TINY | changes), encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widht": 1}, "widht: Extra inputs are not permitted"),
        ({"parts": [PART, PART | {"steps": 0}]}, "parts.1.steps: Input should be greater than or equal to 1"),
        ({"parts": [PART | {"steps": None}]}, "parts.0: Value error, give either steps or epochs"),
        ({"parts": [PART | {"epochs": 2}], "data": FOLDERS}, "parts.0: Value error, give either steps or epochs"),
        ({"parts": [PART | {"steps": None, "epochs": 2}]}, "synthetic clips have no epochs, give steps"),
        ({"parts": [PART | {"clip_frames": 4}]}, "synthetic clips .* have at least 8 frames"),
        ({"frames": 16}, "clips of 8 frames are too short for T = 16"),
        ({"causal": False}, "the clip form takes clips of T = 4 frames, not 8"),
        ({"processes": 3}, "a batch of 4 cannot be shared evenly by 3 processes"),
        ({"data": {"layout": "folder"}}, "data: Value error, no layout 'folder'; there are .*folders"),
        ({"parts": []}, "parts: Tuple should have at least 1 item"),
        ({"freeze": [""]}, "freeze.0: String should have at least 1 character"),
        ({"freeze": "backbone"}, "freeze: Input should be a valid tuple"),
        ({"nesterov": True, "momentum": 0}, "nesterov needs a momentum"),
        ({1: 2}, "1: Keys should be strings|1.*: Input"),
    ],
)
def test_a_bad_recipe_gives_one_sentence_that_names_the_fault(
    recipe_file: Callable[..., Path], changes: dict[Any, Any], message: str
) -> None:
    path = recipe_file()
    path.write_text(yaml.safe_dump(TINY | changes), encoding="utf-8")
    with pytest.raises(ToolError, match=message) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(f"the recipe {path} cannot be used: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"- 1\n", "must be a mapping"), (b"a: [1,\nb: 2", "cannot read the recipe"), (b"\xff\xfe\xfa", "cannot read")],
)
def test_a_file_that_is_no_recipe_is_refused_in_one_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "other.yaml"
    path.write_bytes(content)
    with pytest.raises(ToolError, match=message) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"none\.yaml.*No such file"):
        read_recipe(tmp_path / "none.yaml")


def test_the_command_line_changes_keys_and_is_checked_like_them(recipe_file: Callable[..., Path]) -> None:
    recipe = read_recipe(recipe_file(init="default"), {"processes": 2, "freeze": ["backbone"]})
    assert (recipe.processes, recipe.freeze, recipe.init) == (2, ("backbone",), "default")
    with pytest.raises(ToolError, match="cannot be shared evenly by 3"):
        read_recipe(recipe_file(), {"processes": 3})
