"""What really happens in recordings, as somebody wrote it down or sorted it."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec

from engines.errors import EngineError, did_you_mean
from engines.spec import is_file, read_json
from streamer.clips.folder import ANSWERS
from streamer.errors import ConfigError
from streamer.teaching.folder import labels_in
from streamer.text import printable
from streamer.tuning.matching import Segment

COLUMNS = ("file", "label", "start_s", "end_s")
MOST_BYTES = 1 << 24  # of a CSV file
EARLY_S = 1.0  # by how much an event may begin before the one that a clip was kept for
_LATEST_S = 1e7
_LONGEST_TOLD = 300  # characters of a path


@dataclass(frozen=True)
class Recording:
    """A file, and what happens in it: segments, oldest first and apart; nothing that the model knows happens between.

    judged  the part, in seconds, that this is said of; None: all of it
    where   who says so, for errors: the line of its last segment
    """

    path: Path
    segments: tuple[Segment, ...] = ()
    judged: tuple[float, float] | None = None
    where: str = ""


def read_truth(path: Path, labels: Sequence[str]) -> list[Recording]:
    """The recordings of a CSV file with the columns file, label, start_s, end_s, or of a folder with one of clips for
    each label.

    A line of the file alone, without a label, names a recording in which nothing happens. Raises ConfigError, naming
    the line, for what cannot be read or cannot be.
    """
    found = _of_folder(path, labels) if _is_folder(path) else _of_table(path, labels)
    if not found:
        what = "a folder of clips for each label" if _is_folder(path) else f"lines of {','.join(COLUMNS)}"
        raise ConfigError(f"{path}: has nothing in it; it must hold {what}")
    return found


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # too long
        return False


# ------------------------------------------------------------------------------------------------------- a CSV file


def _of_table(path: Path, labels: Sequence[str]) -> list[Recording]:
    rows = _rows(path)
    recordings = []
    for name in dict.fromkeys(row["file"] for _, row in rows):
        video = path.parent / name
        lines = [(where, row) for where, row in rows if row["file"] == name]
        if not is_file(video):
            told = printable(str(video)[:_LONGEST_TOLD])
            raise ConfigError(f"{lines[0][0]}: there is no file {told}; files are looked for beside the CSV file")
        found = sorted(
            ((_segment(row, labels, where), where) for where, row in lines if row["label"] or row["start_s"]),
            key=lambda one: one[0].start_s,
        )
        for (before, _), (after, where) in pairwise(found):
            if after.start_s < before.end_s:
                raise ConfigError(
                    f"{where}: {after.label!r} begins at {after.start_s:g} s, before {before.label!r} has ended at "
                    f"{before.end_s:g} s; one thing happens at a time"
                )
        where = found[-1][1] if found else lines[0][0]
        recordings.append(Recording(video, tuple(segment for segment, _ in found), where=where))
    return recordings


def _rows(path: Path) -> list[tuple[str, dict[str, str]]]:
    """The lines of a CSV file, each with where it stands."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path}: is larger than {MOST_BYTES} bytes; a truth is a line a segment")
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, skipinitialspace=True)
            columns = [str(name).strip() for name in table.fieldnames or ()]
            if set(columns) != set(COLUMNS):
                told = printable(",".join(columns)[:100]) or "nothing"
                raise ConfigError(f"{path}: the first line must be {','.join(COLUMNS)}, but is {told}")
            table.fieldnames = columns
            rows = []
            for row in table:
                where = f"{path}, line {table.line_num}"
                values = [*row.values()]
                if any(not isinstance(value, str) for value in values) or not str(row["file"]).strip():
                    raise ConfigError(f"{where}: must have {len(COLUMNS)} values, {','.join(COLUMNS)}")
                rows.append((where, {key: value.strip() for key, value in row.items()}))
            return rows
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not a CSV file: {error}") from error


def _segment(row: dict[str, str], labels: Sequence[str], where: str) -> Segment:
    label = row["label"]
    if label not in labels:
        hint = did_you_mean(label, labels, f"it has {', '.join(labels)}")
        raise ConfigError(
            f"{where}: the model has no label {label[:100]!r}; {hint}; leave out what the model does not know, "
            "since no event is expected between the lines"
        )
    try:
        start_s, end_s = float(row["start_s"]), float(row["end_s"])
    except ValueError:
        start_s = end_s = math.nan
    if not 0 <= start_s < end_s <= _LATEST_S:
        raise ConfigError(
            f"{where}: start_s and end_s must be seconds since the file's first frame, the end after the start, "
            f"but are {row['start_s'][:40]!r} and {row['end_s'][:40]!r}"
        )
    return Segment(label, start_s, end_s)


# -------------------------------------------------------------------------------------------------- folders of clips


class _Note(msgspec.Struct):
    """What a run notes beside the clip of an event, as far as it matters here; microseconds UTC."""

    start_us: int
    at_us: int
    until_us: int | None = None


def _of_folder(folder: Path, labels: Sequence[str]) -> list[Recording]:
    """The clips of the folders that are called as labels, and of others, in which no event may begin."""
    root = folder / ANSWERS if (folder / ANSWERS).is_dir() else folder
    try:
        clips = labels_in(root)
    except OSError as error:
        raise ConfigError(f"{error.filename or root}: cannot be read: {error.strerror}") from error
    recordings = [_of_clip(path, label, labels) for label, paths in clips.items() for path in paths]
    if recordings and not any(recording.segments for recording in recordings):
        raise ConfigError(
            f"{root}: none of its folders is called as a label of the model; it has {', '.join(labels)}, the folders "
            f"are {', '.join(printable(name) for name in clips)}"
        )
    return recordings


def _of_clip(path: Path, label: str, labels: Sequence[str]) -> Recording:
    """A clip that shows its folder's label: where its note says, else from begin to end."""
    judged = None
    try:
        note = read_json(path.with_suffix(".json"), _Note, "a clip's note")
        at_s = (note.at_us - note.start_us) / 1e6
        until_s = at_s if note.until_us is None else (note.until_us - note.start_us) / 1e6
        judged = max(0.0, at_s - EARLY_S), max(0.0, at_s, until_s) + EARLY_S
    except EngineError:
        pass  # a clip that somebody put there has none
    begin_s, end_s = judged or (0.0, math.inf)
    segments = (Segment(label, begin_s, end_s),) if label in labels else ()
    return Recording(path, segments, judged, str(path))
