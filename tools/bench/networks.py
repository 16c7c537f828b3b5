"""Networks measured against the limit, which is their 2-D backbone alone on one frame, in the same engine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from engines import Engine, EngineError
from engines.backends.eager import TorchEngine, for_gpu
from engines.networks.stepper import make_stepper
from tools.bench.graphs import FORMS, Subject, forms, graphs
from tools.bench.timing import Times, in_turns, stepping

BACKENDS = {"cpu": ("openvino",), "cuda": ("eager", "tensorrt")}  # what is measured unless told otherwise
PRECISIONS = {
    "openvino": ("fp32", "bf16"), "eager": ("fp32", "fp16"), "compiled": ("fp32", "fp16"), "tensorrt": ("fp32", "fp16"),
}  # fmt: skip
OFTEN = ("limit", "step")  # the short ones, measured twice a round


@dataclass(frozen=True)
class Plan:
    """What to measure, on one device.

    graphs    the folder of exported graphs
    tell      is told progress
    budget_s  no case is begun that would not end by then if it takes as long as the longest so far
    """

    networks: Sequence[str]
    backbone: str
    frames: Sequence[int]
    size: int
    width: float
    device: str
    backends: Sequence[str]
    precisions: Sequence[str]
    rows: Sequence[int]
    threads: int
    rounds: int
    graphs: Path
    tell: Callable[[str], None]
    budget_s: float = math.inf

    def forms(self, network: str, frames: int) -> dict[str, Subject]:
        """The four forms of one of the networks."""
        return forms(network, self.backbone, frames, self.size, self.width)


class Failure(msgspec.Struct, frozen=True, tag="failure", tag_field="kind"):
    """A case that was left out, and why."""

    network: str
    frames: int
    rows: int
    engine: str
    why: str


class Row(msgspec.Struct, frozen=True, tag="row", tag_field="kind"):
    """One network in one engine: medians, milliseconds for all rows together, and what they are of each other.

    limit, step, window, recompute   see `bench_graphs.Subject`
    spread_ms                        the quartiles of each
    difference                       of the step's logits from the eager network's in float32 on the CPU, at most, as a
                                     part of their scale
    engine                           the engine and its device in words
    """

    network: str
    backbone: str
    frames: int
    device: str
    backend: str
    precision: str
    rows: int
    threads: int
    size: int
    limit_ms: float
    step_ms: float
    window_ms: float
    recompute_ms: float
    step_over_limit: float
    recompute_over_step: float
    frames_per_s: float
    spread_ms: dict[str, tuple[float, float]]
    difference: float
    engine: str


def measure_all(plan: Plan) -> Iterator[Row | Failure]:
    """Every network, number of frames and number of rows of the plan, each as soon as it is measured. A case that fails
    is a `Failure` and ends no other.
    """
    cases = [(network, frames) for frames in plan.frames for network in plan.networks]
    if "openvino" in plan.backends and plan.device == "cpu":
        wanted = {subject for case in cases for subject in plan.forms(*case).values()}
        plan.tell(f"{len(wanted)} graphs, exported if {plan.graphs} lacks them ...")
        graphs(wanted, plan.graphs)
    began, longest = time.monotonic(), 0.0
    for network, frames in cases:
        reference = None
        for rows in plan.rows:
            started = time.monotonic()
            if started - began + longest > plan.budget_s:
                yield Failure(network, frames, rows, "all", f"the budget of {plan.budget_s:g} s is used up")
                continue
            plan.tell(f"{network}, {frames} frames, {rows} rows ...")
            try:
                if reference is None:
                    reference = answers(torch_engine(plan.forms(network, frames)["step"], "cpu", "fp32"))
                yield from measure(network, frames, rows, plan, reference)
            except (EngineError, RuntimeError) as error:  # torch has no room on a GPU: a RuntimeError
                yield Failure(network, frames, rows, "all", " ".join(str(error).split())[:300])
            longest = max(longest, time.monotonic() - started)


def measure(
    network: str, frames: int, rows: int, plan: Plan, reference: NDArray[np.float32]
) -> Iterator[Row | Failure]:
    """All forms of a network in all engines, in turns."""
    engines: dict[tuple[str, str], Engine] = {}  # of the step, by backend and precision
    runs: dict[tuple[str, str, str], Callable[[], None]] = {}  # by form, backend and precision
    if "compiled" in plan.backends:
        torch.compiler.reset()  # it gives up on a function that it has compiled for eight models
    for backend in plan.backends:
        for precision in PRECISIONS[backend]:
            if precision not in plan.precisions:
                continue
            try:
                opened = {
                    form: open_engine(subject, backend, precision, rows, plan)
                    for form, subject in plan.forms(network, frames).items()
                }
                runs |= {(form, backend, precision): stepping(engine, rows) for form, engine in opened.items()}
            except (EngineError, RuntimeError) as error:
                yield Failure(network, frames, rows, f"{backend} {precision}", " ".join(str(error).split())[:300])
                continue
            engines[backend, precision] = opened["step"]
    order = [(form, *key) for key in engines for form in FORMS for _ in range(2 if form in OFTEN else 1)]
    times = in_turns(runs, order, plan.rounds) if order else {}
    for (backend, precision), engine in engines.items():
        found = {form: times[form, backend, precision] for form in FORMS}
        apart = float(np.abs(answers(engine) - reference).max() / np.abs(reference).max())
        yield make_row(network, frames, rows, plan, backend, precision, engine, found, apart)


def make_row(
    network: str, frames: int, rows: int, plan: Plan, backend: str, precision: str, engine: Engine,
    found: dict[str, Times], apart: float,
) -> Row:  # fmt: skip
    """What was found of one network in one engine."""
    ms = {form: times.median for form, times in found.items()}
    return Row(
        network=network, backbone=plan.backbone, frames=frames, device=plan.device, backend=backend,
        precision=precision, rows=rows, threads=plan.threads, size=plan.size, limit_ms=ms["limit"], step_ms=ms["step"],
        window_ms=ms["window"], recompute_ms=ms["recompute"], step_over_limit=ms["step"] / ms["limit"],
        recompute_over_step=ms["recompute"] / ms["step"], frames_per_s=1e3 * rows / ms["step"],
        spread_ms={form: (times.low, times.high) for form, times in found.items()}, difference=apart,
        engine=engine.device,
    )  # fmt: skip


def answers(engine: Engine) -> NDArray[np.float32]:
    """The logits [steps, K] of one stream over two windows of noise, with a start anew between them and a frame that
    does not count in the first.
    """
    rng, spec, state, found = np.random.default_rng(0), engine.spec, engine.new_state(1), []
    for n in range(2 * spec.frames):
        frame = rng.integers(0, 256, (1, spec.height, spec.width, 3), np.uint8)
        active, fresh = np.array([n != 1]), np.array([n in {0, spec.frames}])
        logits, _ = engine.step(frame, active, fresh, state)
        found += [logits[0].copy()] if active[0] else []
    return np.stack(found)


def open_engine(subject: Subject, backend: str, precision: str, rows: int, plan: Plan) -> Engine:
    """An engine that runs a subject. Raises EngineError where this machine has none of the kind."""
    if backend == "openvino":
        if plan.device != "cpu":
            raise EngineError("OpenVINO is the engine of CPUs here; measure it with --device cpu")
        from engines.backends.openvino import OpenVINOEngine

        path, spec = graphs([subject], plan.graphs)[subject]
        return OpenVINOEngine(path, spec, threads=plan.threads, precision=precision)
    if backend == "tensorrt":
        return build_tensorrt(subject, precision, rows, plan)
    if plan.device == "cuda" and not torch.cuda.is_available():
        raise EngineError("torch sees no GPU: `nvidia-smi` must list one, and torch must be a CUDA build")
    torch.set_num_threads(plan.threads)
    engine = torch_engine(subject, plan.device, precision)
    if backend == "compiled":
        engine.stepper.compile(dynamic=False)
    return engine


def torch_engine(subject: Subject, device: str, precision: str) -> TorchEngine:
    """A subject in torch."""
    network = subject.build()
    spec = subject.spec(network)
    prepared = for_gpu(network) if device == "cuda" else network
    return TorchEngine(make_stepper(prepared, subject.size, subject.size), spec, device, precision)


def build_tensorrt(subject: Subject, precision: str, rows: int, plan: Plan) -> Engine:
    """A subject in TensorRT, built now, which takes minutes for a large network."""
    from engines.backends.tensorrt import TensorRTEngine, build_engine, why_not

    if missing := why_not():
        raise EngineError(missing)
    typed = replace(subject, precision="fp16" if precision == "fp16" else "fp32")
    graph, spec = graphs([typed], plan.graphs)[typed]
    file = graph.with_name(f"{graph.stem}-{rows}.engine")
    facts = build_engine(graph, spec, file, rows=rows, precision=typed.precision, progress=plan.tell)
    return TensorRTEngine(file, msgspec.structs.replace(spec, engine=facts))
