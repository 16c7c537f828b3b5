"""Do to the machines of a fleet what happens to machines: python -m tools.faults fleet [--json FILE]

Three nodes on this machine, a head, real RTSP cameras and drawn ones; everything is started as a user starts it, in a
network of its own where that is allowed. Each row does something to a machine, and one reader of the fleet's address
tells what came of it. What holds in all of it (rules.py) is judged at the end. The exit code is 1 if a row failed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

from streamer import GapMessage, ScoreMessage
from tools.errors import ToolError
from tools.faults.machines import CAMERAS, START_S, Machines, samples_missed, summary
from tools.faults.nets import Nets
from tools.faults.rate import lines, measure
from tools.faults.rules import broken
from tools.faults.trouble import Trouble
from tools.results import keep_result

TOLD_S, FIRST_S, FOUND_S, ANEW_S, ADDED_MS = 3.0, 6.0, 5.0, 30.0, 2.0  # the bars
LONGEST_S = 60.0
CUT_S = 10.0  # how long a node that is cut off stays so, and how long it is listened to afterwards
GROWTH = 1.1  # what the head may have of memory and files after the trouble, of what it had before


@dataclass
class FleetRow:
    """A row. figures: what was measured; bars: what it may be at most; `problems` is empty if it passed; skipped: why
    it was not played.
    """

    name: str
    figures: dict[str, float] = field(default_factory=dict)
    bars: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def passed(self) -> bool:
        """Whether no figure is above its bar, and nothing else was wrong."""
        return not self.problems and all(self.figures.get(name, 0) <= bar for name, bar in self.bars.items())

    def line(self) -> str:
        """For people."""
        figures = [f"{name} {value:g}{self._bar(name)}" for name, value in self.figures.items()]
        how = "skipped" if self.skipped else "passed" if self.passed else "FAILED"
        return f"{self.name:12} {how}  {', '.join([*figures, *self.problems, self.skipped])}".rstrip(", ")

    def _bar(self, name: str) -> str:
        return f" / {self.bars[name]:g}" if name in self.bars else ""


def killed(it: Machines, row: FleetRow) -> None:
    """A node is switched off, and comes back."""
    node = it.fullest()
    _lost(it, row, node, lambda: it.signal(node, signal.SIGKILL))
    it.begin_node(node)
    it.wait(lambda: _state(it, node) == "up", START_S, "the node is back")


def stopped(it: Machines, row: FleetRow) -> None:
    """All of a node stands still, and goes on later."""
    node = it.fullest()
    _cut_off(it, row, node, lambda: it.signal(node, signal.SIGSTOP), lambda: it.signal(node, signal.SIGCONT))


def unplugged(it: Machines, row: FleetRow) -> None:
    """A node works and nobody hears it, nor does it hear anybody; later it is heard again."""
    if not it.nets:
        row.skipped = "needs networks of its own"
        return
    node, nets = it.fullest(), it.nets
    _cut_off(it, row, node, lambda: nets.unplug(node), lambda: nets.plug(node))


def run_hung(it: Machines, row: FleetRow) -> None:
    """The run of a node stands still, and nothing else there; its node ends it and starts another."""
    node = it.fullest()
    session = it.run_of(node)["session"]
    at = time.monotonic()
    _lost(it, row, node, lambda: it.hang_run(node))
    it.wait(lambda: it.run_of(node)["session"] != session, START_S, "another run")
    row.figures["anew s"], row.bars["anew s"] = round(time.monotonic() - at, 1), ANEW_S
    it.wait(lambda: _state(it, node) == "up", START_S, "the node is back")
    if "the run hung" not in next(one["why"] for one in it.status()["nodes"] if one["name"] == node):
        row.problems.append("the status does not tell of it")


def _cut_off(it: Machines, row: FleetRow, node: str, cut: Callable[[], None], back: Callable[[], None]) -> None:
    """A node is cut off, lives, and speaks again later."""
    terms = {one["stream"]: one["term"] for one in it.status()["streams"] if one["node"] == node}
    _lost(it, row, node, cut)
    time.sleep(CUT_S)
    at = time.monotonic()
    back()
    time.sleep(CUT_S)
    late = [m for m in it.since(at, ScoreMessage) if m.node == node and m.term == terms.get(m.stream)]
    row.figures["old term heard"], row.bars["old term heard"] = len(late), 0
    it.wait(lambda: _state(it, node) == "up", START_S, "the node is back")
    row.figures["back s"] = round(time.monotonic() - at, 1)


def _lost(it: Machines, row: FleetRow, node: str, lose: Callable[[], None]) -> None:
    names = it.on(node)
    row.figures["streams"] = len(names)
    at = time.monotonic()
    lose()
    it.wait(lambda: it.connecting(names, at) == set(names), LONGEST_S, "status of all its streams")
    row.figures["status s"], row.bars["status s"] = round(time.monotonic() - at, 2), TOLD_S
    it.wait(lambda: it.scoring(names, at, but=node) == set(names), LONGEST_S, "labels from other nodes")
    row.figures["first label s"], row.bars["first label s"] = round(time.monotonic() - at, 2), FIRST_S


def head_away(it: Machines, row: FleetRow, away_s: float, end: Callable[[], None]) -> None:
    """The head is gone, and comes back."""
    it.wait(
        lambda: sum(len(it.run_of(name)["streams"]) for name in it.nodes) == len(it.names), START_S, "one node each"
    )
    before = {name: it.run_of(name) for name in it.nodes}
    end()
    time.sleep(away_s)
    row.figures["gaps at nodes"] = 0
    for name, run in before.items():
        now = it.run_of(name)
        if now["session"] != run["session"]:
            row.problems.append(f"the run of {name} was started anew")
        seen = {one["stream"]: one for one in now["streams"]}
        for one in run["streams"]:
            other = seen.get(one["stream"])
            if other is None or other["inferred"] <= one["inferred"]:
                row.problems.append(f"{one['stream']} did not go on at {name}")
            else:
                row.figures["gaps at nodes"] += other["epoch"] - one["epoch"]
    it.begin_head()
    at = time.monotonic()
    it.wait(lambda: it.scoring(it.names, at) == set(it.names), LONGEST_S, "labels at the fleet's address")
    row.figures |= {"away s": away_s, "found s": round(time.monotonic() - at, 2)}
    row.bars["found s"] = FOUND_S
    it.wait(lambda: all(_state(it, name) == "up" for name in it.nodes), START_S, "the nodes are up")
    row.figures["nodes up s"] = round(time.monotonic() - at, 1)


def drained(it: Machines, row: FleetRow) -> None:
    """A node is drained, and takes streams again."""
    node = it.fullest()
    names = it.on(node)
    at = time.monotonic()
    it.order(command="drain", node=node, back=False)
    it.wait(lambda: not it.on(node), LONGEST_S * 3, "all its streams are elsewhere")
    took_s = time.monotonic() - at
    time.sleep(2)
    gaps = [m for m in it.since(at, GapMessage) if m.stream in names]
    scores = [m for m in it.since(at - 2, ScoreMessage) if m.stream in names]
    row.figures |= {"streams": len(names), "took s": round(took_s, 1), "gaps": len(gaps)}
    row.figures["samples missed"] = samples_missed(scores)
    row.bars |= {"gaps": 0, "samples missed": 1}
    it.order(command="drain", node=node, back=True)


def soaked(it: Machines, row: FleetRow, minutes: float) -> None:
    """Random trouble for a while, in which the head does not grow."""
    trouble = Trouble(it)
    try:
        trouble.go_on(minutes)
    finally:
        row.figures |= {"minutes": minutes, **trouble.counts, "slowest s": round(trouble.slowest[0], 1)}
    (mb, files), (more_mb, more_files) = trouble.sizes[0], trouble.sizes[-1]
    row.figures |= {"head MB before": mb, "head MB after": more_mb, "files before": files, "files after": more_files}
    row.bars |= {"head MB after": round(mb * GROWTH, 1), "files after": round(files * GROWTH)}


def _state(it: Machines, node: str) -> str:
    return next((one["state"] for one in it.status()["nodes"] if one["name"] == node), "")


def rows(it: Machines, away_s: float, minutes: float) -> dict[str, Callable[[FleetRow], None]]:
    """The rows that need a fleet, in order."""
    return {
        "kill": lambda row: killed(it, row),
        "cut off": lambda row: stopped(it, row),
        "unplugged": lambda row: unplugged(it, row),
        "run hung": lambda row: run_hung(it, row),
        "head": lambda row: head_away(it, row, away_s, lambda: it.signal("head", signal.SIGKILL)),
        "head ended": lambda row: head_away(it, row, away_s / 3, it.end_head),
        "drain": lambda row: drained(it, row),
        "soak": lambda row: soaked(it, row, minutes),
    }


ROWS = ("kill", "cut off", "unplugged", "run hung", "head", "head ended", "drain", "soak")


def play(it: Machines, names: Sequence[str], away_s: float, minutes: float) -> list[FleetRow]:
    """Play these rows on a fleet; at the end the head is told to end, and the rules are judged."""
    done, acts = [], rows(it, away_s, minutes)
    for name in names:
        row = FleetRow(name)
        try:
            it.wait(it.is_steady, START_S, "labels of every stream before it")
            acts[name](row)
        except ToolError as error:
            row.problems.append(str(error))
        done.append(row)
        print(row.line(), flush=True)
    memory = FleetRow("memory", {f"{name} MB": it.memory_mb(name) for name in ("head", *it.nodes)})
    judged = FleetRow("rules")
    try:
        it.end_head()
    except ToolError as error:
        judged.problems.append(str(error))
    time.sleep(1)
    judged.problems += broken(it.messages())
    print(memory.line(), judged.line(), summary(it.messages()), sep="\n", flush=True)
    return [*done, memory, judged]


def hub_rows(seconds: float) -> list[FleetRow]:
    """What the hub alone can do."""
    made = []
    for rate in (measure(subscribers, seconds) for subscribers in (1, 50)):
        figures = {name: value for name, value in asdict(rate).items() if name != "subscribers"}
        made.append(FleetRow(f"hub {rate.subscribers}", figures, {"added_ms_p99": ADDED_MS}))
        print(made[-1].line(), *lines([rate]), sep="\n  ", flush=True)
    return made


def networks(stack: ExitStack) -> Nets | None:
    """A network for each machine; None, which is told, where there may be none."""
    try:
        return stack.enter_context(closing(Nets(("head", "a", "b", "c", CAMERAS))))
    except ToolError as error:
        print(f"all machines have loopback addresses: {error}")
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rows; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.faults fleet", description=__doc__.splitlines()[0])
    parser.add_argument("--streams", metavar="N", type=int, default=24, help="[default: 24]")
    parser.add_argument("--engine", choices=("scripted", "default"), default="scripted", help="[default: scripted]")
    parser.add_argument("--away", metavar="S", type=float, default=90.0, help="how long the head is dead [default: 90]")
    parser.add_argument("--minutes", metavar="M", type=float, default=2.0, help="of random trouble [default: 2]")
    parser.add_argument(
        "--only", metavar="ROW", nargs="+", choices=("hub", *ROWS), help=f"some of the rows: hub, {', '.join(ROWS)}"
    )
    parser.add_argument("--loopback", action="store_true", help="make no networks for the machines, as without root")
    parser.add_argument("--streamer", metavar="CMD", help="the build to test, such as /opt/v2/bin/streamer")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows as JSON, too")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and no machine stays behind
    print(f"{options.streams} streams, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    made = [] if options.only and "hub" not in options.only else hub_rows(3.0)
    if names := [name for name in ROWS if not options.only or name in options.only]:
        try:
            with tempfile.TemporaryDirectory(prefix="fleet-") as folder, ExitStack() as stack:
                nets = None if options.loopback else networks(stack)
                it = Machines(Path(folder), options.streams, options.engine, nets, options.streamer)
                made += play(stack.enter_context(it), names, options.away, options.minutes)
        except ToolError as error:
            made.append(FleetRow("fleet", problems=[str(error)]))
            print(made[-1].line())
    print(f"load {os.getloadavg()[0]:.1f} at the end")
    if options.json:
        told = [asdict(row) | {"passed": None if row.skipped else row.passed} for row in made]
        keep_result(parser, options.json, json.dumps(told, indent=1).encode() + b"\n")
    return 0 if all(row.passed for row in made) else 1


if __name__ == "__main__":
    sys.exit(main())
