"""Labelled videos in the layouts in which the field's data sets are published.

    read_dataset("something-v2", Path("/data/something"), "validation")

`root` holds the videos, directly or in the folder that the data set's archive makes. The annotation files lie in `root`
too, or in its folder `labels`, `annotations`, `ucfTrainTestlist` or `testTrainMulti_7030_splits`, or there where
`annotations` says.

layout         videos                                      annotations
something-v1   20bn-something-something-v1/ID/00001.jpg    something-something-v1-{labels,train,validation}.csv
something-v2   20bn-something-something-v2/ID.webm         [something-something-v2-]{labels,train,validation}.json
jester         20bn-jester-v1/ID/00001.jpg                 jester-v1-{labels,train,validation}.csv
kinetics       ID_000010_000020.mp4, anywhere below root   {train,val,test}.csv: label,youtube_id,time_start,...
ucf101         UCF-101/CLASS/NAME.avi                      classInd.txt, trainlist01.txt, testlist01.txt
hmdb51         hmdb51_org/CLASS/NAME.avi                   CLASS_test_split1.txt
folders        CLASS/NAME.mp4, or CLASS/NAME/00001.jpg     none
list           as the list says                            train.txt, validation.txt or a file; category.txt beside it

Splits are `train`, `validation` and, where it has labels, `test`. UCF-101 and HMDB-51 have three divisions: `train2`,
`test3`; without a number the first one; their `validation` is their `test`. Plain folders have the splits that have a
folder (`train`, `validation` or `val`, `test`); without these, a fifth of each class's clips, and at least one of
two, is for validation, chosen by the hash of their names. A list is TSN's: `FOLDER FRAMES LABEL`, `FILE LABEL`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engines.errors import did_you_mean
from engines.training.mirror import mirror_labels
from tools.data.layouts import DIVIDED, READERS, Place, Video, few
from tools.errors import ToolError

__all__ = ["LAYOUTS", "Video", "VideoSet", "read_dataset"]

LAYOUTS = tuple(READERS)


@dataclass(frozen=True)
class VideoSet:
    """The videos of one split.

    labels    the names of all labels
    videos    those that exist
    mirrored  for each label the one of its mirror image; None: clips of this label must not be flipped
    missing   the paths of videos that the annotations name, but that do not exist
    """

    labels: tuple[str, ...]
    videos: tuple[Video, ...]
    mirrored: tuple[int | None, ...]
    missing: tuple[Path, ...] = ()

    def in_order(self, labels: Sequence[str], spare: Collection[str] = ()) -> VideoSet:
        """The same videos with the labels in a model's order. Raises ToolError where they are not the same labels.

        spare: those of the model that the data set may lack.
        """
        only_here, only_there = set(self.labels).difference(labels), set(labels).difference(self.labels)
        if only_here or not only_there.issubset(spare):
            raise ToolError(
                f"the data set's {len(self.labels)} labels are not the model's {len(labels)}: only in the data set "
                f"{few(only_here)}; only in the model {few(only_there)}; take a model that was trained on these labels"
            )
        new = {label: number for number, label in enumerate(labels)}
        videos = tuple(replace(video, label=new[self.labels[video.label]]) for video in self.videos)
        return replace(self, labels=tuple(labels), videos=videos, mirrored=mirror_labels(labels))


def read_dataset(layout: str, root: Path, split: str = "train", annotations: Path | None = None) -> VideoSet:
    """The videos of a split. Raises ToolError for what cannot be read or does not fit.

    Videos that do not exist are listed in the result. It is an error when these are all, or, for training, all of a
    label.
    """
    if layout not in READERS:
        hint = did_you_mean(layout, LAYOUTS, f"known are {', '.join(LAYOUTS)}")
        raise ToolError(f"unknown layout {layout!r}: {hint}")
    if not root.is_dir():
        raise ToolError(f"there is no folder {root}: give the one that holds the data set's videos")
    kind, division = _parse_split(split, layout)
    try:
        labels, videos = READERS[layout](Place(root, annotations or root, kind, division))
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(f"cannot read the data set in {root}: {error}") from error
    if twice := [label for label, times in Counter(labels).items() if times > 1]:
        raise ToolError(f"labels of {root} come more than once: {few(twice)}; give each its own name")
    existing = _existing(videos)
    missing = tuple(video.path for video in videos if video.path not in existing)
    found = tuple(video for video in videos if video.path in existing)
    if not found:
        why = f"none of {len(missing)} exists, not even {missing[0]}" if missing else "there is not one"
        raise ToolError(f"no videos for {split} in {root}: {why}; give the folder that holds the videos")
    with_clips = {video.label for video in found}
    bare = [label for number, label in enumerate(labels) if number not in with_clips]
    if kind == "train" and bare:
        raise ToolError(
            f"no clip to train {few(bare)} in {root} ({len(missing)} of {len(videos)} videos are missing); "
            "add clips, or remove the label"
        )
    return VideoSet(tuple(labels), found, mirror_labels(labels), missing)


def _parse_split(split: str, layout: str) -> tuple[str, int]:
    """The split without its number, and the number."""
    match = re.fullmatch(r"(train|validation|test)([123]?)", split)
    if match is None or (match[2] and layout not in DIVIDED):
        numbered = ", which may be followed by 1, 2 or 3" if layout in DIVIDED else ""
        raise ToolError(f"unknown split {split!r} of {layout}: take train, validation or test{numbered}")
    return match[1], int(match[2] or 1)


def _existing(videos: Sequence[Video]) -> set[Path]:
    """Those of their paths that exist; each folder is listed once, because data sets have up to 300,000 videos."""
    existing: set[Path] = set()
    for folder in {video.path.parent for video in videos}:
        if folder.is_dir():
            existing.update(folder.iterdir())
    return existing
