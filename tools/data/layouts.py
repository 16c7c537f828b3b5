"""The readers of `tools.data.datasets`: one for each layout in which a data set is published."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from engines.errors import did_you_mean
from tools.errors import ToolError

VIDEO_SUFFIXES = frozenset((".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"))
FRAME_PATTERNS = ("{:05d}.jpg", "img_{:05d}.jpg", "{:06d}.jpg", "image_{:05d}.jpg", "frame_{:06d}.jpg", "{:05d}.png")
ANNOTATION_FOLDERS = ("", "labels", "annotations", "ucfTrainTestlist", "testTrainMulti_7030_splits")
TWENTYBN_FPS = 12.0
"""At which the frames of Something-Something V1 and Jester were taken."""


@dataclass(frozen=True)
class Video:
    """One labelled video.

    path     a video file, or a folder of numbered frames
    label    number of its label
    frames   of a folder: how many frames to use, None for all
    pattern  of a folder: a frame's file name, numbered from 1
    fps      of a folder: frames per second, None where it is not known; files tell it themselves
    """

    path: Path
    label: int
    frames: int | None = None
    pattern: str = FRAME_PATTERNS[0]
    fps: float | None = None


@dataclass(frozen=True)
class Place:
    """Where a reader looks, and for what: `split` is train, validation or test, `division` 1 to 3."""

    root: Path
    annotations: Path
    split: str
    division: int

    def videos(self, archive: str) -> Path:
        """The folder that holds the videos: the one that the archive makes, if it is there, or the root."""
        folder = self.root / archive
        return folder if folder.is_dir() else self.root

    def find(self, *names: str) -> Path:
        """The first annotation file of these names, which may hold a *."""
        for folder in ANNOTATION_FOLDERS:
            for name in names:
                if paths := sorted((self.annotations / folder).glob(name)):
                    return paths[0]
        raise ToolError(
            f"no {' or '.join(names)} in {self.annotations} or its folders {', '.join(ANNOTATION_FOLDERS[1:])}: "
            "put the data set's annotation files there, or say where they are"
        )


Content = tuple[Sequence[str], list[Video]]
"""Labels, and all videos that a split should have, whether they exist or not."""


def few(names: Iterable[str]) -> str:
    """The first five of them in quotes, and how many more there are."""
    names = sorted(names)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (", ".join(repr(name) for name in names[:5]) or "none") + more


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line that is not blank, and where it stands."""
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            yield line.strip(), f"line {number} of {path}"


def _enumerated(labels: Iterable[str]) -> dict[str, int]:
    return {label: number for number, label in enumerate(labels)}


def _number(labels: dict[str, int], label: str, where: str) -> int:
    if label not in labels:
        hint = did_you_mean(label, labels, "correct one of them")
        raise ToolError(f"{where}: the label {label!r} is not among the {len(labels)} labels; {hint}")
    return labels[label]


def _frame_pattern(folder: Path) -> str:
    """How the frames of a folder are named."""
    for pattern in FRAME_PATTERNS:
        if (folder / pattern.format(1)).is_file():
            return pattern
    first = ", ".join(pattern.format(1) for pattern in FRAME_PATTERNS)
    raise ToolError(f"no frame of a known name in {folder}: the first one must be one of {first}")


# --------------------------------------------------------------------------------- Something-Something and Jester


def _twentybn(place: Place, name: str) -> Content:
    """CSV files with one label a line, and `ID;label` a line; a folder of frames for each video."""
    labels = [line for line, _ in _lines(place.find(f"{name}-labels.csv"))]
    numbers = _enumerated(labels)
    folder = place.videos(f"20bn-{name}")
    videos = []
    for line, where in _lines(place.find(f"{name}-{place.split}.csv")):
        video, semicolon, label = line.partition(";")
        if not semicolon:
            raise ToolError(f"{where} must be ID;label, and is {line!r}; only splits with labels can be read")
        videos.append(Video(folder / video, _number(numbers, label, where), fps=TWENTYBN_FPS))
    return labels, videos


class _Entry(msgspec.Struct):
    """One video of Something-Something V2; the template has its placeholders in brackets."""

    id: str
    template: str


def _something_v2(place: Place) -> Content:
    prefix = "something-something-v2"
    labels_path = place.find(f"{prefix}-labels.json", "labels.json")
    path = place.find(f"{prefix}-{place.split}.json", f"{place.split}.json")
    try:
        numbers = msgspec.json.decode(labels_path.read_bytes(), type=dict[str, int], strict=False)
    except msgspec.DecodeError as error:
        raise ToolError(f"{labels_path} must be an object of labels and their numbers: {error}") from error
    if sorted(numbers.values()) != list(range(len(numbers))):
        raise ToolError(f"{labels_path}: the numbers of the {len(numbers)} labels must be 0, 1, 2, ...")
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=list[_Entry])
    except msgspec.DecodeError as error:
        raise ToolError(
            f"{path} must be a list of objects with id and template: {error}; only splits with labels can be read"
        ) from error
    folder = place.videos(f"20bn-{prefix}")
    videos = []
    for entry in entries:
        label = re.sub(r"[\[\]]", "", entry.template)
        videos.append(Video(folder / f"{entry.id}.webm", _number(numbers, label, f"video {entry.id} of {path}")))
    return sorted(numbers, key=numbers.__getitem__), videos


# ---------------------------------------------------------------------------------------- Kinetics, UCF and HMDB

_KINETICS = {"train": ("train",), "validation": ("val", "validate", "validation"), "test": ("test",)}


def _kinetics_rows(place: Place, split: str) -> Iterator[tuple[str, str, str]]:
    """File name without suffix, label, and where it stands."""
    path = place.find(*(f"{prefix}{name}.csv" for prefix in ("", "kinetics_") for name in _KINETICS[split]))
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            where = f"line {number} of {path}"
            try:
                start, end = int(float(row["time_start"])), int(float(row["time_end"]))
                name, label = f"{row['youtube_id']}_{start:06d}_{end:06d}", row["label"]
            except (KeyError, TypeError, ValueError) as error:
                raise ToolError(f"{where} must have label, youtube_id, time_start and time_end: {error!r}") from error
            yield name, label, where


def _kinetics(place: Place) -> Content:
    """The labels are those of the training videos, sorted; the videos may lie in any folders below the root."""
    labels = sorted({label for _, label, _ in _kinetics_rows(place, "train")})
    numbers = _enumerated(labels)
    files = {path.stem: path for path in sorted(place.root.rglob("*")) if path.suffix.lower() in VIDEO_SUFFIXES}
    videos = []
    for name, label, where in _kinetics_rows(place, place.split):
        videos.append(Video(files.get(name, place.root / f"{name}.mp4"), _number(numbers, label, where)))
    return labels, videos


def _ucf101(place: Place) -> Content:
    labels = [line.split(maxsplit=1)[-1] for line, _ in _lines(place.find("classInd.txt"))]
    numbers = _enumerated(labels)
    folder = place.videos("UCF-101")
    kind = "train" if place.split == "train" else "test"
    videos = []
    for line, where in _lines(place.find(f"{kind}list{place.division:02d}.txt")):
        name = line.split()[0]  # the training lists tell the label's number too
        videos.append(Video(folder / name, _number(numbers, name.partition("/")[0], where)))
    return labels, videos


def _hmdb51(place: Place) -> Content:
    """A file of each class says for each of its videos: 1 training, 2 test, 0 neither."""
    ending = f"_test_split{place.division}.txt"
    lists = sorted(place.find(f"*{ending}").parent.glob(f"*{ending}"))
    folder = place.videos("hmdb51_org")
    labels = [path.name.removesuffix(ending) for path in lists]
    mark = "1" if place.split == "train" else "2"
    videos = []
    for number, (label, path) in enumerate(zip(labels, lists, strict=True)):
        for line, where in _lines(path):
            name, _, use = line.rpartition(" ")
            if use not in {"0", "1", "2"}:
                raise ToolError(f"{where} must be a video and 0, 1 or 2, and is {line!r}")
            if use == mark:
                videos.append(Video(folder / label / name.strip(), number))
    return labels, videos


# --------------------------------------------------------------------------------------- your own folders and lists

_SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _clips_of(folder: Path, label: int) -> list[Video]:
    """The video files of a class, and its folders of frames."""
    paths = sorted(folder.iterdir())
    files = [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")]
    frames = [Video(path, label, pattern=_frame_pattern(path)) for path in _folders_in(folder)]
    return [Video(path, label) for path in files] + frames


def _share(clips: list[Video], split: str) -> list[Video]:
    """A fifth of a class's clips, and at least one of two, for validation; the rest for training."""
    ordered = sorted(clips, key=lambda clip: hashlib.sha256(clip.path.name.encode()).digest())
    held_out = max(1, len(clips) // 5) if len(clips) > 1 else 0
    return ordered[held_out:] if split == "train" else ordered[:held_out]


def _folders(place: Place) -> Content:
    """Folders of classes; or folders of splits, if there is one for training and no folder is anything else."""
    inside = {path.name: path for path in _folders_in(place.root)}
    split_names = {name for names in _SPLIT_FOLDERS.values() for name in names}
    if "train" not in inside or not split_names.issuperset(inside):
        if place.split == "test":
            raise ToolError(f"{place.root} is not divided into folders train, validation, test; take validation")
        shares = [_share(_clips_of(path, number), place.split) for number, path in enumerate(inside.values())]
        return list(inside), [clip for share in shares for clip in share]
    labels = [path.name for path in _folders_in(inside["train"])]
    numbers = _enumerated(labels)
    folder = next((inside[name] for name in _SPLIT_FOLDERS[place.split] if name in inside), None)
    if folder is None:
        raise ToolError(f"no folder {' or '.join(_SPLIT_FOLDERS[place.split])} in {place.root}: add it beside train")
    videos = []
    for path in _folders_in(folder):
        videos += _clips_of(path, _number(numbers, path.name, f"folder {path}"))
    return labels, videos


def _list(place: Place) -> Content:
    """TSN's lists: the folder of the frames, their number and the label's number, or a file and the label's number."""
    if place.annotations.is_file():
        path = place.annotations
    else:
        names = _SPLIT_FOLDERS[place.split]
        path = place.find(*(name + ending for ending in (".txt", "_videofolder.txt") for name in names))
    categories = path.with_name("category.txt")
    if not categories.is_file():
        raise ToolError(f"no {categories}: write the labels there, one a line, in the order of their numbers")
    labels = [line for line, _ in _lines(categories)]
    videos, pattern = [], None
    for line, where in _lines(path):
        match = re.fullmatch(r"(.+?)(?:\s+(\d+))?\s+(\d+)", line)
        if match is None:
            raise ToolError(f"{where} must be FOLDER FRAMES LABEL or FILE LABEL, and is {line!r}")
        if int(match[3]) >= len(labels):
            raise ToolError(f"{where}: there is no label {match[3]} in {categories}, which has {len(labels)} lines")
        video = Video(place.root / match[1], int(match[3]))
        if match[2] is not None:
            if pattern is None and video.path.is_dir():
                pattern = _frame_pattern(video.path)  # the same in all of them
            video = replace(video, frames=int(match[2]), pattern=pattern or FRAME_PATTERNS[0])
        videos.append(video)
    return labels, videos


READERS: dict[str, Callable[[Place], Content]] = {
    "something-v1": lambda place: _twentybn(place, "something-something-v1"),
    "something-v2": _something_v2,
    "jester": lambda place: _twentybn(place, "jester-v1"),
    "kinetics": _kinetics,
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
    "folders": _folders,
    "list": _list,
}
DIVIDED = ("ucf101", "hmdb51")
"""Layouts with three divisions into training and test."""
