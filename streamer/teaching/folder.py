"""Folders of labelled clips: FOLDER/LABEL/CLIP.mp4, as `streamer record` writes them and corrections are kept."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = frozenset((".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"))


def labels_in(folder: Path) -> dict[str, list[Path]]:
    """The clips of each label, sorted; a label is a folder that is not hidden. Raises OSError."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return {path.name: clips_in(path) for path in folders}


def clips_in(folder: Path) -> list[Path]:
    """The video files in a folder by their suffix, those that are hidden left out, sorted. Raises OSError."""
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
