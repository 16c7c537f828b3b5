"""Data sets in their published layouts: every video with its label, and one clear sentence for what is wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from engines.networks.checkpoints import JESTER_LABELS
from engines.training.mirror import mirror_labels
from tests.tools.sets import LEFT_RIGHT, SETS, folders, jester, kinetics, something_v1, write_frames, write_lines
from tools.data.datasets import LAYOUTS, VideoSet, read_dataset
from tools.errors import ToolError


def clips_per_label(videos: VideoSet) -> dict[str, int]:
    return dict(Counter(videos.labels[video.label] for video in videos.videos))


def read_folders(root: Path, split: str = "train") -> VideoSet:
    return read_dataset("folders", root, split)


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_every_layout_has_a_set_here() -> None:
    assert set(SETS) == set(LAYOUTS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_published_layout_is_read_whole(layout: str, tmp_path: Path) -> None:
    labels = SETS[layout](tmp_path)
    train, held_out = (read_dataset(layout, tmp_path, split) for split in ("train", "validation"))
    assert train.labels == held_out.labels == labels
    assert clips_per_label(train) == dict.fromkeys(labels, 2)
    assert clips_per_label(held_out) == dict.fromkeys(labels, 1)
    assert not {video.path for video in train.videos} & {video.path for video in held_out.videos}
    assert train.missing == held_out.missing == ()


def test_annotations_may_lie_elsewhere(tmp_path: Path) -> None:
    something_v1(tmp_path / "videos")
    notes = tmp_path / "notes"
    notes.mkdir()
    for path in (tmp_path / "videos").glob("*.csv"):
        path.rename(notes / path.name)
    with pytest.raises(ToolError, match=r"no something-something-v1-labels\.csv in .*videos"):
        read_dataset("something-v1", tmp_path / "videos")
    assert len(read_dataset("something-v1", tmp_path / "videos", annotations=notes).videos) == 6


@pytest.mark.parametrize("layout", ["ucf101", "hmdb51"])
def test_each_of_the_three_divisions_holds_out_other_videos(layout: str, tmp_path: Path) -> None:
    SETS[layout](tmp_path)
    held_out = [{video.path for video in read_dataset(layout, tmp_path, f"test{n}").videos} for n in (1, 2, 3)]
    assert len(held_out[0] | held_out[1] | held_out[2]) == 9
    assert {video.path for video in read_dataset(layout, tmp_path, "validation").videos} == held_out[0]
    for number in (1, 2, 3):
        assert not held_out[number - 1] & {
            video.path for video in read_dataset(layout, tmp_path, f"train{number}").videos
        }


def test_frames_of_lists_are_counted_and_named_as_the_list_and_the_folder_say(tmp_path: Path) -> None:
    SETS["list"](tmp_path)
    video = read_dataset("list", tmp_path).videos[0]
    assert (video.frames, video.pattern) == (10, "img_{:05d}.jpg")


def test_a_list_may_name_video_files_with_blanks(tmp_path: Path) -> None:
    write_lines(tmp_path / "category.txt", "a", "b")
    path = write_lines(tmp_path / "mine.txt", "my clip 1.mp4 0", "sub/2.mp4  1")
    for name in ("my clip 1.mp4", "sub/2.mp4"):
        touch(tmp_path / name)
    videos = read_dataset("list", tmp_path, annotations=path).videos
    assert [(str(video.path.relative_to(tmp_path)), video.label, video.frames) for video in videos] == [
        ("my clip 1.mp4", 0, None),
        ("sub/2.mp4", 1, None),
    ]


def test_folders_of_splits_are_taken_as_they_are(tmp_path: Path) -> None:
    for name in ("train/a/1.mp4", "train/a/2.mp4", "train/b/1.mp4", "val/a/3.MOV", "test/b/4.webm"):
        touch(tmp_path / name)
    assert clips_per_label(read_folders(tmp_path)) == {"a": 2, "b": 1}
    assert clips_per_label(read_folders(tmp_path, "validation")) == {"a": 1}
    assert clips_per_label(read_folders(tmp_path, "test")) == {"b": 1}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("train/1.mp4", "car/1.mp4", "plane/1.mp4"):
        touch(tmp_path / name)
    assert read_folders(tmp_path).labels == ("car", "plane", "train")


def test_a_clip_in_a_folder_may_be_a_folder_of_frames(tmp_path: Path) -> None:
    write_frames(tmp_path / "wave" / "first", pattern="{:06d}.jpg")
    (video,) = read_folders(tmp_path).videos
    assert (video.path.name, video.pattern, video.frames) == ("first", "{:06d}.jpg", None)


@pytest.mark.parametrize(("count", "held_out_clips"), [(1, 0), (2, 1), (5, 1), (9, 1), (10, 2), (23, 4)])
def test_a_fifth_of_each_class_and_never_all_of_it_is_held_out(count: int, held_out_clips: int, tmp_path: Path) -> None:
    for name in [*(f"wave/{number}.mp4" for number in range(count)), "still/1.mp4", "still/2.mp4"]:
        touch(tmp_path / name)
    train, held_out = (read_folders(tmp_path, split) for split in ("train", "validation"))
    assert clips_per_label(train) == {"wave": count - held_out_clips, "still": 1}
    assert len(held_out.videos) == held_out_clips + 1
    assert not {video.path for video in train.videos} & {video.path for video in held_out.videos}


# ---------------------------------------------------------------------------------------------------- mirror images


def test_labels_with_left_and_right_or_with_a_turn_are_swapped() -> None:
    mirrored = mirror_labels(JESTER_LABELS)
    pairs = {(JESTER_LABELS[a], JESTER_LABELS[b]) for a, b in enumerate(mirrored) if b is not None and a < b}
    assert pairs == {
        ("Sliding Two Fingers Left", "Sliding Two Fingers Right"),
        ("Swiping Left", "Swiping Right"),
        ("Turning Hand Clockwise", "Turning Hand Counterclockwise"),
    }
    assert all(mirrored[b] == a for a, b in enumerate(mirrored) if b is not None)


@pytest.mark.parametrize(
    ("labels", "mirrored"),
    [
        (["Pulling something from left to right", "Pulling something from right to left"], (1, 0)),
        (["Turning the camera left while filming", "Turning the camera right while filming"], (1, 0)),
        (["swipe_left", "SwipeRight"], (1, 0)),
        (["turn-clockwise", "turn anti-clockwise", "moving leftwards", "moving rightwards"], (1, 0, 3, 2)),
        (["nodding left", "wave"], (None, 1)),
        (["clockwise", "spin"], (None, 1)),
        (["Putting something upright", "bright leftovers", "pulling it right out"], (0, 1, 2)),
    ],
)
def test_what_counts_as_a_mirror_image(labels: list[str], mirrored: tuple[int | None, ...]) -> None:
    assert mirror_labels(labels) == mirrored


def test_labels_can_be_brought_into_a_models_order(tmp_path: Path) -> None:
    jester(tmp_path)
    videos = read_dataset("jester", tmp_path, "validation")
    model = ("No gesture", "Swiping Right", "Swiping Left")
    reordered = videos.in_order(model)
    assert reordered.labels == model
    assert [model[video.label] for video in reordered.videos] == [LEFT_RIGHT[video.label] for video in videos.videos]
    assert reordered.mirrored == (0, 2, 1)


def test_a_model_may_have_labels_of_nothing_that_the_data_set_lacks(tmp_path: Path) -> None:
    jester(tmp_path)
    videos = read_dataset("jester", tmp_path, "validation")
    model = ("No gesture", "nothing", "Swiping Right", "Swiping Left")
    reordered = videos.in_order(model, ["nothing"])
    assert reordered.labels == model
    assert [model[video.label] for video in reordered.videos] == [LEFT_RIGHT[video.label] for video in videos.videos]
    with pytest.raises(ToolError, match="only in the data set none; only in the model 'nothing';"):
        videos.in_order(model)


def test_labels_that_are_not_the_models_are_told(tmp_path: Path) -> None:
    jester(tmp_path)
    with pytest.raises(ToolError, match=r"only in the data set 'Swiping Left'; only in the model 'Wave', 'Zoom';"):
        read_dataset("jester", tmp_path).in_order(("Swiping Right", "Wave", "No gesture", "Zoom"))


# -------------------------------------------------------------------------------------------------- what goes wrong


def test_videos_that_do_not_exist_are_listed(tmp_path: Path) -> None:
    kinetics(tmp_path)
    gone = sorted(tmp_path.rglob("*.mp4"))[0]
    gone.unlink()
    videos = read_dataset("kinetics", tmp_path)
    assert [path.name for path in videos.missing] == [gone.name]
    assert len(videos.videos) == 5


def test_a_set_without_one_existing_video_is_refused(tmp_path: Path) -> None:
    something_v1(tmp_path)
    (tmp_path / "20bn-something-something-v1").rename(tmp_path / "elsewhere")
    with pytest.raises(ToolError, match=r"no videos for train in .*: none of 6 exists, not even .*/1; give the folder"):
        read_dataset("something-v1", tmp_path)


def test_a_label_without_a_clip_to_train_on_is_named(tmp_path: Path) -> None:
    folders(tmp_path)
    (tmp_path / "empty class").mkdir()
    with pytest.raises(ToolError, match=r"no clip to train 'empty class' in"):
        read_folders(tmp_path)
    assert len(read_folders(tmp_path, "validation").videos) == 3


def test_a_label_that_the_labels_file_lacks_is_named_with_its_line(tmp_path: Path) -> None:
    jester(tmp_path)
    write_lines(tmp_path / "jester-v1-train.csv", "1;Swiping Left", "2;Swiping Rihgt")
    with pytest.raises(
        ToolError, match=r"line 2 of .*train\.csv: the label 'Swiping Rihgt' .* did you mean 'Swiping Right'"
    ):
        read_dataset("jester", tmp_path)


@pytest.mark.parametrize(
    ("layout", "name", "content", "message"),
    [
        ("jester", "jester-v1-train.csv", "1\n", r"line 1 of .* must be ID;label, and is '1'"),
        ("jester", "jester-v1-labels.csv", "Wave\n", "is not among the 1 labels"),
        ("something-v2", "labels/train.json", "[{]", r"train\.json must be a list of objects with id and template"),
        ("something-v2", "labels/labels.json", '{"a": "x"}', r"labels\.json must be an object of labels and their"),
        ("something-v2", "labels/labels.json", '{"a": "1"}', "numbers of the 1 labels must be 0, 1, 2"),
        (
            "kinetics",
            "annotations/train.csv",
            "label,youtube_id\na,b\n",
            "line 2 of .* must have label, youtube_id, time",
        ),
        (
            "ucf101",
            "ucfTrainTestlist/trainlist01.txt",
            "Archry/v.avi 1\n",
            "the label 'Archry' .* did you mean 'Archery'",
        ),
        ("hmdb51", "testTrainMulti_7030_splits/wave_test_split1.txt", "a.avi 3\n", "must be a video and 0, 1 or 2"),
        ("list", "train_videofolder.txt", "train_0\n", "must be FOLDER FRAMES LABEL or FILE LABEL, and is 'train_0'"),
        ("list", "train_videofolder.txt", "train_0 10 3\n", r"no label 3 in .*category\.txt, which has 3 lines"),
        ("list", "category.txt", "a\nb\na\n", "come more than once: 'a'"),
    ],
)
def test_a_faulty_annotation_file_gives_one_sentence(
    layout: str, name: str, content: str, message: str, tmp_path: Path
) -> None:
    SETS[layout](tmp_path)
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ToolError, match=message):
        read_dataset(layout, tmp_path)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    jester(tmp_path)
    (tmp_path / "jester-v1-train.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ToolError, match=r"cannot read the data set in .*utf-8"):
        read_dataset("jester", tmp_path)


@pytest.mark.parametrize(
    ("layout", "split", "message"),
    [
        ("jestr", "train", "unknown layout 'jestr': did you mean 'jester'"),
        ("jester", "val", "unknown split 'val' of jester: take train, validation or test"),
        ("jester", "train2", "unknown split 'train2' of jester"),
        ("ucf101", "train4", "unknown split 'train4' of ucf101: .* followed by 1, 2 or 3"),
        ("jester", "test", "no jester-v1-test.csv in"),
        ("folders", "test", "is not divided into folders"),
    ],
)
def test_unknown_names_are_answered_with_the_known_ones(layout: str, split: str, message: str, tmp_path: Path) -> None:
    jester(tmp_path)
    with pytest.raises(ToolError, match=message):
        read_dataset(layout, tmp_path, split)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"there is no folder .*nowhere"):
        read_folders(tmp_path / "nowhere")


def test_a_missing_split_folder_and_unknown_frame_names_are_told(tmp_path: Path) -> None:
    touch(tmp_path / "train" / "a" / "1.mp4")
    with pytest.raises(ToolError, match=r"no folder validation or val in .*: add it beside train"):
        read_folders(tmp_path, "validation")
    (tmp_path / "train" / "a" / "strange").mkdir()
    with pytest.raises(ToolError, match=r"no frame of a known name in .*strange"):
        read_folders(tmp_path)
