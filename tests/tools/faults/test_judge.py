from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from streamer.labels.events import Event, State
from streamer.labels.messages import EventMessage, GapMessage, Message, MessageBuilder, Stamp, StatusMessage, Window
from tools.faults.judge import Expected, Record, Row, judge
from tools.faults.scene import FPS, LABELS, WINDOW, Scene, label

SINCE_US = 1_700_000_000_000_000
PERIOD_US = 1_000_000 // FPS
EXPECTED = Expected(("stalled",), 2.0, 2.0, lag_s=2.0)
FAULT_US, HEALED_US = SINCE_US + 100 * PERIOD_US, SINCE_US + 200 * PERIOD_US  # pictures 64 to 127 are `east`


class Story:
    """A run that is as it should be: pictures 70 to 99, a fault, `stalled` 1 s later, pictures 200 to 229."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.now_us = SINCE_US
        self.epoch = self.frames = 0
        self.frame_us: int | None = None
        self.build = MessageBuilder("scene@0", "stream", now_us=lambda: self.now_us)

    def stamp(self) -> Stamp:
        return Stamp(self.epoch, True, self.frame_us, self.frame_us)

    def tell(self) -> Story:
        self.status("online")
        self.pictures(70, 100)
        self.event("start", 75)
        self.now_us = FAULT_US + 1_200_000
        self.event("end", 75, reason="gap")
        self.messages.append(self.build.state("camera", self.stamp(), State()))
        self.status("stalled", "no frame for 1.0 s")
        self.now_us, before_us = HEALED_US + 50_000, self.frame_us
        self.epoch, self.frames = 1, 0
        assert before_us is not None
        self.messages.append(self.build.gap("camera", self.stamp(), before_us, HEALED_US, "gap"))
        self.status("online")
        self.pictures(200, 230)
        self.status("stopped")
        return self

    def status(self, source: str, detail: str = "") -> None:
        seen = self.frames + (30 if self.epoch else 0)
        counts = {"captured": seen + 2, "inferred": seen, "dropped": {"ring_full": 2, "corrupt": 7}}
        status = self.build.status("camera", self.stamp(), source, detail, **counts)  # type: ignore[arg-type]
        self.messages.append(status)

    def pictures(self, first: int, last: int) -> None:
        for number in range(first, last):
            self.frame_us = SINCE_US + number * PERIOD_US + 5_000
            self.now_us = self.frame_us + 10_000
            self.frames += 1
            if self.frames >= WINDOW:
                since_us = self.frame_us - (WINDOW - 1) * PERIOD_US
                window = Window(n=WINDOW, step_ms=40.0, first_us=since_us, last_us=self.frame_us)
                topk = [(label(number), 0.9 + 5e-5 * number)]
                self.messages.append(self.build.score("camera", self.stamp(), topk, window))

    def event(self, kind: str, number: int, reason: str | None = None) -> None:
        name = label(number)
        end_us = self.frame_us if reason else None
        event = Event(kind, name, LABELS.index(name), 0.9, 0.9, SINCE_US + number * PERIOD_US, end_us, reason)  # type: ignore[arg-type]
        self.messages.append(self.build.event("camera", self.stamp(), event))

    def judged(self, expected: Expected = EXPECTED, **changes: object) -> Row:
        record = Record(Scene(SINCE_US / 1e6), FAULT_US, HEALED_US, self.messages)
        return judge("it", expected, replace(record, **changes))  # type: ignore[arg-type]

    def change(self, wanted: Callable[[Message], bool], **fields: object) -> None:
        """Change the fields of the messages that are wanted."""
        self.messages = [msgspec.structs.replace(m, **fields) if wanted(m) else m for m in self.messages]

    def drop(self, unwanted: Callable[[Message], bool]) -> None:
        self.messages = [message for message in self.messages if not unwanted(message)]


@pytest.fixture
def story() -> Story:
    return Story().tell()


def test_a_run_that_is_as_it_should_be_passes_with_exact_figures(story: Story) -> None:
    row = story.judged()
    assert row.problems == []
    assert (row.detected_s, row.wrong_labels, row.lost_frames, row.passed) == (1.2, 0, 100, True)
    assert row.recovered_s == pytest.approx(0.14, abs=0.01)  # of the fourth picture
    assert row.states == ["online", "stalled", "online", "stopped"]


def test_a_label_that_outlives_its_camera_is_wrong(story: Story) -> None:
    end = next(index for index, m in enumerate(story.messages) if isinstance(m, EventMessage) and m.type == "end")
    stamp, east = Stamp(0, True, FAULT_US, FAULT_US), State("east", 1, 0.9, FAULT_US)
    story.now_us = FAULT_US
    story.messages.insert(end, story.build.state("camera", stamp, east))
    story.drop(lambda m: m.kind == "state" and m.seq == 0)  # the one that takes the label back
    row = story.judged()
    assert row.wrong_labels == 1
    assert "1 wrong labels" in row.problems


def test_old_pictures_that_are_told_as_new_ones_are_wrong(story: Story) -> None:
    story.change(lambda m: m.kind == "score" and m.epoch == 1, topk=[("east", 0.9 + 5e-5 * 99)])
    assert story.judged().wrong_labels == 30 - (WINDOW - 1)


def test_what_damaged_pictures_seem_to_show_is_not_counted_but_a_label_in_force_is(story: Story) -> None:
    smears = replace(EXPECTED, smears=True)
    story.change(lambda m: m.kind == "score" and m.epoch == 1, topk=[("east", 0.9 + 5e-5 * 99)])
    assert story.judged(smears).wrong_labels == 0
    story.now_us = HEALED_US + 500_000
    state = story.build.state("camera", story.stamp(), State("east", 1, 0.9, HEALED_US))
    story.messages.insert(-1, state)
    assert story.judged(smears).wrong_labels == 1


def is_end(message: Message) -> bool:
    return isinstance(message, EventMessage) and message.type == "end"


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda story: story.drop(is_end), "has no end"),
        (lambda story: story.change(is_end, reason="score"), "ended with score, not with gap"),
        (lambda story: story.change(is_end, id="camera-9"), "which is not open"),
        (lambda story: story.drop(lambda m: m.kind == "event"), "no event was open at the fault"),
        (lambda story: story.drop(lambda m: isinstance(m, GapMessage)), "no new epoch"),
        (lambda story: story.change(lambda m: m.epoch == 1, epoch=2), "the epoch after 0 is 2"),
        (lambda story: story.change(lambda m: isinstance(m, GapMessage), to_us=HEALED_US + 10**6), "reaches back"),
        (lambda story: story.change(lambda m: isinstance(m, StatusMessage), captured=63), "captured 63, but inferred"),
        (lambda story: story.change(lambda m: m.kind == "status", source="online"), "no status told it"),
        (lambda story: story.drop(lambda m: m.kind == "status"), "no status at all"),
        (lambda story: story.drop(lambda m: m.kind == "score" and m.epoch == 1), "no score came after it"),
    ],
)
def test_each_rule_that_is_broken_is_a_problem(story: Story, spoil: Callable[[Story], None], problem: str) -> None:
    spoil(story)
    row = story.judged()
    assert any(problem in told for told in row.problems), row.problems
    assert row.passed is False


@pytest.mark.parametrize(
    ("expected", "changes", "problem"),
    [
        (replace(EXPECTED, detected_s=1.0), {}, "told after 1.2 s instead of 1 s"),
        (replace(EXPECTED, recovered_s=0.1), {}, "recovered after 0.1 s instead of 0.1 s"),
        (replace(EXPECTED, detail="refused"), {}, "with 'refused'"),
        (replace(EXPECTED, lost=99), {}, "lost 100 frames instead of 99"),
        (replace(EXPECTED, reconnects=1), {}, "0 reconnects instead of 1"),
        (replace(EXPECTED, log="hangs"), {}, "the log does not say 'hangs'"),
        (EXPECTED, {"missed": 2}, "2 messages are missing"),
        (EXPECTED, {"exit_code": -11}, "exit code -11"),
        (EXPECTED, {"log": "at rtsp://viewer:pw1@camera", "secret": "pw1"}, "a password was told"),
        (EXPECTED, {"log": "Traceback (most recent call last)"}, "a traceback in the log"),
    ],
)
def test_each_bound_that_is_not_kept_is_a_problem(
    story: Story, expected: Expected, changes: dict[str, object], problem: str
) -> None:
    assert any(problem in told for told in story.judged(expected, **changes).problems)


def test_bounds_grow_with_the_time_for_a_busy_machine(story: Story) -> None:
    tight = replace(EXPECTED, detected_s=0.5, recovered_s=0.1)
    assert len(story.judged(tight).problems) == 2
    assert story.judged(tight.on_busy_machine(1.0)).problems == []
