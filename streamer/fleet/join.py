"""What `streamer fleet join` does: a machine becomes a node, and stays one whatever happens to its head.

It keeps two children: Ray's daemon, which the head reaches, and the run, which has the cameras. The run's settings come
from the head; from then on it is started anew whenever it ends, also while the head is away. Both go on when this
process is killed, and the next `join` finds them again. A child that lives and does nothing is ended, and so is started
anew: a run that does not answer at its control socket, and Ray's daemon if no head has asked through it for a while.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from streamer.errors import ConfigError
from streamer.fleet import cluster
from streamer.fleet.agent import Agent, Place
from streamer.fleet.config import OURS, host_and_port
from streamer.fleet.folder import Child, private, take, write
from streamer.labels.addresses import listen, unreachable
from streamer.labels.curve import write_keys

LOOK_S = 0.2
SLOWEST_S = 10.0  # between two attempts to start something that ends at once
STEADY_S = 20.0  # what ran for so long did not end at once
LONGEST_PATH = 100  # bytes of a socket's; the system allows 107
STOP_S = 8.0
CHECK_S = 2.5  # how often it is looked whether the children do what they are for
MOST_MISSES = 6  # questions in a row that a run may leave unanswered
DEAF, MOST_DEAF = 24, 384  # looks in a row without a question of a head that is there; more each time
END_S = 2.0  # for a child that hangs
KNOWN_S = 1.0  # a question of the head that comes so long after `leave` was answered with it
UNASKED_S = 10.0  # how long such a question is waited for
_LONGEST_NAME = 32  # characters of a node's
_FEWEST_PORTS = 10

log = logging.getLogger(__name__)


class Keeper:
    """Starts a child again when it has ended, soon at first and then less often."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self._started_s, self._wait_s, self._due = 0.0, LOOK_S, 0.0

    def due(self, now: float) -> bool:
        """Whether it has to be started now."""
        if self.child.alive:
            return False
        if self._started_s:
            self._wait_s = LOOK_S if now - self._started_s > STEADY_S else min(2 * self._wait_s, SLOWEST_S)
            self._due, self._started_s = now + self._wait_s, 0.0
        return now >= self._due

    def started(self, now: float) -> None:
        """It was."""
        self._started_s = now


class Node:
    """A machine of a fleet. Raises ConfigError for a folder that another has, or that is not private.

    head    HOST:PORT
    token   the head's token file
    folder  of this node
    ports   that Ray's daemon may listen at; empty: any
    """

    def __init__(self, head: str, token: Path, folder: Path, place: Place, ports: Sequence[int] = ()) -> None:
        self._head, self._folder, self._place = head, private(folder), place
        self._lock = take(self._folder, "a `fleet join`")
        if len(os.fsencode(place.control)) > LONGEST_PATH:
            raise ConfigError(f"{folder}: its name is too long for a socket in it; give a shorter --folder or --name")
        if not (self._folder / "node.key_secret").exists():
            write_keys(self._folder / "node")
        for left in ("leaving", "refused", "happened"):
            (self._folder / left).unlink(missing_ok=True)
        write(self._folder / "node.json", msgspec.json.encode(place))
        self._agent = Agent(self._folder)
        self._ray = Keeper(Child(self._folder / "ray.pid"))
        self._run = Keeper(Child(self._folder / "run.pid"))
        self._environment = {**cluster.environment(token), cluster.FOLDER: str(self._folder)}
        self._arguments = cluster.node_arguments(head, place.host, place.name, ports)
        self._told: dict[str, str] = {}
        self._control = Path(place.control.removeprefix("ipc://"))
        self._check_s, self._misses = 0.0, 0
        self._asked, self._deaf, self._most_deaf = 0, 0, DEAF

    def work(self, stop: threading.Event) -> None:
        """Be a node until `stop` is set, or it has left. Raises ConfigError if the head does not want it."""
        try:
            while not stop.wait(LOOK_S):
                with suppress(OSError):
                    raise ConfigError((self._folder / "refused").read_text(encoding="utf-8"))
                now = time.monotonic()
                if now >= self._check_s:
                    self._check_s = now + CHECK_S
                    self._check()
                self._keep_ray(now)
                self._keep_run(now)
                if self._has_told_to_leave() and self._is_empty():
                    self._tell("left", "left the fleet")
                    return
        finally:
            self._run.child.stop(STOP_S)
            self._ray.child.stop(STOP_S)
            os.close(self._lock)

    def _keep_ray(self, now: float) -> None:
        output = self._folder / "ray.log"
        if not self._ray.due(now):
            return
        if self._ray.child.code is not None:
            self._ray.child.stop(0.5)  # what is left of it
            said = cluster.fault(output.read_text(encoding="utf-8", errors="replace"))
            if said.startswith("the "):  # versions, token: it will not be better
                raise ConfigError(f"{self._head}: {said}")
            self._tell("ray", f"Ray's daemon has ended, and is started again: {said}")
        if why := unreachable(f"tcp://{self._head}"):
            self._tell("ray", f"no head at {self._head}: {why}; cameras go on, and it is tried again")
            return
        self._ray.child.start(self._arguments, self._environment, output)
        self._ray.started(now)
        self._tell("ray", f"joining {self._head}")

    def _keep_run(self, now: float) -> None:
        settings = self._folder / "run.yaml"
        if not self._run.due(now):
            return
        if self._run.child.code is not None:
            self._tell("run", f"the run has ended with code {self._run.child.code}; it is started again")
            self._run.child.code = None
        if settings.exists():
            self._control.unlink(missing_ok=True)  # of a run that was killed
            arguments = [sys.executable, "-m", "streamer", "run", "-c", str(settings), "--headless"]
            self._run.child.start(arguments, os.environ)
            self._run.started(now)
            self._told.pop("run", None)

    def _check(self) -> None:
        """End a run that listens at its control socket and answers nothing, and a daemon of Ray through which no head
        asks although there is one: it hangs, or Ray has lost it.
        """
        before, self._misses = self._misses, 0
        if self._run.child.alive and self._control.exists():  # without its socket it is still starting
            try:
                self._agent.status()
            except ConfigError:
                self._misses = before + 1
        if self._misses >= MOST_MISSES:
            self._misses = 0
            self._tell("run", f"the run hung: it left {MOST_MISSES} questions unanswered; it is started again")
            self._run.child.stop(END_S)
        if (asked := self._agent.asked()) != self._asked:
            self._asked, self._deaf, self._most_deaf = asked, 0, DEAF
        self._deaf = self._deaf + 1 if self._ray.child.alive else 0
        if self._deaf >= self._most_deaf:
            self._deaf = 0
            if not unreachable(f"tcp://{self._head}"):
                self._most_deaf = min(2 * self._most_deaf, MOST_DEAF)
                self._tell("ray", "there is a head and it asks for nothing; Ray's daemon is started again")
                self._ray.child.stop(END_S)

    def _has_told_to_leave(self) -> bool:
        """Whether it shall leave and its head has been told so, or does not ask; else the head waits for its return."""
        try:
            since = (self._folder / "leaving").stat().st_mtime_ns
        except OSError:
            return False
        return self._agent.asked() - since > KNOWN_S * 1e9 or time.time_ns() - since > UNASKED_S * 1e9

    def _is_empty(self) -> bool:
        """Whether its run has no stream, or is not there."""
        try:
            return not self._agent.status().running
        except ConfigError:
            return not self._run.child.alive

    def _tell(self, about: str, what: str) -> None:
        """Log it, once; and let the head tell in its status what happened to the run."""
        if self._told.get(about) != what:
            self._told[about] = what
            log.warning("%s", what)
            if about == "run":
                with suppress(ConfigError):  # a disk that is full ends no node
                    write(self._folder / "happened", f"{time.strftime('%F %T', time.gmtime())} UTC: {what}".encode())


def local_host(head: str, at: str | None = None) -> str:
    """The address of this machine that the head reaches; at: if it was given. Raises ConfigError for one that this
    machine has not, and for a head that is no HOST:PORT.
    """
    place = host_and_port(head)
    if place is None:
        raise ConfigError(f"{head!r}: is not HOST:PORT of a head, such as 192.0.2.1:6380")
    if at is not None:
        listen(f"{at}:0", "--at", "an address of this machine, such as 192.0.2.2").close()
        return at
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(*place, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)  # sends nothing
            return str(probe.getsockname()[0])
    except OSError as error:
        raise ConfigError(f"{head}: cannot be reached: {error.strerror or error}") from error


def own_settings(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a node's file says of its run. Raises ConfigError for what its fleet sets."""
    if clash := [key for key in OURS if key in run]:
        raise ConfigError(f"{clash[0]}: is set by the fleet; leave it out of a node's configuration")
    return dict(run)


def machine_name() -> str:
    """The machine's name, as a node's."""
    return re.sub(r"[^a-z0-9_-]+", "-", socket.gethostname().partition(".")[0].lower()).strip("-")[:_LONGEST_NAME]


def check_name(name: str) -> None:
    """Raise ConfigError for what cannot name a node."""
    if not re.fullmatch(rf"[a-z0-9]([a-z0-9_-]{{0,{_LONGEST_NAME - 2}}}[a-z0-9])?", name):
        raise ConfigError(
            f"--name {name!r}: use 1 to {_LONGEST_NAME} of a-z, 0-9, _ and -, with a letter or a digit at both ends"
        )


def port_range(ports: str | None) -> list[int]:
    """The ports of `--ports FIRST-LAST`; empty: any. Raises ConfigError."""
    if ports is None:
        return []
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", ports)
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1024 <= first <= last < 65536 or last - first < _FEWEST_PORTS - 1:
        raise ConfigError(f"--ports {ports}: write it as FIRST-LAST, {_FEWEST_PORTS} ports at least, such as 6400-6420")
    return list(range(first, last + 1))
