from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamer.clips.preroll import Preroll
from streamer.clips.stream import Job, StreamClips
from streamer.config import ClipsConfig
from streamer.labels.events import Event

from ..pipeline.seeing import SPEC
from .films import SECOND, delta, key

SURE, UNSURE = [0.0, 0.0, 1.0, 0.0], [0.3, 0.3, 0.4, 0.0]


class Watched:
    """The clips of a stream whose camera sends ten pictures a second, each second a keyframe."""

    def __init__(self, **settings: Any) -> None:
        self.jobs: list[Job] = []
        self.lost: list[str] = []
        self._preroll, self._tenth = Preroll(10, 10**9), 0
        config = ClipsConfig.model_validate({"before_s": 2, "after_s": 1, "unsure_a_day": 0, **settings})
        self.clips = StreamClips("door", self._preroll, config, self.jobs.append, self.lost.append)

    def go_on(self, until_s: float, scores: list[float], packets: bool = True) -> None:
        while self._tenth <= round(until_s * 10):
            time_s = self._tenth / 10
            if packets:
                self._preroll.put(key(time_s) if self._tenth % 10 == 0 else delta(time_s))
            self.clips.saw(self._tenth * SECOND // 10, np.array(scores, np.float32), SPEC)
            self._tenth += 1


def start(at_s: float, label: str = "light") -> Event:
    return Event("start", label, SPEC.labels.index(label), 0.7, 0.7, round(at_s * SECOND))


def end(at_s: float, until_s: float, label: str = "light") -> Event:
    return Event(
        "end", label, SPEC.labels.index(label), 0.1, 0.9, round(at_s * SECOND), round(until_s * SECOND), "score"
    )


def times(job: Job) -> tuple[float, float]:
    """Of the first and last picture of a clip, seconds."""
    return job.take.packets[0].time_us / SECOND, job.take.packets[-1].time_us / SECOND


def test_a_clip_lies_around_its_event_and_its_place_is_told() -> None:
    watched = Watched()
    watched.go_on(20.5, SURE)
    assert watched.clips.event(start(20)) is None
    watched.go_on(21, [0, 0.1, 0.9, 0])
    assert watched.clips.event(Event("update", "light", 2, 0.9, 0.9, 20 * SECOND)) is None
    watched.go_on(23, [1, 0, 0, 0])
    place = watched.clips.event(end(20, 22.5))
    watched.go_on(30, SURE)
    (job,) = watched.jobs
    assert place
    assert (place.name, place.start_us) == (job.note.name, 18 * SECOND)
    assert times(job) == (18, 23.5)
    assert (job.note.at_us, job.note.until_us, job.note.peak) == (20 * SECOND, 22.5 * SECOND, 0.9)
    assert job.note.scores[0] == ("light", 1.0)  # as it was at the peak


def test_events_that_follow_one_another_have_clips_that_overlap() -> None:
    watched = Watched()
    watched.go_on(20, SURE)
    for at_s in (20, 21, 22):
        watched.clips.event(start(at_s))
        watched.go_on(at_s + 1, SURE)
        assert watched.clips.event(end(at_s, at_s + 1))
    watched.go_on(30, SURE)
    assert [times(job) for job in watched.jobs] == [(18, 22), (19, 23), (20, 24)]


def test_only_wanted_labels_have_clips() -> None:
    watched = Watched(labels=["bright"])
    watched.go_on(20, SURE)
    watched.clips.event(start(20))
    assert watched.clips.event(end(20, 21)) is None
    watched.clips.event(start(20, "bright"))
    assert watched.clips.event(end(20, 21, "bright"))


def test_an_event_before_the_first_keyframe_is_counted() -> None:
    watched = Watched()
    watched.go_on(3, SURE, packets=False)
    watched.clips.event(start(2))
    assert watched.clips.event(end(2, 3)) is None
    assert watched.lost == ["no_keyframe"]


def test_the_moment_of_a_day_is_where_the_model_was_least_sure_however_long_that_took() -> None:
    watched = Watched(unsure_a_day=1, max_s=8)
    watched.go_on(20, SURE)
    for second in range(40):  # ever less sure
        lead = 0.45 - second / 100
        watched.go_on(21 + second, [0.0, 0.5 - lead / 2, 0.5 + lead / 2, 0.0])
    watched.go_on(80, SURE)
    for job in watched.jobs:  # each takes the place of the one before
        before_s, after_s = times(job)
        assert before_s <= job.note.at_us / SECOND - 2 < before_s + 1
        assert after_s == pytest.approx(job.note.at_us / SECOND + 1)
    assert job.note.at_us > 55 * SECOND
    assert sorted(watched.jobs, key=lambda job: -(job.note.lead or 0)) == watched.jobs
    assert job.note.why == "unsure"
    assert (job.note.label, job.note.until_us) == ("light", None)
    assert job.part_us == 24 * 3600 * SECOND


def test_each_part_of_the_day_has_a_moment_and_the_end_of_a_stream_is_no_loss() -> None:
    watched = Watched(unsure_a_day=1440)  # one a minute
    watched.go_on(55, SURE)
    watched.go_on(60.5, UNSURE)
    assert len(watched.jobs) == 1
    watched.clips.close()
    assert [job.note.at_us // (60 * SECOND) for job in watched.jobs] == [0, 1]


def test_a_moment_before_the_first_keyframe_is_none() -> None:
    watched = Watched(unsure_a_day=1)
    watched.go_on(20, UNSURE, packets=False)
    watched.clips.close()
    assert watched.jobs == []
