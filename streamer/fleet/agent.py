"""A node's hand: asks the control socket of its run for what the head wants, which comes by Ray, or in a test without.

The node's folder is where it meets `streamer fleet join` (join.py), which starts and keeps the run: what the head wants
of it goes into `run.yaml`, whom the node obeys into `obeys.json`, and why the node was refused into `refused`; what
`join` has to tell of the run is in `happened`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import yaml

from streamer.errors import ConfigError
from streamer.fleet.facts import Assignment, NodeFacts, NodeStatus, Running
from streamer.fleet.folder import write
from streamer.labels.requests import ask
from streamer.labels.runtime import new_file

STATUS_S = 1.5  # how long a run may take to tell how it is; the head takes the node for dead after 2 s
ADD_S = 30.0  # and to open a source
STATE_S = 5.0  # and to give or take a temporal state


class Reign(msgspec.Struct, frozen=True, order=True):
    """A head: its number, which grows with each head that starts, and a name that no other has."""

    number: int
    head: str


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a head tells a node first. version: of its program; key: its public key, Z85; run: for the node's run."""

    version: str
    key: str
    run: dict[str, Any]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What `fleet join` tells of a node, in the folder's `node.json`; the fields are those of NodeFacts.

    host     that the head reaches the node at; port: of its labels, 0: any
    control  of its run
    own      what the node's own configuration says of its run
    """

    name: str
    host: str
    port: int = 0
    rows: int
    cores: int
    near: dict[str, str] = {}
    control: str
    own: dict[str, Any] = {}


class Agent:
    """Does on a node what its head asks. Any thread may call it. Raises ConfigError for what cannot be done."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._place = msgspec.json.decode((folder / "node.json").read_bytes(), type=Place)

    def obey(self, reign: Reign) -> None:
        """Raise ConfigError if a head that is newer than this one has asked before."""
        path = self._folder / "obeys.json"
        known = None
        with suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
            known = msgspec.json.decode(path.read_bytes(), type=Reign)
        if known == reign:
            os.utime(path)
            return
        if known is not None and known.number >= reign.number:
            raise ConfigError(
                f"node {self._place.name} obeys a head that started later (reign {known.number}, this one: "
                f"{reign.number}); a fleet has one head, so stop this one, or set its clock and start it anew"
            )
        write(path, msgspec.json.encode(reign))

    def asked(self) -> int:
        """When a head asked last, by the clock of the node's disk; 0: none has."""
        with suppress(OSError):
            return (self._folder / "obeys.json").stat().st_mtime_ns
        return 0

    def welcome(self, welcome: Welcome) -> None:
        """The head takes the node: its run gets the settings and the key of the head. A run that is there goes on."""
        version = metadata.version("action-streamer")
        if welcome.version != version:
            why = f"it runs action-streamer {version} and the head {welcome.version}; install the head's version there"
            write(self._folder / "refused", why.encode())
            raise ConfigError(why)
        keys = self._folder / "authorized"
        keys.mkdir(mode=0o700, exist_ok=True)
        write(keys / "head.key", f'curve\n    public-key = "{welcome.key}"\n'.encode())
        settings = self._settings(welcome.run)
        write(self._folder / "run.yaml", yaml.safe_dump(settings, sort_keys=False).encode())
        (self._folder / "refused").unlink(missing_ok=True)

    def refuse(self, why: str) -> None:
        """The head does not take the node: `fleet join` tells why, and ends."""
        write(self._folder / "refused", why.encode())

    def facts(self) -> NodeFacts:
        """The node, as soon as its run is there. Raises ConfigError before."""
        report = self._ask({"command": "status"}, STATUS_S)
        text = (self._folder / "node.key").read_text(encoding="ascii")
        key = text.split('public-key = "', 1)[1].split('"', 1)[0]
        place = self._place
        return NodeFacts(
            name=place.name,
            labels=str(report["labels"]),
            server_key=key,
            rows=place.rows,
            cores=place.cores,
            near=place.near,
            version=metadata.version("action-streamer"),
            session=str(report["session"]),
        )

    def status(self) -> NodeStatus:
        """How the node is."""
        report = self._ask({"command": "status"}, STATUS_S)
        happened = ""
        with suppress(OSError):
            happened = (self._folder / "happened").read_text(encoding="utf-8")
        return NodeStatus(
            node=self._place.name,
            session=str(report["session"]),
            leaving=(self._folder / "leaving").exists(),
            happened=happened,
            running=[
                Running(
                    stream=one["stream"],
                    term=one["term"],
                    source=one["source"],
                    detail=one["detail"],
                    captured=one["captured"],
                    cost_ms=one["work_ms"],
                )
                for one in report["streams"]
            ],
        )

    def add(self, assignment: Assignment, source: Mapping[str, Any], held: bool) -> None:
        """Begin a stream; one of an older term leaves first."""
        name, views = str(source["name"]), source.get("views") or {}
        names = {f"{name}-{view}" for view in views} or {name}
        there = [one for one in self.status().running if one.stream in names]
        if any(one.term >= assignment.term for one in there):
            return
        for one in there:
            self.remove(one.stream, one.term)
        request = {"command": "add", "source": dict(source), "term": assignment.term}
        self._ask({**request, "held": True} if held else request, ADD_S)

    def remove(self, stream: str, term: int) -> None:
        """End a stream, if it is there and its term is not newer."""
        if any(one.stream == stream and one.term <= term for one in self.status().running):
            self._ask({"command": "remove", "stream": stream, "term": term}, STATUS_S)

    def state(self, stream: str, state: bytes | None) -> bytes:
        """Give the temporal state of a stream, which ends here; or take it, for one that is held."""
        request = {"command": "state", "stream": stream}
        if state is None:
            path = Path(self._ask(request, STATE_S)["file"])
            try:
                return path.read_bytes()
            finally:
                path.unlink(missing_ok=True)
        path = new_file()
        try:
            write(path, state)
            self._ask({**request, "file": str(path)}, STATE_S)
        finally:
            path.unlink(missing_ok=True)
        return b""

    def _settings(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """What the node's run obeys: the fleet's settings, the node's own over them, and what makes it a node."""
        place = self._place
        settings = _merged(run, place.own)
        publish = dict(settings.get("publish") or {})
        publish["address"] = f"tcp://{place.host}:{place.port or '*'}"
        publish["curve"] = {
            "secret_key_file": str(self._folder / "node.key_secret"),
            "authorized_keys_dir": str(self._folder / "authorized"),
        }
        return {**settings, "publish": publish, "control": place.control, "node": place.name, "rows": place.rows}

    def _ask(self, request: Mapping[str, Any], timeout_s: float) -> Any:
        return ask(self._place.control, request, timeout_s=timeout_s)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two trees of settings; the second one wins."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _merged(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged
