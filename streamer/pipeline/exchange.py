"""Another model for a run that goes on: loaded beside the one that runs, in the caller's thread, with low priority."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from engines import Engine, EngineSpec, EngineState, load_engine
from streamer.config import Config, EventConfig
from streamer.errors import ConfigError
from streamer.labels.events import Decider, suited

NICENESS = 10
CLOSE_S = 10.0  # how long closing waits for a model that is being loaded: a compiler must not outlive the interpreter


@dataclass(frozen=True)
class Loaded:
    """An engine that can take over, and its state for so many streams as there were."""

    engine: Engine
    state: EngineState


def make_engine(config: Config, model: str, rows: int) -> Engine:
    """A model on the backend that the configuration names, for so many streams."""
    engine = config.engine
    return load_engine(
        model,
        config.backend,
        threads=engine.threads,
        precision=engine.precision,
        rows=max(1, rows),
        graphs=engine.cuda_graphs,
    )


def events_for(config: Config, spec: EngineSpec) -> EventConfig:
    """The settings of events for a model. ConfigError if it cannot obey them."""
    events = suited(config.events, spec.events, spec.name)
    Decider(spec.labels, events)
    return events


class Loader:
    """Loads models, one at a time. Any thread may ask.

    model  the name or file of the one that is being loaded; None: there is none
    """

    def __init__(self) -> None:
        self.model: str | None = None
        self._busy = threading.Lock()

    def load(
        self, config: Config, model: str, rows: int, beside: Engine, check: Callable[[EngineSpec], object]
    ) -> Loaded:
        """Load a model for so many streams; as `load_engine` it may take seconds.

        beside  the engine that runs
        check   raises ConfigError if the run cannot take the model

        Raises ConfigError, too, while another is being loaded, and EngineError as `load_engine` does.
        """
        if not self._busy.acquire(blocking=False):
            raise ConfigError(f"{self.model or 'another model'} is being loaded; ask again when that was answered")
        self.model = model
        try:
            engine = make_engine(config, model, rows)
            try:
                check(engine.spec)
                if sys.platform == "linux" and engine.backend == beside.backend:  # or its threads would be born so, too
                    os.nice(NICENESS)  # of this thread alone
                return Loaded(engine, engine.new_state(max(1, rows)))
            except BaseException:
                engine.close()
                raise
        finally:
            self.model = None
            self._busy.release()

    def close(self) -> None:
        """Wait for a model that is being loaded, and load no other."""
        self._busy.acquire(timeout=CLOSE_S)
