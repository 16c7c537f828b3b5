"""Is everything right on this GPU, and how fast? python -m tools.gpu [--budget-s 240] [--json FILE]

torch      the shipped model in torch on the GPU against torch on the CPU, fp32 and fp16: correctness first, then graphs
           against plain steps, saved states, a second thread, speed at 1 to 64 rows, leaks
tensorrt   the same for TensorRT engines, which are built here from the graphs that are shipped

Needs numpy and msgspec, and torch for the reference; --record FOLDER writes its run down, and --recorded FOLDER
compares with that where there is no torch. Each finding is printed and written as it comes, what fails ends nothing but
itself, and what does not fit into the budget is left out and named.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from engines import Engine, EngineError, find_models
from engines.spec import EngineSpec, Precision, read_spec
from tools.errors import ToolError
from tools.gpu import checks
from tools.gpu.checks import Finding
from tools.gpu.recorded import Recorded, Recording
from tools.results import write_result

PARTS = ("torch", "tensorrt")
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")
Ask = tuple[str, str, Callable[[], Finding]]


class Journal:
    """The findings, printed and written as they come, within a budget of seconds."""

    def __init__(self, budget_s: float, file: Path | None) -> None:
        self.findings: list[Finding] = []
        self._began = time.monotonic()
        self._budget_s = budget_s
        self._file = file

    def put(self, subject: str, check: str, ask: Callable[[], Finding]) -> None:
        """One question; an error is an answer, and so is a budget that is used up."""
        if time.monotonic() - self._began > self._budget_s:
            found = Finding(subject, check, True, f"left out: the budget of {self._budget_s:g} s is used up")
        else:
            try:
                found = ask()
            except Exception as error:
                told = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
                found = Finding(subject, check, False, told)
        found = msgspec.structs.replace(found, at_s=round(time.monotonic() - self._began, 1))
        self.findings.append(found)
        print(next(checks.table([found])), flush=True)
        if self._file:
            write_result(
                "--json", self._file, msgspec.json.format(msgspec.json.encode(self.findings), indent=1) + b"\n"
            )


def questions(
    name: str, engine: Engine, precision: Precision, reference: Engine, args: argparse.Namespace, rows: Sequence[int],
    free_bytes: Callable[[], int] | None,
) -> Iterator[Ask]:  # fmt: skip
    """What is asked of one engine, the important first."""
    several = max(row for row in rows if row <= 4)
    yield name, "correct", lambda: checks.correctness(name, engine, precision, reference, args.steps, several)
    yield name, "graphs", lambda: checks.graphs(name, engine, several)
    yield name, "restored", lambda: checks.restored(name, engine)
    yield name, "threads", lambda: checks.beside_a_thread(name, engine)
    for row in rows:
        yield name, f"speed x{row}", lambda row=row: checks.speed(name, engine, row)  # type: ignore[misc]
    if free_bytes:
        yield name, "leaks", lambda: checks.leaks(name, engine, several, free_bytes)


def check_torch(args: argparse.Namespace, weights: Path, spec: EngineSpec, journal: Journal) -> None:
    """The eager engine on the GPU."""
    import torch

    from engines.backends.eager import EagerEngine

    if args.device == "cuda" and not torch.cuda.is_available():
        raise ToolError("no usable GPU: torch sees none; `nvidia-smi` must list one, and torch must be a CUDA build")

    def free_bytes() -> int:
        torch.cuda.empty_cache()  # torch keeps what its tensors and graphs gave back
        return int(torch.cuda.mem_get_info()[0])

    torch.set_num_threads(4 if args.device == "cuda" else 1)
    recording = Recording(EagerEngine(weights, spec, device="cpu"))
    for precision in PRECISIONS if args.device == "cuda" else ("fp32",):
        engine = EagerEngine(weights, spec, precision=precision, device=args.device)
        leaks = free_bytes if args.device == "cuda" else None
        for ask in questions(f"torch {precision}", engine, precision, recording, args, args.rows, leaks):
            journal.put(*ask)
        engine.close()
    if args.record:
        recording.save(args.record)


def check_tensorrt(args: argparse.Namespace, weights: Path, spec: EngineSpec, journal: Journal) -> None:
    """TensorRT engines of the shipped graphs, built now, one for each number of rows up to 4."""
    from engines.backends.cuda import Device
    from engines.backends.tensorrt import TensorRTEngine, build_engine, why_not

    if missing := why_not():
        raise ToolError(missing)
    with tempfile.TemporaryDirectory() as folder:
        for precision in reversed(PRECISIONS):
            graph = weights.with_suffix({"fp16": ".fp16.onnx", "fp32": ".onnx"}[precision])
            for rows in (row for row in args.rows if row <= 4):
                name, out = f"tensorrt {precision}, {rows} rows", Path(folder) / f"{precision}-{rows}.engine"
                opened: list[TensorRTEngine] = []

                def build(
                    name: str = name, out: Path = out, graph: Path = graph, rows: int = rows,
                    precision: Precision = precision, opened: list[TensorRTEngine] = opened,
                ) -> Finding:  # fmt: skip
                    began = time.monotonic()
                    facts = build_engine(graph, spec, out, rows=rows, precision=precision, progress=lambda _: None)
                    opened.append(TensorRTEngine(out, msgspec.structs.replace(spec, engine=facts)))
                    took = time.monotonic() - began
                    return Finding(name, "built", True, f"{took:.0f} s, {opened[0].device}", figures={"seconds": took})

                journal.put(name, "built", build)
                for engine in opened:
                    reference = open_reference(args, weights, spec)
                    asked = questions(name, engine, precision, reference, args, (rows,), Device().free_bytes)
                    for ask in asked:
                        journal.put(*ask)
                    engine.close()


def open_reference(args: argparse.Namespace, weights: Path, spec: EngineSpec) -> Engine:
    """What engines are compared with: a recorded run, or the network in torch on the CPU."""
    if args.recorded:
        return Recorded(args.recorded, spec)
    from engines.backends.eager import EagerEngine

    return EagerEngine(weights, spec, device="cpu")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m tools.gpu", description="Is everything right on this GPU?")
    made.add_argument("--parts", default="torch,tensorrt", help="of torch,tensorrt; default both")
    made.add_argument("--rows", default="1,4,16,64", help="streams in a step, comma-separated")
    made.add_argument("--steps", type=int, default=400, help="answers that are compared")
    made.add_argument("--budget-s", type=float, default=240, help="no question is begun after so many seconds")
    made.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: try the torch part out")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the findings here as they come")
    made.add_argument("--record", type=Path, metavar="FOLDER", help="write the reference's run down")
    made.add_argument("--recorded", type=Path, metavar="FOLDER", help="compare with a run that was written down")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all good, 1: something is not, 2: nothing could be asked."""
    args = parser().parse_args(arguments)
    try:
        parts = args.parts.split(",")
        if unknown := sorted(set(parts) - set(PARTS)):
            raise ToolError(f"--parts {args.parts}: {unknown[0]!r} is not one of {', '.join(PARTS)}")
        if not all(part.isdigit() and int(part) for part in args.rows.split(",")):
            raise ToolError(f"--rows {args.rows}: give numbers from 1, as 1,4,16,64")
        args.rows = sorted({1, *map(int, args.rows.split(","))})
        weights = find_models()["default"].with_suffix(".pt")
        spec, journal = read_spec(weights), Journal(args.budget_s, args.json)
        for part, check in (("torch", check_torch), ("tensorrt", check_tensorrt)):
            if part in parts:
                try:
                    check(args, weights, spec, journal)
                except (EngineError, ImportError) as error:
                    told = str(error)
                    journal.put(part, "usable", lambda told=told, part=part: Finding(part, "usable", False, told))  # type: ignore[misc]
    except (EngineError, OSError) as error:
        print(f"gpu: {error}", file=sys.stderr)
        return 2
    bad = [found for found in journal.findings if not found.good]
    print(f"{len(journal.findings)} findings, {len(bad)} bad")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
