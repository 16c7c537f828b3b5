"""Action labels from live video, in real time.

A source gives frames; a ring keeps the newest; a sampler takes them at the rate that the network was trained at; a
batcher runs the rows of all streams as one step of an engine that keeps its temporal state; a decider turns
probabilities into events; a publisher sends them out. `Subscriber` is the other end, for programs that want the labels:

    for message in Subscriber("tcp://127.0.0.1:5557", kinds=["event"]):
        print(message.stream, message.type, message.label, message.peak)

`open_frames` is for programs that run a model themselves.
"""

from __future__ import annotations

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
