"""Batches from real videos: the wanted frames, flips with their labels, and videos that cannot be read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines.opencv import cv2
from engines.training.augment import Augment
from engines.training.feed import Batch
from engines.training.mirror import mirror_labels
from tests.tools.sets import HEIGHT, LEFT_RIGHT, SETS, WIDTH, numbers, picture, write_frames, write_lines, write_video
from tools.data.clips import Clip, TestClips, TrainClips, View, batches_per_epoch, loader
from tools.data.datasets import LAYOUTS, Video, VideoSet, read_dataset
from tools.data.decode import MOST_BYTES, UnreadableError, read_pictures
from tools.errors import ToolError

PLAIN = Augment(scales=(1.0,), flip=False)
STRONG = Augment(colour=0.4, speed=0.5, rotation=8, translation=0.1, erase=0.3, grey=0.2, blur=0.2, noise=8)


def set_of(*paths: Path, labels: tuple[str, ...] = ("only",)) -> VideoSet:
    """The videos with labels 0, 1, ... in turn."""
    videos = tuple(Video(path, number % len(labels)) for number, path in enumerate(paths))
    return VideoSet(labels, videos, mirror_labels(labels))


def pictures_of(clip: Clip) -> torch.Tensor:
    assert clip.pictures is not None, clip.fault
    return clip.pictures


def same(first: Batch, second: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first[:3], second[:3], strict=True)) and first[3:] == second[3:]


@pytest.fixture
def hands(tmp_path: Path) -> VideoSet:
    """Three labels, three clips each."""
    for number in range(9):
        write_video(tmp_path / LEFT_RIGHT[number % 3] / f"{number}.mp4", 6 + number)
    paths = sorted(tmp_path.rglob("*.mp4"))
    return VideoSet(
        LEFT_RIGHT,
        tuple(Video(path, LEFT_RIGHT.index(path.parent.name)) for path in paths),
        mirror_labels(LEFT_RIGHT),
    )


# ---------------------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_videos_of_every_layout_give_clips(layout: str, tmp_path: Path) -> None:
    SETS[layout](tmp_path)
    videos = read_dataset(layout, tmp_path)
    (batch,) = loader(TrainClips(videos, View(frames=4, size=32), Augment()), batch=len(videos.videos))
    assert batch.faults == batch.damaged == ()
    assert batch.clips.shape == (len(videos.videos), 4, 3, 32, 32)
    assert (np.diff(numbers(batch.clips), axis=1) > 0).all()


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".webm", ".mkv"])
def test_tests_see_exactly_the_frames_of_the_formula(suffix: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / f"clip{suffix}", 24)
    for view, expected in (
        (View(frames=8, size=32), [[1, 4, 7, 10, 13, 16, 19, 22]]),
        (View(frames=4, size=32, clips=2), [[3, 9, 15, 21], [0, 6, 12, 18]]),
        (View("dense", frames=8, size=32, clips=2), [[0, 8, 16, 0, 8, 16, 0, 8]] * 2),
        (View("steady", frames=4, size=32, fps=10), [[0, 3, 6, 9, 12, 15, 18, 21]]),
        (View("steady", frames=8, size=32, fps=6), [[0, 5, 10, 15, 20, 23, 23, 23]]),
    ):
        assert numbers(pictures_of(TestClips(set_of(path), view)[0, 0])).tolist() == expected


def test_a_rate_is_that_of_the_timestamps_whatever_the_header_says(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mkv", 24, fps=1000, times_s=[number / 30 for number in range(24)])
    clip = TestClips(set_of(path), View("steady", frames=4, size=32, fps=10))[0, 0]
    assert clip.damage == ""
    assert abs(numbers(pictures_of(clip))[0][:8] - np.arange(0, 24, 3)).max() <= 1


def test_folders_of_frames_are_numbered_from_one_and_may_tell_their_rate(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "frames", 12, "img_{:05d}.jpg")
    (folder / "flow_x_00001.jpg").touch()
    for video, expected in (
        (Video(folder, 0, pattern="img_{:05d}.jpg"), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        (Video(folder, 0, pattern="img_{:05d}.jpg", fps=20), [0, 2, 4, 6, 8, 10]),
        (Video(folder, 0, frames=4, pattern="img_{:05d}.jpg"), [0, 1, 2, 3]),
    ):
        clips = TestClips(VideoSet(("only",), (video,), (0,)), View("steady", frames=4, size=32, fps=10))
        assert numbers(pictures_of(clips[0, 0])).tolist() == [expected]


def test_pictures_are_rgb(tmp_path: Path) -> None:
    red = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    red[..., 2] = 255  # BGR
    clips = TestClips(set_of(write_video(tmp_path / "red.mp4", [red] * 4)), View(frames=2, size=32))
    colour = pictures_of(clips[0, 0]).float().mean(dim=(0, 1, 3, 4))
    assert colour[0] > 200
    assert colour[1:].max() < 30


def test_a_video_that_was_taken_upright_is_turned(tmp_path: Path) -> None:
    half = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    half[:, : WIDTH // 2] = 255
    path = write_video(tmp_path / "phone.mp4", [half] * 4)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    quarter = [0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30]  # show it turned clockwise
    content[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in quarter)
    path.write_bytes(content)
    clips = TestClips(set_of(path), View(frames=2, size=32, crops="full", short_side=HEIGHT))
    shown = pictures_of(clips[0, 0])
    assert shown.shape == (1, 2, 3, WIDTH, HEIGHT)
    assert shown[..., : WIDTH // 4, :].min() > 200
    assert shown[..., -WIDTH // 4 :, :].max() < 50


# ------------------------------------------------------------------------------------------------------------ views


def test_views_are_clips_by_crops(tmp_path: Path) -> None:
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64], wide[:, 64:] = 100, 200
    path = write_video(tmp_path / "wide.mkv", [wide] * 20)
    clips = TestClips(set_of(path), View(frames=2, size=32, short_side=32, clips=2, crops=3))
    shown = pictures_of(clips[0, 0])
    assert tuple(shown.shape) == clips.shape == (6, 2, 3, 32, 32)
    assert shown.float().mean(dim=(1, 2, 3, 4)).tolist() == pytest.approx([0, 0, 100, 100, 200, 200], abs=8)


def test_whole_pictures_keep_their_shape_and_resizing_does_not(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4")
    whole = TestClips(set_of(path), View(frames=2, size=32, crops="full", short_side=24))
    assert pictures_of(whole[0, 0]).shape == (1, 2, 3, 24, 32)
    square = TestClips(set_of(path), View(frames=2, size=24, crops="full", short_side=24, resize=(48, 48)))
    assert pictures_of(square[0, 0]).shape == (1, 2, 3, 24, 24)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampling": "steady"}, "fps must be positive with steady"),
        ({"fps": 10}, "absent without"),
        ({"sampling": "steady", "fps": 10, "clips": 2}, "the whole video in one clip, not in 2"),
        ({"sampling": "dense", "frames": 65}, "at most 64 frames, not 65"),
        ({"frames": 0}, "must be at least 1"),
        ({"short_side": 200}, "a crop of 224 pixels does not fit in a shorter side of 200"),
    ],
)
def test_views_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ToolError, match=message):
        View(**settings)


# --------------------------------------------------------------------------------------------------------- training


def test_a_flipped_clip_has_the_label_of_its_mirror_image(tmp_path: Path) -> None:
    """Clips whose left half is bright, called left, unless they are flipped."""
    half = np.zeros((32, 32, 3), np.uint8)
    half[:, :16] = 255
    labels = ("swipe left", "swipe right", "wave", "lean left")
    paths = [write_video(tmp_path / f"{number}.mp4", [half] * 4) for number in range(4)]
    clips = TrainClips(set_of(*paths, labels=labels), View(frames=2, size=32), Augment(scales=(1.0,)))
    seen: Counter[tuple[str, str, str]] = Counter()
    for epoch in range(12):
        for index in range(4):
            clip = clips[epoch, index]
            bright_left = bool(pictures_of(clip)[..., :16].float().mean() > 128)
            seen[labels[index], labels[clip.label], "" if bright_left else "flipped"] += 1
    assert set(seen) == {
        ("swipe left", "swipe left", ""),
        ("swipe left", "swipe right", "flipped"),
        ("swipe right", "swipe right", ""),
        ("swipe right", "swipe left", "flipped"),
        ("wave", "wave", ""),
        ("wave", "wave", "flipped"),
        ("lean left", "lean left", ""),
    }


@pytest.mark.parametrize(
    "view",
    [View(frames=4, size=32), View("dense", frames=4, size=32), View("steady", frames=4, size=32, fps=10)],
    ids=lambda view: view.sampling,
)
def test_the_same_key_gives_the_same_clip_and_another_epoch_another_one(view: View, tmp_path: Path) -> None:
    videos = set_of(write_video(tmp_path / "clip.mp4", 40))
    first, again = (TrainClips(videos, view, STRONG, seed=1)[3, 0] for _ in range(2))
    assert torch.equal(pictures_of(first), pictures_of(again))
    assert not torch.equal(pictures_of(first), pictures_of(TrainClips(videos, view, STRONG, seed=1)[4, 0]))
    assert not torch.equal(pictures_of(first), pictures_of(TrainClips(videos, view, STRONG, seed=2)[3, 0]))


def test_speed_changes_the_distance_of_frames(tmp_path: Path) -> None:
    videos = set_of(write_video(tmp_path / "clip.mp4", 40))
    fast = Augment(scales=(1.0,), flip=False, speed=1.0)
    spans = []
    for view in (View("steady", frames=4, size=32, fps=10), View("dense", frames=4, size=32), View(frames=4, size=32)):
        shown = [numbers(pictures_of(TrainClips(videos, view, fast)[epoch, 0])) for epoch in range(12)]
        steps = [float(np.diff(clip)[0]) for clip in shown]
        spans.append((min(steps), max(steps)))
    normal = (3, 16, 10)
    assert all(low < step < high <= 2 * step for (low, high), step in zip(spans[:2], normal[:2], strict=True))
    assert spans[2][0] <= 5  # 10, and never faster


def test_an_epoch_shows_every_video_once_in_an_order_of_its_own(hands: VideoSet) -> None:
    clips = TrainClips(hands, View(frames=2, size=32), PLAIN)
    orders = []
    for epoch in range(2):
        batches = list(loader(clips, batch=3, epoch=epoch))
        orders.append([index for batch in batches for index in batch.indices.tolist()])
        assert [batch.labels.tolist() for batch in batches] == [
            [hands.videos[index].label for index in batch.indices] for batch in batches
        ]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(9))
    assert orders[0] != orders[1]


def test_a_resumed_loader_gives_the_rest(hands: VideoSet) -> None:
    clips = TrainClips(hands, View(frames=2, size=32), STRONG)
    whole = list(loader(clips, batch=2, epoch=1, until=3))
    rest = list(loader(clips, batch=2, epoch=1, start=3, until=3))
    assert len(whole) == 2 * batches_per_epoch(clips, 2) == 8
    assert len(rest) == len(loader(clips, batch=2, epoch=1, start=3, until=3)) == 5
    assert all(same(first, second) for first, second in zip(whole[3:], rest, strict=True))
    assert [batch.indices.tolist() for batch in loader(clips, batch=2, epoch=2)] == [
        batch.indices.tolist() for batch in whole[4:]
    ]


def test_processes_share_an_epoch(hands: VideoSet) -> None:
    clips = TrainClips(hands, View(frames=2, size=32), PLAIN)
    shares = [[batch.indices.tolist() for batch in loader(clips, 2, rank=rank, world=2)] for rank in (0, 1)]
    together = [batch.indices.tolist() for batch in loader(clips, 4)]
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [sorted(batch) for batch in together]
    tests = TestClips(hands, View(frames=2, size=32))
    shares = [[batch.indices.tolist() for batch in loader(tests, 2, rank=rank, world=2)] for rank in (0, 1)]
    assert sorted(index for share in shares for batch in share for index in batch) == list(range(9))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_give_the_batches_that_one_process_gives(hands: VideoSet, tmp_path: Path) -> None:
    write_lines(tmp_path / "broken.mp4", "no video")
    videos = set_of(*(video.path for video in hands.videos), tmp_path / "broken.mp4")
    for clips in (TrainClips(videos, View(frames=2, size=32), STRONG), TestClips(videos, View(frames=2, size=32))):
        alone, helped = (list(loader(clips, batch=4, workers=workers)) for workers in (0, 2))
        assert len(alone) == batches_per_epoch(clips, 4)
        assert all(same(first, second) for first, second in zip(alone, helped, strict=True))


def test_a_batch_that_is_larger_than_the_set_is_refused(hands: VideoSet) -> None:
    with pytest.raises(ToolError, match="a batch of 10 clips is more than the 9 for training"):
        loader(TrainClips(hands, View(size=32), PLAIN), batch=5, world=2)
    with pytest.raises(ToolError, match="take batches of 1"):
        loader(TestClips(hands, View(size=32, crops="full")), batch=2)


# ------------------------------------------------------------------------------------------- videos that are broken


def test_videos_that_cannot_be_read_are_left_out_and_named(hands: VideoSet, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    write_lines(tmp_path / "text.mp4", "no video")
    (tmp_path / "bare").mkdir()
    write_frames(tmp_path / "torn", 8)
    (tmp_path / "torn" / "00004.jpg").write_bytes(b"\xff\xd8")
    write_frames(tmp_path / "gap", 8)
    (tmp_path / "gap" / "00004.jpg").unlink()
    (tmp_path / "gap" / "00009.jpg").touch()
    write_video(tmp_path / "cut.mp4")
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "cut.mp4").read_bytes()[:200])
    broken = [tmp_path / name for name in ("empty.mp4", "text.mp4", "bare", "torn", "gap", "gone.mp4", "cut.mp4")]
    good = [video.path for video in hands.videos[:2]]
    clips = TestClips(set_of(good[0], *broken, good[1]), View(frames=8, size=32))
    (batch,) = loader(clips, batch=9)
    assert batch.clips.shape == (2, 1, 8, 3, 32, 32)
    assert batch.indices.tolist() == [0, 8]
    assert len(batch.faults) == 7
    for path, fault in zip(broken, batch.faults, strict=True):
        assert str(path) in fault
    for number, reason in ((0, "not a video"), (2, "no frames named like 00001.jpg"), (3, "00004.jpg: this frame is"),
                           (4, "00004.jpg: this frame is"), (5, "No such file")):  # fmt: skip
        assert reason in batch.faults[number]


def test_a_batch_without_one_readable_video_is_empty(tmp_path: Path) -> None:
    videos = set_of(tmp_path / "a.mp4", tmp_path / "b.mp4")
    (batch,) = loader(TrainClips(videos, View(frames=4, size=32), PLAIN), batch=2)
    assert (batch.clips.shape, batch.labels.shape, len(batch.faults)) == ((0, 4, 3, 32, 32), (0,), 2)
    (batch,) = loader(TestClips(videos, View(frames=4, size=32, clips=2, crops=3)), batch=2)
    assert (batch.clips.shape, batch.indices.shape, len(batch.faults)) == ((0, 6, 4, 3, 32, 32), (0,), 2)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".webm"])
def test_a_video_that_breaks_off_is_used_as_far_as_it_goes_and_reported(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grain = rng.integers(0, 2, (24, HEIGHT, WIDTH, 3), np.uint8) * 16  # so that every frame takes some bytes
    frames = [picture(number) - 8 + grain[number] for number in range(24)]
    path = write_video(tmp_path / f"clip{suffix}", frames)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    (batch,) = loader(TestClips(set_of(path), View(frames=4, size=32)), batch=1)
    assert batch.faults == ()
    assert len(batch.damaged) == 1
    assert str(path) in batch.damaged[0]
    (shown,) = numbers(batch.clips[0]).tolist()
    assert sorted(set(shown)) == shown
    assert 3 <= shown[-1] <= 18


def test_pictures_of_different_sizes_are_refused(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "frames", 4)
    cv2.imwrite(str(folder / "00003.jpg"), picture(2, 20, 20))
    with pytest.raises(UnreadableError, match="frames: its pictures change their size"):
        read_pictures(Video(folder, 0), lambda count, _fps: np.arange(count), lambda image: image)


def test_a_video_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4")
    many = MOST_BYTES // (HEIGHT * WIDTH * 3) + 1
    with pytest.raises(UnreadableError, match=f"{many} pictures of {WIDTH}x{HEIGHT} are too many"):
        read_pictures(Video(path, 0), lambda _count, _fps: np.zeros(many, np.int64), lambda image: image)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_no_file_stays_open(tmp_path: Path) -> None:
    good = write_video(tmp_path / "good.mp4")
    write_lines(tmp_path / "text.mp4", "no video")
    write_video(tmp_path / "cut.avi").write_bytes((tmp_path / "cut.avi").read_bytes()[:600])
    clips = TestClips(set_of(good, tmp_path / "text.mp4", tmp_path / "cut.avi"), View(frames=4, size=32))
    list(loader(clips, batch=3))
    before = open_files()
    for _ in range(5):
        list(loader(clips, batch=3))
    assert open_files() == before
