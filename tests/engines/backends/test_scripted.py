from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engines import EngineError, load_engine, probabilities
from tools.cameras.barcode import barcode

SCRIPT = {"labels": ["a", "b"], "scores": [[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], "frames": 2, "height": 4, "width": 6}


def write(path: Path, **changes: object) -> Path:
    path.write_text(json.dumps(SCRIPT | changes))
    return path


def test_a_script_is_played_over_and_over_by_each_row_from_its_start(tmp_path: Path) -> None:
    engine = load_engine(write(tmp_path / "two.scores.json"))
    state = engine.new_state(2)
    frames, go = np.zeros((2, 4, 6, 3), np.uint8), np.ones(2, np.bool_)
    played: list[list[float]] = []
    readiness: list[list[bool]] = []
    for n in range(5):
        logits, ready = engine.step(frames, go, np.array([False, n == 3]), state)
        played.append([round(float(p), 3) for p in probabilities(logits)[:, 0]])
        readiness.append(ready.tolist())
    assert played == [[0.9, 0.9], [0.2, 0.2], [0.5, 0.5], [0.9, 0.9], [0.2, 0.2]]
    assert readiness == [[False, False], [True, True], [True, True], [True, False], [True, True]]
    assert (engine.spec.name, engine.spec.labels) == ("two", ("a", "b"))


def test_a_script_may_follow_the_numbers_that_the_pictures_show(tmp_path: Path) -> None:
    engine = load_engine(write(tmp_path / "two.scores.json", order="pictures", height=32, width=40))
    frames = np.stack([barcode(number, 32, 40) for number in (0, 1, 2, 1022)])
    go, no = np.ones(4, np.bool_), np.zeros(4, np.bool_)
    state = engine.new_state(4)
    for ready_now in (False, True):
        logits, ready = engine.step(frames, go, no, state)
        assert [round(float(p), 3) for p in probabilities(logits)[:, 0]] == [0.9, 0.2, 0.5, 0.5]  # 1022 % 3 == 2
        assert ready.tolist() == [ready_now] * 4


def test_any_model_can_be_scripted_to_show_each_of_its_labels(model_folder: Path) -> None:
    engine = load_engine(model_folder / "small.onnx", backend="scripted")
    state, frames = engine.new_state(1), np.zeros((1, 48, 64, 3), np.uint8)
    yes, no = np.ones(1, np.bool_), np.zeros(1, np.bool_)
    seen = [int(engine.step(frames, yes, no, state)[0].argmax()) for _ in range(100)]
    assert seen == [label for label in range(5) for _ in range(20)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": [[0.5]]}, "rows of 2 numbers"),
        ({"scores": [[0.5, 0.5], [1.0]]}, "is not a script of scores"),
        ({"scores": [[0.5, 1.5]]}, "from 0 to 1"),
        ({"scores": []}, "rows of 2 numbers"),
        ({"speed": 2}, "speed"),
    ],
)
def test_a_script_that_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        load_engine(write(tmp_path / "bad.scores.json", **changes))


def test_a_missing_script_is_told(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot be read: No such file"):
        load_engine(tmp_path / "nothing.scores.json")
