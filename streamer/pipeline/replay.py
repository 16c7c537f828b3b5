"""A recording -> its messages: every frame, as fast as it goes.

No threads, sockets or clocks, so that each run gives the same bytes.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

from engines import Engine
from streamer.config import Config
from streamer.labels.messages import Message, MessageBuilder
from streamer.pipeline.batcher import Batcher
from streamer.pipeline.intake import Intake
from streamer.pipeline.stream import Stream, advance
from streamer.sources import Source
from streamer.types import Frame


def replay(
    source: Source,
    engine: Engine,
    config: Config,
    send: Callable[[Message], None],
    seen: Callable[[Frame], None] = lambda _: None,
) -> list[Stream]:
    """Run a source from its first frame to its end; `send` gets every message, `seen` every frame after its messages.
    Returns its streams: one, or one for each of its views.

    Times are microseconds since the first frame. The session is derived from the model and the stream's
    name. Raises SourceError as the source does.
    """
    session = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{engine.spec.version}/{source.name}"))
    build = MessageBuilder(engine.spec.version, engine.spec.mode, session)
    intake = Intake(source, engine.spec, config)
    streams = [Stream(name, intake, config, build, send) for name in intake.streams]
    batcher = Batcher(engine, rows=len(streams))
    captured = 0
    for frame in source.frames(0, threading.Event()):
        captured += 1
        intake.offer(frame)
        while advance(batcher, streams):
            pass
        seen(frame)
    for stream in streams:
        stream.interrupt("shutdown")
        stream.status("ended", "; ".join(stream.slowness.spells.values()), captured=captured)
    return streams
