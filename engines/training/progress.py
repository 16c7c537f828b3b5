"""What a training run tells while it goes on: a bar with the time left, metrics.csv, and TensorBoard's files."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from ..errors import EngineError

_EVERY = 25  # steps between two rows
_COLUMNS = ("step", "loss", "learning_rate", "clips_per_s", "held_out_accuracy")


@contextmanager
def writing(where: Path) -> Iterator[None]:
    """Raises EngineError where a file cannot be written there: the disk is full, or it is not allowed."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch tells a full disk by a RuntimeError
        what, _, _ = str(error).partition("\n")
        raise EngineError(
            f"cannot write in {where} (is the disk full?): {what}; what was saved before stays"
        ) from error


class Report:
    """The one who reports. On a terminal a bar moves; elsewhere a line comes with each row of metrics.csv.

    Rows of steps after `step`, where a resumed run begins, are of the run that was broken off: they are taken out, and
    hidden in TensorBoard. Raises EngineError where a file cannot be written.
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
        board = out / "tensorboard"
        with writing(out):
            kept = self._rows_until(step)
            with self._path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([_COLUMNS, *kept])
            board.mkdir(exist_ok=True)
            self._board = EventsWriter(str(board / "events"))  # SummaryWriter's thread would wait for a full disk
            self._add_event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))
        self._steps = steps
        self._losses: list[float] = []
        self._clips, self._since = 0, time.monotonic()

    def __enter__(self) -> Report:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        with suppress(OSError):  # each event was flushed, or its error told
            self._board.close()

    def step(self, step: int, loss: float, learning_rate: float, clips: int) -> None:
        """One more step is done, on so many clips."""
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
        with writing(self._path.parent):
            with self._path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, _COLUMNS).writerow({"step": step} | figures)
            for name, value in figures.items():
                self._add_event(Event(step=step, summary=scalar(name, value)))

    def _add_event(self, event: Event) -> None:
        event.wall_time = time.time()
        self._board.write_event(event)
        self._board.flush()

    def _rows_until(self, step: int) -> list[list[str]]:
        """Whole rows only: a machine that went down, or a full disk, leaves all kinds of ends."""
        if step == 0 or not self._path.exists():
            return []
        rows = [line.split(",") for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines()]
        return [row for row in rows if len(row) == len(_COLUMNS) and row[0].isdecimal() and int(row[0]) <= step]
