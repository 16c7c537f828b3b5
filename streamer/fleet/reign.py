"""One reign: what a head is made of, from its start to its end, and what it finds in its folder and leaves there.

token         what nodes need to join; whoever has it can run programs on all of them
head.key      its public key, and `head.key_secret`, with which it hears the nodes
state.json    what the head after it must know; open.jsonl: the events that are open
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
from zmq.utils import z85

from streamer.errors import ConfigError, StreamerError
from streamer.fleet import cluster
from streamer.fleet.agent import Reign, Welcome
from streamer.fleet.config import AT, FleetConfig, host_and_port
from streamer.fleet.desk import Desk
from streamer.fleet.folder import Child, private, take, write
from streamer.fleet.head import Head
from streamer.fleet.hub import Hub
from streamer.fleet.moving import Move
from streamer.fleet.orders import Orders
from streamer.fleet.seats import Kept
from streamer.fleet.terms import new_reign
from streamer.fleet.turns import InTurn
from streamer.health.memory import share_heaps
from streamer.labels.addresses import listen, unreachable
from streamer.labels.curve import read_public, write_keys

TURN_S = 0.05
START_S = 30.0  # longest time for Ray's head to start

log = logging.getLogger(__name__)


def rule(config: FleetConfig, run: dict[str, Any], stop: threading.Event, tell: Callable[[str], None]) -> None:
    """Be the head until `stop` is set. tell: is told where it can be reached.

    Raises ConfigError for what no restart mends, and StreamerError when Ray's head ends or cannot be reached.
    """
    share_heaps()
    host, port = _place(config.at)
    folder = private(config.folder.absolute())
    with ExitStack() as stack:
        stack.callback(os.close, take(folder, "another `fleet head`"))
        token, key = _token(folder), _key(folder)
        kept = _remembered(folder / "state.json")
        kept.reign = new_reign(kept.reign, time.time())
        write(folder / "state.json", msgspec.json.encode(kept))
        hub = Hub(config.labels, config.curve, folder / "open.jsonl", key)
        stack.callback(hub.close)
        desk = Desk()
        stack.callback(desk.close)
        daemon = Child(folder / "ray.pid")
        stack.callback(daemon.stop, 5.0)
        begin = _Beginning(daemon, host, port, token, folder / "ray.log", stop)
        welcome = Welcome(
            version=metadata.version("action-streamer"),
            key=z85.encode(read_public(folder / "head.key")).decode(),
            run=run,
        )
        nodes = cluster.RayNodes(Reign(kept.reign, str(uuid.uuid4())), welcome, begin)
        stack.callback(cluster.disconnect)
        stack.callback(nodes.close)
        stack.callback(hub.close)  # first, whatever Ray does

        def keep(what: Kept) -> None:
            write(folder / "state.json", msgspec.json.encode(what))

        turns = InTurn(nodes)
        head = Head(turns, hub, partial(Move, turns, hub), keep, kept, config.sources, time.monotonic())
        names = {source.called for source in config.sources}
        orders = Orders(head, hub.address, nodes.refused, names, hub.stats)
        for line in (
            f"labels  {hub.address}",
            f"control {desk.address}",
            f"nodes   join with: {_join(host, port, token)}",
        ):
            tell(line)
        while not stop.wait(TURN_S):
            head.turn(time.monotonic())
            desk.serve(orders)
            if nodes.failed:
                raise nodes.failed
            if nodes.deposed:
                raise ConfigError(nodes.deposed)
            if begin.done and not daemon.alive:
                said = cluster.fault((folder / "ray.log").read_text(encoding="utf-8", errors="replace"))
                raise StreamerError(f"Ray's head at {config.at} has ended: {said}")


class _Beginning:
    """Starts Ray's head, or finds the one that outlived the head before, and makes this process its driver."""

    def __init__(self, daemon: Child, host: str, port: int, token: Path, output: Path, stop: threading.Event) -> None:
        self._daemon, self._host, self._port, self._token, self._output = daemon, host, port, token, output
        self._stop = stop
        self.done = False

    def __call__(self) -> None:
        address = f"{self._host}:{self._port}"
        if not self._daemon.alive:
            if not unreachable(f"tcp://{address}"):
                raise ConfigError(f"at: another program uses {address}; stop it, or give another HOST:PORT with --at")
            arguments = cluster.head_arguments(self._host, self._port)
            self._daemon.start(arguments, cluster.environment(self._token), self._output)
        ends = time.monotonic() + START_S
        while (why := unreachable(f"tcp://{address}")) and time.monotonic() < ends and not self._stop.wait(0.1):
            if not self._daemon.alive:
                said = cluster.fault(self._output.read_text(encoding="utf-8", errors="replace"))
                raise StreamerError(f"Ray's head could not start at {address}: {said}")
        if why and not self._stop.is_set():
            raise StreamerError(f"Ray's head at {address} did not start within {START_S:g} s: {why}")
        if not self._stop.is_set():
            cluster.connect(address, self._token)
        self.done = True
        log.info("nodes can join at %s", address)


def _place(at: str) -> tuple[str, int]:
    place = host_and_port(at)
    if place is None:
        raise ConfigError(f"at: {at!r} is not HOST:PORT; use an address of this machine, such as 192.0.2.1:6380")
    listen(f"{place[0]}:0", "at", AT).close()  # Ray would try for half a minute, and not say why
    return place


def _join(host: str, port: int, token: Path) -> str:
    return f"streamer fleet join {host}:{port} --token-file {token}"


def _token(folder: Path) -> Path:
    """The token's file, made if there is none. Raises ConfigError for one that others may read."""
    path = folder / "token"
    if not path.exists():
        write(path, secrets.token_hex(32).encode())
    check_token(path)
    return path


def check_token(path: Path) -> None:
    """Raise ConfigError for a token's file that cannot be read, that others may read, or that is empty."""
    try:
        mode, content = path.stat().st_mode & 0o777, path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise ConfigError(
            f"{path}: the token cannot be read: {error.strerror}; the head made it, in its folder"
        ) from error
    if mode & 0o077:
        raise ConfigError(
            f"{path}: holds the fleet's token and others may read it (mode {mode:o}); run chmod 600 {path}"
        )
    if not 16 <= len(content) <= 256 or any(sign.isspace() for sign in content):
        raise ConfigError(f"{path}: is not a token's file; copy the one that the head made")


def _key(folder: Path) -> Path:
    if not (folder / "head.key_secret").exists():
        write_keys(folder / "head")
    return folder / "head.key_secret"


def _remembered(path: Path) -> Kept:
    """What the head before left. Raises ConfigError for a file that is not whole: it is never guessed."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return Kept()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigError(
            f"{path}: is damaged ({error}); delete it, and the head places all streams anew, without those that were "
            "added by command"
        ) from error
