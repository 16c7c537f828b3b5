"""The shipped model and the live pipeline, from capture to publish."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from engines import EngineError, load_engine
from streamer.config import SourceConfig
from streamer.sources import open_source
from tools.bench.timing import Times, in_turns, stepping

VARIANTS = (("openvino", "fp32"), ("openvino", "bf16"), ("eager", "auto"))


def time_default_model(threads: int, rounds: int) -> dict[str, Times]:
    """A step of the default model, one row, in every engine that runs here."""
    runs: dict[str, Callable[[], None]] = {}
    for backend, precision in VARIANTS:
        try:
            engine = load_engine("default", backend, threads=threads, precision=precision)
        except EngineError as error:
            print(f"  {backend} {precision}: left out: {error}")
            continue
        runs[f"{backend} {precision}"] = stepping(engine, 1)
    return in_turns(runs, list(runs), rounds)


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


def report(seconds: float, threads: int, rounds: int) -> None:
    """Print the figures of the default model, and of a paced clip of so many seconds."""
    print(f"import streamer: median {np.median(import_times()):.2f} s of 5")
    for count in sorted({1, threads}):
        print(f"one step of the default model, one row, {count} thread(s), medians of {rounds} in turns:")
        found = time_default_model(count, rounds)
        fastest = min(times.median for times in found.values())
        for name, times in found.items():
            print(
                f"  {name:14} p50 {times.median:6.2f} ms, p99 {times.p99:6.2f} ms, {1e3 / times.median:5.0f} steps/s, "
                f"{times.median / fastest:.2f} x"
            )
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(clip, seconds)
        print(f"streamer run on a 640x480 file at 30 frames/s, paced in real time, {seconds:g} s:")
        run_pipeline(clip)
