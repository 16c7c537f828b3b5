"""A node's folder and the agent that works in it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamer.fleet.agent import Agent, Place, Welcome
from streamer.fleet.folder import write
from streamer.labels.curve import write_keys


@pytest.fixture
def place(tmp_path: Path) -> Place:
    own = {"backend": "scripted", "events": {"enter": 0.7}}
    return Place(name="n1", host="127.0.0.1", rows=2, cores=2, control=f"ipc://{tmp_path}/run.control", own=own)


@pytest.fixture
def agent(tmp_path: Path, place: Place) -> Agent:
    write(tmp_path / "node.json", msgspec.json.encode(place))
    write_keys(tmp_path / "node")
    return Agent(tmp_path)


def welcome(version: str | None = None, **run: Any) -> Welcome:
    return Welcome(version=version or metadata.version("action-streamer"), key="k" * 40, run=run)
