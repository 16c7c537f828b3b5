"""A pipeline in which another model takes over, for the tests of that."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from engines import EngineError
from engines.backends.scripted import ScriptedState
from streamer.clips.room import Clips
from streamer.config import Config
from streamer.labels.control import Control
from streamer.labels.publisher import Publisher
from streamer.labels.requests import ask, make_request
from streamer.pipeline import exchange
from streamer.sources import Source

from .seeing import SPEC, SeeingEngine
from .test_pipeline import Run, begun

ANY = "tcp://127.0.0.1:*"


class Other(SeeingEngine):
    """Another model: of another size and rate, with other labels for the same greys."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        spec = {"name": "other", "labels": ("night", "dusk", "day", "noon"), "height": 12, "width": 10, "rate_hz": 15.0}
        self.spec = msgspec.structs.replace(SPEC, **{**spec, **changes})
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


class Held(Other):
    """One whose states are made when the test says so."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(**changes)
        self.making, self.go = threading.Event(), threading.Event()

    def new_state(self, rows: int) -> ScriptedState:
        self.making.set()
        assert self.go.wait(30)
        return super().new_state(rows)


class Exchanged(Run):
    """A pipeline with a control socket, a client, and the engine that takes over when `other` is asked for."""

    def __init__(
        self,
        *sources: Source,
        other: Any = None,
        config: Config | None = None,
        engine: SeeingEngine | None = None,
        keeper: Clips | None = None,
    ) -> None:
        self.other = other or Other()
        self.control, self.publisher = Control("auto"), Publisher(ANY, SPEC.version, "stream")
        config = config or Config(max_gap=600)  # pauses make no gap
        super().__init__(sources, config, self.publisher, self.control, engine, keeper=keeper)

    def make(self, _config: Config, model: str, rows: int) -> Any:
        if model != "other":
            raise EngineError(f"no model is called {model!r}")
        return self.other

    def ask(self, command: str, *what: str) -> Any:
        return ask(self.control.address, make_request(command, what), timeout_s=30)


Start = Callable[..., Exchanged]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    last: list[Exchanged] = []

    def begin(*sources: Source, **options: Any) -> Exchanged:
        last[:] = [Exchanged(*sources, **options)]
        return last[0]

    def make(*asked: Any) -> Any:
        return last[0].make(*asked)

    monkeypatch.setattr(exchange, "make_engine", make)
    yield from begun(begin)
