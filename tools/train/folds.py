"""Which clips are held out together: those that were cut from one video."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

FOLDS = 5


def source_of(path: Path) -> str:
    """The video that a clip was cut from, by HMDB51's names (`VIDEO_LABEL_..._NUMBER`), else by the clip's own."""
    before, label, _ = path.name.partition(f"_{path.parent.name}_")
    return before if label else re.sub(r"[_-]?\d*\.\w+$", "", path.name) or path.name


def fold_of(source: str) -> int:
    """One of five, by a hash: the clips of one source are all held out, or none."""
    return int.from_bytes(hashlib.sha256(source.encode()).digest()[:4]) % FOLDS
