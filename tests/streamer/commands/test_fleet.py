"""The commands of a fleet, with a head at a real socket whose nodes are fakes; test_cluster.py has real ones."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from streamer.commands import app
from streamer.errors import ConfigError
from streamer.fleet.desk import Desk
from streamer.fleet.folder import take
from tests.streamer.fleet.fakes import Fleet

from .test_cli import streamer


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder of this test's own, with a name that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="run") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        monkeypatch.setenv("COLUMNS", "200")
        yield Path(folder)


@pytest.fixture
def fleet(runtime: Path) -> Iterator[Fleet]:
    """Two nodes, two cameras, and a film that waits for a node that has it."""
    fleet, desk, stop = Fleet("door", "gate", "film"), Desk(), threading.Event()
    fleet.nodes.join("north", rows=2, near={"site": "north"}).refuses = {"film"}
    fleet.nodes.join("south", rows=1)
    fleet.pass_(4)

    def rule() -> None:
        while not stop.wait(0.01):
            desk.serve(fleet.orders)
            fleet.pass_(0.25)

    thread = threading.Thread(target=rule)
    thread.start()
    yield fleet
    stop.set()
    thread.join()
    desk.close()


def fleet_command(line: str) -> Result:
    return CliRunner().invoke(app, ["fleet", *line.split()])


@pytest.mark.usefixtures("fleet")
def test_status_tells_nodes_and_streams_and_why_one_waits() -> None:
    lines = [" ".join(line.split()) for line in fleet_command("status").stdout.splitlines()]
    why = "it could not be had from north, and no other node has a row free: 2 of 3 on 2 nodes are taken"
    assert lines == [
        "labels tcp://hub:1",
        "node state rows decoding near",
        "north up 1/2 0% site=north",
        "south up 1/1 0%",
        "stream node source",
        "door north online",
        f"film - waits {why}; film: there is no such file",
        "gate south online",
    ]
    assert json.loads(fleet_command("status --json").stdout)["streams"][0]["stream"] == "door"


@pytest.mark.usefixtures("fleet")
def test_what_is_asked_of_a_head_is_done_and_told_as_json() -> None:
    added = fleet_command("add rtsp://192.0.2.1/1 --name hall --near site=north")
    assert json.loads(added.stdout) == {"stream": "hall"}
    assert json.loads(fleet_command("remove hall").stdout) == {"stream": "hall", "comes_back": False}
    assert json.loads(fleet_command("drain south").stdout) == {"node": "south", "streams": ["gate"]}
    assert json.loads(fleet_command("drain south --back").stdout)["node"] == "south"
    assert json.loads(fleet_command("balance").stdout) == {"moves": []}


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("remove dor", "there is no stream 'dor' in the fleet; did you mean 'door'?"),
        ("remove x", "there is no stream 'x' in the fleet; there are door, film, gate"),
        ("move gat north", "there is no stream 'gat' in the fleet; did you mean 'gate'?"),
        ("move gate nroth", "there is no node 'nroth' in the fleet; did you mean 'north'?"),
        ("move gate south", "gate is on south already"),
        ("move film north", "film runs nowhere yet: it could not be had from north"),
        ("drain sout", "there is no node 'sout' in the fleet; did you mean 'south'?"),
        ("add pattern://swip", "there is no pattern 'swip'; the patterns are swipe, still"),
        ("add rstp://camera/1", "no source is called rstp://; did you mean rtsp://?"),
        ("add 0 --name door", "two sources are called door; give each another name"),
        ("add 0 --name Door", "sources.0.name (from the request): string should match pattern"),
        ("add 0 --near site", "--near 'site': write it as KEY=VALUE"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(line: str, error: str) -> None:
    done = fleet_command(line)
    assert isinstance(done.exception, ConfigError)
    assert error in str(done.exception)


def test_exit_codes_are_those_of_the_rest_of_the_program(fleet: Fleet, tmp_path: Path) -> None:
    assert streamer("fleet", "status").returncode == 0
    wrong = streamer("fleet", "move", "dor", "north")
    assert (wrong.returncode, "did you mean 'door'?" in wrong.stderr) == (2, True)
    (tmp_path / "fleet.yaml").write_text("sources: ['pattern://swip']")
    wrong = streamer("fleet", "head", "-c", tmp_path / "fleet.yaml")
    assert (wrong.returncode, "there is no pattern 'swip'" in wrong.stderr) == (3, True)


def test_a_node_that_shall_leave_and_is_none_here_is_told_with_the_nearest(runtime: Path) -> None:
    own = runtime / "action-streamer"
    assert "no node of yours runs here" in str(fleet_command("leave").exception)
    locks = []
    for name in ("n1", "n2"):
        (own / f"fleet-{name}").mkdir(parents=True)
        locks.append(take(own / f"fleet-{name}", "a test"))
    assert "2 nodes of yours run here; choose one with --name: n1, n2" in str(fleet_command("leave").exception)
    told = str(fleet_command("leave --name n3").exception)
    assert told in ("no node 'n3' of yours runs here; did you mean 'n2'?", told.replace("'n2'", "'n1'"))
    assert "no node '*' of yours runs here; name its --folder" in str(fleet_command("leave --name *").exception)
    for lock in locks:
        os.close(lock)
    assert "no `streamer fleet join` runs there" in str(fleet_command(f"leave --folder {own / 'fleet-n1'}").exception)
