"""What a stream tells of itself to whoever keeps its clips. Off, nobody does."""

from __future__ import annotations

from engines import EngineSpec
from streamer.labels.events import Event
from streamer.labels.messages import ClipPlace
from streamer.types import Probabilities


class NoClips:
    """Keeps no clips."""

    def saw(self, _time_us: int, _probabilities: Probabilities, _spec: EngineSpec) -> None:
        """The model said this, probabilities [K], of the frame captured at `_time_us`; `event` follows."""

    def event(self, _event: Event) -> ClipPlace | None:
        """Something happened to an event: where its clip will be, at the end of one that has a clip."""
        return None

    def close(self) -> None:
        """The stream is no more."""
