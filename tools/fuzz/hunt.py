"""The hunt: child processes read damaged media, and whatever they do not survive, or should not have done, is found."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from tools.errors import ToolError
from tools.fuzz.child import Outcome, Seen
from tools.fuzz.damage import damaged
from tools.fuzz.seeds import Seed, make_seeds

HANG_S = 30.0  # an input that takes longer hangs: the sound ones take 20 ms, and the machine may be busy
FINDINGS: tuple[Outcome, ...] = ("crash", "hang", "memory", "error", "counters")
_START_S = 120.0
_NICENESS = 19


class Child:
    """A reading process, with the lines that it says."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._errors = (folder / "errors").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.fuzz.child", str(seed), str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
        )  # fmt: skip
        os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICENESS)
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        if not self._line(_START_S):
            raise ToolError(f"the reading process does not start: {self._last_words()}")

    def look(self, number: int) -> Seen | tuple[Outcome, str]:
        """What it saw of an input; else it is gone: how, and its last words."""
        assert self._process.stdin
        try:
            self._process.stdin.write(f"{number}\n")
            self._process.stdin.flush()
            line = self._line(HANG_S)
        except BrokenPipeError:
            line = ""
        if line:
            return Seen(**json.loads(line))
        if line is None:
            self._process.send_signal(signal.SIGABRT)  # prints the stacks
        code = self._process.wait(_START_S)
        if line is None:
            return "hang", f"no answer for {HANG_S:g} s\n{self._last_words()}"
        return "crash", f"{signal.Signals(-code).name if code < 0 else f'exit code {code}'}\n{self._last_words()}"

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[:4000]

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _line(self, patience_s: float) -> str | None:
        """Its next line; empty if it ended, None if it is silent."""
        try:
            return self._lines.get(timeout=patience_s)
        except queue.Empty:
            return None


def hunt(seed: int, seconds: float, inputs: Iterable[int] | None = None, jobs: int = 2) -> list[Seen]:
    """Read damaged media for so long, in `jobs` processes: these inputs, or as many as there is time for.

    Input number n of a seed is always the same.
    """
    ends, seeds = time.monotonic() + seconds, make_seeds()
    numbers = takewhile(lambda _: time.monotonic() < ends, count() if inputs is None else inputs)
    lock = threading.Lock()

    def work(_job: int) -> list[Seen]:
        seen, child = [], None
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    break
                child = child or Child(seed, Path(folder))
                found = child.look(number)
                if not isinstance(found, Seen):
                    child.close()
                    child = None
                    medium, damage = damaged(seeds, seed, number)
                    found = Seen(number, medium.name, damage, *found)
                seen.append(found)
            if child:
                child.close()
        return seen

    with ThreadPoolExecutor(jobs) as pool:
        return sorted((seen for part in pool.map(work, range(jobs)) for seen in part), key=lambda seen: seen.number)


def report(seed: int, seconds: float, seen: list[Seen]) -> dict[str, Any]:
    """The figures of a hunt, for JSON."""
    media: dict[str, Counter[str]] = {}
    for one in seen:
        media.setdefault(one.medium, Counter())[one.outcome] += 1
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "inputs": len(seen),
        "frames": sum(one.frames for one in seen),
        "corrupt": sum(one.corrupt for one in seen),
        "slowest_cpu_s": max((one.cpu_s for one in seen), default=0.0),
        "peak_mb": max((one.peak_mb for one in seen), default=0.0),
        "media": media,
        "findings": [asdict(one) for one in seen if one.outcome in FINDINGS],
    }


def keep(folder: Path, seed: int, seen: list[Seen], seeds: list[Seed] | None = None) -> None:
    """Save every input that was a finding: its parts, and what is known of it."""
    folder.mkdir(parents=True, exist_ok=True)
    seeds = seeds or make_seeds()
    for one in seen:
        if one.outcome in FINDINGS:
            name = f"{seed}-{one.number}-{one.outcome}"
            for index, part in enumerate(damaged(seeds, seed, one.number)[0].parts):
                (folder / f"{name}-{index}-{one.medium.replace(' ', '-')}").write_bytes(part)
            (folder / f"{name}.json").write_text(json.dumps(asdict(one), indent=2) + "\n")
