"""What `capture: process` costs: python -m tools.bench.capture [--seconds 10] [--rounds 3] [--json FILE]

`streamer run` on a 640x480 H.264 file at 30 frames/s, paced in real time, with the source in a thread and in a process
of its own, in turn, so that everything else that the machine does hits both alike. Processor time is user and system
of the whole run and its processes, less that of a run without frames; memory is resident, of all processes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tools.bench.pipeline import resident_mb, write_clip
from tools.results import keep_result

CAPTURES = ("thread", "process")


def processes(number: int) -> list[int]:
    """A process and those that it has started, while they run."""
    found = [number]
    for task in Path(f"/proc/{number}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:
            continue
    return found


def run(clip: Path, capture: str) -> dict[str, float]:
    """One run to the end of the clip: processor seconds, frames, age in milliseconds, memory in MB."""
    before, memory = resource.getrusage(resource.RUSAGE_CHILDREN), 0.0
    options = ("--backend", "scripted", "--publish", "tcp://127.0.0.1:*", "--set", "control=null")
    arguments = [sys.executable, "-m", "streamer", "run", str(clip), *options, "--set", f"capture={capture}"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            memory = max(memory, sum(map(resident_mb, processes(process.pid))))
            time.sleep(0.2)
        assert process.stdout
        told = process.stdout.read()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    ages = re.search(r"age +p50 ([\d.]+) ms, p99 ([\d.]+)", told)
    frames = re.search(r"(\d+) captured", told)
    assert ages, told
    assert frames, told
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": cpu_s, "frames": int(frames[1]), "p50": float(ages[1]), "p99": float(ages[2]), "memory": memory}


def measure(seconds: float, rounds: int) -> dict[str, Any]:
    """Medians of all rounds, for a thread and for a process."""
    found: dict[str, list[dict[str, float]]] = {capture: [] for capture in CAPTURES}
    with tempfile.TemporaryDirectory() as folder:
        short, long = Path(folder) / "short.mp4", Path(folder) / "long.mp4"
        write_clip(short, 0.2)
        write_clip(long, seconds)
        for _ in range(rounds):
            for capture in CAPTURES:
                start, whole = run(short, capture), run(long, capture)
                cpu_ms = 1e3 * (whole["cpu_s"] - start["cpu_s"]) / (whole["frames"] - start["frames"])
                one = {"cpu_ms_per_frame": cpu_ms, "start_cpu_s": start["cpu_s"]}
                found[capture].append(one | {key: whole[key] for key in ("p50", "p99", "memory")})
    return {
        capture: {key: round(float(np.median([run[key] for run in runs])), 2) for key in runs[0]}
        for capture, runs in found.items()
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Measure what `capture: process` costs.")
    parser.add_argument("--seconds", type=float, default=10, help="length of a run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    figures = measure(options.seconds, options.rounds)
    if options.json:
        keep_result(parser, options.json, json.dumps({"load": load, **figures}, indent=2).encode() + b"\n")
    print(f"{os.cpu_count()} cores, load {load:.1f} at the start; medians of {options.rounds} alternating runs")
    for capture, one in figures.items():
        print(
            f"{capture:8} {one['cpu_ms_per_frame']:.2f} ms of processor a frame, age at publish p50 {one['p50']:.1f} "
            f"and p99 {one['p99']:.1f} ms, {one['memory']:.0f} MB, {one['start_cpu_s']:.2f} s of processor to start"
        )


if __name__ == "__main__":
    main()
