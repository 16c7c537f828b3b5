"""Ray: what carries the five verbs from the head to its nodes. The only file that imports it, when it is used.

One actor a machine, which drives the node's run by its control socket and never is the run: when Ray's head dies, its
actors and daemons end themselves after a minute, and cameras shall not. A node's actor is made by the head as soon as
Ray tells of the machine, and made anew with each new daemon there.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from streamer.errors import ConfigError, StreamerError
from streamer.fleet.agent import Agent, Reign, Welcome
from streamer.fleet.facts import Assignment, NodeFacts, NodeStatus
from streamer.text import redact

RESOURCE, LABEL, FOLDER = "streamer", "streamer-node", "STREAMER_FLEET_FOLDER"
LOOK_S = 0.3
AT_ONCE = 8  # calls that one node answers at a time: a source that is slow to open holds up nothing
ROOM = Path(f"/tmp/streamer-ray-{os.geteuid()}")
"""Ray's logs and sockets, on all machines of a fleet as on the head's; a socket's name may not be long."""
OLD_S = 86400.0  # sessions of Ray that are older are deleted
MEMORY = 80 * 1024**2  # of Ray's object store, its least; states are small
DAEMON_CONFIG = {  # how soon Ray gives a machine up, and a machine's daemon notices that it is of a head before
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_raylet_liveness_self_check_interval_ms": "1000",
}
LEAN_CONFIG = {  # each question to a node is a task, of which Ray's head would remember 100,000
    "RAY_task_events_report_interval_ms": "0",
    "RAY_maximum_gcs_dead_node_cached_count": "100",
    "RAY_maximum_gcs_dead_worker_cached_count": "100",
    "RAY_maximum_gcs_destroyed_actor_cached_count": "100",
}

log = logging.getLogger(__name__)


def missing() -> str:
    """Why there is no Ray, in a sentence; "": there is."""
    found = find_spec("ray")  # not imported yet: it reads its environment when it is
    return "" if found else "a fleet needs Ray, which is not installed: pip install 'action-streamer[fleet]'"


def environment(token: Path) -> dict[str, str]:
    """The environment of everything of Ray: with the token's file, never with the token."""
    return {
        **os.environ,
        **DAEMON_CONFIG,
        **LEAN_CONFIG,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token.absolute()),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # SIGTERM is no failure
        "RAY_ROTATION_MAX_BYTES": "1000000",
        "RAY_ROTATION_BACKUP_COUNT": "1",
        "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL": os.environ.get("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL", "patch"),
    }


def head_arguments(host: str, port: int) -> list[str]:
    """The command that is Ray's head. What heads before it left in Ray's folder is tidied up."""
    (ROOM / "ray_current_cluster").unlink(missing_ok=True)  # or it takes the nodes of this machine for another head
    for session in ROOM.glob("session_*"):
        with suppress(OSError):
            if time.time() - session.lstat().st_mtime > OLD_S:
                shutil.rmtree(session, ignore_errors=True)
    place = (f"--port={port}", f"--node-ip-address={host}", f"--temp-dir={ROOM}")
    return [*_START, "--head", *place, "--num-cpus=0", *_LEAN, "--include-dashboard=False", "--no-monitor"]


def node_arguments(head: str, host: str, name: str, ports: Sequence[int] = ()) -> list[str]:
    """The command that is Ray's daemon on a node. ports: the only ones that it may listen at."""
    fixed = []
    if ports:
        one, two, three, four, *workers = ports
        fixed = [
            f"--node-manager-port={one}",
            f"--object-manager-port={two}",
            f"--runtime-env-agent-port={three}",
            f"--dashboard-agent-grpc-port={four}",
            f"--worker-port-list={','.join(map(str, workers))}",
        ]
    return [
        *(*_START, f"--address={head}", f"--node-ip-address={host}", "--num-cpus=0", *_LEAN),
        *(f'--resources={{"{RESOURCE}": 1}}', f"--labels={LABEL}={name}", *fixed),
    ]


_START = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block"]
_LEAN = ["--include-log-monitor=False", f"--object-store-memory={MEMORY}"]


def fault(output: str) -> str:
    """What a daemon of Ray that has ended says of it, in a sentence."""
    words = " ".join(output.split())
    if "Version mismatch" in words or "version mismatch" in words.lower():
        told = words[words.lower().index("version mismatch") :]
        return (
            f"the versions differ: {told[:300]}; install the same Ray and the same Python on all machines, down to its "
            "last number (RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL=minor lets that one differ)"
        )
    if "Unauthenticated" in words or "InvalidAuthToken" in words or "AuthenticationError" in words:
        return "the head does not know this token; copy its token file again"
    lines = [line.strip() for line in output.splitlines() if line.strip() and "state-dump" not in line]
    return redact(lines[-1][-300:]) if lines else "it said nothing"


def connect(address: str, token: Path) -> None:
    """Make this process a driver of the cluster. Raises StreamerError."""
    os.environ.update(environment(token))
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        ray.init(
            address=address,
            namespace=RESOURCE,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
    except Exception as error:  # of Ray's many kinds
        raise StreamerError(f"{address}: Ray's head does not take this program: {fault(str(error))}") from error


def disconnect() -> None:
    """The process is a driver no more, if it was one; as long as it is, Ray ends it when its head ends."""
    if ray := sys.modules.get("ray"):
        ray.shutdown()


class _Hands:
    """The actor: runs on the node, in a process of Ray's."""

    def __init__(self) -> None:
        self._agent = Agent(Path(os.environ[FOLDER]))

    def do(self, reign: Reign, verb: str, *what: Any) -> tuple[str, Any]:
        """What the agent has to say, or its error in a sentence: Ray would make a page of it."""
        try:
            self._agent.obey(reign)
            return "", getattr(self._agent, verb)(*what)
        except ConfigError as error:
            return redact(str(error)), None
        except Exception as error:
            return f"this failed on the node, please report it: {redact(repr(error))}", None


@dataclass(slots=True)
class _Machine:
    """A daemon of Ray that has joined. name: of its node; address: of its machine; facts: as soon as its run is there.

    asked: its answer that is to come; due: when it is asked for its facts again.
    """

    name: str
    address: str
    actor: Any
    asked: Future[Any] | None = None
    welcomed: bool = False
    facts: NodeFacts | None = None
    due: float = 0.0
    told: str = ""


class RayNodes:
    """The five verbs, over Ray.

    reign    of this head; nodes refuse one that is older than the one they have obeyed
    welcome  what each node is told first
    refused  nodes that may not join, by name, and why
    deposed  why this head must end: a node obeys a newer one; "": it need not
    begin    makes this process a driver of the cluster; called in a thread, since that takes seconds
    failed   what went wrong with that
    """

    def __init__(self, reign: Reign, welcome: Welcome, begin: Callable[[], None]) -> None:
        self._reign, self._welcome, self._begin = reign, welcome, begin
        self._machines: dict[str, _Machine] = {}
        self._by_name: dict[str, _Machine] = {}
        self.refused: dict[str, str] = {}
        self.deposed = ""
        self.failed: StreamerError | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="fleet nodes", daemon=True)
        self._thread.start()

    def nodes(self) -> list[NodeFacts]:
        """Those that have joined."""
        return [one.facts for one in tuple(self._by_name.values()) if one.facts]

    def status(self, node: str) -> Future[NodeStatus]:
        """How a node is; one whose run was restarted is asked who it is now."""
        told: Future[NodeStatus] = self._ask(node, "status")
        told.add_done_callback(lambda done: self._look_at(node, done))
        return told

    def add(self, assignment: Assignment, source: Mapping[str, Any], held: bool = False) -> Future[None]:
        """Begin a stream."""
        return self._ask(assignment.node, "add", assignment, dict(source), held)

    def remove(self, node: str, stream: str, term: int) -> Future[None]:
        """End a stream."""
        return self._ask(node, "remove", stream, term)

    def state(self, node: str, stream: str, state: bytes | None = None) -> Future[bytes]:
        """Give or take the temporal state of a stream."""
        return self._ask(node, "state", stream, state)

    def close(self) -> None:
        """Look for nodes no more. Their actors stay, for the head after this one."""
        self._closed.set()
        self._thread.join(5)

    def _ask(self, node: str, verb: str, *what: Any) -> Future[Any]:
        if machine := self._by_name.get(node):
            return self._call(machine, verb, *what)
        done: Future[Any] = Future()
        done.set_exception(ConfigError(f"{node} is not in Ray's cluster"))
        return done

    def _call(self, machine: _Machine, verb: str, *what: Any) -> Future[Any]:
        """Ask a node's actor; the future has its answer, or ConfigError."""
        done: Future[Any] = Future()

        def settle(told: Future[Any]) -> None:
            with suppress(InvalidStateError):
                if error := told.exception():
                    done.set_exception(ConfigError(f"{machine.name} does not answer: {type(error).__name__}"))
                elif told.result()[0]:
                    done.set_exception(ConfigError(told.result()[0]))
                else:
                    done.set_result(told.result()[1])

        try:
            machine.actor.do.remote(self._reign, verb, *what).future().add_done_callback(settle)
        except Exception as error:  # of Ray's many kinds
            done.set_exception(ConfigError(f"{machine.name} cannot be asked: {type(error).__name__}"))
        return done

    def _look_at(self, node: str, done: Future[NodeStatus]) -> None:
        """Ask a node for its facts anew if its run is another one."""
        machine = self._by_name.get(node)
        if machine and machine.facts and not done.exception() and done.result().session != machine.facts.session:
            machine.due = time.monotonic()
            machine.welcomed = True
            machine.facts = None

    def _look(self) -> None:
        """The thread: who is in the cluster, and what must be said to whom."""
        try:
            self._begin()
        except StreamerError as error:
            self.failed = error
            return
        import ray

        while not self._closed.wait(LOOK_S):
            try:
                alive = {one["NodeID"]: one for one in ray.nodes() if one["Alive"] and RESOURCE in one["Resources"]}
            except Exception as error:  # of Ray's many kinds: its head is gone, which the daemon's end tells, too
                log.warning("Ray does not tell which machines there are: %s", type(error).__name__)
                continue
            for number in self._machines.keys() - alive.keys():
                gone = self._machines.pop(number)
                if self._by_name.get(gone.name) is gone:
                    del self._by_name[gone.name]
                self.refused.pop(gone.name, None)
            for number, one in alive.items():
                if number not in self._machines:
                    self._machines[number] = self._employ(number, one)
            for machine in tuple(self._machines.values()):
                self._speak(machine)

    def _employ(self, number: str, told: Mapping[str, Any]) -> _Machine:
        """An actor for a machine that has joined."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        name, address = str(told["Labels"].get(LABEL, number[:8])), str(told["NodeManagerAddress"])
        kind = ray.remote(_Hands).options(
            name=f"{name}-{number}",
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            resources={RESOURCE: 1},
            scheduling_strategy=NodeAffinitySchedulingStrategy(number, soft=False),
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=AT_ONCE,
        )
        return _Machine(name, address, kind.remote())

    def _speak(self, machine: _Machine) -> None:
        """Welcome a node, and ask it who it is until its run is there; never wait for it."""
        if machine.asked:
            if not machine.asked.done():
                return
            self._hear(machine, machine.asked)
            machine.asked = None
        if machine.facts or machine.told or time.monotonic() < machine.due:
            return
        machine.due = time.monotonic() + LOOK_S
        other = self._by_name.get(machine.name)
        if other and other is not machine and other.address != machine.address and other in self._machines.values():
            machine.told = (
                f"a node called {machine.name} is in the fleet already, at {other.address}; give another --name"
            )
            self.refused[machine.name] = machine.told
            self._call(machine, "refuse", machine.told)
            return
        if machine.welcomed:
            machine.asked = self._call(machine, "facts")
        else:
            machine.asked = self._call(machine, "welcome", self._welcome)

    def _hear(self, machine: _Machine, asked: Future[Any]) -> None:
        error = asked.exception()
        if error is None and isinstance(asked.result(), NodeFacts):
            machine.facts = asked.result()
            self._by_name[machine.name] = machine
            self.refused.pop(machine.name, None)
        elif error is None:
            machine.welcomed = True
        elif "obeys a head" in str(error):
            self.deposed = str(error)
        elif not machine.welcomed and "action-streamer" in str(error):
            machine.told = self.refused[machine.name] = str(error)
