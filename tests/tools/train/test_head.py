"""The last layer alone: what it reads is computed once, and the rest is a convex problem."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from engines import load_engine
from engines.networks import build_network
from engines.training.head import Look, imagenet
from tests.tools.sets import write_video
from tools.data.datasets import read_dataset
from tools.evaluate.scoring import score_clips
from tools.train.folds import fold_of, source_of
from tools.train.head import between_rests, main, nothing, read_between_rests, read_vectors, whole

torch.set_num_threads(1)
LOOK = Look(rate_hz=15.0, size=32, frames=4)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labels of six short clips: the same stripes at rest, or flickering."""
    root = tmp_path_factory.mktemp("films")
    for number in range(6):
        stripes = np.zeros((48, 64, 3), np.uint8)
        stripes[:, number::8] = 200
        for label, changes in (("rest", 0), ("flicker", 250)):
            images = [np.where(frame // 2 % 2, stripes, np.maximum(stripes, changes)) for frame in range(12)]
            write_video(root / label / f"film{number}_{label}_0.mp4", [image.astype(np.uint8) for image in images])
    return root


def test_clips_of_one_source_are_held_out_together() -> None:
    names = [f"Some_film_wave_f_nm_np1_ba_med_{number}.avi" for number in range(4)]
    assert {source_of(Path("wave") / name) for name in names} == {"Some_film"}
    assert source_of(Path("wave/me-12.mp4")) == "me"
    assert len({fold_of(str(number)) for number in range(50)}) == 5


def test_nothing_is_a_frame_that_is_held_still_or_panned_over_or_changes(films: Path) -> None:
    videos = read_dataset("folders", films)
    made = nothing(videos, LOOK, seed=1)
    still, panned = made(0), made(1)
    assert still.label == len(videos.labels)
    assert still.pictures is not None
    assert panned.pictures is not None
    assert still.pictures.shape == (6, 3, 32, 32)
    changes = [clip.float().diff(dim=0).abs().mean() for clip in (still.pictures, panned.pictures)]
    assert changes[0] < 6 < changes[1]
    changed = made(2).pictures
    assert changed is not None
    steps = changed.float().diff(dim=0).abs().mean((1, 2, 3))
    assert steps.max() > 3 * steps.median()
    again = made(1).pictures
    assert again is not None
    assert torch.equal(again, panned.pictures)


def test_after_a_clip_that_is_held_still_at_both_ends_comes_nothing(backbone: Path, films: Path) -> None:
    videos = read_dataset("folders", films)
    clip, held = whole(videos, LOOK)(0).pictures, between_rests(whole(videos, LOOK), LOOK)(0).pictures
    assert clip is not None
    assert held is not None
    rest = LOOK.frames - 1
    assert torch.equal(held[rest:-rest], clip)
    assert bool((held[:rest] == clip[0]).all())
    assert bool((held[-rest:] == clip[-1]).all())
    vectors = read_between_rests(imagenet(str(backbone), 3, LOOK.frames, pooling="motion"), videos, LOOK)
    count = len(videos.videos)
    assert vectors.labels.tolist() == [video.label for video in videos.videos] + [2] * count
    assert vectors.values.shape[:2] == (2 * count, 2)
    assert not torch.equal(vectors.values[:count], vectors.values[count:])


@pytest.mark.timeout(300)
def test_one_command_makes_a_model_that_tells_what_it_was_shown(
    backbone: Path, films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.build.model.STEPS", 8)
    out = tmp_path / "mine"
    options = ["--init", str(backbone), "--size", "32", "--frames", "4", "--views", "1", "--nothing", "2"]
    options += ["--sharpness", "3"]
    assert main(["--data", str(films), *options, "--out", str(out)]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "nothing: 2 clips of frames that are held still, panned over, or change" in said
    assert "nothing: after each of the 10 clips, which are held still before and after" in said
    assert re.search(r"taken, as asked for: weight decay [\d.]+, logits times 3\n", said)
    engine = load_engine(out / "mine.onnx")
    spec = engine.spec
    assert (spec.labels, spec.rate_hz, spec.events) == (
        ("flicker", "rest", "nothing"),
        15.0,
        {"background": ("nothing",)},
    )
    videos = read_dataset("folders", films)
    clips = whole(videos, LOOK)
    right = []
    for index, video in enumerate(videos.videos):
        pictures = clips(index).pictures
        assert pictures is not None
        right.append(score_clips(engine, pictures[None])[0, :2].argmax() == video.label)
    assert all(right)
    assert main(["--data", str(films), *options, "--out", str(out)]) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "there is no folder nowhere"),
        (["--data", "hmdb:here"], "unknown layout 'hmdb': did you mean 'hmdb51'"),
        (["--data", "here", "--out", "my model"], "--out my model: the model is called as the folder; take letters"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_sentence(
    arguments: list[str], message: str, backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--init", str(backbone), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_weights_of_another_backbone_are_refused(
    films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "resnet.pth"
    torch.save(build_network("tsn", "resnet18", 8, 10, causal=True).state_dict(), path)
    assert main(["--data", str(films), "--init", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "resnet.pth holds resnet18; take a file of mobilenet_v2 or efficientnet_lite0" in capsys.readouterr().err


def test_a_label_of_a_single_clip_is_told(
    backbone: Path, films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(films, tmp_path / "films")
    (data / "wave").mkdir()
    shutil.copy(next(films.glob("*/*.*")), data / "wave")
    assert main(["--data", str(data), "--init", str(backbone), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert f"{data}: a label needs 2 clips or more, not one as 'wave': add some, or leave it out" in said
    assert not (tmp_path / "out").exists()


def test_a_clip_of_two_frames_is_read_like_others(backbone: Path, tmp_path: Path) -> None:
    for label in ("a", "b"):
        write_video(tmp_path / label / "short.mp4", 2)
    net = imagenet(str(backbone), 2, 4, pooling="motion")
    vectors = read_vectors(net, whole(read_dataset("folders", tmp_path), LOOK), 2)
    assert vectors.values.shape[:2] == (2, 2)
    assert vectors.values.isfinite().all()
    assert not vectors.faults
