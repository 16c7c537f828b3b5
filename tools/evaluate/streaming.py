"""A model as it runs on a camera: minutes of video through the live pipeline, and its events beside what happened.

The video is drawn, one scene after another, or a recording whose segments somebody wrote down. Everything behind the
camera is the pipeline's own: sampler, engine, decider, messages. What is measured is what a subscriber gets.
"""

from __future__ import annotations

import csv
import threading
from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines import Engine, EngineSpec
from engines.training.feed import IGNORE
from streamer.config import Config, SourceConfig
from streamer.labels.events import suited
from streamer.labels.messages import EventMessage, Message, ScoreMessage
from streamer.pipeline.replay import replay
from streamer.sources import Source, open_source
from streamer.tuning.matching import Detection, Matching, Segment, match_events
from streamer.types import Frame
from tools.errors import ToolError
from tools.evaluate.metrics import Ages, Counts
from tools.evaluate.scoring import drawn_numbers, drawn_size
from tools.motion.clips import motion_clips
from tools.motion.paths import LABELS, STILL

SCENE_S = 12.0  # how long a scene is shown before the next
MOTIONS = 8  # the most motions of a scene, not counting rests between them
UNKNOWN_S = 0.8  # a scene in which nobody can tell what happens for longer (the object is out of sight) is not shown


@dataclass
class Truth:
    """What really happens in a recording: segments, oldest first and apart, and the frames at which nobody can tell."""

    segments: list[Segment] = field(default_factory=list)
    unknown_us: set[int] = field(default_factory=set)

    def at(self, time_us: int) -> Segment | None:
        """The segment of a frame; None between segments, and where nobody can tell."""
        place = bisect_right(self.segments, time_us / 1e6, key=lambda segment: segment.start_s) - 1
        if place < 0 or time_us in self.unknown_us or time_us / 1e6 >= self.segments[place].end_s:
            return None
        return self.segments[place]


def runs(labels: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Labels of successive frames [T] -> (label, first frame, end) of each motion; every frame is in one.

    A motion begins right after the last frame that has the label before it: at its first frames nobody can tell what
    it is yet, so they have no label (IGNORE). Frames without a label at the end belong to the last motion.
    """
    known = np.flatnonzero(labels != IGNORE)
    last_ones = known[:-1][np.diff(labels[known]) != 0]
    starts = [0, *(last_ones + 1).tolist()]
    for start, end in zip(starts, [*starts[1:], len(labels)], strict=True):
        motion = labels[start:end]
        yield int(motion[motion != IGNORE][0]), start, end


class Scenes(Source):
    """Drawn scenes for about so many minutes, at the network's rate and size, the same for the same seed.

    Each begins still, and other motions follow, with rests or without. Where a scene ends the next begins at once, as
    another connection: what the network remembers starts anew. `truth` is complete when all are read.

    fps: of a camera that is slower than the network; each of its frames is the first at or after its time.

    Raises ToolError where the model does not know the drawn motions.
    """

    live = False

    def __init__(self, spec: EngineSpec, minutes: float, seed: int, fps: float | None = None) -> None:
        super().__init__(SourceConfig(uri=f"scenes://{seed}", name="scenes", pace="fast"))
        drawn_numbers(spec.labels, spec.name)  # for its error
        self.truth = Truth()
        self._rate_hz = spec.rate_hz
        self._fps = min(fps or spec.rate_hz, spec.rate_hz)
        self._seed = seed
        self._scenes = max(1, round(60 * minutes / SCENE_S))
        self._frames = max(8, round(SCENE_S * spec.rate_hz))
        self._size = drawn_size(spec)

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        share = self._fps / self._rate_hz
        for number, (video, labels) in enumerate(self.draw()):
            first = number * self._frames
            times_us = [round((first + index) * 1e6 / self._rate_hz) for index in range(self._frames + 1)]
            self.truth.segments += [
                Segment(LABELS[label], times_us[start] / 1e6, times_us[end] / 1e6) for label, start, end in runs(labels)
            ]
            self.truth.unknown_us.update(times_us[index] for index in np.flatnonzero(labels == IGNORE))
            for index, (time_us, image) in enumerate(zip(times_us[:-1], video, strict=True)):
                if stop.is_set():
                    return
                if index and int(index * share) == int((index - 1) * share):
                    continue  # the camera had no other frame since the last one
                yield Frame(time_us, index, connection + number, lambda image=image: image)  # type: ignore[misc]

    def draw(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        """Frames [T, H, W, 3] BGR and labels [T] of each scene."""
        shown = 0
        for attempt in count():
            if shown == self._scenes:
                return
            video, drawn = motion_clips(
                1, self._frames, self._size, (self._seed, 3, attempt), self._rate_hz, motions=MOTIONS, only=STILL
            )
            labels = drawn[0].numpy()
            # with a frame at either end, so that what nobody can tell lies between two known frames
            known = np.flatnonzero(np.concatenate([[STILL], labels, [STILL]]) != IGNORE)
            if (np.diff(known) - 1).max() <= max(8, UNKNOWN_S * self._rate_hz) and len(known) > 2:
                shown += 1
                yield np.ascontiguousarray(video[0].permute(0, 2, 3, 1).numpy()[..., ::-1]), labels


def read_truth(path: Path, labels: Sequence[str]) -> Truth:
    """The segments of a recording, from a CSV file with the columns label, start_s and end_s: seconds since its start.

    Raises ToolError for a file that is not so, for a label that the model does not have, and for segments that
    overlap, naming the line.
    """
    segments = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            for row in table:
                segments.append(Segment(row["label"], float(row["start_s"]), float(row["end_s"])))
                where = f"{path}, line {table.line_num}"
                if segments[-1].label not in labels:
                    raise ToolError(f"{where}: the model has no label {row['label']!r}; it knows {', '.join(labels)}")
                earliest_s = segments[-2].end_s if len(segments) > 1 else 0
                if not earliest_s <= segments[-1].start_s < segments[-1].end_s:
                    raise ToolError(f"{where}: a segment must begin at or after {earliest_s:g} s and end later")
    except OSError as error:
        raise ToolError(f"{path}: cannot be read: {error.strerror}; write there what happens in the video") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ToolError(f"{path}: is not a CSV file with the columns label, start_s and end_s: {error!r}") from error
    if not segments:
        raise ToolError(f"{path}: has no segment; write one line with label, start_s and end_s for each")
    return Truth(segments)


@dataclass
class StreamReport:
    """What a stream's subscribers got.

    ages       answers right or wrong, by the time since the onset of what happens
    confusion  [K, K] of the same answers
    matching   events
    minutes    of video
    """

    ages: Ages
    confusion: Counts
    matching: Matching
    minutes: float

    @property
    def false_per_minute(self) -> float:
        """Events that were none, a minute of video."""
        return len(self.matching.false) / self.minutes


def measure_stream(engine: Engine, config: Config, recordings: Iterable[tuple[Source, Truth]]) -> StreamReport:
    """Run recordings through the live pipeline, one after another.

    Background labels (`events.background`, the model's or the user's) make no events, and no event is expected of
    them; answers count for all.
    """
    labels, period_s = engine.spec.labels, 1 / engine.spec.rate_hz
    background = suited(config.events, engine.spec.events, engine.spec.name).background
    config = config.model_copy(update={"publish": config.publish.model_copy(update={"scores": True, "topk": 1})})
    report = StreamReport(Ages(), np.zeros((len(labels), len(labels)), np.int64), Matching(), 0.0)
    for source, truth in recordings:
        messages: list[Message] = []
        (stream,) = replay(source, engine, config, messages.append)
        last_us = stream.frame_us or 0
        report.minutes += (last_us / 1e6 + period_s) / 60
        events = []
        for message in messages:
            time_us = message.ts.frame_us
            assert time_us is not None  # replay tells nothing before the first frame
            if isinstance(message, EventMessage) and message.type == "start":
                events.append(Detection(message.label, message.t_start_us / 1e6, time_us / 1e6))
            elif isinstance(message, ScoreMessage) and (segment := truth.at(time_us)):
                given = message.topk[0][0]
                report.ages.add(time_us / 1e6 - segment.start_s, given == segment.label)
                report.confusion[labels.index(segment.label), labels.index(given)] += 1
        expected = [segment for segment in truth.segments if segment.label not in background]
        report.matching += match_events(expected, events)
    return report


def open_recording(video: Path, labels: Sequence[str]) -> tuple[Source, Truth]:
    """A video file, and its segments from the CSV file beside it, `NAME.csv` for `NAME.mp4`. Raises ToolError."""
    truth = read_truth(video.with_suffix(".csv"), labels)
    return open_source(SourceConfig(uri=f"file:{video}", pace="fast")), truth
