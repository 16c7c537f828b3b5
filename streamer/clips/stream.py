"""The clips of one stream, as it tells of its events and scores: when one begins, and when it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from engines import EngineSpec
from streamer.clips.folder import Note, new_name
from streamer.clips.hook import NoClips
from streamer.clips.preroll import Preroll, Take
from streamer.clips.unsure import Unsure
from streamer.config import ClipsConfig
from streamer.labels.events import Event
from streamer.labels.messages import ClipPlace, topk
from streamer.types import Probabilities

_SCORES = 5  # labels in a note


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A clip that has an end: to be written when its last packets are there. part_us: as in `Folder.save`."""

    note: Note
    take: Take
    preroll: Preroll
    part_us: int = 0


class StreamClips(NoClips):
    """Belongs to the engine's thread. `write` takes what is to be written; `lost` is told why there will be no clip."""

    def __init__(
        self,
        stream: str,
        preroll: Preroll,
        config: ClipsConfig,
        write: Callable[[Job], None],
        lost: Callable[[str], None],
    ) -> None:
        self._stream, self._preroll, self._config = stream, preroll, config
        self._write, self._lost = write, lost
        self._before_us, self._after_us = round(config.before_s * 1e6), round(config.after_s * 1e6)
        self._unsure = Unsure(config.unsure_a_day) if config.unsure_a_day else None
        self._spec: EngineSpec | None = None
        self._latest: Probabilities = np.zeros(0, np.float32)
        self._best: Probabilities = self._latest  # the event's scores at its peak
        self._take: Take | None = None  # of the event
        self._label_id = 0
        self._moment: Job | None = None  # the model is unsure now, or was a few seconds ago

    def saw(self, time_us: int, probabilities: Probabilities, spec: EngineSpec) -> None:
        """As in `NoClips`."""
        self._latest, self._spec = probabilities, spec
        if self._take and probabilities[self._label_id] > self._best[self._label_id]:
            self._best = probabilities.copy()
        if not self._unsure:
            return
        if self._unsure.saw(time_us, probabilities):
            self._unsure_now(time_us, self._unsure)
        elif self._moment and time_us > self._moment.note.at_us + self._after_us:
            self._finish_moment()

    def event(self, event: Event) -> ClipPlace | None:
        """As in `NoClips`."""
        if event.type == "start":
            self._begin(event)
        if event.type != "end" or not self._take:
            return None
        take, self._take = self._take, None
        assert event.t_end_us is not None
        self._preroll.end(take, event.t_end_us + self._after_us)
        note = self._note(event.label, "event", event.t_start_us, event.peak, self._best, take)
        if note is None:
            self._lost("no_keyframe")
            return None
        note.until_us = event.t_end_us
        self._write(Job(note, take, self._preroll))
        return ClipPlace(name=note.name, start_us=note.start_us)

    def _begin(self, event: Event) -> None:
        if not self._config.labels or event.label in self._config.labels:
            self._take = self._open(event.t_start_us)
            self._label_id, self._best = event.label_id, self._latest.copy()

    def _open(self, at_us: int) -> Take:
        """A clip that begins before this."""
        return self._preroll.begin(at_us - self._before_us, round(self._config.max_s * 1e6))

    def _unsure_now(self, time_us: int, unsure: Unsure) -> None:
        """The least sure moment so far is this one."""
        part_us = unsure.part_us
        if self._moment and self._moment.note.at_us // part_us != time_us // part_us:
            self._finish_moment()
        if self._moment:
            self._preroll.drop(self._moment.take)
            self._moment = None
        assert self._spec
        take = self._open(time_us)
        best = int(np.argmax(self._latest))
        note = self._note(self._spec.labels[best], "unsure", time_us, float(self._latest[best]), self._latest, take)
        if note is None:  # no keyframe has come yet
            self._preroll.drop(take)
            return
        note.lead = round(unsure.lead, 4)
        self._moment = Job(note, take, self._preroll, part_us)

    def _note(
        self, label: str, why: Literal["event", "unsure"], at_us: int, peak: float, scores: Probabilities, take: Take
    ) -> Note | None:
        """What is to stand beside a clip; None if it has no picture."""
        start_us = take.start_us
        if start_us is None:
            return None
        assert self._spec
        return Note(
            name=new_name(self._stream, start_us, label), stream=self._stream, label=label, why=why,
            model=self._spec.version, start_us=start_us, end_us=start_us, at_us=at_us, until_us=None,
            peak=round(peak, 6), lead=None, scores=topk(self._spec.labels, scores, _SCORES),
        )  # fmt: skip

    def close(self) -> None:
        """As in `NoClips`."""
        self._finish_moment()
        if self._take:
            self._preroll.drop(self._take)

    def _finish_moment(self) -> None:
        moment, self._moment = self._moment, None
        if moment:
            self._preroll.end(moment.take, moment.note.at_us + self._after_us)
            self._write(moment)
