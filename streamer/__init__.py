"""Action labels from live video, in real time.

A source gives frames; a ring keeps the newest; a sampler takes them at the rate that the network was trained at; a
batcher runs the rows of all streams as one step of an engine that keeps its temporal state; a decider turns
probabilities into events; a publisher sends them out. `Subscriber` is the other end, for programs that want the labels:

    for message in Subscriber("tcp://127.0.0.1:5557", kinds=["event"]):
        print(message.stream, message.type, message.label, message.peak)

`open_frames` is for programs that run a model themselves.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamer.errors import ConfigError, SourceError, StreamerError
    from streamer.labels.curve import Curve
    from streamer.labels.messages import EventMessage, GapMessage, Message, ScoreMessage, StateMessage, StatusMessage
    from streamer.labels.subscriber import Subscriber
    from streamer.pipeline.frames import open_frames

__all__ = [
    "ConfigError",
    "Curve",
    "EventMessage",
    "GapMessage",
    "Message",
    "ScoreMessage",
    "SourceError",
    "StateMessage",
    "StatusMessage",
    "StreamerError",
    "Subscriber",
    "open_frames",
]

_HOMES = {
    "errors": ("ConfigError", "SourceError", "StreamerError"),
    "labels.curve": ("Curve",),
    "labels.messages": ("EventMessage", "GapMessage", "Message", "ScoreMessage", "StateMessage", "StatusMessage"),
    "labels.subscriber": ("Subscriber",),
    "pipeline.frames": ("open_frames",),
}


def __getattr__(name: str) -> Any:
    """A public name, from the file that it is in, which is imported now: each program pays for what it uses."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
