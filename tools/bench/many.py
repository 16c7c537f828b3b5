"""Many cameras, and where the processor's time goes: python -m tools.bench --parts many [--cameras 1,2,4,8,16,24,32]

Each camera is a file of 640x480 at 30 frames a second in H.264, paced in real time; they begin one after the other
within one sample period. For each number of cameras these run in turn, each in a process of its own:

decoding  every frame is decoded by PyAV, a thread a camera, and nothing else: no program that captures can cost less
engine    as many rows a second as the cameras give, all in one step: no program that recognises can cost less
ffmpeg    a peer: a process of ffmpeg a camera, which scales what the model takes, and a reader of its pipe
opencv    a peer: a thread of OpenCV a camera, which reads every frame and scales what the model takes
capture   this program with the scripted engine: all but the network
program   this program with the model

Processor time is that of the process and its children while all cameras play, in seconds a second, which is cores.
It can be compared on a busy machine, too; ages are of value on a quiet one only.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import msgspec
import numpy as np

from engines import Engine, load_engine
from engines.backends.scripted import ScriptedEngine, each_label_in_turn
from engines.opencv import cv2
from streamer.config import Config, SourceConfig
from streamer.health.memory import settled, share_heaps
from streamer.labels.publisher import Publisher
from streamer.pipeline.meters import Probe, Stage
from streamer.pipeline.pipeline import Pipeline
from streamer.sources.video import decode, open_video, video_stream
from streamer.types import Frame
from tools.bench.load import Camera
from tools.bench.pipeline import resident_mb, write_clip

CAMERAS = (1, 2, 4, 8, 16, 24, 32)
PARTS = ("decoding", "conversion", "ring and sampling", "batching", "step", "labels", "publishing", "rest")
_STAGES: dict[Stage, str] = {"convert": "conversion", "step": "step", "decide": "labels", "publish": "publishing"}
_LOST = ("ring_full", "too_old", "shed")
_FPS = 30
_NAME_PX = 13  # height of a line's name in the picture
_SETTLE_S = 1.0  # from the beginning to what is measured

Spent = dict[str, float]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one subject cost with so many cameras.

    cores      processor seconds a second
    memory_mb  resident, of all processes
    parts      of this program: the same by part
    lost       frames that the model wanted and did not see, since the program was too slow
    why        it was left out
    """

    cameras: int
    subject: str
    cores: float = 0.0
    memory_mb: float = 0.0
    parts: Spent = {}
    age_ms_p50: float | None = None
    age_ms_p99: float | None = None
    inferred: int = 0
    lost: int = 0
    why: str = ""


@dataclass(frozen=True)
class Plan:
    """What every camera plays, how many there are, for how long they are measured, and with which model."""

    clip: Path
    cameras: int
    seconds: float
    model: str = "default"
    threads: int = 1


class Clock(Probe):
    """Processor time by part, of all threads."""

    def __init__(self) -> None:
        self.spent_s: Spent = dict.fromkeys(PARTS, 0.0)
        self._lock = threading.Lock()

    def add(self, part: str, seconds: float) -> None:
        """Any thread may."""
        with self._lock:
            self.spent_s[part] += seconds

    @contextmanager
    def _around(self, part: str) -> Iterator[None]:
        began = time.thread_time()
        yield
        self.add(part, time.thread_time() - began)

    def stage(self, stage: Stage) -> AbstractContextManager[object]:
        """As in `Probe`."""
        return self._around(_STAGES[stage])


class TimedCamera(Camera):
    """Tells a clock what it takes to give a frame, and what its thread does with it then."""

    def __init__(self, config: SourceConfig, delay_s: float, clock: Clock) -> None:
        super().__init__(config, delay_s)
        self._clock = clock

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        """As in `Source`."""
        given = time.thread_time()
        for frame in super().frames(connection, stop):
            came = time.thread_time()
            self._clock.add("decoding", came - given)
            yield frame
            given = time.thread_time()
            self._clock.add("ring and sampling", given - came)  # with the conversion, until `parts` takes it out


class Players:
    """Threads that play until they are told to stop, and what they cost meanwhile."""

    def __init__(self, plan: Plan, rate_hz: float) -> None:
        self.plan, self.stop = plan, threading.Event()
        self.delays_s = [number / rate_hz / plan.cameras for number in range(plan.cameras)]
        self.children: list[int] = []
        self._threads: list[threading.Thread] = []
        self._began_s = time.monotonic()

    def add(self, play: Callable[[], object]) -> threading.Thread:
        """One more thread."""
        thread = threading.Thread(target=play, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def goes_on(self, at_s: float) -> bool:
        """Wait until so long after the beginning; False if it is over before."""
        return not self.stop.wait(self._began_s + at_s - time.monotonic())

    def measure(
        self, subject: str, spent: Callable[[], Spent] = dict, over: Callable[[], object] = lambda: None
    ) -> Row:
        """What they cost; `spent` tells of parts, too, and `over` ends what does not hear of `stop`."""
        time.sleep(_SETTLE_S)
        began_s, cpu_s, parts_s = time.monotonic(), self._cpu_s(), spent()
        time.sleep(self.plan.seconds)
        wall_s = time.monotonic() - began_s
        cores = (self._cpu_s() - cpu_s) / wall_s
        parts = {part: (seconds - parts_s[part]) / wall_s for part, seconds in spent().items()}
        memory = resident_mb(os.getpid()) + sum(map(resident_mb, self.children))
        self.stop.set()
        over()
        for thread in self._threads:
            thread.join()
        return Row(cameras=self.plan.cameras, subject=subject, cores=cores, memory_mb=memory, parts=parts)

    def _cpu_s(self) -> float:
        ran = [Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split() for child in self.children]
        ticks = sum(int(fields[11]) + int(fields[12]) for fields in ran)
        return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def decoding(plan: Plan) -> Row:
    """PyAV alone."""
    rate_hz = load_engine(plan.model, "scripted").spec.rate_hz
    players = Players(plan, rate_hz)

    def play(delay_s: float) -> None:
        with closing(open_video(str(plan.clip))) as container:
            stream = video_stream(container)
            assert stream
            for index, _ in enumerate(decode(container, stream, lambda: None, players.stop)):
                if not players.goes_on(delay_s + index / _FPS):
                    return

    for delay_s in players.delays_s:
        players.add(partial(play, delay_s))
    return players.measure("decoding")


def opencv(plan: Plan) -> Row:
    """A thread of OpenCV a camera."""
    spec = load_engine(plan.model, "scripted").spec
    players = Players(plan, spec.rate_hz)
    each = round(_FPS / spec.rate_hz)

    def play(delay_s: float) -> None:
        options = [cv2.CAP_PROP_N_THREADS, 1]
        capture, index = cv2.VideoCapture(str(plan.clip), cv2.CAP_FFMPEG, options), 0
        while capture.grab() and players.goes_on(delay_s + index / _FPS):
            if index % each == 0:
                cv2.resize(capture.retrieve()[1], (spec.width, spec.height), interpolation=cv2.INTER_AREA)
            index += 1
        capture.release()

    for delay_s in players.delays_s:
        players.add(partial(play, delay_s))
    return players.measure("opencv")


def ffmpeg(plan: Plan) -> Row:
    """A process of ffmpeg a camera."""
    program = shutil.which("ffmpeg")
    if program is None:
        return Row(cameras=plan.cameras, subject="ffmpeg", why="there is no ffmpeg here")
    spec = load_engine(plan.model, "scripted").spec
    players = Players(plan, spec.rate_hz)
    command = [program, "-v", "error", "-threads", "1", "-re", "-i", str(plan.clip)]
    command += ["-vf", f"fps={spec.rate_hz:g},scale={spec.width}:{spec.height}:flags=area", "-f", "rawvideo"]
    command += ["-filter_threads", "1", "-pix_fmt", "bgr24", "-"]
    running: list[subprocess.Popen[bytes]] = []

    def play(process: subprocess.Popen[bytes]) -> None:
        assert process.stdout
        while process.stdout.read(spec.height * spec.width * 3):
            pass

    try:
        for delay_s in players.delays_s:
            players.goes_on(delay_s)
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
            running.append(process)
            players.children.append(process.pid)
        for process in running:
            players.add(partial(play, process))
        return players.measure("ffmpeg", over=lambda: list(map(subprocess.Popen.kill, running)))
    finally:
        for process in running:
            process.kill()
            process.wait()


def engine(plan: Plan) -> Row:
    """The model alone, all rows in one step."""
    model = load_engine(plan.model, threads=plan.threads, rows=plan.cameras)
    spec, state = model.spec, model.new_state(plan.cameras)
    shape = plan.cameras, spec.height, spec.width, 3
    frames = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    active, fresh = np.ones(plan.cameras, bool), np.zeros(plan.cameras, bool)
    players, steps = Players(plan, spec.rate_hz), 0

    def play() -> None:
        nonlocal steps
        while players.goes_on(steps / spec.rate_hz):
            model.step(frames, active, fresh, state)
            steps += 1

    players.add(play)
    return players.measure("engine")


def capture(plan: Plan) -> Row:
    """`streamer run` without a network."""
    spec = load_engine(plan.model, "scripted").spec
    return _program(plan, "capture", ScriptedEngine(spec, each_label_in_turn(len(spec.labels))))


def program(plan: Plan) -> Row:
    """`streamer run`."""
    return _program(plan, "program", load_engine(plan.model, threads=plan.threads, rows=plan.cameras))


def _program(plan: Plan, subject: str, model: Engine) -> Row:
    share_heaps()
    clock, spec = Clock(), model.spec
    players = Players(plan, spec.rate_hz)
    cameras = [
        TimedCamera(SourceConfig(uri=str(plan.clip), name=f"camera{number}"), delay_s, clock)
        for number, delay_s in enumerate(players.delays_s)
    ]
    publisher = Publisher("tcp://127.0.0.1:*", spec.version, spec.mode)
    pipeline = Pipeline(Config(), model, cameras, publisher, probe=clock)

    def parts() -> Spent:
        spent = clock.spent_s.copy()
        runs = time.clock_gettime(time.pthread_getcpuclockid(thread.ident or 0))
        spent["ring and sampling"] -= spent["conversion"]
        spent["batching"] = runs - spent["step"] - spent["labels"] - spent["publishing"]
        spent["rest"] = time.process_time() - runs
        spent["rest"] -= spent["decoding"] + spent["conversion"] + spent["ring and sampling"]
        return spent

    with settled():
        thread = players.add(lambda: pipeline.run(players.stop))
        row = players.measure(subject, parts)
    summary = pipeline.summary()
    return msgspec.structs.replace(
        row, age_ms_p50=summary.age_ms_p50, age_ms_p99=summary.age_ms_p99, inferred=summary.inferred,
        lost=sum(summary.dropped.get(reason, 0) for reason in _LOST),
    )  # fmt: skip


SUBJECTS: dict[str, Callable[[Plan], Row]] = {
    "decoding": decoding, "engine": engine, "ffmpeg": ffmpeg, "opencv": opencv, "capture": capture, "program": program,
}  # fmt: skip

COLOURS = {
    "decoding": "#4477aa", "engine": "#66ccee", "ffmpeg": "#aaaa33", "opencv": "#cc8844", "capture": "#228833",
    "program": "#ee6677",
}  # fmt: skip


def measure_all(
    folder: Path, cameras: Sequence[int], seconds: float, threads: int = 1, subjects: Sequence[str] = tuple(SUBJECTS)
) -> Iterator[Row]:
    """Every subject with every number of cameras, in turns, each in a process of its own."""
    clip = folder / "camera.mp4"
    write_clip(clip, seconds + 5 * _SETTLE_S)
    for count in cameras:
        for subject in subjects:
            with get_context("spawn").Pool(1) as pool:
                yield pool.apply(SUBJECTS[subject], (Plan(clip, count, seconds, threads=threads),))


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The rows as lines: all subjects, then the program by part."""
    yield f"{'cameras':>7} {'':10}{'cores':>7}{'MB':>7}{'age p50':>10}{'p99 ms':>8}{'inferred':>10}{'lost':>6}"
    for row in rows:
        if row.why:
            yield f"{row.cameras:7} {row.subject:10}left out: {row.why}"
            continue
        line = f"{row.cameras:7} {row.subject:10}{row.cores:7.3f}{row.memory_mb:7.0f}"
        if row.age_ms_p50 is not None:
            line += f"{row.age_ms_p50:10.1f}{row.age_ms_p99 or 0:8.1f}{row.inferred:10}{row.lost:6}"
        yield line
    by_part = [row for row in rows if row.parts]
    if by_part:
        yield f"{'cores':>7} {'':10}" + "".join(f"{part:>19}" for part in PARTS)
    for row in by_part:
        yield f"{row.cameras:7} {row.subject:10}" + "".join(f"{row.parts[part]:19.3f}" for part in PARTS)


def picture(rows: Sequence[Row]) -> str:
    """How the processor's time grows with the cameras, as SVG: a line for each subject."""
    shown = [row for row in rows if not row.why]
    most, high = max(row.cameras for row in shown), 1.05 * max(row.cores for row in shown)
    width, height, left, top = 560, 320, 44, 12

    def at(cameras: float, cores: float) -> str:
        return f"{left + width * cameras / most:.1f},{top + height * (1 - cores / high):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 92} {top + height + 40}" '
        'font-family="sans-serif" font-size="12" fill="#888">'
    ]
    for cores in np.arange(0, high, 0.5 if high > 1 else 0.1):
        x, y = at(0, float(cores)).split(",")
        parts.append(f'<path d="M{x},{y}h{width}" stroke="#8884"/><text x="4" y="{float(y) + 4}">{cores:g}</text>')
    for cameras in sorted({row.cameras for row in shown}):
        x, y = at(cameras, 0).split(",")
        parts.append(f'<text x="{x}" y="{float(y) + 16}" text-anchor="middle">{cameras}</text>')
    parts.append(f'<text x="{left}" y="{top + height + 34}">cameras; upwards: cores</text>')
    lines = {subject: [at(row.cameras, row.cores) for row in shown if row.subject == subject] for subject in COLOURS}
    ends = {subject: tuple(map(float, line[-1].split(","))) for subject, line in lines.items() if line}
    lowest = -math.inf
    for subject, (right, end) in sorted(ends.items(), key=lambda each: each[1][1]):
        lowest = max(end + 4, lowest + _NAME_PX)  # names of lines that end close together stand below each other
        parts.append(
            f'<polyline points="{" ".join(lines[subject])}" fill="none" stroke="{COLOURS[subject]}" stroke-width="2"/>'
            f'<text x="{right + 6}" y="{lowest}" fill="{COLOURS[subject]}">{subject}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
