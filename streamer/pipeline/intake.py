"""A source's side of the way, in its capture thread: which frames the network wants, and how it sees them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

from engines import EngineSpec
from streamer.config import Config
from streamer.errors import SourceError
from streamer.pipeline.meters import Probe
from streamer.pipeline.pace import Pace
from streamer.pipeline.ring import Origin, Ring
from streamer.pipeline.sampler import Sampler
from streamer.pipeline.sight import Sight
from streamer.region import Corners
from streamer.sources import Source
from streamer.sources.frozen import Frozen
from streamer.types import Frame, Image

_LATE = 0.25  # sample periods: a frame that is later than this is not waited for any more
_SHOWN = 20  # frames that are converted in full after somebody has looked


class Lens:
    """What one network sees of a source: frames at its rate, in its size.

    pace    how far apart the source gives its frames
    rings   of each stream of the source: frames that the network has not seen yet
    sights  what each stream sees of a frame
    """

    def __init__(self, spec: EngineSpec, config: Config, streams: Mapping[str, Corners | None]) -> None:
        self.spec = spec
        self.sampler = Sampler(spec.rate_hz, config.max_gap)
        self.pace = Pace(spec.rate_hz)
        self.rings = {name: Ring(config.buffer, spec.height, spec.width) for name in streams}
        self.sights = {name: Sight(corners, spec) for name, corners in streams.items()}
        self.pass_over = 0  # so many frames more, because of the step


class Intake:
    """Takes the frames of one source. `offer` is for its capture thread; all else may be asked from any.

    streams   that are made of it, by name, each with its part of the picture
    realtime  its frames come when they come; otherwise they wait for the engine
    step      take one of so many of the frames that the network should see: load is shed
    lens      of the network that sees the source
    """

    def __init__(
        self,
        source: Source,
        spec: EngineSpec,
        config: Config,
        wake: Callable[[], None] = lambda: None,
        probe: Probe | None = None,
    ) -> None:
        self.source = source
        self.streams = source.streams
        self._config, self._wake = config, wake
        self.realtime = source.config.pace == "realtime"
        self.step = 1
        self._picture: Image | None = None
        self._shown = 0  # so many frames more are converted in full
        self.see_for(spec)
        self._probe = probe or Probe()
        self._above_rate = self._shed = self._frozen_frames = 0
        self._frozen = Frozen(config.frozen_s) if config.frozen_s and source.noisy else None
        self._key = False  # a key frame has come since the last picture that was converted
        self._due_s: float | None = None  # when the next frame should arrive

    def see_for(self, spec: EngineSpec) -> None:
        """Take frames for a network from now on."""
        self.lens = Lens(spec, self._config, self.streams)
        self.source.rate_hz = spec.rate_hz

    def leave(self, name: str) -> None:
        """A stream is no more; the others of this source go on."""
        self.streams = {other: corners for other, corners in self.streams.items() if other != name}
        lens = self.lens
        lens.sights = {other: sight for other, sight in lens.sights.items() if other != name}
        lens.rings.pop(name).close()

    def offer(self, frame: Frame, wait: threading.Event | None = None) -> None:
        """Convert a frame that the sampler wants and put it into the rings; `wait` as in `Ring.push`."""
        self._key |= frame.key
        self._above_rate += frame.left_out
        lens = None
        while lens is not self.lens:  # or another network took over meanwhile, which shall see this frame
            lens = self.lens
            self._offer(frame, lens, wait)

    def _offer(self, frame: Frame, lens: Lens, wait: threading.Event | None) -> None:
        distance = lens.pace.see(frame)
        wanted = lens.sampler.offer(frame.time_us, frame.connection, 1, frame.timeline, distance.patience_us)
        if not wanted.take:
            self._above_rate += 1
            return
        if lens.pass_over and not wanted.gap:
            lens.pass_over -= 1
            self._shed += 1
            return
        step = self.step
        lens.pass_over = step - 1
        with self._probe.stage("convert"):
            frame = replace(frame, bgr=cache(frame.bgr))  # once for all who need the whole of it, if anybody does
            images = {name: sight.see(frame) for name, sight in lens.sights.items()}
            self._show(frame)
            if self._is_frozen(images, frame):
                return
        if frame.arrived_s is not None:
            self._due_s = frame.arrived_s + self.period_s
        origin = Origin(frame.time_us, frame.index, frame.connection, frame.arrived_s, step, frame.timeline, distance)
        for name, image in images.items():
            if (ring := lens.rings.get(name)) is not None:  # or the stream has just gone
                ring.push(origin, image, wait)
        self._wake()

    def _show(self, frame: Frame) -> None:
        if self._shown:
            self._shown -= 1
            self._picture = frame.bgr()

    def look(self) -> Image | None:
        """The newest frame that the network took, in full size, [H, W, 3]; nobody writes into it. Only while somebody
        looks again and again are there such pictures, so the first look finds none, or an old one.
        """
        self._shown = _SHOWN
        return self._picture

    def _is_frozen(self, images: Mapping[str, Image], frame: Frame) -> bool:
        """Whether the camera hangs and repeats itself; SourceError from time to time, so that it is connected again."""
        key, self._key = self._key, False
        if self._frozen is None or frame.arrived_s is None or not images:
            return False
        if not self._frozen.see(next(iter(images.values())), frame.arrived_s, key, frame.bgr):
            return False
        self._frozen_frames += 1
        if self._frozen.wants_connection():
            raise SourceError(f"{self.frozen}; connecting again", "soon")
        return True

    @property
    def frozen(self) -> str:
        """What is wrong with a camera that sends the same picture over and over, in a sentence; "" for any other."""
        if not self._frozen:
            return ""
        limit = f"frozen_s is {self._frozen.limit_s:g}"
        return f"{self.source.uri}: frozen: the very same picture for {self._frozen.for_s:.0f} s; {limit}"

    @property
    def period_s(self) -> float:
        """How far apart the frames are that the network should see."""
        return self.step / self.lens.spec.rate_hz

    @property
    def phase_s(self) -> float | None:
        """Where in each period its frames arrive; None while it is not known."""
        return None if self._due_s is None else self._due_s % self.period_s

    def is_due(self, now_s: float, until_s: float) -> bool:
        """Whether a frame should arrive until then, or should have just now, by the monotonic clock."""
        late_s = _LATE * self.period_s
        return self._due_s is not None and now_s - late_s <= self._due_s <= until_s

    @property
    def left_out(self) -> dict[str, int]:
        """Frames that were put into no ring, by reason."""
        return {"above_rate": self._above_rate, "shed": self._shed, "frozen": self._frozen_frames}
