"""Where clips come from: drawn ones by the number of their step, a data set's by epoch and video, and results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engines.networks import Network
from engines.training.feed import IGNORE, Batch, Feed
from engines.training.initial import build
from tests.engines.training.runs import same
from tests.tools.sets import folders, write_frames, write_lines
from tests.tools.train.runs import CLIP, recipe_of, set_recipe
from tools.errors import ToolError
from tools.motion.paths import LABELS
from tools.train.feeds import MotionReport, Motions, VideoReport, open_feed
from tools.train.recipe import Recipe


@pytest.fixture(scope="module")
def hands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labels, for each two videos for training and one to hold out."""
    root = tmp_path_factory.mktemp("hands")
    folders(root)
    return root


def batches(
    recipe: Recipe, begin: int = 0, rank: int = 0, world: int = 1, part: int = 0, before: int = 0
) -> list[Batch]:
    return list(open_feed(recipe, world).batches(part, begin, before, rank))


class Says(Network):
    """Gives every clip the same scores, one row for each frame, and remembers the clips' shapes."""

    def __init__(self, *scores: float) -> None:
        torch.nn.Module.__init__(self)
        self.scores = torch.nn.Parameter(torch.tensor(scores))
        self.shapes: list[tuple[int, ...]] = []

    def frame_logits(self, clip: Tensor) -> Tensor:
        self.shapes.append(tuple(clip.shape))
        return self.scores.expand(*clip.shape[:2], -1)


# ------------------------------------------------------------------------------------------------ synthetic motion


def test_drawn_clips_are_told_by_their_step_and_no_two_steps_or_processes_share_them() -> None:
    recipe = recipe_of()
    whole = batches(recipe) + batches(recipe, part=1, before=2)
    assert [len(batch.labels) for batch in whole] == [4] * 6
    assert len({batch.clips.numpy().tobytes() for batch in whole}) == 6
    assert same(batches(recipe, begin=2, part=1, before=2), whole[4:])
    shares = [batches(recipe, rank=rank, world=2)[0] for rank in (0, 1)]
    assert [len(share.labels) for share in shares] == [2, 2]
    assert not torch.equal(shares[0].clips, shares[1].clips)


def test_drawn_clips_of_t_frames_have_one_label_and_longer_ones_one_for_each_frame() -> None:
    (longer, _), (short, _) = batches(recipe_of()), batches(recipe_of(frames=8))
    assert longer.clips.shape == (4, 8, 3, 32, 32)
    assert longer.labels.shape == (4, 8)
    assert torch.equal(short.labels, longer.labels[:, -1])


def test_workers_draw_the_same_clips() -> None:
    assert same(batches(recipe_of(workers=1)), batches(recipe_of()))


def held_out_motions(net: Network, **changes: Any) -> MotionReport:
    report = open_feed(recipe_of(**changes), 1).held_out(net, last=False)
    assert isinstance(report, MotionReport)
    return report


def test_the_report_counts_every_steady_frame_once() -> None:
    report = held_out_motions(build(recipe_of(), LABELS))
    assert report.frames == int(report.confusion.sum()) > 0
    assert report.accuracy == pytest.approx(int(report.confusion.trace()) / report.frames)
    assert 30 < report.clips <= 40  # four of each label, less those whose last frame has none
    assert "moving left" in str(report)


def test_a_network_that_always_says_left_is_right_about_a_tenth_of_the_clips() -> None:
    report = held_out_motions(Says(0.0, 1.0, *[0.0] * 8))
    assert report.confusion[:, 1].sum() == report.frames
    assert report.clip_accuracy == pytest.approx(4 / report.clips, abs=0.03)


def test_clips_with_one_label_are_asked_once() -> None:
    report = held_out_motions(Says(0.0, 1.0, *[0.0] * 8), frames=8)
    assert report.frames == report.clips


def test_answers_that_are_no_numbers_are_an_error() -> None:
    with pytest.raises(ToolError, match="no numbers; take a smaller learning_rate"):
        Motions(recipe_of(), 1).held_out(Says(0.0, float("nan"), *[0.0] * 8), last=False)


# ------------------------------------------------------------------------------------------------ videos of a set


def feed_of(root: Path | None, *parts: dict[str, Any], **changes: Any) -> Feed:
    return open_feed(set_recipe(root, *parts, **changes), 1)


def test_an_epoch_shows_each_video_once_and_repeats_more_often(hands: Path) -> None:
    for repeats in (1, 2):
        recipe = set_recipe(hands, repeats=repeats)
        assert open_feed(recipe, 1).steps(0) == 9 * repeats
        found = batches(recipe)
        assert len(found) == 9 * repeats
        for epoch in range(3):
            seen = torch.cat([batch.indices for batch in found[epoch * 3 * repeats : (epoch + 1) * 3 * repeats]])
            assert sorted(seen.tolist()) == list(range(6 * repeats))


def test_a_part_may_be_told_in_steps(hands: Path) -> None:
    recipe = set_recipe(hands, CLIP | {"epochs": None, "steps": 5})
    assert len(batches(recipe)) == 5


def test_a_run_that_goes_on_in_mid_epoch_gets_the_clips_that_it_would_have_got(hands: Path) -> None:
    recipe = set_recipe(hands)
    assert same(batches(recipe, begin=4), batches(recipe)[4:])


def test_each_part_draws_other_clips(hands: Path) -> None:
    recipe = set_recipe(hands, CLIP, CLIP)
    assert not same(batches(recipe), batches(recipe, part=1, before=9))


def test_processes_share_the_videos_of_an_epoch(hands: Path) -> None:
    recipe = set_recipe(hands)
    shares = [batches(recipe, rank=rank, world=2) for rank in (0, 1)]
    for epoch in range(3):
        seen = [int(index) for share in shares for batch in share[3 * epoch : 3 * epoch + 3] for index in batch.indices]
        assert sorted(seen) == list(range(6))


def test_longer_clips_ask_every_frame_from_the_tth_on(hands: Path) -> None:
    batch = batches(set_recipe(hands, CLIP | {"clip_frames": 6}, sampling="steady"))[0]
    assert batch.labels.shape == (2, 6)
    assert (batch.labels[:, :3] == IGNORE).all()
    assert (batch.labels[:, 3:] == batch.labels[:, 3:4]).all()
    assert (batch.labels[:, 3:] >= 0).all()


def held_out_videos(net: Network, feed: Feed) -> VideoReport:
    report = feed.held_out(net, last=False)
    assert isinstance(report, VideoReport)
    return report


def test_a_network_that_always_says_the_second_label_is_right_about_its_videos(hands: Path) -> None:
    report = held_out_videos(Says(0.1, 0.7, 0.2), feed_of(hands))
    assert report.accuracy == pytest.approx(1 / 3)
    assert str(report) == "top-1 33.3%, top-5 100.0% of 3 videos"


def test_a_stream_sees_whole_videos_and_the_clip_form_parts_of_t_frames(hands: Path) -> None:
    net = Says(0.0, 0.0, 1.0)
    held_out_videos(net, feed_of(hands, sampling="steady"))  # 12 frames at 30/s are 4 at 10/s
    assert net.shapes == [(1, 4, 3, 32, 32)] * 3
    net = Says(0.0, 0.0, 1.0)
    recipe = set_recipe(hands, sampling="steady").model_copy(update={"fps": 30.0})
    held_out_videos(net, open_feed(recipe, 1))
    assert net.shapes == [(1, 12, 3, 32, 32)] * 3
    net = Says(0.0, 0.0, 1.0)
    recipe = set_recipe(hands, causal=False, sampling="steady").model_copy(update={"fps": 25.0})  # 10 frames
    assert held_out_videos(net, open_feed(recipe, 1)).accuracy == pytest.approx(1 / 3)
    assert net.shapes == [(2, 4, 3, 32, 32)] * 3


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Frame folders in two splits of two labels; the last one of each has a frame that is none."""
    for split in ("train", "validation"):
        for label in ("jump", "run"):
            for number in range(2):
                folder = write_frames(tmp_path / split / label / str(number), 5)
        (folder / "00001.jpg").write_bytes(b"no picture")
        for path in folder.glob("*.jpg"):
            path.write_bytes(b"no picture")
    return tmp_path


def test_what_cannot_be_read_is_left_out_and_listed(broken: Path) -> None:
    found = batches(set_recipe(broken, CLIP | {"epochs": 1}))
    assert sum(len(batch.labels) for batch in found) == 3
    (fault,) = (fault for batch in found for fault in batch.faults)
    assert "run/1" in fault
    report = held_out_videos(Says(1.0, 0.0), feed_of(broken))
    assert report.accuracy == pytest.approx(2 / 3)
    assert report.videos == 3
    assert f"left out: {report.faults[0]}" in str(report)


def test_held_out_videos_of_which_none_can_be_read_are_an_error(broken: Path) -> None:
    for path in (broken / "validation").rglob("*.jpg"):
        path.write_bytes(b"no picture")
    with pytest.raises(ToolError, match=r"none of the 4 held-out videos can be used: .*jump/0"):
        held_out_videos(Says(1.0, 0.0), feed_of(broken))


def test_missing_videos_are_told(hands: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_lines(tmp_path / "category.txt", "jump")
    for split in ("train", "val"):
        write_frames(tmp_path / f"{split}_0", 5, "img_{:05d}.jpg")
        write_lines(tmp_path / f"{split}_videofolder.txt", f"{split}_0 5 0", f"{split}_1 5 0")
    feed_of(tmp_path, layout="list")
    assert "2 videos of the data set are missing, among them" in caplog.text
    assert "train_1" in caplog.text


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (None, r"where is the data set\? give --data FOLDER"),
        (Path("/nothing/here"), "there is no folder /nothing/here"),
    ],
)
def test_a_data_set_that_is_not_there_is_told(root: Path | None, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        feed_of(root)


def test_a_batch_larger_than_the_set_is_refused(hands: Path) -> None:
    feed = feed_of(hands, CLIP | {"batch": 8})
    with pytest.raises(ToolError, match="a batch of 8 clips is more than the 6 for training"):
        feed.steps(0)


def test_held_out_videos_of_other_labels_are_refused(broken: Path) -> None:
    (broken / "validation" / "run").rename(broken / "validation" / "ran")
    with pytest.raises(ToolError, match="the label 'ran' is not among the 2 labels"):
        feed_of(broken)


def test_a_class_without_a_clip_is_refused(broken: Path) -> None:
    (broken / "train" / "walk").mkdir()
    with pytest.raises(ToolError, match="no clip to train 'walk'"):
        feed_of(broken)
