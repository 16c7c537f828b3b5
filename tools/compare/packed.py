"""A set of clips made small enough to be carried to another machine, and to stay in memory there as one tensor.

    python -m tools.compare pack --data FOLDER --out set     J-HMDB: some 25 MB at 192 px

For each label a film of its clips, one after the other, as a stream shows them: whole, stretched to a square, 30 frames
a second, H.264. `clips.json` tells where a clip begins and in which halves of which splits it is. Reading needs OpenCV
and numpy, nothing of what decodes a camera's stream.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from engines.opencv import cv2
from tools.errors import ToolError

RATE = 30.0  # frames a second
CRF = 24  # of H.264; choice


class Clip(msgspec.Struct, frozen=True):
    """One clip: its name, the number of its label, its frames, the video that it was cut from, and by split whether it
    trains (True), tests (False), or neither.
    """

    name: str
    label: int
    frames: int
    source: str
    trains: tuple[bool | None, ...]


class Contents(msgspec.Struct, frozen=True):
    """What clips.json holds; the clips in the films' order, label by label."""

    labels: tuple[str, ...]
    size: int
    clips: tuple[Clip, ...]


@dataclass(frozen=True)
class Packed:
    """A set in memory: `frames` [F, 3, S, S] uint8 RGB, of all clips one after the other; the clips, and where each
    begins, `begins` [N]; `labels` [N].
    """

    contents: Contents
    frames: Tensor
    begins: Tensor
    labels: Tensor

    def half(self, split: int, *, trains: bool) -> Tensor:
        """The numbers of a split's clips (from 1 on) that train, or that test."""
        clips = self.contents.clips
        return torch.tensor([n for n, clip in enumerate(clips) if clip.trains[split - 1] is trains])


def read_packed(folder: Path) -> Packed:
    """Raises ToolError for what `pack` did not write, or not whole."""
    try:
        contents = msgspec.json.decode((folder / "clips.json").read_bytes(), type=Contents)
    except (OSError, msgspec.DecodeError) as error:
        raise ToolError(
            f"{folder}: holds no set that can be read: {error}; make one with `python -m tools.compare pack`"
        ) from error
    counts = [sum(clip.frames for clip in contents.clips if clip.label == n) for n in range(len(contents.labels))]
    frames = torch.empty((sum(counts), 3, contents.size, contents.size), dtype=torch.uint8)

    def fill(number: int) -> None:
        path, begin = folder / f"{contents.labels[number]}.mp4", sum(counts[:number])
        film = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        for place in range(begin, begin + counts[number]):
            there, picture = film.read()
            if not there or picture.shape[:2] != frames.shape[2:]:
                raise ToolError(f"{path}: has not the {counts[number]} pictures that clips.json tells; pack it again")
            frames[place] = torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1)
        film.release()

    with ThreadPoolExecutor() as pool:
        list(pool.map(fill, range(len(counts))))
    lengths = torch.tensor([clip.frames for clip in contents.clips])
    labels = torch.tensor([clip.label for clip in contents.clips])
    return Packed(contents, frames, lengths.cumsum(0) - lengths, labels)


def pack(data: Path, out: Path, size: int) -> Contents:
    """Write the set. Raises ToolError and EngineError."""
    from engines.training.head import Look
    from engines.training.progress import writing
    from tools.compare.jhmdb import SPLITS, everything
    from tools.train.folds import source_of
    from tools.train.head import whole

    videos, rows = everything(data)
    pictures = whole(videos, Look(RATE, size, 1))
    halves = {kind: {split: set(rows[kind][split].tolist()) for split in SPLITS} for kind in rows}
    clips = []
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for label, name in enumerate(videos.labels):
            with Film(out / f"{name}.mp4", size) as film:
                for number, video in enumerate(videos.videos):
                    if video.label != label:
                        continue
                    clip = pictures(number)
                    if clip.pictures is None:
                        print(f"left out: {clip.fault}")
                        continue
                    film.add(clip.pictures.permute(0, 2, 3, 1).numpy())
                    trains = tuple(
                        True if number in halves["train"][s] else False if number in halves["validation"][s] else None
                        for s in SPLITS
                    )
                    clips.append(Clip(video.path.stem, label, len(clip.pictures), source_of(video.path), trains))
            print(f"{name}: {sum(clip.label == label for clip in clips)} clips", flush=True)
        contents = Contents(videos.labels, size, tuple(clips))
        (out / "clips.json").write_bytes(msgspec.json.encode(contents))
    return contents


class Film:
    """An H.264 file that grows clip by clip, each beginning with a whole picture."""

    def __init__(self, path: Path, size: int) -> None:
        import av

        self._container = av.open(str(path), "w")
        options = {"crf": str(CRF), "preset": "medium", "tune": "fastdecode"}
        self._stream = self._container.add_stream("libx264", rate=round(RATE), options=options)
        self._stream.width = self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.thread_count = 1

    def __enter__(self) -> Film:
        return self

    def __exit__(self, *_error: object) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def add(self, pictures: np.ndarray) -> None:
        """RGB [T, S, S, 3] uint8."""
        import av
        from av.video.frame import PictureType

        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pict_type = PictureType.I if number == 0 else PictureType.NONE
            self._container.mux(self._stream.encode(frame))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.compare pack", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="J-HMDB's clips and split files")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for the films")
    parser.add_argument("--size", type=int, default=192, help="pixels (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.size < 32 or options.size % 2:
        parser.error("--size is even, 32 or more")
    contents = pack(options.data, options.out, options.size)
    size = sum(file.stat().st_size for file in options.out.iterdir())
    print(f"{len(contents.clips)} clips, {sum(c.frames for c in contents.clips)} frames, {size / 1e6:.1f} MB")
    return 0
