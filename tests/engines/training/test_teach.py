"""What a few clips teach: what is looked at, what is held out, and which score is enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engines import EngineError, EngineSpec
from engines.training.head import Layer
from engines.training.teach import (
    Example,
    Features,
    Trial,
    confusions,
    folds,
    guarded,
    learn,
    moments,
    open_start,
    thresholds,
    try_out,
)

torch.set_num_threads(1)
LABELS = ("clap", "wave", "nothing")


def features_of(values: torch.Tensor, labels: torch.Tensor, mirrored: bool = False) -> Features:
    """One row for each example."""
    count = len(values)
    return Features(values, torch.arange(count), labels, torch.full((count,), mirrored))


def test_an_action_is_looked_at_towards_its_end_and_a_clip_of_nothing_all_along() -> None:
    assert moments(21, Example(0), idle=False) == [10, 12, 14, 16, 18, 20]
    assert moments(21, Example(0), idle=True)[0] == 2
    corrected = moments(101, Example(0, 0.5, 0.7), idle=False)
    assert (corrected[0], corrected[-1]) == (60, 70)
    assert moments(1, Example(0), idle=False) == [0]


def test_the_clips_of_each_label_are_dealt_out_evenly() -> None:
    examples = [Example(label) for label in (0, 0, 1, 0, 1, 0, 0, 0)]
    assert folds(examples) == [0, 1, 0, 2, 1, 3, 4, 0]


def test_held_out_clips_are_given_by_layers_that_never_saw_them() -> None:
    torch.manual_seed(0)
    labels = torch.arange(40) % 2
    told = torch.randn(40, 6)
    told[:, 0] += 9 * labels
    examples = [Example(int(label)) for label in labels]
    assert try_out(features_of(told, labels), examples, 2, len).accuracy == 1.0
    blind = try_out(features_of(torch.randn(40, 200), labels), examples, 2, len)
    assert blind.accuracy < 0.75  # layers that had seen them would know them all by heart


def test_mirror_images_are_learned_from_only_where_held_out_clips_gain() -> None:
    torch.manual_seed(0)
    labels = torch.arange(40) % 2
    values = torch.randn(40, 4)
    values[:, 0] += 9 * labels
    reverse = values * torch.tensor([-1.0, 1, 1, 1]) + torch.tensor([9.0, 0, 0, 0])  # as left and right would be
    both = Features(
        torch.cat([values, reverse]),
        torch.arange(40).repeat(2),
        labels.repeat(2),
        torch.tensor([False] * 40 + [True] * 40),
    )
    trial = try_out(both, [Example(int(label)) for label in labels], 2, len)
    assert (trial.accuracy, trial.mirror) == (1.0, False)


def trial_of(given: list[int], scores: list[list[float]]) -> Trial:
    return Trial(torch.tensor(given), torch.tensor(scores), 0.1, True, 1.0, 0.0)


def test_the_threshold_of_a_label_is_above_what_other_clips_reach() -> None:
    examples = [Example(0)] * 3 + [Example(1)] * 3
    scores = [[0.95, 0.1], [0.9, 0.2], [0.97, 0.1], [0.75, 0.9], [0.72, 0.55], [0.1, 0.9]]
    enter = thresholds(trial_of([0, 0, 0, 1, 1, 1], scores), examples, ("clap", "wave"))
    assert enter == {"clap": 0.8, "wave": 0.5}


def test_nothing_has_no_threshold() -> None:
    examples = [Example(0), Example(1), Example(2)]
    assert set(thresholds(trial_of([0, 1, 2], [[0.9] * 3] * 3), examples, LABELS)) == {"clap", "wave"}


def test_a_correction_raises_the_threshold_that_it_would_reach_once_more() -> None:
    layer = Layer(torch.tensor([[2.0], [0.0]]), torch.zeros(2))
    features = features_of(torch.tensor([[1.0], [-1.0]]), torch.tensor([1, 1]))
    enter = {"clap": 0.6, "wave": 0.6}
    assert guarded(enter, layer, features, [], ("clap", "wave")) == enter
    raised = guarded(enter, layer, features, [0], ("clap", "wave"))
    assert raised["wave"] == 0.6
    assert raised["clap"] == pytest.approx(0.881 + 0.02, abs=1e-3)


def test_what_held_out_clips_were_taken_for_is_told_by_label() -> None:
    examples = [Example(0), Example(0), Example(1), Example(1), Example(1)]
    lines = list(confusions(trial_of([0, 1, 1, 1, -1], [[0.0] * 2] * 5), examples, ("clap", "wave")))
    assert lines == ["  clap: 1 of 2; 1 as wave", "  wave: 2 of 2"]


def drawn(number: int, spec: EngineSpec) -> NDArray[np.uint8]:
    """Twelve frames of stripes that stand, or that move; those of an odd number move."""
    x = np.arange(spec.width)
    rows = [((x + number * 5 + (6 * t if number % 2 else 0)) // 8 % 2 * 200).astype(np.uint8) for t in range(12)]
    return np.stack([np.broadcast_to(row[None, :, None], (spec.height, spec.width, 3)) for row in rows]).copy()


def test_who_stops_at_the_second_start_keeps_the_first() -> None:
    said: list[str] = []
    asked = iter(range(6))

    def read(number: int, spec: EngineSpec) -> NDArray[np.uint8]:
        if next(asked, None) is None:
            raise KeyboardInterrupt
        return drawn(number, spec)

    examples = [Example(number % 2) for number in range(6)]
    lesson = learn(["default", "default"], ["rest", "run"], examples, read, say=said.append)
    assert said[-1] == "stopped: default was not tried to the end, default is kept"
    assert lesson.trial.accuracy == 1.0
    assert lesson.start.spec.labels == ("rest", "run")
    assert (lesson.start.spec.frames, lesson.start.net.frames) == (16, 16)
    assert lesson.start.spec.options == {"pooling": "statistics", "span": 8}
    with pytest.raises(KeyboardInterrupt):
        learn(["default"], ["rest", "run"], examples, read)


def test_clips_of_which_none_can_be_read_are_an_error() -> None:
    with pytest.raises(EngineError, match="not one of the clips can be read"):
        learn(["default"], ["rest", "run"], [Example(0)], lambda _number, _spec: None)


def test_a_start_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no model is called 'defualt'"):
        open_start("defualt", LABELS)
    with pytest.raises(EngineError, match=r"sidecar mine\.json is missing"):
        open_start(str(tmp_path / "mine.onnx"), LABELS)
