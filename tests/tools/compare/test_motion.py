"""The table of the networks: the clips are the same for all, and each line says what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from engines.training.feed import IGNORE
from engines.training.recipe import Part, Recipe
from tools.compare.motion import FRAMES, SIZE, Row, draw, main, table
from tools.compare.training import Drawn, accuracy
from tools.motion.paths import LABELS


def test_clips_are_the_same_each_time_and_all_labels_are_alike_often() -> None:
    clips, labels = draw(40, seed=3)
    again, _ = draw(40, seed=3)
    assert torch.equal(clips, again)
    assert clips.shape[1:] == (FRAMES, 3, SIZE, SIZE)
    counts = labels.bincount(minlength=len(LABELS))
    assert counts.max() <= 4
    assert IGNORE not in labels


def test_training_and_held_out_clips_differ() -> None:
    (first, _), (second, _) = draw(10, 0), draw(10, 1)
    assert not any(torch.equal(a, b) for a in first for b in second)


def test_an_epoch_shows_every_clip_once_in_an_order_of_its_own_that_the_seed_decides(tmp_path: Path) -> None:
    torch.save({"clips": torch.zeros(64, FRAMES, 3, 8, 8), "labels": torch.arange(64)}, tmp_path / "clips.pt")
    part = Part(steps=4, batch=32, size=SIZE, learning_rate=1.0, clip_frames=FRAMES)

    def orders(seed: int, begin: int = 0) -> list[list[int]]:
        recipe = Recipe(network="tsn", backbone="resnet18", seed=seed, parts=(part,))
        return [batch.labels.tolist() for batch in Drawn(tmp_path / "clips.pt", recipe).batches(0, begin, 0, 0)]

    first, second, third, fourth = orders(seed=5)
    assert sorted(first + second) == sorted(third + fourth) == list(range(64))
    assert first + second != third + fourth
    assert orders(seed=5, begin=3) == [fourth]
    assert orders(seed=6)[0] != first


def test_the_answer_to_a_clip_is_the_mean_of_its_frames_logits() -> None:
    class Fixed(torch.nn.Module):
        def frame_logits(self, clips: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(len(clips), FRAMES, 3)
            logits[:, 0, 0], logits[:, 1:, 1] = 5.0, 1.0  # one frame is loud for 0, seven are for 1: 5/8 < 7/8
            return logits

    clips = torch.zeros(4, FRAMES, 3, 8, 8, dtype=torch.uint8)
    assert accuracy(Fixed(), clips, torch.tensor([1, 1, 1, 0])) == 0.75  # type: ignore[arg-type]


def test_the_table_tells_what_the_causal_form_loses() -> None:
    rows = [
        Row("tsn", "causal", 0.1, 0.0, 900_000, 14_000_000, 2.0, 60.0),
        Row("tcm", "clip", 0.9, 0.02, 910_000, 124_000_000, 20.0, 60.0),
        Row("tcm", "causal", 0.85, 0.0, 910_000, 16_000_000, 4.0, 60.0),
    ]
    lines = table(rows).splitlines()
    assert lines[2] == "| tsn | either | 10.0% |  | 0.90 M | 14.0 M | 2.00 ms | 500 |"
    assert lines[3] == "| tcm | clip | 90.0% ± 1.0% |  | 0.91 M | 124.0 M | 20.00 ms | 50 |"
    assert lines[4] == "| tcm | causal | 85.0% | 5.0 | 0.91 M | 16.0 M | 4.00 ms | 250 |"


@pytest.mark.timeout(300)
def test_one_command_trains_measures_and_writes_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.json"
    assert main(["--networks", "tsn", "--clips", "40", "--epochs", "1", "--jobs", "1", "--json", str(rows)]) == 0
    (row,) = json.loads(rows.read_text())
    assert (row["network"], row["form"]) == ("tsn", "causal")
    assert 0 <= row["top1"] <= 1
    assert row["step_ms"] > 0
    assert "| tsn | either |" in capsys.readouterr().out


def test_too_few_clips_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--clips", "3"])
    assert "--clips must be at least 32" in capsys.readouterr().err
