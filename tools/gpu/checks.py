"""The questions that are put to one engine, the important ones first; each answer is a `Finding`."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines import Engine
from engines.build.agreement import LIMIT, graph_difference
from engines.build.certificate import certify
from engines.spec import EnginePrecision
from tools.gpu.recorded import noise

RESTORED = 1e-4  # of the logits' scale: how far a state that was saved and restored may go another way


class Finding(msgspec.Struct, frozen=True):
    """One line of the table: of which engine, what was asked, whether it holds, and the figures in words."""

    subject: str
    check: str
    good: bool
    told: str
    at_s: float = 0.0
    figures: dict[str, float] = {}


def correctness(
    name: str, engine: Engine, precision: EnginePrecision, reference: Engine, steps: int, rows: int
) -> Finding:
    """Against the reference, with resets and pauses; the drift of the states on the way."""
    (certificate,) = certify(reference, [(engine, precision)], steps, (1, rows) if rows > 1 else (1,), draw=noise)
    figures = {"answers": certificate.steps, "probability": certificate.max_probability_difference}
    return Finding(name, "correct", certificate.fault is None, str(certificate), figures=figures)


def graphs(name: str, engine: Engine, rows: int) -> Finding:
    """Steps that are replayed against the same steps queued call by call."""
    apart = graph_difference(engine, rows)
    if apart is None:
        return Finding(name, "graphs", "CPU" in engine.device, f"none are captured: {engine.device}")
    return Finding(name, "graphs", apart <= LIMIT, f"differ from plain steps by {apart:.1e}", figures={"apart": apart})


def restored(name: str, engine: Engine) -> Finding:
    """A state that is saved and restored into another, which was used, goes on the same way."""
    spec, rng = engine.spec, np.random.default_rng(1)
    frames = rng.integers(0, 256, (14, 1, spec.height, spec.width, 3), np.uint8)
    on, off, one, two = np.ones(1, bool), np.zeros(1, bool), engine.new_state(1), engine.new_state(1)
    for frame in frames[:9]:
        engine.step(frame, on, off, one)
    engine.step(frames[0], on, off, two)
    two.restore(one.snapshot())
    first = [engine.step(frame, on, off, one)[0].copy() for frame in frames[9:]]
    second = [engine.step(frame, on, off, two)[0].copy() for frame in frames[9:]]
    apart = float(np.abs(np.stack(first) - np.stack(second)).max() / np.abs(np.stack(first)).max())
    return Finding(name, "restored", apart <= RESTORED, f"differs by {apart:.1e}", figures={"apart": apart})


def beside_a_thread(name: str, engine: Engine) -> Finding:
    """New states are made in another thread while one steps, as when a stream is added to a run."""
    spec = engine.spec
    frame = np.random.default_rng(0).integers(0, 256, (1, spec.height, spec.width, 3), np.uint8)
    on, off, state, other = np.ones(1, bool), np.zeros(1, bool), engine.new_state(1), engine.new_state(1)
    alone = [engine.step(frame, on, off, state)[0].copy() for _ in range(40)]
    faults: list[str] = []

    def make() -> None:
        try:
            for _ in range(4):
                engine.new_state(1)
        except Exception as error:
            faults.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=make)
    thread.start()
    beside: list[NDArray[np.float32]] = []
    longest = 0.0
    while len(beside) < 40:
        began = time.perf_counter()
        beside.append(engine.step(frame, on, off, other)[0].copy())
        longest = max(longest, 1e3 * (time.perf_counter() - began))
    thread.join()
    apart = float(np.abs(np.stack(alone) - np.stack(beside)).max())
    told = faults[0] if faults else f"differs by {apart:.1e}, longest step {longest:.1f} ms"
    return Finding(name, "threads", not faults and apart == 0, told, figures={"apart": apart, "longest_ms": longest})


def speed(name: str, engine: Engine, rows: int, steps: int = 300) -> Finding:
    """Milliseconds from frames on the host to logits on the host."""
    spec = engine.spec
    frames = np.random.default_rng(0).integers(0, 256, (rows, spec.height, spec.width, 3), np.uint8)
    on, off, state = np.ones(rows, bool), np.zeros(rows, bool), engine.new_state(rows)
    for _ in range(20):
        engine.step(frames, on, off, state)
    times: list[float] = []
    deadline = time.perf_counter() + 10
    while len(times) < steps and time.perf_counter() < deadline:
        began = time.perf_counter()
        engine.step(frames, on, off, state)
        times.append(1e3 * (time.perf_counter() - began))
    p50, p99 = (float(value) for value in np.percentile(times, [50, 99]))
    told = f"{rows} rows: p50 {p50:.3f} ms, p99 {p99:.3f} ms, {1e3 * rows / p50:,.0f} frames/s"
    return Finding(name, f"speed x{rows}", True, told, figures={"rows": rows, "p50_ms": p50, "p99_ms": p99})


def leaks(name: str, engine: Engine, rows: int, free_bytes: Callable[[], int]) -> Finding:
    """What twenty states leave behind, and what one takes."""
    gc.collect()
    before = free_bytes()
    state: Any = engine.new_state(rows)
    one = before - free_bytes()
    for _ in range(20):
        state = engine.new_state(rows)
    del state
    gc.collect()
    lost = before - free_bytes()
    told = f"{lost / 1e6:.1f} MB are not given back after 21 states of {one / 1e6:.1f} MB"
    return Finding(name, "leaks", lost <= max(one, 1 << 21), told, figures={"lost": lost, "state": one})


def table(findings: list[Finding]) -> Iterator[str]:
    """The findings as lines."""
    for found in findings:
        held = "ok " if found.good else "BAD"
        yield f"{found.at_s:7.1f} s  {held}  {found.subject:20} {found.check:10} {found.told}"
