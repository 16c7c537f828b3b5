"""Measure the shipped model and the live pipeline on this machine: python -m tools.bench [--seconds 60]

Engines are timed side by side in one run, alternating, and reported as medians with their ratio; everything else that
the machine does in the meantime hits them alike. Absolute times of a shared machine mean little.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from engines import Engine, EngineError, load_engine
from streamer.config import SourceConfig
from streamer.sources import open_source

STEPS = 300
VARIANTS = (("openvino", "fp32"), ("openvino", "bf16"), ("eager", "auto"))


def time_engines(threads: int) -> dict[str, list[float]]:
    """Step times in milliseconds of every engine that runs here, one row, alternating."""
    engines: dict[str, Engine] = {}
    for backend, precision in VARIANTS:
        try:
            engines[f"{backend} {precision}"] = load_engine("default", backend, threads=threads, precision=precision)
        except EngineError as error:
            print(f"  {backend} {precision}: left out: {error}")
    states = {name: engine.new_state(1) for name, engine in engines.items()}
    spec = load_engine("default").spec
    frames = np.random.default_rng(0).integers(0, 256, (1, spec.height, spec.width, 3), np.uint8)
    active, fresh = np.ones(1, np.bool_), np.zeros(1, np.bool_)
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(STEPS):
        for name, engine in engines.items():
            started = time.perf_counter()
            engine.step(frames, active, fresh, states[name])
            times[name].append((time.perf_counter() - started) * 1e3)
    return {name: values[STEPS // 10 :] for name, values in times.items()}


def write_clip(path: Path, seconds: float) -> None:
    """The test pattern as an H.264 file, 640x480 at 30 frames a second."""
    source = open_source(SourceConfig(uri=f"pattern://swipe?duration={seconds}", pace="fast"))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast", "tune": "zerolatency"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for frame in source.frames(0, threading.Event()):
            picture = av.VideoFrame.from_ndarray(frame.bgr(), format="bgr24")
            picture.pts, picture.time_base = frame.index, Fraction(1, 30)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def resident_mb(pid: int) -> float:
    """Resident memory of a process, MB; 0 once it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * resource.getpagesize() / 1e6


def run_pipeline(clip: Path) -> None:
    """`streamer run` on a file paced in real time: its own summary, memory over time, CPU share."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "streamer", "run", str(clip), "--publish", "tcp://127.0.0.1:*", "--set", "control=null"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    memory = []
    while process.poll() is None:
        memory.append(resident_mb(process.pid))
        time.sleep(0.5)
    wall_s = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert process.stdout
    for line in process.stdout.read().splitlines()[-4:]:
        print(f"  {line}")
    settled = [value for value in memory if value][4:]
    print(f"  memory  {settled[0]:.0f} MB after 2 s, {settled[-1]:.0f} MB at the end, {max(settled):.0f} MB at most")
    print(f"  cpu     {100 * cpu_s / wall_s:.0f} % of one core, start and model loading included")


def import_times(count: int = 5) -> list[float]:
    """Seconds that `import streamer` takes in fresh processes."""
    code = "import time; t = time.perf_counter(); import streamer; print(time.perf_counter() - t)"
    return [float(subprocess.check_output([sys.executable, "-c", code], text=True)) for _ in range(count)]


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description="Measure the shipped model and the live pipeline on this machine.")
    parser.add_argument("--seconds", type=float, default=60, help="length of the paced clip")
    seconds = parser.parse_args().seconds
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    print(f"import streamer: median {np.median(import_times()):.2f} s of 5")
    for threads in sorted({1, os.cpu_count() or 1}):
        print(f"one step of the default model, one row, {threads} thread(s), medians of {STEPS} alternating:")
        times = time_engines(threads)
        fastest = min(float(np.median(values)) for values in times.values())
        for name, values in times.items():
            p50, p99 = np.percentile(values, [50, 99])
            print(f"  {name:14} p50 {p50:6.2f} ms, p99 {p99:6.2f} ms, {1e3 / p50:5.0f} steps/s, {p50 / fastest:.2f} x")
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(clip, seconds)
        print(f"streamer run on a 640x480 file at 30 frames/s, paced in real time, {seconds:g} s:")
        run_pipeline(clip)


if __name__ == "__main__":
    main()
