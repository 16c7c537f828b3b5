from __future__ import annotations

import numpy as np
import pytest
import torch

from engines.training.head import Layer
from tools.evaluate import unknown
from tools.evaluate.unknown import Scene, hear, learn, main
from tools.motion.paths import LEFT, RIGHT, SHAKING, STILL


def scene(*parts: tuple[int, int]) -> Scene:
    """Motions and their frames; what the last layer reads says which it is."""
    labels = np.concatenate([np.full(frames, label) for label, frames in parts])
    return Scene(torch.eye(10)[labels] + 0.01 * torch.randn(len(labels), 10), labels)


def test_a_motion_that_was_left_out_is_in_no_segment_and_no_label() -> None:
    known = [STILL, LEFT, RIGHT]
    shown = scene((STILL, 10), (LEFT, 20), (SHAKING, 20), (RIGHT, 10))
    layer = learn([shown], known)
    assert layer.weight.shape == (3, 10)
    (heard,) = hear([shown], layer, known, rate_hz=10, frames=8)
    assert [(one.label, one.start_s, one.end_s) for one in heard.segments] == [
        ("still", 0, 1), ("moving left", 1, 3), ("moving right", 5, 6),
    ]  # fmt: skip
    assert heard.times_us[0] == 700_000
    assert heard.logits[:, :3].argmax(1)[[0, 10, -1]].tolist() == [0, 1, 2]
    assert heard.length_s == 6


def test_each_set_of_motions_has_its_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(unknown, "GONE", ((SHAKING,),))
    shown = [scene((STILL, 20), (LEFT, 20), (SHAKING, 20), (RIGHT, 20))] * 3
    monkeypatch.setattr(unknown, "look", lambda *_: shown)
    sure = Layer(8 * torch.eye(10)[[k for k in range(10) if k != SHAKING]], torch.zeros(9))
    monkeypatch.setattr(unknown, "learn", lambda *_: sure)
    assert main(["default"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("without shaking, 7.5 of them a minute:")
    assert told[1] == "  100.0% found,  0.00 false events a minute  thresholds alone"


def test_a_model_without_the_drawn_motions_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing.pt"]) != 0
    assert capsys.readouterr().err.startswith("unknown: ")
