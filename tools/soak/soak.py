"""A soak: the run under test, everything around it, and the rounds of trouble and rest."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import av
from av.video.stream import VideoStream

from tools.cameras import HttpServer, RtspServer, missing_for_rtsp, write_rtsp_clip
from tools.cameras.barcode import barcode
from tools.peers.program import Program, write_script
from tools.peers.usage import MEASURES, Growth, Rest, Usage, growth, mib_an_hour
from tools.soak.checks import Checker
from tools.soak.faults import Camera, Faults
from tools.soak.observer import Observer

TROUBLE_S = 12.0  # of each round; a fifteenth of a run if that is less
PAUSE_S = 0.6  # longest between two faults
RECOVERY_S = 30.0  # after that a run must be well again
SETTLE_S = 4.0  # a thread whose source was removed while it hung returns within this time, its `patience_s`
REST_S = 1.0
FILM_FRAMES = 45


@dataclass(slots=True)
class Report:
    """What a soak found. `problems` is empty when all is well."""

    seed: int
    minutes: float
    cameras: list[str]
    problems: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)
    event_ends: dict[str, int] = field(default_factory=dict)
    rests: list[Rest] = field(default_factory=list)
    most: Usage | None = None  # at any moment
    growth: list[Growth] = field(default_factory=list)
    mib_an_hour: float | None = None


def soak(minutes: float, seed: int, model: str | None, capture: str, tell: Callable[[str], None]) -> Report:
    """Run for so many minutes. model: a name or a file; default: a script that costs nothing and has many events.
    capture: `thread` or `process`, as in the configuration.

    ToolError when the run does not even start.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        cameras = _cameras(folder, stack)
        quick = {"open_s": 1.0, "read_s": 1.0}
        sources: list[dict[str, Any]] = [{"uri": one.uri, "name": one.name, **quick} for one in cameras]
        sources.append({"uri": "pattern://swipe?fps=15&size=160x120", "name": "pattern"})
        program = Program(folder, model or str(write_script(folder)), sources, capture)
        stack.callback(program.kill)
        report = Report(seed, minutes, [one.uri.partition(":")[0] for one in cameras])
        with Observer(program.labels) as observer:
            program.start()
            program.wait_until_healthy()
            faults = Faults(program, cameras, write_film(folder), seed)
            stack.callback(faults.abandon)
            _rounds(program, faults, report, tell, observer.checker)
            report.problems += program.stop()
    checker = observer.checker
    checker.finish()
    report.problems += [*faults.problems, *checker.problems]
    report.faults, report.messages, report.event_ends = dict(faults.made), dict(checker.counts), dict(checker.ends)
    report.growth, report.mib_an_hour = growth(report.rests, minutes), mib_an_hour(report.rests, minutes)
    report.problems += [
        f"{one.measure} grew from {one.before:.1f} to {one.after:.1f} ({one.percent:+.1f} %)"
        for one in report.growth
        if not one.flat
    ]
    if not report.growth:
        report.problems.append("there were less than two rests in the second half; take more time")
    return report


def _rounds(program: Program, faults: Faults, report: Report, tell: Callable[[str], None], checker: Checker) -> None:
    """Trouble, then rest, until the time is over or the program has ended."""
    pauses = random.Random(report.seed + 1)
    began, total_s = time.monotonic(), report.minutes * 60
    trouble_s = min(TROUBLE_S, total_s / 15)
    for kind in faults.kinds:  # each once, lest what is allocated at the first time count as growth
        faults.make(kind)
    while (now := time.monotonic()) < began + total_s:
        while time.monotonic() < now + trouble_s and program.exit_code() is None:
            faults.make()
            report.most = _larger(report.most, program.usage())
            time.sleep(pauses.uniform(0, PAUSE_S))
        if program.exit_code() is None:
            faults.heal()
            _recover(program, report)
        if program.exit_code() is not None:
            report.problems.append(f"ended by itself, with exit code {program.exit_code()}")
            return
        usage = _rest(program)
        report.rests.append(Rest((time.monotonic() - began) / total_s, usage))
        problems = checker.wrong + len(faults.problems) + len(report.problems)
        tell(
            f"{time.monotonic() - began:5.0f} s  {usage.mib:6.1f} MiB  {usage.threads:3.0f} threads  "
            f"{usage.descriptors:3.0f} descriptors  {faults.made.total():5} faults  "
            f"{checker.counts.total():7} messages  {problems} problems"
        )


def _recover(program: Program, report: Report) -> None:
    """Wait until every source is online and nobody but the observer reads."""
    deadline = time.monotonic() + RECOVERY_S
    while program.exit_code() is None:
        healthy, subscriptions = program.get("/healthz"), program.subscriptions()
        if healthy[0] == 200 and subscriptions == 1:
            return
        if time.monotonic() > deadline:
            told = f"{subscriptions} subscriptions, {healthy[1].decode().strip()}"
            report.problems.append(f"not well again {RECOVERY_S:g} s after all was undone: {told}")
            return
        time.sleep(0.2)


def _rest(program: Program) -> Usage:
    """What it takes in peace: medians of some moments."""
    time.sleep(SETTLE_S)
    found = []
    until = time.monotonic() + REST_S
    while time.monotonic() < until:
        found.append(program.usage())
        time.sleep(0.2)
    return Usage(*(median(getattr(usage, measure) for usage in found) for measure in MEASURES))


def _larger(most: Usage | None, usage: Usage) -> Usage:
    return Usage(*(max(getattr(most or usage, measure), getattr(usage, measure)) for measure in MEASURES))


def _cameras(folder: Path, stack: ExitStack) -> list[Camera]:
    """An RTSP camera, where there can be one, and MJPEG cameras; they end with the stack."""
    cameras = [Camera("door", HttpServer)]
    if missing_for_rtsp():
        cameras.append(Camera("yard", HttpServer))
    else:
        clip = folder / "clip"
        write_rtsp_clip(clip)
        cameras.append(Camera("yard", lambda port: RtspServer(clip, "--fps", "15", port=port)))
    for camera in cameras:
        stack.callback(partial(Camera.end, camera))
    return cameras


def write_film(folder: Path) -> Path:
    """A film of three seconds."""
    path = folder / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=15)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        for number in range(FILM_FRAMES):
            frame = av.VideoFrame.from_ndarray(barcode(number), format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, 15)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
