"""What a training run tells while it goes on: a bar with the time left, metrics.csv, and TensorBoard's files."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter

_EVERY = 25  # steps between two rows
_COLUMNS = ("step", "loss", "learning_rate", "clips_per_s", "held_out_accuracy")


class Report:
    """The one who reports. On a terminal a bar moves; elsewhere a line comes with each row of metrics.csv.

    Rows of steps after `step`, where a resumed run begins, are of the run that was broken off: they are taken out.
    """

    def __init__(self, out: Path, step: int, steps: int) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeElapsedColumn(), TextColumn("left"))
        self._bar = Progress(
            TextColumn("{task.description}"), *columns, TimeRemainingColumn(),
            console=self.console, disable=not self.console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("training", total=steps, completed=step)
        self._path = out / "metrics.csv"
        kept = self._rows_until(step)
        with self._path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([_COLUMNS, *kept])
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step or None)
        self._steps = steps
        self._faults: set[str] = set()
        self._losses: list[float] = []
        self._clips, self._since = 0, time.monotonic()

    def __enter__(self) -> Report:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._board.close()

    def step(self, step: int, loss: float, learning_rate: float, clips: int, faults: Sequence[str]) -> None:
        """One more step is done; of its faults, those that are new are told."""
        for fault in faults:
            if fault not in self._faults:
                self._faults.add(fault)
                self.say(f"cannot be used: {fault}")
        self._losses.append(loss)
        self._clips += clips
        self._bar.update(self._task, completed=step)
        if step % _EVERY and step != self._steps:
            return
        now = time.monotonic()
        mean, speed = sum(self._losses) / len(self._losses), self._clips / (now - self._since)
        self._losses, self._clips, self._since = [], 0, now
        self._bar.update(self._task, description=f"loss {mean:.3f}  {speed:.1f} clips/s")
        if not self.console.is_terminal:
            self.say(f"step {step}/{self._steps}  loss {mean:.3f}  {speed:.1f} clips/s")
        self._write(step, {"loss": mean, "learning_rate": learning_rate, "clips_per_s": speed})

    def held_out(self, step: int, accuracy: float, text: str) -> None:
        """Results on clips that are held out."""
        self.say(f"step {step}: held out, {text}")
        self._write(step, {"held_out_accuracy": accuracy})
        self._since = time.monotonic()  # the evaluation is no training time

    def say(self, text: str) -> None:
        """A line above the bar."""
        self.console.print(text, markup=False)

    def _write(self, step: int, figures: dict[str, float]) -> None:
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, _COLUMNS).writerow({"step": step} | figures)
        for name, value in figures.items():
            self._board.add_scalar(name, value, step)

    def _rows_until(self, step: int) -> list[list[str]]:
        if step == 0 or not self._path.exists():
            return []
        with self._path.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.reader(file) if row and row[0].isdigit() and int(row[0]) <= step]
