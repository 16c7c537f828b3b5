"""The folder of the clips: their names and notes, the limits, and the answers.

    FOLDER/NAME.mp4, NAME.json                   a clip and its note: written whole or not at all, the note last
    FOLDER/answers/LABEL/NAME.mp4, NAME.json     what somebody said that it shows: the folders that `teach` reads

An answered clip stands in both places as one file, if the file system has links. The limits hold for the first only:
what somebody took the trouble to say stays. Several runs may share a folder.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import msgspec

from engines.files import write_whole
from streamer.errors import ConfigError
from streamer.labels.commands import ClipReport
from streamer.sources.packets import Packet

ANSWERS = "answers"
MOST_TOLD = 1000  # clips in one list
_NAME = re.compile(r"[a-z0-9_-]{1,160}")
_LONGEST_LABEL = 100
_LEFT_S = 3600  # a half file that is older was left behind by a run that was killed


class Note(msgspec.Struct, kw_only=True):
    """What stands beside a clip. Times are microseconds UTC.

    start_us, end_us  of its first and last picture; at_us: of the event's begin, or of the moment
    until_us          of the event's end; None for a moment
    peak              highest raw probability of its label
    lead              of a moment: how far the label was ahead of the second one, averaged over a second
    scores            the best labels with their probabilities, at the peak or at the moment
    """

    name: str
    stream: str
    label: str
    why: Literal["event", "unsure"]
    model: str
    start_us: int
    end_us: int
    at_us: int
    until_us: int | None
    peak: float
    lead: float | None
    scores: list[tuple[str, float]]
    answer: str = ""
    answered_us: int | None = None


_decoder: msgspec.json.Decoder[Note] = msgspec.json.Decoder(Note)


def new_name(stream: str, start_us: int, label: str) -> str:
    """A clip's name: stream, time, label, and what no other run would choose."""
    at = datetime.fromtimestamp(start_us / 1e6, timezone.utc)
    slug = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:40] or "label"
    return f"{stream}-{at:%Y%m%d-%H%M%S}-{slug}-{secrets.token_hex(2)}"


def check_label(label: str) -> None:
    """ConfigError if an answer cannot be the name of a folder."""
    fits = 1 <= len(label) <= _LONGEST_LABEL and label.isprintable() and label == label.strip()
    if not fits or label.startswith(".") or "/" in label or "\\" in label:
        raise ConfigError(
            f"{label[:_LONGEST_LABEL]!r} cannot be an answer, since it names a folder, too: give 1 to {_LONGEST_LABEL} "
            "printable characters without / and \\, no dot at the beginning and no space at either end"
        )


class Folder:
    """The folder at `path`, of which one thread takes care. Raises ConfigError if it cannot be written.

    bytes  that the clips took when they were looked at last, without answers
    """

    def __init__(self, path: Path, keep_gb: float | None = None, keep_days: float | None = None) -> None:
        self.path = path
        self.bytes = 0
        self._most_bytes = float("inf") if keep_gb is None else keep_gb * 1e9
        self._oldest_s = float("inf") if keep_days is None else keep_days * 86400
        self._known: dict[str, tuple[int, Note]] = {}
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = path / f".{secrets.token_hex(4)}.part"
            probe.touch(exist_ok=False)
            probe.unlink()
        except OSError as error:
            raise ConfigError(
                f"clips.folder {path}: cannot be written: {error.strerror}; name a folder of your own"
            ) from error

    def save(self, note: Note, packets: Sequence[Packet], part_us: int = 0) -> bool:
        """Write a clip and its note, whose place in time is set. OSError if that fails, and then nothing is left.

        part_us: of a moment: it is the only one of its stream in such a part of the day, the least sure one; False if
        another one is, or has been answered.
        """
        others = self._of_part(note, part_us) if part_us else []
        if any(other.answer or (other.lead or 0) <= (note.lead or 0) for other in others):
            return False
        from streamer.clips import mp4

        path = self._video(note.name)
        try:
            note.start_us, note.end_us = mp4.write(path, packets, note.label)
            write_whole(self._note(note.name), msgspec.json.format(msgspec.json.encode(note)))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        for other in others:
            self._delete(other.name)
        return True

    def _of_part(self, note: Note, part_us: int) -> list[Note]:
        """The moments of the same stream in the same part of the day."""
        part = note.at_us // part_us
        return [
            other
            for other in self.notes()
            if other.why == "unsure" and other.stream == note.stream and other.at_us // part_us == part
        ]

    def notes(self) -> list[Note]:
        """The notes of all clips, also of other runs; those that are damaged are left out."""
        found: dict[str, tuple[int, Note]] = {}
        for entry in os.scandir(self.path):
            name, dot, suffix = entry.name.partition(".")
            if dot + suffix != ".json" or not _NAME.fullmatch(name):
                continue
            with suppress(OSError, ValueError):
                changed_ns = entry.stat().st_mtime_ns
                known = self._known.get(name)
                if known is None or known[0] != changed_ns:
                    known = changed_ns, _decoder.decode(Path(entry.path).read_bytes())
                if known[1].name == name:
                    found[name] = known
        self._known = found
        return [note for _, note in found.values()]

    def reports(self) -> list[ClipReport]:
        """The newest clips, the newest first."""
        reports = []
        for note in sorted(self.notes(), key=lambda note: note.start_us, reverse=True):
            with suppress(OSError):  # it has just been deleted
                size = self._video(note.name).stat().st_size
                reports.append(
                    ClipReport(
                        name=note.name, stream=note.stream, label=note.label, start_us=note.start_us,
                        end_us=note.end_us, bytes=size, peak=note.peak, answer=note.answer, why=note.why,
                    )
                )  # fmt: skip
            if len(reports) == MOST_TOLD:
                break
        return reports

    def answer(self, name: str, label: str) -> dict[str, Any]:
        """Keep what somebody says that a clip shows, in place of what was said before; "": nothing any more.

        ConfigError if there is no such clip, or the label names no folder. Returns what `answer` replies; `before`: the
        answer that this one replaces.
        """
        if label:
            check_label(label)
        note = next((note for note in self.notes() if note.name == name), None)
        if note is None or not self._video(name).is_file():
            raise ConfigError(
                f"there is no clip {name[:200]!r}: it may have been deleted; `streamer ctl clips` lists them"
            )
        before, note = note.answer, msgspec.structs.replace(note, answer=label, answered_us=time.time_ns() // 1000)
        text = msgspec.json.format(msgspec.json.encode(note))
        if label:
            place = self.path / ANSWERS / label
            place.mkdir(parents=True, exist_ok=True)
            _link(self._video(name), place / f"{name}.mp4")
            write_whole(place / f"{name}.json", text)
        write_whole(self._note(name), text)
        if before and before != label:
            for suffix in (".json", ".mp4"):
                (self.path / ANSWERS / before / f"{name}{suffix}").unlink(missing_ok=True)
            with suppress(OSError):  # others are in it
                (self.path / ANSWERS / before).rmdir()
        return {"clip": name, "label": label, "before": before}

    def tidy(self) -> int:
        """Delete the oldest clips until the limits hold, and what killed runs left half; how many clips went."""
        clips, now_s = [], time.time()
        for entry in os.scandir(self.path):
            with suppress(OSError):
                status = entry.stat()
                if entry.name.endswith(".mp4") and _NAME.fullmatch(entry.name[:-4]):
                    clips.append((status.st_mtime, status.st_size, entry.name[:-4]))
                elif entry.name.startswith(".") and entry.name.endswith(".part") and now_s - status.st_mtime > _LEFT_S:
                    Path(entry.path).unlink()
        clips.sort()
        self.bytes, deleted = sum(size for _, size, _ in clips), 0
        for changed_s, size, name in clips:
            if self.bytes <= self._most_bytes and now_s - changed_s <= self._oldest_s:
                break
            self._delete(name)
            self.bytes -= size
            deleted += 1
        return deleted

    def _delete(self, name: str) -> None:
        self._note(name).unlink(missing_ok=True)
        self._video(name).unlink(missing_ok=True)

    def _video(self, name: str) -> Path:
        return self.path / f"{name}.mp4"

    def _note(self, name: str) -> Path:
        return self.path / f"{name}.json"


def _link(source: Path, target: Path) -> None:
    """One file under two names, or a copy where there are no links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
