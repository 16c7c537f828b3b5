"""Tiny videos, and data sets of them in the published layouts, made on the fly.

Every frame tells its own number by its brightness, in every codec: frame n is grey of 10 + 6 * n.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from engines.opencv import cv2
from streamer.types import Image

HEIGHT, WIDTH = 48, 64
TICKS = 600  # a second, of timestamps
LEFT_RIGHT = ("Swiping Left", "Swiping Right", "No gesture")
_CODECS = {".mp4": "libx264", ".avi": "mpeg4", ".webm": "libvpx", ".mkv": "libx264"}


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> Image:
    """Frame `number`, [height, width, 3]."""
    return np.full((height, width, 3), 10 + 6 * number, np.uint8)


def numbers(pictures: Any) -> NDArray[np.int64]:
    """The frame numbers of pictures [..., 3, H, W] or, as images, [..., H, W, 3]."""
    brightness = np.asarray(pictures, np.float64).mean(axis=(-3, -2, -1))
    return np.asarray(np.rint((brightness - 8.5) / 6), np.int64)  # videos come back up to 4 darker


def write_video(path: Path, frames: int | Sequence[Image] = 12, fps: int = 30, times_s: Sequence[float] = ()) -> Path:
    """A video file; its suffix says the codec. `times_s` are those of its frames, whatever rate its header says."""
    images = [picture(number) for number in range(frames)] if isinstance(frames, int) else frames
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as container:
        stream = container.add_stream(_CODECS[path.suffix], rate=fps)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.bit_rate = 20_000_000
        if times_s:
            stream.codec_context.time_base = Fraction(1, TICKS)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
            if times_s:
                frame.pts, frame.time_base = round(TICKS * times_s[number]), Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_frames(folder: Path, frames: int = 12, pattern: str = "{:05d}.jpg") -> Path:
    """A folder of numbered frames."""
    folder.mkdir(parents=True)
    for number in range(frames):
        cv2.imwrite(str(folder / pattern.format(number + 1)), picture(number))
    return folder


def write_lines(path: Path, *lines: str) -> Path:
    """A text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


# Each of these writes a set into `root`: for every label of LEFT_RIGHT (or its name there) two clips for training and
# one for validation; and returns those labels.


def twentybn(root: Path, name: str) -> tuple[str, ...]:
    """Something-Something V1 and Jester."""
    write_lines(root / f"{name}-labels.csv", *LEFT_RIGHT)
    for split, first in (("train", 1), ("validation", 101)):
        clips = [(first + n, label) for n, label in enumerate(LEFT_RIGHT * (2 if split == "train" else 1))]
        write_lines(root / f"{name}-{split}.csv", *(f"{video};{label}" for video, label in clips))
        for video, _ in clips:
            write_frames(root / f"20bn-{name}" / str(video))
    return LEFT_RIGHT


def something_v1(root: Path) -> tuple[str, ...]:
    return twentybn(root, "something-something-v1")


def jester(root: Path) -> tuple[str, ...]:
    return twentybn(root, "jester-v1")


def something_v2(root: Path) -> tuple[str, ...]:
    labels = (
        "Pulling something from left to right",
        "Pulling something from right to left",
        "Holding something",
    )
    folder = root / "labels"
    folder.mkdir(parents=True)
    order = {label: str(number) for number, label in enumerate(labels)}
    (folder / "labels.json").write_text(json.dumps(dict(reversed(order.items()))), encoding="utf-8")
    for split, first in (("train", 1), ("validation", 101)):
        entries = [
            {
                "id": str(first + number),
                "label": label.replace("something", "a cup").lower(),
                "template": label.replace("something", "[something]"),
                "placeholders": ["a cup"],
            }
            for number, label in enumerate(labels * (2 if split == "train" else 1))
        ]
        (folder / f"{split}.json").write_text(json.dumps(entries), encoding="utf-8")
        for entry in entries:
            write_video(root / "20bn-something-something-v2" / f"{entry['id']}.webm")
    return labels


def kinetics(root: Path) -> tuple[str, ...]:
    labels = ("abseiling", "air drumming", "zumba")
    for split, name, clips in (("train", "train", 2), ("val", "validate", 1)):
        path = root / "annotations" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["label", "youtube_id", "time_start", "time_end", "split"])
            for number, label in enumerate(reversed(labels * clips)):
                video = f"-{split}{number:06d}"
                writer.writerow([label, video, 10 * number, 10 * number + 10, split])
                folder = label.replace(" ", "_") if split == "train" else ""  # both are seen in the wild
                write_video(root / split / folder / f"{video}_{10 * number:06d}_{10 * number + 10:06d}.mp4")
    return labels


def ucf101(root: Path) -> tuple[str, ...]:
    labels = ("ApplyEyeMakeup", "Archery", "YoYo")
    names = {
        label: [f"{label}/v_{label}_g{group:02d}_c01.avi" for group in (1, 8, 9)] for label in labels
    }  # the first groups are for tests
    lists = root / "ucfTrainTestlist"
    write_lines(lists / "classInd.txt", *(f"{number} {label}" for number, label in enumerate(labels, 1)))
    for division in (1, 2, 3):
        held_out = {label: names[label][division - 1] for label in labels}
        training = [
            f"{name} {number}"
            for number, label in enumerate(labels, 1)
            for name in names[label]
            if name != held_out[label]
        ]
        write_lines(lists / f"trainlist{division:02d}.txt", *training)
        write_lines(lists / f"testlist{division:02d}.txt", *held_out.values())
    for name in (name for videos in names.values() for name in videos):
        write_video(root / "UCF-101" / name)
    return labels


def hmdb51(root: Path) -> tuple[str, ...]:
    labels = ("brush_hair", "wave", "turn")
    for label in labels:
        clips = [f"A_clip_{label}_u_nm_np1_ba_med_{number}.avi" for number in range(4)]
        for division in (1, 2, 3):
            uses = np.roll([2, 1, 1, 0], division - 1)
            write_lines(
                root / "testTrainMulti_7030_splits" / f"{label}_test_split{division}.txt",
                *(f"{clip} {use} " for clip, use in zip(clips, uses, strict=True)),
            )
        for clip in clips:
            write_video(root / label / clip)
    return tuple(sorted(labels))


def folders(root: Path) -> tuple[str, ...]:
    for label in LEFT_RIGHT:
        for number in range(3):
            write_video(root / label / f"{number}.mp4")
        write_lines(root / label / "notes.txt", "not a clip")
    return tuple(sorted(LEFT_RIGHT))


def lists(root: Path) -> tuple[str, ...]:
    write_lines(root / "category.txt", *LEFT_RIGHT)
    for split, clips in (("train", 2), ("val", 1)):
        lines = []
        for number in range(len(LEFT_RIGHT) * clips):
            write_frames(root / f"{split}_{number}", pattern="img_{:05d}.jpg")
            lines.append(f"{split}_{number} 10 {number % len(LEFT_RIGHT)}")
        write_lines(root / f"{split}_videofolder.txt", *lines)
    return LEFT_RIGHT


SETS = {
    "something-v1": something_v1,
    "something-v2": something_v2,
    "jester": jester,
    "kinetics": kinetics,
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "folders": folders,
    "list": lists,
}
