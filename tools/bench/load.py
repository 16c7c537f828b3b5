"""Many cameras on one engine, measured.

python -m tools.bench.load [--sources 16] [--seconds 30] [--slow MS] [--json FILE]

Each source reads a file of its own, 640x480 at 30 frames a second in H.264, paced in real time. They begin one after
the other within one sample period, since cameras do not wait for each other. The engine is the scripted one, so that
what is measured is everything else. `--slow` makes each of its steps take that long, to see load being shed, and
`--slow-for` ends that, to see the way back.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engines import Engine, EngineSpec, load_engine
from engines.backends.scripted import ScriptedEngine, each_label_in_turn
from streamer.config import Config, SourceConfig
from streamer.labels.messages import Message, StatusMessage
from streamer.labels.publisher import Publisher
from streamer.pipeline.meters import Probe
from streamer.pipeline.pipeline import Pipeline
from streamer.sources.file import FileSource
from streamer.types import Frame
from tools.bench.pipeline import resident_mb, write_clip
from tools.results import keep_result


class Camera(FileSource):
    """A file that begins `delay_s` later."""

    def __init__(self, config: SourceConfig, delay_s: float) -> None:
        super().__init__(config)
        self._delay_s = delay_s

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        if not stop.wait(self._delay_s):
            yield from super().frames(connection, stop)


class SlowEngine(ScriptedEngine):
    """The scripted engine, whose steps take `slow_s` during the first `slow_for_s` after its first step."""

    def __init__(self, spec: EngineSpec, slow_s: float, slow_for_s: float) -> None:
        super().__init__(spec, each_label_in_turn(len(spec.labels)))
        self._slow_s, self._slow_for_s = slow_s, slow_for_s
        self._first_s: float | None = None

    def _step(self, *arguments: Any) -> Any:
        now_s = time.monotonic()
        self._first_s = self._first_s or now_s
        if now_s - self._first_s < self._slow_for_s:
            time.sleep(self._slow_s)
        return super()._step(*arguments)


class Watch(Probe):
    """How old frames were when the engine took them, how many it took at a time, and how far load was shed."""

    def __init__(self) -> None:
        self.ages_s: list[float] = []
        self.rows: list[int] = []
        self.stages: list[tuple[float, int]] = [(0.0, 0)]  # (seconds since the start, from then on)
        self._started_s = time.monotonic()

    def taken(self, _stream: str, age_s: float) -> None:
        """A frame enters the engine."""
        self.ages_s.append(age_s)

    def stepped(self, rows: int) -> None:
        """The engine made a step."""
        self.rows.append(rows)

    def told(self, message: Message) -> None:
        """A message was published."""
        if isinstance(message, StatusMessage) and message.stage != self.stages[-1][1]:
            self.stages.append((round(time.monotonic() - self._started_s, 1), message.stage))
            print(f"  after {self.stages[-1][0]:.1f} s: stage {message.stage} {message.detail}", flush=True)


def measure(config: Config, engine: Engine, cameras: Sequence[Camera]) -> dict[str, Any]:
    """The figures of one run of `config.duration_s`; times in ms, memory in MB, `cpu_percent` of one core."""
    watch = Watch()
    publisher = Publisher("tcp://127.0.0.1:*", engine.spec.version, engine.spec.mode)
    pipeline = Pipeline(config, engine, cameras, publisher, [watch.told], probe=watch)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    summary = pipeline.run(threading.Event())
    wall_s, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    entered_ms = 1e3 * np.array(watch.ages_s or [0.0])
    return {
        "sources": len(cameras),
        "seconds": round(wall_s, 1),
        "captured": summary.captured,
        "inferred": summary.inferred,
        "dropped": summary.dropped,
        "entered_ms_oldest": round(float(entered_ms.max()), 1),
        "entered_ms_p50": round(float(np.percentile(entered_ms, 50)), 1),
        "entered_ms_p99": round(float(np.percentile(entered_ms, 99)), 1),
        "published_ms_p50": summary.age_ms_p50,
        "published_ms_p99": summary.age_ms_p99,
        "step_ms_p50": summary.step_ms_p50,
        "rows_per_step": round(float(np.mean(watch.rows or [0])), 2),
        "cpu_percent": round(100 * cpu_s / wall_s, 1),
        "memory_mb": round(resident_mb(os.getpid()), 1),
        "stage_highest": max(stage for _, stage in watch.stages),
        "stages": watch.stages,
    }


def show(figures: dict[str, Any]) -> None:
    """For people."""
    dropped = ", ".join(f"{count} {reason}" for reason, count in figures["dropped"].items()) or "none"
    oldest, p50, p99 = (figures[f"entered_ms_{name}"] for name in ("oldest", "p50", "p99"))
    print(f"  frames   {figures['captured']} captured, {figures['inferred']} inferred; dropped: {dropped}")
    print(f"  entered  the engine at an age of p50 {p50} ms, p99 {p99} ms, oldest {oldest} ms")
    print(
        f"  labels   published at an age of p50 {figures['published_ms_p50']} ms, p99 {figures['published_ms_p99']} ms"
    )
    print(f"  engine   step p50 {figures['step_ms_p50']} ms, {figures['rows_per_step']} rows a step")
    print(f"  cpu      {figures['cpu_percent']} % of one core; memory {figures['memory_mb']} MB")
    print(f"  shed     up to stage {figures['stage_highest']}, stage {figures['stages'][-1][1]} at the end")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run once and print the figures."""
    parser = argparse.ArgumentParser(description="Measure many paced files on the scripted engine.")
    parser.add_argument("--sources", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--slow", type=float, default=0, metavar="MS", help="what every step of the engine takes")
    parser.add_argument("--slow-for", type=float, default=float("inf"), metavar="S", help="for how long it does")
    parser.add_argument("--batch-wait", type=float, default=Config().batch_wait_ms, metavar="MS")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(arguments)
    if options.sources < 1 or options.seconds <= 0:
        parser.error("--sources and --seconds must be positive")
    config = Config(duration_s=options.seconds, batch_wait_ms=options.batch_wait)
    logging.getLogger("streamer").addHandler(logging.NullHandler())  # stages are printed here
    engine = SlowEngine(load_engine("default", "scripted").spec, options.slow / 1e3, options.slow_for)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(clip, options.seconds + 1)
        period_s = 1 / engine.spec.rate_hz
        cameras = [
            Camera(SourceConfig(uri=str(clip), name=f"camera{number}"), number * period_s / options.sources)
            for number in range(options.sources)
        ]
        load = os.getloadavg()[0]
        print(f"{options.sources} files of 640x480 at 30 frames/s for {options.seconds:g} s, paced in real time;")
        print(f"{os.cpu_count()} cores, load {load:.1f} at the start:", flush=True)
        figures = {"load_before": round(load, 1), "slow_ms": options.slow, **measure(config, engine, cameras)}
    show(figures)
    if options.json:
        keep_result(parser, options.json, f"{json.dumps(figures, indent=2)}\n".encode())


if __name__ == "__main__":
    main()
