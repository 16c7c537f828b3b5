"""People's actions from ImageNet features: which clips decide what, and that features are computed once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from engines.training.head import Look, Vectors, at_shares
from tests.tools.sets import hmdb51
from tools.compare import few, jhmdb, shots
from tools.compare.__main__ import main
from tools.errors import ToolError

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labels of four clips, two of them to learn from and one to be asked about in each split."""
    root = tmp_path_factory.mktemp("jhmdb")
    hmdb51(root)
    return root


def test_every_clip_is_read_once_and_no_split_asks_about_what_it_learned(clips: Path) -> None:
    videos, rows = jhmdb.everything(clips)
    assert len(videos.videos) == len({video.path for video in videos.videos}) == 12
    for split in jhmdb.SPLITS:
        train, test = (set(rows[kind][split].tolist()) for kind in ("train", "validation"))
        assert (len(train), len(test)) == (6, 3) or (len(train), len(test)) == (3, 6)
        assert not train & test


def test_a_split_that_has_nothing_to_learn_a_label_from_is_told(clips: Path, tmp_path: Path) -> None:
    root = shutil.copytree(clips, tmp_path / "set")
    for file in root.rglob("*_test_split2.txt"):
        file.write_text("".join(f"{line.split()[0]} 2\n" for line in file.read_text().splitlines()))
        break
    with pytest.raises(ToolError, match="add clips, or remove the label"):
        jhmdb.everything(root)


def test_the_answer_after_a_share_is_the_newest_frames() -> None:
    vectors = torch.arange(10.0)[:, None]
    assert at_shares(vectors).flatten().tolist() == [4, 9, 1, 3, 5, 7, 9]
    assert at_shares(vectors[:1]).flatten().tolist() == [0] * 7


def test_other_weights_or_another_look_are_other_features(tmp_path: Path) -> None:
    names = set()
    for content in (b"a", b"b"):
        (tmp_path / "weights.pt").write_bytes(content)
        for look in (Look(), Look(rate_hz=10), Look(size=224)):
            names.add(jhmdb.kept_as(tmp_path / "weights.pt", "mean", look))
    assert len(names) == 6


@pytest.mark.timeout(300)
def test_one_command_measures_all_splits_and_goes_on_from_the_features_that_it_kept(
    clips: Path, backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jhmdb, "step_ms", lambda *_: 1.25)
    command = ["jhmdb", "--data", str(clips), "--init", str(backbone), "--out", str(tmp_path / "out")]
    command += ["--size", "32", "--views", "1", "--untrained", "--pooling", "motion"]
    assert main(command) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert said.count(": 12 clips") == 4  # two starts, whole clips and varied ones
    *_, of_imagenet, of_nothing = said.splitlines()
    assert of_imagenet.startswith("| mobilenet_v2 | ImageNet | motion |")
    assert of_nothing.startswith("| mobilenet_v2 | nothing | motion |")
    assert of_imagenet.endswith("| 1.2 ms |")
    assert main(command) == 0
    again = capsys.readouterr().out
    assert "12 clips" not in again
    assert again.splitlines()[-2] == of_imagenet


def few_vectors() -> tuple[Vectors, torch.Tensor, torch.Tensor]:
    """Six labels of 24 clips, told apart by their vectors; the halves to learn from and to be asked about."""
    labels = torch.arange(6).repeat_interleave(24)
    values = torch.nn.functional.one_hot(labels, 8).float()[:, None] + 0.01 * torch.randn(144, 2, 8)
    rows = torch.arange(144)
    return Vectors(values, labels), rows[rows % 2 == 0], rows[rows % 2 == 1]


def test_a_draw_learns_from_so_many_clips_of_five_labels_and_asks_about_the_other_half() -> None:
    vectors, train, test = few_vectors()
    learned, asked, chosen = shots.draw(vectors.labels, train, test, 10, seed=0)
    assert len(chosen) == 5
    assert vectors.labels[learned].bincount(minlength=6)[chosen].tolist() == [10] * 5
    assert set(asked.tolist()) <= set(test.tolist())
    assert len(asked) == 60
    assert any(shots.draw(vectors.labels, train, test, 10, seed)[2] != chosen for seed in range(1, 9))
    with pytest.raises(ToolError, match="only 0 labels have 13 clips to learn from; 5 are needed"):
        shots.draw(vectors.labels, train, test, 13, seed=0)


def test_labels_that_are_told_apart_are_right_in_every_draw() -> None:
    vectors, train, test = few_vectors()
    found, seconds = few.measure([vectors], train, test, draws=2)
    assert found == {5: (1.0, 1.0), 10: (1.0, 1.0)}
    assert few.line(few.Result("it", found, seconds)).startswith("| it | 100.0 ± 0.0 % | 100.0 ± 0.0 % |")


def test_other_labels_teach_in_which_directions_clips_of_one_label_differ() -> None:
    vectors, train, test = few_vectors()
    noisy = 6 * torch.randn(*vectors.values.shape[:2], 2) @ torch.randn(2, 8) + vectors.values
    vectors = Vectors(noisy, vectors.labels)
    alone, _ = few.measure([vectors], train, test, draws=4)
    taught, _ = few.measure([vectors], train, test, draws=4, others=True)
    assert sum(taught[5]) > sum(alone[5]) + 0.2


def test_of_few_clips_directions_count_and_not_how_long_their_vectors_are() -> None:
    labels = torch.arange(5).repeat_interleave(2)
    values = torch.nn.functional.one_hot(labels, 5).float()
    values[::2, 0] += 0.5  # one clip of each label looks like label 0, too
    longer = values.clone()
    longer[::2] *= 30
    means = shots.nearest(longer, labels)
    assert torch.allclose(means, shots.nearest(values, labels))
    assert (values[1::2] @ means.T).argmax(1).tolist() == [0, 1, 2, 3, 4]


def test_the_layer_answers_vectors_as_they_are_like_the_nearest_mean_of_whitened_ones() -> None:
    vectors, train, _ = few_vectors()
    learned = train[vectors.labels[train] < 5]
    layer = shots.with_others(vectors, train, learned, [0, 1, 2, 3, 4])
    whitening = shots.Whitening(vectors, train[vectors.labels[train] == 5])
    known, labels = vectors.values[learned].flatten(0, 1), vectors.labels[learned].repeat_interleave(2)
    wanted = whitening(known) @ shots.nearest(whitening(known), labels).T
    assert torch.allclose(layer(known), wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


def test_a_set_that_is_too_small_for_few_clips_is_told(
    clips: Path, backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few, "LOOK", Look(size=32, frames=4))
    command = ["few", "--data", str(clips), "--init", str(backbone), "--out", str(tmp_path), "--views", "0"]
    assert main(command) == 2
    assert "only 0 labels have 5 clips to learn from" in capsys.readouterr().err
    assert main([*command[:3], "--init", "nowhere.pth"]) == 2
    assert "nowhere.pth: cannot be read" in capsys.readouterr().err
