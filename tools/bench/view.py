"""What viewers cost the recognition: python -m tools.bench.view [--viewers 5] [--rounds 6] [--seconds 5]

One `streamer run --view` on the test pattern. Viewers in a process of their own come, look at every picture in full
size, and leave again, in alternation with nobody looking; the age of the labels at publication is told for both, with
the ratio of the medians. One run, so that whatever else the machine does hits both alike.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from multiprocessing import Event, Process
from multiprocessing.synchronize import Event as EventType

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin

from streamer import ScoreMessage, Subscriber
from tools.errors import ToolError
from tools.peers.program import free_port

SETTLE_S = 1.0  # after viewers came or left
START_S = 60.0


def look(port: int, count: int, over: EventType) -> None:
    """Be so many viewers until it is over: they draw at once, so they get each picture at the largest size."""

    def one() -> None:
        origin = Origin(f"http://127.0.0.1:{port}")
        with connect(f"ws://127.0.0.1:{port}/labels", origin=origin, proxy=None, max_size=None) as viewer:
            viewer.send(json.dumps({"token": None}))
            viewer.send(json.dumps({"look": {"swipe": 1920}}))
            try:
                while not over.is_set():
                    received = viewer.recv(5)
                    if isinstance(received, bytes):
                        viewer.send(json.dumps({"seen": "swipe"}))
            except (ConnectionClosed, TimeoutError):
                return

    os.nice(19)  # viewers are elsewhere; here they shall not take the processor from the program
    threads = [threading.Thread(target=one, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def ages_ms(subscriber: Subscriber, seconds: float) -> list[float]:
    """Ages at publication of the scores that come in the next seconds, the first of them left out."""
    begin, end = time.monotonic() + SETTLE_S, time.monotonic() + SETTLE_S + seconds
    found = []
    for message in subscriber:
        now = time.monotonic()
        if isinstance(message, ScoreMessage) and message.age_ms is not None and now >= begin:
            found.append(message.age_ms)
        if now >= end:
            break
    return found


def measure(viewers: int, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Ages in milliseconds without and with viewers, in turns, over one run of the program."""
    page, labels = free_port(), free_port()
    source = "pattern://swipe"
    arguments = [source, "--headless", "--view", f"127.0.0.1:{page}", "--publish", f"tcp://127.0.0.1:{labels}"]
    found: dict[str, list[float]] = {"without": [], "with": []}
    with ExitStack() as stack:
        # the name of the pattern's stream is `swipe`
        program = stack.enter_context(subprocess.Popen([sys.executable, "-m", "streamer", "run", *arguments]))
        stack.callback(program.terminate)
        subscriber = stack.enter_context(Subscriber(f"tcp://127.0.0.1:{labels}", kinds=["score"], timeout_s=START_S))
        try:
            next(subscriber)
        except TimeoutError as error:
            raise ToolError("streamer run published nothing; try it by hand") from error
        for _ in range(rounds):
            found["without"] += ages_ms(subscriber, seconds)
            over = Event()
            process = Process(target=look, args=(page, viewers, over))
            process.start()
            found["with"] += ages_ms(subscriber, seconds)
            over.set()
            process.join()
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Measure what viewers of the page cost the recognition.")
    parser.add_argument("--viewers", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=5, help="of each turn")
    options = parser.parse_args()
    found = measure(options.viewers, options.rounds, options.seconds)
    for name, values in found.items():
        p50, p90, p99 = np.percentile(values, [50, 90, 99])
        print(f"{name:8} p50 {p50:6.1f} ms, p90 {p90:6.1f} ms, p99 {p99:6.1f} ms at publish, {len(values)} labels")
    ratio = np.median(found["with"]) / np.median(found["without"])
    print(f"{options.viewers} viewers make a label {ratio:.2f} times as old when it is published (medians)")


if __name__ == "__main__":
    main()
