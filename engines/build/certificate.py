"""The proof that an engine computes what the eager network does: both run over the same video, side by side."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..base import Engine, Snapshot, probabilities
from ..spec import Certificate, EnginePrecision, EngineSpec

STEPS = 1000
TIE = 2e-3  # labels whose probabilities differ by less share a place: two correct runtimes may order them differently
SNAPSHOTS = (10, 30, 100, 300, 1000)  # frames since the start at which the states are compared
IDLE = 1 / 8  # the chance that a row gets no frame in a step
LARGEST = 1e9  # of a drift that is no number: JSON has no infinity

Inputs = tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]
Draw = Callable[[int, int, int], Iterator[NDArray[np.uint8]]]


@dataclass
class Tally:
    """What one engine has shown so far."""

    answers: int = 0
    agreed: int = 0
    worst: float = 0.0
    drift: dict[int, float] = field(default_factory=dict)

    def count(self, expected: NDArray[np.float32], found: NDArray[np.float32]) -> None:
        """Compare answers, logits [N, K] each; what is no number differs by 1."""
        with np.errstate(invalid="ignore"):
            expected, found = probabilities(expected), np.nan_to_num(probabilities(found), nan=-1)
        self.worst = min(1.0, max(self.worst, float(np.abs(expected - found).max(initial=0))))
        chosen = np.take_along_axis(expected, found.argmax(-1)[:, None], -1)[:, 0]
        self.answers += len(expected)
        self.agreed += int((chosen >= expected.max(-1) - TIE).sum())


def certify(
    reference: Engine,
    engines: Sequence[tuple[Engine, EnginePrecision]],
    steps: int = STEPS,
    rows: Sequence[int] = (1,),
    progress: Callable[[str], object] = len,  # tells nobody
    draw: Draw | None = None,
) -> list[Certificate]:
    """How each engine, in its precision, compares with the reference; a certificate's `fault` says if it may be used.

    steps      answers in a row without a reset in the first row, whose state is compared on the way: frames in stream
               mode, evaluations of full windows in window mode. A quarter more follow with resets and idle rows
    rows       of the state; for each number after the first, another quarter of the steps
    progress   is told now and then how far it is
    draw       height, width, seed -> the frames of a row; None: those of scenes.py
    """
    tallies = [Tally() for _ in engines]
    restless = -(-steps // 4)
    draw = draw or scenes
    plan = [(rows[0], steps), *((count, 0) for count in rows[1:])]
    for count, calm in plan:
        run = compare(reference, [engine for engine, _ in engines], tallies, count, calm, calm + restless, draw)
        for answers in run:
            progress(f"compared {answers} of {calm + restless} answers, {count} row{'s' if count > 1 else ''} a step")
    return [
        Certificate(
            engine.backend,
            precision,
            tally.answers,
            tally.worst,
            tally.agreed / tally.answers,
            tally.drift,
            runtime(reference),
            runtime(engine),
            processor(engine.spec),
        )
        for (engine, precision), tally in zip(engines, tallies, strict=True)
    ]


def scenes(height: int, width: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """The drawn video of scenes.py. It needs OpenCV, which a machine that is there for its GPU need not have."""
    from .scenes import video

    return video(height, width, seed)


def compare(
    reference: Engine,
    engines: Sequence[Engine],
    tallies: Sequence[Tally],
    rows: int,
    calm: int,
    steps: int,
    draw: Draw,
) -> Iterator[int]:
    """One run until `steps` answers are compared, the first `calm` of them without a reset in row 0; their number so
    far, after every 100 frames.
    """
    spec, undisturbed = reference.spec, calm > 0
    expected_state, states = reference.new_state(rows), [engine.new_state(rows) for engine in engines]
    videos = [draw(spec.height, spec.width, seed) for seed in range(rows)]
    rng = np.random.default_rng(rows)
    compared = frame = 0
    while compared < steps:
        inputs = next_inputs(rng, videos, spec, undisturbed=undisturbed)
        logits, ready = reference.step(*inputs, expected_state)
        _, active, _ = inputs
        counted = active & ready if spec.mode == "window" else active
        frame, compared = frame + 1, compared + int(counted.sum())
        for engine, state, tally in zip(engines, states, tallies, strict=True):
            found, found_ready = engine.step(*inputs, state)
            tally.count(logits[counted], found[counted])
            if not np.array_equal(found_ready[active], ready[active]):
                tally.worst = 1.0  # an answer where there is none, or none where there is one
            if undisturbed and frame in SNAPSHOTS:
                tally.drift[frame] = difference(expected_state.snapshot(), state.snapshot())
        undisturbed = compared < calm
        if frame % 100 == 0:
            yield compared


def next_inputs(
    rng: np.random.Generator, videos: Sequence[Iterator[NDArray[np.uint8]]], spec: EngineSpec, *, undisturbed: bool
) -> Inputs:
    """Frames of all rows: they start anew and pause at random, row 0 only if it is not to run undisturbed. A row that
    pauses is handed noise, which must not matter.
    """
    rows = len(videos)
    fresh, active = rng.random(rows) < 1 / (3 * spec.frames), rng.random(rows) >= IDLE
    if undisturbed:
        fresh[0], active[0] = False, True
    shape = (spec.height, spec.width, 3)
    frames = [
        next(own) if on else rng.integers(0, 256, shape, np.uint8) for own, on in zip(videos, active, strict=True)
    ]
    return np.stack(frames), active, fresh


def difference(expected: Snapshot, found: Snapshot) -> float:
    """The largest difference in row 0 of any state tensor, relative to the largest value of that tensor."""
    worst = 0.0
    for name, value in expected.items():
        gap = np.abs(value[0].astype(np.float64) - found[name][0]).max()
        worst = max(worst, float(gap / max(np.abs(value[0]).max(), 1e-9)) if np.isfinite(gap) else LARGEST)
    return min(worst, LARGEST)


def runtime(engine: Engine) -> str:
    """The library that runs an engine, with its version."""
    return engine.device.partition(",")[0]


def processor(spec: EngineSpec) -> str:
    """What an engine runs on: the GPU that it was built for, else this machine's CPU."""
    if spec.engine:
        return spec.engine.gpu
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
