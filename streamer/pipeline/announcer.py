"""Where all messages of a run go out: published first, then told to those who listen in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamer.labels.messages import Kind, Message
from streamer.labels.publisher import RETAINED, Publisher
from streamer.pipeline.meters import Probe


class Announcer:
    """Sends messages, in the engine's thread, and remembers the last state and status of each stream."""

    def __init__(
        self, publisher: Publisher | None, listeners: Sequence[Callable[[Message], None]], probe: Probe
    ) -> None:
        self._publisher, self._listeners, self._probe = publisher, listeners, probe
        self._last: dict[tuple[str, Kind], Message] = {}

    def send(self, message: Message) -> None:
        """One message."""
        if message.kind in RETAINED:
            self._last[message.stream, message.kind] = message
        if self._publisher:
            with self._probe.stage("publish"):
                self._publisher.send(message)
        for listener in self._listeners:
            listener(message)

    def snapshot(self) -> list[Message]:
        """The last state and status of every stream."""
        return list(self._last.values())

    def forget(self, name: str) -> None:
        """A stream is no more."""
        for kind in RETAINED:
            self._last.pop((name, kind), None)
        if self._publisher:
            self._publisher.forget(name)
