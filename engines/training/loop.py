"""The training loop: step by step to the end of the recipe, or until somebody asks it to stop."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import active_children
from types import FrameType

from ..errors import EngineError
from .feed import Batch
from .progress import Report
from .trainer import Trainer


def keep_memory() -> None:
    """Let glibc keep freed memory: fetching the maps of each step from the system anew doubles the time of a step."""
    if sys.platform == "linux":
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (-3, -1):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            mallopt(parameter, 2**31 - 1)


class Stop:
    """Whether the run is to end early: SIGTERM or Ctrl-C has come, or `failure`.

    pass_on  send the signals on to the processes that this one has started
    """

    def __init__(self, *, pass_on: bool = False) -> None:
        self.asked = False
        self.failure: EngineError | None = None
        self._pass_on = pass_on

    def __enter__(self) -> Stop:
        self._before = [(number, signal.signal(number, self._take)) for number in (signal.SIGTERM, signal.SIGINT)]
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        for child in active_children() if self._pass_on else ():
            child.terminate()

    @contextmanager
    def at_failure(self) -> Iterator[None]:
        """What fails in one process does not leave it: it ends the run of all."""
        try:
            yield
        except EngineError as error:
            self.asked, self.failure = True, error


def run(trainer: Trainer, stop: Stop) -> bool:
    """Train to the end; the first process reports and saves. False where it was asked to stop, and has saved.

    Raises EngineError where the numbers are none, no video can be used, or a file cannot be written.
    """
    keep_memory()
    fabric, recipe = trainer.fabric, trainer.recipe
    report: Report | None = None
    told: set[str] = set()
    used = 0  # clips since the last checkpoint
    with ExitStack() as stack:
        if fabric.is_global_zero:
            with stop.at_failure():
                report = stack.enter_context(Report(trainer.out, trainer.step, trainer.steps))
        for batch in _batches(trainer):
            if fabric.strategy.reduce_boolean_decision(stop.asked, all=False):
                break
            loss, clips = trainer.gradients(batch)
            rate = trainer.update()
            used += clips
            _tell(batch, told, print if report is None else report.say)
            if report is None:
                continue
            with stop.at_failure():
                report.step(trainer.step, loss, rate, clips)
                if trainer.step == trainer.steps or trainer.step % recipe.checkpoint_steps == 0:
                    _checkpoint(trainer, report, used)
                    used = 0
        if stop.failure is not None:
            raise stop.failure
        if report is not None and trainer.step < trainer.steps:
            trainer.save()
            report.say(f"stopped after step {trainer.step} of {trainer.steps}; --resume goes on from here")
    return trainer.step == trainer.steps


def _batches(trainer: Trainer) -> Iterator[Batch]:
    """The process's shares of all batches from the trainer's step on."""
    while trainer.step < trainer.steps:
        number, begin = trainer.part_at(trainer.step)
        yield from trainer.feed.batches(number, begin, trainer.step - begin, trainer.fabric.global_rank)


def _tell(batch: Batch, told: set[str], say: Callable[[str], None]) -> None:
    """List the videos of a batch that cannot be used, or not whole, each once."""
    notes = [*(f"left out: {fault}" for fault in batch.faults), *(f"damaged: {damage}" for damage in batch.damaged)]
    for note in notes:
        if note not in told:
            told.add(note)
            say(note)


def _checkpoint(trainer: Trainer, report: Report, used: int) -> None:
    """Evaluate and save, after `used` clips."""
    if not used:
        raise EngineError("not one of the videos that were to train can be used; they are listed above")
    held = trainer.feed.held_out(trainer.averaged, last=trainer.step == trainer.steps)
    report.held_out(trainer.step, held.accuracy, str(held))
    trainer.save()
