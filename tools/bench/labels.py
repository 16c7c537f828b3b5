"""What readers of the labels cost a run: python -m tools.bench.labels [--rounds 6] [--seconds 4] [--model default]

One `streamer run` with four streams of 30 frames a second. In turns nobody reads; one does; two hundred; two hundred of
which each reads a message now and then; two hundred that were stopped; and two hundred that are killed and replaced all
the time. One run, so that whatever else the machine does hits all alike. Told for each, as medians over the rounds:

    frames      that the model sees, a second
    publish     time in publishing, microseconds a frame
    engine      processor time of the thread that runs the engine and publishes, microseconds a frame
    program     processor time of the whole program, ZeroMQ's thread among it, microseconds a frame
    age         of a frame when its labels are out, milliseconds
    memory      resident, MiB, at the end of the turn

The times by the clock (publish, age) mean something only on a machine with nothing else to do. Exit code 1 if the model
sees 5 % fewer frames because of readers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from prometheus_client.parser import text_string_to_metric_families

from tools.peers.program import Program, write_script
from tools.peers.readers import Readers

CROWD = 200
SETTLE_S = 1.0  # after readers came or left
EVERY_S = 0.5
MOST_SLOWER = 0.05
STREAMS = [{"uri": f"pattern://swipe?fps=30&size=160x120&seed={number}", "name": f"cam{number}"} for number in range(4)]

Figures = dict[str, float]


def figures(program: Program) -> Figures:
    """What the run has counted until now."""
    found = dict.fromkeys(("frames", "publish_s", "age_s", "ages"), 0.0)
    named = {
        "streamer_frames_inferred_total": "frames",
        "streamer_frame_age_seconds_sum": "age_s",
        "streamer_frame_age_seconds_count": "ages",
    }
    for family in text_string_to_metric_families(program.get("/metrics")[1].decode()):
        for sample in family.samples:
            if sample.name in named:
                found[named[sample.name]] += sample.value
            elif sample.name == "streamer_stage_seconds_sum" and sample.labels["stage"] == "publish":
                found["publish_s"] += sample.value
    found["time_s"] = time.monotonic()
    found["engine_s"] = processor_s(program.pid, program.pid)  # the main thread
    found["program_s"] = sum(
        processor_s(program.pid, int(task.name)) for task in Path(f"/proc/{program.pid}/task").iterdir()
    )
    return found


def processor_s(pid: int, thread: int) -> float:
    """The processor time that a thread has had."""
    return int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0]) / 1e9


def between(before: Figures, after: Figures) -> Figures:
    """What is told of a turn."""
    d = {name: after[name] - before[name] for name in after}
    return {
        "frames": d["frames"] / d["time_s"],
        "publish": d["publish_s"] / d["frames"] * 1e6,
        "engine": d["engine_s"] / d["frames"] * 1e6,
        "program": d["program_s"] / d["frames"] * 1e6,
        "age": d["age_s"] / d["ages"] * 1e3,
    }


@contextmanager
def nobody(_address: str) -> Iterator[None]:
    """No reader."""
    yield


@contextmanager
def some(address: str, count: int, every_s: float = 0.0, *, stopped: bool = False) -> Iterator[None]:
    """So many readers, which may be slow, or stopped."""
    readers = Readers(address, count, every_s=every_s)
    try:
        readers.wait_until_joined()
        time.sleep(SETTLE_S)  # until all have
        if stopped:
            readers.stall()
        yield
    finally:
        readers.die()


@contextmanager
def dying(address: str) -> Iterator[None]:
    """Two hundred readers that are killed, and others come."""
    over = threading.Event()

    def kill_and_replace() -> None:
        while not over.is_set():
            readers = Readers(address, CROWD)
            readers.wait_until_joined()
            over.wait(EVERY_S)
            readers.die()

    thread = threading.Thread(target=kill_and_replace)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def measure(rounds: int, seconds: float, model: str | None) -> dict[str, Figures]:
    """The medians of each turn's figures."""
    turns: dict[str, Callable[[str], AbstractContextManager[None]]] = {
        "nobody": nobody,
        "one": partial(some, count=1),
        f"{CROWD}": partial(some, count=CROWD),
        f"{CROWD} slow": partial(some, count=CROWD, every_s=EVERY_S),
        f"{CROWD} stopped": partial(some, count=CROWD, stopped=True),
        f"{CROWD} dying": dying,
    }
    found: dict[str, list[Figures]] = {name: [] for name in turns}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        program = Program(folder, model or str(write_script(folder, rate_hz=30.0)), STREAMS)
        stack.callback(program.kill)
        program.start()
        program.wait_until_healthy()
        time.sleep(seconds)  # the first frames are not like the others
        for _ in range(rounds):
            for name, turn in turns.items():
                with turn(program.labels):
                    time.sleep(SETTLE_S)
                    before = figures(program)
                    time.sleep(seconds)
                    found[name].append(between(before, figures(program)) | {"memory": program.usage().mib})
    return {
        name: {key: median(figures[key] for figures in figures_of) for key in figures_of[0]}
        for name, figures_of in found.items()
    }


def main() -> int:
    """Print the figures, and say by the exit code whether readers slow the model."""
    parser = argparse.ArgumentParser(description="Measure what readers of the labels cost a run.")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=4, help="of each turn")
    parser.add_argument("--model", help="a name or a file, such as default; without it a script, which costs nothing")
    options = parser.parse_args()
    found = measure(options.rounds, options.seconds, options.model)
    print(f"{'readers':12}" + "".join(f"{name:>18}" for name in found["nobody"]))
    slower = 0.0
    for name, values in found.items():
        ratios = {key: value / found["nobody"][key] for key, value in values.items()}
        print(f"{name:12}" + "".join(f"{value:10.1f} {ratios[key] - 1:+7.1%}" for key, value in values.items()))
        slower = max(slower, 1 - ratios["frames"])
    print(f"because of readers the model sees {slower:.1%} fewer frames at most")
    return 1 if slower >= MOST_SLOWER else 0


if __name__ == "__main__":
    sys.exit(main())
