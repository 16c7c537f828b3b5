"""A pipeline that is changed while it runs, for the tests of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streamer.config import Config
from streamer.labels.control import Control
from streamer.labels.publisher import Publisher
from streamer.labels.requests import ask, make_request

from .seeing import SPEC, SeeingEngine
from .test_pipeline import Camera, Run, begun

ANY = "tcp://127.0.0.1:*"
SWIPE = "pattern://swipe?size=64x48"


class Directed(Run):
    """A pipeline with a control socket, and a client that asks it."""

    def __init__(self, *names: str, engine: SeeingEngine | None = None, publish: bool = False) -> None:
        self.control = Control("auto")
        self.cameras = [Camera(name) for name in names]
        publisher = Publisher(ANY, SPEC.version, "stream") if publish else None
        self.labels = publisher.address if publisher else ""
        super().__init__(self.cameras, Config(max_gap=600), publisher, self.control, engine)  # pauses make no gap

    def ask(self, command: str, what: str | None = None, name: str | None = None) -> Any:
        return ask(self.control.address, make_request(command, [what] if what else (), name), timeout_s=30)


Direct = Callable[..., Directed]


@pytest.fixture
def direct() -> Iterator[Callable[..., Directed]]:
    yield from begun(Directed)
