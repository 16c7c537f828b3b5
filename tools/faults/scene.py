"""What the cameras of the matrix show, and the model that knows it: so each label can be told right or wrong.

The scene is a function of the wall clock: 25 numbered pictures a second, and a label that changes every 64 of them. The
model is a script that follows the numbers in the pictures (engines/backends/scripted.py). The probability of its best
label tells which picture it saw, so every frame can be followed through the program under test, whichever build it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from streamer import ScoreMessage

FPS = 25
NUMBERS = 1024  # then they begin again, after 41 s
LABELS = ("north", "east", "south", "west")
SHOWN = 64  # pictures of a label: 2.56 s
WINDOW = 4  # frames that the model needs
RATE_HZ = 1e6  # of the model: one microsecond apart is far enough, so it takes every frame, also those of a burst
_LEAST, _STEP = 0.9, 5e-5  # probability of the best label for picture 0, and its rise from picture to picture


@dataclass(frozen=True)
class Scene:
    """Pictures from `since` on, seconds UTC."""

    since: float

    def number(self, time_us: int) -> int:
        """The picture that is shown at a time, counted from the first one."""
        return int((time_us / 1e6 - self.since) * FPS)

    def labels(self, from_us: int, to_us: int) -> set[str]:
        """What is shown between two times, both included."""
        return {label(number) for number in range(self.number(from_us), self.number(to_us) + 1)}

    def seen(self, score: ScoreMessage) -> int:
        """The picture that a score is about: of those with its number, the one nearest to the frame's time."""
        assert score.ts.frame_us is not None
        shown, number = self.number(score.ts.frame_us), read_number(score)
        return shown + (number - shown + NUMBERS // 2) % NUMBERS - NUMBERS // 2


def label(number: int) -> str:
    """What a picture shows."""
    return LABELS[number % NUMBERS // SHOWN % len(LABELS)]


def read_number(score: ScoreMessage) -> int:
    """The number, below 1024, in the picture that a score is about."""
    return round((score.topk[0][1] - _LEAST) / _STEP)


def write_script(path: Path) -> None:
    """The model, `NAME.scores.json`."""
    rows = []
    for number in range(NUMBERS):
        best = _LEAST + _STEP * number
        rest = (1 - best) / (len(LABELS) - 1)
        rows.append([round(best if one == label(number) else rest, 8) for one in LABELS])
    script = {"labels": LABELS, "scores": rows, "order": "pictures", "rate_hz": RATE_HZ, "frames": WINDOW}
    path.write_text(json.dumps(script | {"height": 32, "width": 40}))
