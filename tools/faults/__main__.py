"""Do to cameras what happens to cameras, and see what the program does: python -m tools.faults [--json FILE]

Each row starts `streamer run` on a camera of its own (tools/cameras), with a model that tells which picture it saw
(scene.py), does something to the camera, undoes it, and judges what subscribers were told meanwhile (judge.py says what
counts). The exit code is 1 if a row failed. `python -m tools.faults fleet` does it to machines (fleet.py).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from tools.cameras import missing_for_rtsp, write_rtsp_clip
from tools.errors import ToolError
from tools.faults import fleet
from tools.faults.judge import Expected, Row, judge
from tools.faults.matrix import FAULTS, Fault
from tools.faults.scene import NUMBERS
from tools.faults.stage import Clips, Stage
from tools.results import keep_result

JOBS, BUSY_S = 4, 2.0


def run(
    faults: Sequence[Fault], streamer: str | None = None, jobs: int = JOBS, busy_s: float = BUSY_S
) -> Iterator[tuple[Expected, Row]]:
    """Play the faults, `jobs` at a time, and give what was expected and the rows, in order.

    streamer  the command of the build to test; None: this checkout
    busy_s    added to every bound
    """
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        missing = missing_for_rtsp() if any(fault.needs == "rtsp" for fault in faults) else "not needed"
        clips = None if missing else _clips(Path(name))

        def one(number: int, fault: Fault) -> tuple[Expected, Row]:
            expected = fault.expected.on_busy_machine(busy_s)
            if fault.needs == "rtsp" and not clips:
                return expected, Row(fault.name, skipped=f"no RTSP server: {missing}")
            folder = Path(name) / str(number)
            folder.mkdir()
            with Stage(expected, folder, streamer, clips) as stage:
                try:
                    return expected, judge(fault.name, expected, fault.play(stage))
                except ToolError as error:
                    return expected, Row(fault.name, problems=[str(error)])

        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(one, range(len(faults)), faults)


def as_json(row: Row) -> dict[str, object]:
    """A row of the JSON file."""
    return asdict(row) | {"passed": row.passed}


def line(expected: Expected, row: Row) -> str:
    """A row of the table."""
    if row.skipped:
        return f"{row.fault:30} skipped: {row.skipped}"
    detected = f"{_shown(row.detected_s)} / {expected.detected_s:g}" if expected.told else "-"
    recovered = "-" if expected.recovered_s is None else f"{_shown(row.recovered_s)} / {expected.recovered_s:g}"
    figures = f"{detected:>11} {recovered:>11} {_shown(row.lost_frames):>5} {_shown(row.wrong_labels):>6}"
    verdict = "passed" if row.passed else f"FAILED: {'; '.join(row.problems)}"
    return f"{row.fault:30} {figures}  {verdict}  ({' '.join(row.states)})"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


def _clips(folder: Path) -> Clips:
    clips = Clips(folder / "small", folder / "large")
    write_rtsp_clip(clips.small, NUMBERS)
    write_rtsp_clip(clips.large, NUMBERS, 240, 320)
    return clips


def _chosen(names: Sequence[str]) -> list[Fault]:
    """The faults whose names begin with one of these; all if there are none."""
    chosen = [fault for fault in FAULTS.values() if not names or fault.name.startswith(tuple(names))]
    for name in names:
        if not any(fault.name.startswith(name) for fault in chosen):
            raise ToolError(f"--only {name}: there is no such fault; --list names them")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; the exit code. `fleet` before all else: those of fleet.py."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["fleet"]:
        return fleet.main(given[1:])
    parser = argparse.ArgumentParser(
        prog="python -m tools.faults", description="Do to cameras what happens to cameras, and see what streamer does."
    )
    parser.add_argument("--list", action="store_true", help="name the faults, and run nothing")
    parser.add_argument(
        "--only", metavar="FAULT", action="append", default=[], help="and those that begin so; repeatable"
    )
    parser.add_argument("--streamer", metavar="CMD", help="the build to test, such as /opt/v2/bin/streamer")
    parser.add_argument("--jobs", metavar="N", type=int, default=JOBS, help=f"rows at a time [default: {JOBS}]")
    parser.add_argument(
        "--busy", metavar="S", type=float, default=BUSY_S, help=f"added to every bound [default: {BUSY_S:g}]"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows as JSON, too")
    options = parser.parse_args(arguments)
    try:
        faults = _chosen(options.only)
    except ToolError as error:
        parser.error(str(error))
    if options.list:
        for fault in faults:
            print(f"{fault.name:30} {fault.about}")
        return 0
    began = time.monotonic()
    print(f"{len(faults)} faults, {options.jobs} at a time; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'fault':30} {'detected s':>11} {'recovered s':>11} {'lost':>5} {'wrong':>6}  (each time / its bound)")
    rows = []
    for expected, row in run(faults, options.streamer, options.jobs, options.busy):
        rows.append(row)
        print(line(expected, row), flush=True)
    failed = sum(row.passed is False for row in rows)
    skipped = sum(row.passed is None for row in rows)
    took_s = time.monotonic() - began
    print(f"{len(rows) - failed - skipped} passed, {failed} failed, {skipped} skipped in {took_s:.0f} s;", end=" ")
    print(f"load {os.getloadavg()[0]:.1f} at the end")
    if options.json:
        keep_result(parser, options.json, json.dumps([as_json(row) for row in rows], indent=1).encode() + b"\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
