"""A source's side of the way, in its capture thread: which frames the network wants, and how it sees them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from engines import EngineSpec
from streamer.config import Config
from streamer.errors import SourceError
from streamer.pipeline.meters import Probe
from streamer.pipeline.pace import Pace
from streamer.pipeline.ring import Origin, Ring, fit
from streamer.pipeline.sampler import Sampler
from streamer.sources import Source
from streamer.sources.frozen import Frozen
from streamer.types import Frame, Image

_LATE = 0.25  # sample periods: a frame that is later than this is not waited for any more


class Lens:
    """What one network sees of a source: frames at its rate, in its size.

    pace  how far apart the source gives its frames
    ring  those that it has not seen yet
    """

    def __init__(self, spec: EngineSpec, config: Config, wake: Callable[[], None] = lambda: None) -> None:
        self.spec = spec
        self.sampler = Sampler(spec.rate_hz, config.max_gap)
        self.pace = Pace(spec.rate_hz)
        self.ring = Ring(config.buffer, spec.height, spec.width, wake)
        self.pass_over = 0  # so many frames more, because of the step


class Intake:
    """Takes the frames of one source. `offer` is for its capture thread; all else may be asked from any.

    realtime  its frames come when they come; otherwise they wait for the engine
    step      take one of so many of the frames that the network should see: load is shed
    picture   the frame that was converted last, in full size, [H, W, 3]; nobody writes into it
    lens      of the network that sees the source
    """

    def __init__(self, source: Source, lens: Lens, config: Config, probe: Probe | None = None) -> None:
        self.source = source
        self.realtime = source.config.pace == "realtime"
        self.step = 1
        self.picture: Image | None = None
        self.see_through(lens)
        self._probe = probe or Probe()
        self._above_rate = self._shed = self._frozen_frames = 0
        self._frozen = Frozen(config.frozen_s) if config.frozen_s and source.noisy else None
        self._key = False  # a key frame has come since the last picture that was converted
        self._due_s: float | None = None  # when the next frame should arrive

    def see_through(self, lens: Lens) -> None:
        """Take frames for a network from now on."""
        self.lens = lens
        self.source.rate_hz = lens.spec.rate_hz

    def offer(self, frame: Frame, wait: threading.Event | None = None) -> None:
        """Convert a frame that the sampler wants and put it into the ring; `wait` as in `Ring.push`."""
        self._key |= frame.key
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
            self.picture = frame.bgr()
            if self._is_frozen(self.picture, frame):
                return
            image = fit(self.picture, lens.spec.height, lens.spec.width, lens.spec.fit)
        if frame.arrived_s is not None:
            self._due_s = frame.arrived_s + step / lens.spec.rate_hz
        origin = Origin(frame.time_us, frame.index, frame.connection, frame.arrived_s, step, frame.timeline, distance)
        lens.ring.push(origin, image, wait)

    def _is_frozen(self, picture: Image, frame: Frame) -> bool:
        """Whether the camera hangs and repeats itself; SourceError from time to time, so that it is connected again."""
        key, self._key = self._key, False
        if self._frozen is None or frame.arrived_s is None or not self._frozen.see(picture, frame.arrived_s, key):
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

    def is_due(self, now_s: float, until_s: float) -> bool:
        """Whether a frame should arrive until then, or should have just now, by the monotonic clock."""
        late_s = _LATE * self.step / self.lens.spec.rate_hz
        return self._due_s is not None and now_s - late_s <= self._due_s <= until_s

    @property
    def left_out(self) -> dict[str, int]:
        """Frames that were put into no ring, by reason."""
        return {"above_rate": self._above_rate, "shed": self._shed, "frozen": self._frozen_frames}
