"""Measure the networks and the live pipeline on this machine: python -m tools.bench [--json FILE]

networks   each network against its limit, the 2-D backbone alone on one frame: the streaming step, the window's step,
           and the whole window computed anew
peers      the published online TSM, and continual-inference if it is installed, beside the same here (CPU)
pipeline   the shipped model, and `streamer run` from capture to publish
many       1 to 32 cameras: where the processor's time goes, beside what decoding and the network alone cost and beside
           ffmpeg and OpenCV; 8 minutes, and only if it is asked for
inside     what the engine costs inside the program, with many cameras; only if it is asked for

What is compared runs in turns in one process and is told as medians: what else the machine does hits all alike. The
absolute times of a shared machine mean little, the ratios more.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from engines import EngineError
from tools.errors import ToolError
from tools.results import write_result

if TYPE_CHECKING:
    from tools.bench.many import Row as Many
    from tools.bench.networks import Failure, Row

T = TypeVar("T")
USUAL = ("networks", "peers", "pipeline")
PARTS = (*USUAL, "many", "inside")
NETWORKS = ("tsm", "tcm", "tanet", "stm", "gtdnet")
ROWS = {"cpu": (1,), "cuda": (1, 4, 16, 64)}


def names(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """A parser of comma-separated names."""

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(text.split(","))
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return found

    return parse


def numbers(text: str) -> tuple[int, ...]:
    """A parser of comma-separated numbers, 1 or more."""
    found = tuple(text.split(","))
    if not all(part.isdigit() and int(part) for part in found):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers from 1, as 8,16")
    return tuple(map(int, found))


def number(text: str) -> int:
    """A parser of one number, 1 or more."""
    (found, *more) = numbers(text)
    if more:
        raise argparse.ArgumentTypeError(f"{text!r} is not one number")
    return found


def machine() -> str:
    """The processor and how busy it is."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
    return f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def table(rows: Sequence[Row | Failure]) -> Iterator[str]:
    """The rows as lines; times with half the distance of the quartiles. What was left out comes last, and why."""
    from tools.bench.networks import Row

    measured = [row for row in rows if isinstance(row, Row)]
    yield (
        f"{'network':8}{'T':>3} {'rows':>4} {'engine':15}{'limit ms':>14}{'step ms':>17}{'window ms':>17}"
        f"{'recompute ms':>17}   {'step/limit':>11}{'recompute/step':>15}{'frames/s':>10}{'difference':>12}"
    )
    for row in measured:
        ms = {form: getattr(row, f"{form}_ms") for form in row.spread_ms}
        half = {form: (high - low) / 2 for form, (low, high) in row.spread_ms.items()}
        cells = "".join(f"{ms[form]:9.2f} ± {half[form]:<5.2f}" for form in ms)
        yield (
            f"{row.network:8}{row.frames:3} {row.rows:4} {row.backend + ' ' + row.precision:16}{cells}"
            f"{row.step_over_limit:11.2f}{row.recompute_over_step:15.2f}{row.frames_per_s:10.0f}{row.difference:12.1e}"
        )
    for left_out in (row for row in rows if not isinstance(row, Row)):
        case = f"{left_out.network:8}{left_out.frames:3} {left_out.rows:4} {left_out.engine:16}"
        yield f"{case}left out: {left_out.why}"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m tools.bench", description="Measure networks and pipeline here.")
    made.add_argument(
        "--parts", type=names(PARTS), default=USUAL, help=f"of {','.join(PARTS)}; default the first three"
    )
    made.add_argument("--device", choices=tuple(ROWS), default="cpu")
    made.add_argument("--networks", type=names((*NETWORKS, "tsn")), default=NETWORKS, help="default all five")
    made.add_argument("--backbone", default="resnet50")
    made.add_argument("--frames", type=numbers, default=(8, 16), metavar="T,...")
    made.add_argument("--size", type=number, default=224, help="of the square picture, px")
    made.add_argument("--width", type=float, default=1.0, help="factor of the backbone's channels")
    made.add_argument("--rows", type=numbers, metavar="N,...", help="streams in a step; default 1, on a GPU 1,4,16,64")
    made.add_argument(
        "--backends", type=names(("openvino", "eager", "compiled", "tensorrt")),
        help="default openvino; on a GPU eager (CUDA graphs) and tensorrt; compiled (torch.compile) takes minutes",
    )  # fmt: skip
    made.add_argument("--precision", type=names(("fp32", "bf16", "fp16")), help="default fp32,bf16; on a GPU fp16")
    made.add_argument("--threads", type=number, help="default: all cores but one, as the program does")
    made.add_argument(
        "--budget-s", type=float, help="of the networks: what would take longer is left out; default 240 on a GPU"
    )
    made.add_argument("--rounds", type=number, default=11, help="of turns, after one that does not count")
    made.add_argument("--graphs", type=Path, metavar="DIR", help="keep the exported graphs here for the next time")
    made.add_argument(
        "--seconds", type=float, help="of the paced clip, default 60; of a number of cameras, 10; inside, 30"
    )
    made.add_argument(
        "--cameras", type=numbers, metavar="N,...", help="of many; default 1,2,4,8,16,24,32; of inside 8,16,32"
    )
    made.add_argument("--picture", type=Path, metavar="FILE", help="draw how many cameras' time grows, as SVG")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the rows of the networks here, too, or of many")
    made.add_argument(
        "--show",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="print such files again, and measure nothing; of many with --parts many",
    )
    return made


def show(files: Sequence[Path]) -> None:
    """Print the tables of earlier runs as one."""
    from tools.bench.networks import Failure, Row

    for line in table(_read(files, list[Row | Failure])):
        print(line)


def show_many(files: Sequence[Path], drawn: Path | None) -> None:
    """The same, of many cameras; and their picture."""
    from tools.bench import many

    tell_many(sorted(_read(files, list[many.Row]), key=lambda row: row.cameras), drawn)


def tell_many(rows: Sequence[Many], drawn: Path | None) -> None:
    """Print the rows of many cameras, and draw them."""
    from tools.bench import many

    for line in many.table(rows):
        print(line)
    if drawn:
        write_result("--picture", drawn, many.picture(rows).encode())


def _read(files: Sequence[Path], kind: type[list[T]]) -> list[T]:
    rows: list[T] = []
    for file in files:
        try:
            rows += msgspec.json.decode(file.read_bytes(), type=kind)
        except msgspec.DecodeError as error:
            raise ToolError(f"{file}: is not what --json writes of that part: {error}") from error
    return rows


def measure_many(args: argparse.Namespace, folder: Path, threads: int) -> None:
    """Many cameras; what has been measured is kept when it is broken off."""
    from tools.bench import many

    found: list[Many] = []
    for measured in many.measure_all(folder, args.cameras or many.CAMERAS, args.seconds or 10, threads):
        found.append(measured)
        if args.json:
            write_result("--json", args.json, msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    tell_many(found, args.picture)


def run(args: argparse.Namespace, folder: Path) -> None:
    """All parts that are asked for."""
    threads = args.threads or max(1, (os.cpu_count() or 1) - 1)
    os.environ["ACTION_STREAMER_CACHE"] = str(folder / "cache")  # what is compiled here shall not crowd the user's
    print(machine(), flush=True)
    if "networks" in args.parts:
        from tools.bench.networks import BACKENDS, Plan, Row, measure_all

        plan = Plan(
            networks=args.networks, backbone=args.backbone, frames=args.frames, size=args.size, width=args.width,
            device=args.device, backends=args.backends or BACKENDS[args.device],
            precisions=args.precision or (("fp16",) if args.device == "cuda" else ("fp32", "bf16")),
            rows=args.rows or ROWS[args.device], threads=threads, rounds=args.rounds, graphs=folder,
            tell=lambda line: print(line, file=sys.stderr),
            budget_s=args.budget_s or (240 if args.device == "cuda" else math.inf),
        )  # fmt: skip
        rows: list[Row | Failure] = []
        for row in measure_all(plan):
            rows.append(row)
            if args.json:
                write_result("--json", args.json, msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n")
        print(f"{args.backbone} at {args.size} px, {threads} thread(s), medians of {args.rounds} rounds in turns:")
        for line in table(rows):
            print(line)
        for engine in sorted({row.engine for row in rows if isinstance(row, Row)}):
            print(f"  {engine}")
        if not any(isinstance(row, Row) for row in rows):
            raise ToolError("nothing could be measured; see above why")
    if "peers" in args.parts:
        from tools.bench import peers as bench_peers

        bench_peers.report(folder, args.rounds, size=args.size, width=args.width)
    if "pipeline" in args.parts:
        from tools.bench import pipeline as bench_pipeline

        bench_pipeline.report(args.seconds or 60, threads, 20 * args.rounds)
    if "many" in args.parts:
        measure_many(args, folder, threads)
    if "inside" in args.parts:
        from tools.bench import inside

        for line in inside.table([inside.measure(n, args.seconds or 30) for n in args.cameras or inside.CAMERAS]):
            print(line)
    print(machine(), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print all figures; 2 for a setting or a machine with which nothing can be measured."""
    args = parser().parse_args(arguments)
    if args.json and {"networks", "many"} <= set(args.parts):
        parser().error("--json takes the rows of networks or of many; measure one of them at a time")
    try:
        if args.show and "many" in args.parts:
            show_many(args.show, args.picture)
        elif args.show:
            show(args.show)
        elif args.graphs:
            run(args, args.graphs)
        else:
            with tempfile.TemporaryDirectory() as folder:
                run(args, Path(folder))
    except (EngineError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
