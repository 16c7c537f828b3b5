"""The label stream's sending end: messages, numbered, by the socket of outlet.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from streamer.config import Access, CurveConfig
from streamer.labels.messages import Kind, Message, MessageBuilder, Mode, Stamp, StatusMessage, encode, topic
from streamer.labels.outlet import Outlet

RETAINED: tuple[Kind, ...] = ("state", "status")  # kinds whose last message a new subscription is answered with
_COUNTS = ("captured", "dropped", "inferred", "reconnects", "step_ms_p50", "step_ms_p99")  # kept in the last status


def wall_us() -> int:
    """The time of day, microseconds UTC."""
    return time.time_ns() // 1000


class Publisher(Outlet):
    """Binds `address` and sends messages; used from one thread.

        publisher.send(publisher.build.state("cam1", stamp, decider.state))
        publisher.poll()  # often: it answers new subscriptions

    A new subscription is answered with the last `state` and `status` of each stream that it matches.

    build  completes and numbers the messages; each one that it builds must be sent

    The other arguments are those of Outlet and MessageBuilder.
    """

    def __init__(
        self,
        address: str,
        model: str,
        mode: Mode,
        session: str | None = None,
        now_us: Callable[[], int] = wall_us,
        curve: CurveConfig | None = None,
        access: Access = "user",
        node: str | None = None,
    ) -> None:
        self.build = MessageBuilder(model, mode, session, now_us, node)
        self._last: dict[str, Message] = {}  # the last message of each stream
        self._last_status: dict[str, StatusMessage] = {}
        super().__init__(address, curve, access)

    def send(self, message: Message) -> None:
        """Send a message that `build` has built. Returns at once, whatever the subscribers do."""
        self._last[message.stream] = message
        if isinstance(message, StatusMessage):
            self._last_status[message.stream] = message
        self.put(topic(message.stream, message.kind).encode(), encode(message), keep=message.kind in RETAINED)

    def forget(self, stream: str) -> None:
        """Answer new subscriptions to a stream with nothing: it was removed. Its `seq` would go on if it came back."""
        self._last.pop(stream, None)
        self._last_status.pop(stream, None)
        super().forget(stream)

    def close(self) -> None:
        """Tell that every stream has stopped, give what is on its way 200 ms, and free the address."""
        for last in list(self._last.values()):
            status = self._last_status.get(last.stream)
            if status is None or status.source != "stopped":
                self.send(self._stopped(last))
        super().close()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _stopped(self, last: Message) -> StatusMessage:
        stamp = Stamp(last.epoch, last.ready, last.ts.frame_us, last.ts.infer_us, last.term or 0)
        status = self._last_status.get(last.stream)
        counts = {name: getattr(status, name) for name in _COUNTS} if status else {}
        return self.build.status(last.stream, stamp, "stopped", **counts)
