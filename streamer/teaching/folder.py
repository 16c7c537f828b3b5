"""Folders of labelled clips: FOLDER/LABEL/CLIP.mp4, as `streamer record` writes them, and FOLDER/answers/LABEL/
CLIP.mp4, as corrections are kept, each with a note that tells when its event was.
"""

from __future__ import annotations

import shlex
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av.error
import msgspec

from streamer.clips.folder import ANSWERS, Note
from streamer.config import SourceConfig
from streamer.errors import ConfigError, SourceError
from streamer.sources import open_source
from streamer.text import printable

SUFFIXES = frozenset((".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"))
SHORTEST_S = 0.4  # in which anything could be done
FEW = 5  # clips of a label, below which they tell the place and the person rather than the action
ONSET_S = 0.5  # an event begins so much later than what it is about


@dataclass(frozen=True)
class Sample:
    """A clip that shows a label between the shares `begin` and `end` of its length. `corrected`: somebody has said so
    of what a model had taken for an event.
    """

    path: Path
    label: str
    begin: float = 0.0
    end: float = 1.0
    corrected: bool = False


def labels_in(folder: Path) -> dict[str, list[Path]]:
    """The clips of each label, sorted; a label is a folder that is not hidden. Raises OSError."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return {path.name: clips_in(path) for path in folders if path.name != ANSWERS}


def clips_in(folder: Path) -> list[Path]:
    """The video files in a folder by their suffix, those that are hidden left out, sorted. Raises OSError."""
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def gather(folders: Iterable[Path]) -> list[Sample]:
    """All clips of some folders, those of `answers` in them as corrections.

    ConfigError for what cannot be learned from: a folder that is none, clips that lie outside of a label's folder, a
    label without clips.
    """
    samples: list[Sample] = []
    for folder in folders:
        try:
            places = [(folder, False), *([(folder / ANSWERS, True)] if (folder / ANSWERS).is_dir() else [])]
            for place, corrected in places:
                for name, clips in labels_in(place).items():
                    label = unicodedata.normalize("NFC", name)
                    if not label.isprintable():
                        raise ConfigError(f"{printable(str(place / name))}: rename this folder: it is a label's name")
                    if not clips:
                        raise ConfigError(f"{place / name}: has no clips; add some, or remove the folder")
                    samples += [sample_of(path, label, corrected=corrected) for path in clips]
            if not samples and clips_in(folder):
                raise ConfigError(f"{folder}: its clips lie in no label's folder; move them into {folder}/LABEL/")
        except OSError as error:
            raise ConfigError(
                f"{folder}: cannot be read ({error.strerror}); give a folder with one of clips for each label, or "
                "record some: streamer record LABEL"
            ) from error
    return samples


def sample_of(path: Path, label: str, *, corrected: bool) -> Sample:
    """A clip; of a correction, as its note beside it tells, with the part that the answer is about."""
    note = path.with_suffix(".json")
    if not corrected or not note.is_file():
        return Sample(path, label, corrected=corrected)
    try:
        told = msgspec.json.decode(note.read_bytes(), type=Note)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Sample(path, label, corrected=True)
    length, until = max(1, told.end_us - told.start_us), told.until_us or told.at_us
    begin, end = (told.at_us - ONSET_S * 1e6 - told.start_us) / length, (until - told.start_us) / length
    end = min(1.0, max(0.0, end))
    return Sample(path, label, min(end, max(0.0, begin)), end, corrected=True)


def check(samples: Sequence[Sample], say: Callable[[str], object]) -> list[Sample]:
    """Those that can be learned from; says why the others cannot, and what there is too little of. ConfigError where
    that is no beginning.
    """
    good = []
    for sample in samples:
        if fault := fault_of(sample.path):
            say(f"left out: {fault}")
        else:
            good.append(sample)
    if not good:
        raise ConfigError("there is not one clip to learn from; record some: streamer record LABEL")
    counts = Counter(sample.label for sample in good)
    for label in sorted({sample.label for sample in samples if sample.corrected}):
        if counts[label] == 1 and all(sample.corrected for sample in samples if sample.label == label):
            say(f"left out: {label} has no clip but one answer; record more of it, or answer more clips with it")
            samples, good = ([sample for sample in some if sample.label != label] for some in (samples, good))
            del counts[label]
    labels = sorted({sample.label for sample in samples})
    if len(labels) < 2:
        label = labels[0] if labels else "none"
        raise ConfigError(
            f"all clips are of one label, {label}; a model needs two: record what it looks like otherwise, "
            "streamer record nothing"
        )
    for label in labels:
        if counts[label] < 2:
            raise ConfigError(
                f"{label} has {counts[label] or 'no'} clip{'s' * (counts[label] != 1)} that can be used, and needs two "
                f"at least, better ten: streamer record {shlex.quote(label)}, or remove its folder"
            )
    few = {label: count for label, count in sorted(counts.items()) if count < FEW}
    if few:
        told = ", ".join(f"{label} {count}" for label, count in few.items())
        say(f"few clips ({told}): they tell the place rather than the action; record ten of each, in several places")
    return good


def fault_of(path: Path) -> str:
    """Why a clip cannot be learned from, in a sentence; "" if it can, as far as its beginning and its length tell."""
    try:
        source = open_source(SourceConfig(uri=str(path.absolute()), pace="fast"))
        begin_us = last_us = None
        for frame in source.frames(0, threading.Event()):
            begin_us = frame.time_us if begin_us is None else begin_us
            last_us = frame.time_us
            if last_us - begin_us >= SHORTEST_S * 1e6:
                return ""
    except SourceError as error:
        return str(error)
    except (OSError, av.error.FFmpegError) as error:
        return f"{path}: {error.strerror or error}; delete it, or record it again"
    shown_s = ((last_us or 0) - (begin_us or 0)) / 1e6
    return f"{path}: shows {shown_s:.1f} s, too short for an action; record 2 to 5 s"
