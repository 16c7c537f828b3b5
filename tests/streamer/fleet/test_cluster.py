"""A fleet on a real Ray cluster, as the page says to type it: a head and three nodes, at loopback addresses."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from streamer.labels.addresses import unreachable
from streamer.labels.requests import ask
from tests.streamer.fleet.typed import Network, Step, steps, told

pytestmark = pytest.mark.skipif(
    not find_spec("ray"), reason="Ray is not installed: pip install 'action-streamer[fleet]'"
)

LONGEST_S = 240.0  # on a machine that does much else
OTHER_RAY = "import sys\nif 'start' in sys.orig_argv:\n    import ray\n    ray.__version__ = '2.9.9'\n"


def until(condition: Callable[[], Any], longest_s: float = LONGEST_S) -> Any:
    """Wait until something holds."""
    ends = time.monotonic() + longest_s
    while not (held := condition()):
        assert time.monotonic() < ends, condition
        time.sleep(0.2)
    return held


def lives(group: int) -> bool:
    """Whether a group of processes has one that has not ended, and was not waited for."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


class Terminals:
    """Where the commands of a fleet are typed, in a folder of their own. `open`: those that have not ended, by name."""

    def __init__(self, folder: Path, network: Network) -> None:
        self.folder, self._network = folder, network
        runtime = folder / "run"
        runtime.mkdir(mode=0o700)
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "COLUMNS": "200"}
        self.open: dict[str, subprocess.Popen[bytes]] = {}

    def _arguments(self, line: str) -> list[str]:
        return [*self._network.within, sys.executable, "-m", *shlex.split(line)]

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """Type a command that ends."""
        return subprocess.run(
            self._arguments(line), cwd=self.folder, env=self.environment,
            capture_output=True, text=True, timeout=LONGEST_S, check=False,
        )  # fmt: skip

    def begin(self, name: str, line: str, **variables: str) -> None:
        """Type a command that goes on, in a terminal of its own."""
        with (self.folder / f"{name}.out").open("ab") as out, (self.folder / f"{name}.err").open("ab") as err:
            self.open[name] = subprocess.Popen(
                self._arguments(line), cwd=self.folder, env=self.environment | variables,
                stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip

    def printed(self, name: str) -> str:
        """What stands in a terminal."""
        return (self.folder / f"{name}.out").read_text()

    def shows(self, name: str, lines: list[str]) -> bool:
        """Whether all of these stand in a terminal."""
        return set(lines) <= set(told(self.printed(name)))

    def ends(self, name: str) -> tuple[int, str]:
        """Wait until the command of a terminal has ended; returns its code and its errors."""
        return self.open.pop(name).wait(LONGEST_S), (self.folder / f"{name}.err").read_text()

    def status(self) -> Any:
        """As `fleet status --json` tells it, without a process each time; None while there is no head."""
        controls = [line.split()[1] for line in self.printed("head").splitlines() if line.startswith("control ")]
        if not controls or unreachable(controls[-1]):
            return None
        return ask(controls[-1], {"command": "status"}, timeout_s=60)

    def up(self) -> list[str]:
        """The nodes that are."""
        return [one["name"] for one in (self.status() or {"nodes": []})["nodes"] if one["state"] == "up"]

    def is_calm(self) -> bool:
        """Whether everything that was asked for is done."""
        report = self.status()
        if not report or report["moving"]:
            return False
        return all(one["source"] in ("online", "degraded") for one in report["streams"] if one["node"])

    def groups(self, name: str) -> list[int]:
        """The groups of processes of a head or a node: Ray's daemon, and the run."""
        where = self.folder / "fleet" if name == "head" else self.folder / "run" / "action-streamer" / f"fleet-{name}"
        return [int(path.read_text().split()[0]) for path in (where / "ray.pid", where / "run.pid") if path.exists()]

    def kill(self, name: str) -> None:
        """kill -9 of all processes of a head or a node."""
        groups = self.groups(name)
        self.open[name].kill()
        self.open.pop(name).wait()
        for group in groups:
            os.killpg(group, signal.SIGKILL)

    def close(self) -> set[int]:
        """Ctrl-C in each terminal; returns the exit codes."""
        for process in self.open.values():
            process.send_signal(signal.SIGINT)
        codes = {process.wait(60) for process in self.open.values()}
        self.open.clear()
        return codes


def terminal(step: Step) -> str:
    """The name of the terminal of a command that goes on; "" for one that ends."""
    words = step.command.split()
    if words[1:2] == ["watch"] or words[2:3] == ["head"]:
        return words[1] if words[1] == "watch" else "head"
    return words[words.index("--name") + 1] if words[2:3] == ["join"] else ""


def type_in(terminals: Terminals, step: Step) -> list[str]:
    """Do a step of the page; returns what a command that ends has printed."""
    name = terminal(step)
    if step.file:
        (terminals.folder / "fleet.yaml").write_text(step.file)
    elif name:
        terminals.begin(name, step.command)
        if name == "head":
            until((terminals.folder / "fleet" / "token").exists)
        elif name != "watch":
            until(lambda: name in terminals.up())
    else:
        ends = time.monotonic() + LONGEST_S
        until(terminals.is_calm)
        done = terminals.run(step.command)
        while " status" in step.command and told(done.stdout) != step.printed and time.monotonic() < ends:
            done = terminals.run(step.command)  # a person looks again
        return told(done.stdout + done.stderr)
    return []


@pytest.fixture(scope="module")
def terminals() -> Iterator[Terminals]:
    folder, network = Path(tempfile.mkdtemp(prefix="fleet", dir="/tmp")), Network()  # sockets have short names
    opened = Terminals(folder, network)
    try:
        yield opened
    finally:
        opened.close()
        network.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def typed(terminals: Terminals) -> list[tuple[Step, list[str]]]:
    """The page's steps, done, and what each has printed; two nodes are left. Strangers try to join meanwhile."""
    done = []
    for step in steps("Try it on one machine"):
        done.append((step, type_in(terminals, step)))
        if terminal(step) == "n1":
            begin_strangers(terminals)
    return done


def begin_strangers(terminals: Terminals) -> None:
    """What cannot be of this fleet: one with another token, one with another Ray, two more heads."""
    wrong, other = terminals.folder / "wrong", terminals.folder / "other"
    wrong.touch(mode=0o600)
    wrong.write_text("0123456789abcdef")
    other.mkdir()
    (other / "sitecustomize.py").write_text(OTHER_RAY)
    join = "streamer fleet join 127.0.0.1:6380"
    terminals.begin("wrong token", f"{join} --token-file wrong --name s1 --at 127.0.0.6")
    path = os.pathsep.join(filter(None, (str(other), os.environ.get("PYTHONPATH"))))
    terminals.begin("other ray", f"{join} --token-file fleet/token --name s2 --at 127.0.0.7", PYTHONPATH=path)
    terminals.begin("second head", "streamer fleet head -c fleet.yaml --labels tcp://127.0.0.1:5558")
    elsewhere = "streamer fleet head -c fleet.yaml --labels tcp://127.0.0.1:5558 --folder elsewhere"
    terminals.begin("third head", elsewhere)


@pytest.mark.timeout(900)
def test_what_the_page_says_to_type_prints_what_it_says(
    terminals: Terminals, typed: list[tuple[Step, list[str]]]
) -> None:
    assert len([step for step, _ in typed if step.printed]) > 12
    for step, printed in typed:
        if name := terminal(step):
            until(partial(terminals.shows, name, step.printed))
        elif step.command:
            assert printed == step.printed
    assert terminals.ends("n3")[0] == 0


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("stranger", "error"),
    [
        ("wrong token", "the head does not know this token; copy its token file again"),
        ("other ray", "install the same Ray and the same Python on all machines, down to its last number"),
        ("second head", "another `fleet head` uses it already; stop that one, or name another folder"),
        ("third head", "another program uses 127.0.0.1:6380; stop it, or give another HOST:PORT with --at"),
    ],
)
@pytest.mark.usefixtures("typed")
def test_who_cannot_be_of_the_fleet_is_told_in_a_sentence_and_ends(
    terminals: Terminals, stranger: str, error: str
) -> None:
    code, told_why = terminals.ends(stranger)
    assert (code, told_why.count("streamer: ")) == (2, 1)
    assert error in told_why


@pytest.mark.timeout(900)
def test_streams_go_on_when_a_node_is_killed_and_when_the_head_is_and_every_start_has_one_end(
    terminals: Terminals, typed: list[tuple[Step, list[str]]]
) -> None:
    until(terminals.is_calm)
    token = (terminals.folder / "fleet" / "token").read_text().strip()
    where = {one["stream"]: one["node"] for one in terminals.status()["streams"]}
    assert where == {"door": "n2", "gate": "n1", "yard": "n1"}
    terminals.begin("json", "streamer watch --json")

    def messages(after: int = 0) -> list[dict[str, Any]]:
        whole = terminals.printed("json").rpartition("\n")[0].splitlines()
        return [json.loads(line) for line in whole[after:]]

    def scored(after: int) -> dict[str, str]:
        return {one["stream"]: one["node"] for one in messages(after) if one["kind"] == "score"}

    until(lambda: scored(0) == where)
    count = len(messages())
    terminals.kill("n1")
    until(lambda: scored(count).get("gate") == "n2")  # and yard waits
    waits = [one["detail"] for one in messages(count) if one["kind"] == "status" and one["stream"] == "yard"]
    assert "no node has a row free: 2 of 2 on 1 node are taken" in waits
    moved = [one["stream"] for one in messages(count) if one["kind"] == "gap" and one["reason"] == "moved"]
    assert sorted(moved) == ["gate", "yard"]

    terminals.kill("head")
    runs = terminals.groups("n2")[-1:]
    control = terminals.printed("n2").split()[-1]
    seen = ask(control, {"command": "status"}, timeout_s=20)["streams"][0]["captured"]
    until(lambda: ask(control, {"command": "status"}, timeout_s=20)["streams"][0]["captured"] > seen + 10)
    count = len(messages())
    type_in(terminals, next(step for step, _ in typed if terminal(step) == "head"))
    until(lambda: scored(count) == {"door": "n2", "gate": "n2"})
    until(lambda: terminals.up() == ["n2"])
    assert terminals.groups("n2")[-1:] == runs  # nothing that runs was started anew

    open_: dict[str, bool | None] = {}
    last: dict[str, tuple[str, int]] = {}
    for one in messages():
        if one["kind"] == "event":
            stream, number, type_ = one["stream"], (one["session"], one["seq"]), one["type"]
            if last.get(stream) != (number[0], number[1] - 1):
                open_[stream] = None  # the reader was not there for what came between
            last[stream] = number
            assert type_ != "start" or not open_[stream]
            assert type_ != "end" or open_[stream] is not False
            open_[stream] = type_ != "end"

    groups = [group for name in ("head", "n2") for group in terminals.groups(name)]
    assert terminals.close() == {0}
    until(lambda: not any(lives(group) for group in groups))
    assert token not in "".join(path.read_text() for path in terminals.folder.glob("*.*"))
