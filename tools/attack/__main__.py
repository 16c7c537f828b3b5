"""Attack a run, and see what it costs it: python -m tools.attack [--seconds 3] [--only NAME] [--json FILE]

One `streamer run` with all its ports is attacked again and again, from without (sockets.py, ports.py) and by what it is
told to read (inputs.py, cameras.py). Memory, threads, descriptors and the age of frames at publication are measured
before, during and after each attack; judge.py says what counts. The exit code is 1 if a row failed. Everything stays on
127.0.0.1.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from tools.attack import cameras, inputs, ports, sockets
from tools.attack.judge import MOST_AGE, Row, as_json, line
from tools.attack.stage import Stage
from tools.attack.target import Attack

ATTACKS = (*sockets.ATTACKS, *inputs.ATTACKS, *cameras.ATTACKS, *ports.ATTACKS)


def run(attacks: Sequence[Attack], seconds: float = 3.0) -> Iterator[Row]:
    """Play the attacks, each for at least so long, and give the rows; the last one is the end of the run."""
    wanted = any(attack.needs == "page" for attack in attacks)
    page = wanted and find_spec("websockets") is not None
    with tempfile.TemporaryDirectory(prefix="attack-") as name:
        stage = Stage(Path(name), page, seconds)
        problems = ["the tool broke off"]
        try:
            for attack in attacks:
                if attack.needs == "page" and not page:
                    yield Row(attack.name, skipped="no page: pip install '.[view]'")
                else:
                    yield stage.play(attack)
        finally:
            problems = stage.close()
        yield Row("end", problems=problems[:1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.attack", description="Attack a run; see what it costs it.")
    parser.add_argument("--list", action="store_true", help="name the attacks, and run nothing")
    parser.add_argument("--only", metavar="NAME", action="append", default=[], help="and what begins so; repeatable")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each phase [default: 3]")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows as JSON, too")
    options = parser.parse_args(arguments)
    chosen = [one for one in ATTACKS if not options.only or one.name.startswith(tuple(options.only))]
    if not chosen:
        parser.error("there is no such attack; --list names them")
    if options.list:
        for one in chosen:
            print(f"{one.name:26} {one.about}")
        return 0
    began = time.monotonic()
    print(f"{len(chosen)} attacks, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; before/during/after")
    print(f"{'attack':26} {'MiB':>13} {'age p99 ms':>12} {'labels':>6}")
    rows = []
    for row in run(chosen, options.seconds):
        rows.append(row)
        print(line(row), flush=True)
    failed = sum(row.passed is False for row in rows)
    old = [row.attack for row in rows if (row.age_ratio or 0) > MOST_AGE]
    print(f"{failed} failed in {time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f} at the end;", end=" ")
    print(f"frames more than {MOST_AGE:g} times as old during {', '.join(old) or 'none'}")
    if options.json:
        options.json.write_text(json.dumps([as_json(row) for row in rows], indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
