"""From the messages of one run to a row of the matrix. Pure.

What counts as a wrong label, each once:

- a score whose best label was not in the scene between `lag_s` before its frame's time and that time;
- a label that stays in force (`state`), or an event that stays open, for more than `lag_s` after the last frame that
  rightly showed it. So a label that outlives its camera is wrong, even if the scene happens to show it again.

Raw scores of pictures that the network damaged (`Expected.smears`) are not counted: they tell what is in the picture.
Labels in force and events are counted there, too.

What else must hold: the state tells the fault within its bound, and the first score after its end comes within its
bound; every event's start has one end; the event that was open ends with the expected reason; epochs rise by one with
each `gap`, and no score's window reaches back over one; captured = inferred + dropped; no message is missing; no
password is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from streamer import EventMessage, GapMessage, Message, ScoreMessage, StateMessage, StatusMessage
from tools.faults.scene import FPS, WINDOW, Scene

_TOLERANCE_S = 0.2  # a frame's time may be ahead of the scene's by so much
_PROMPT_S = 1.0  # a score rightly shows what the scene showed at most this long before


@dataclass(frozen=True)
class Expected:
    """What a fault should lead to.

    told         states of the source that tell the fault; ("corrupt",): its count of damaged frames; (): none, the
                 program need not notice
    detected_s   bound: from the fault to the status that tells
    recovered_s  bound: from the end of the fault to the first score; None: there is no way back
    breaks       time is lost: the open event ends with `reason`, and the epoch rises
    lag_s        how long a label may be told after the scene showed it
    lost         frames that must be lost, exactly; None: no more than the fault and both bounds last
    smears       pictures are damaged
    detail       what the telling status must say
    reconnects   at least so many
    """

    told: tuple[str, ...]
    detected_s: float
    recovered_s: float | None
    breaks: bool = True
    reason: str = "gap"
    lag_s: float = 3.0
    lost: int | None = None
    smears: bool = False
    detail: str = ""
    reconnects: int = 0


@dataclass(frozen=True)
class Record:
    """One run: the times of the fault and of its end, microseconds UTC, and all that the program told."""

    scene: Scene
    fault_us: int
    healed_us: int
    messages: Sequence[Message]
    missed: int = 0
    exit_code: int = 0
    log: str = ""
    secret: str = ""


@dataclass
class Row:
    """A row of the matrix; `problems` is empty if it passed. skipped: why it was not run."""

    fault: str
    detected_s: float | None = None
    recovered_s: float | None = None
    lost_frames: int | None = None
    wrong_labels: int | None = None
    states: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def passed(self) -> bool | None:
        """None if it was skipped."""
        return None if self.skipped else not self.problems


def judge(fault: str, expected: Expected, record: Record) -> Row:
    """The row of one run."""
    messages = record.messages
    statuses = [message for message in messages if isinstance(message, StatusMessage)]
    scores = [message for message in messages if isinstance(message, ScoreMessage)]
    row = Row(fault)
    for status in statuses:
        if not row.states or row.states[-1] != status.source:
            row.states.append(status.source)
    telling = next((status for status in statuses if tells(status, expected, record.fault_us)), None)
    row.detected_s = _seconds(record.fault_us, telling)
    row.recovered_s = _seconds(record.healed_us, first_score_after(messages, expected, record))
    row.wrong_labels = len(list(wrong_labels(messages, record.scene, expected.lag_s, expected.smears)))
    if scores and statuses:
        first, last = (record.scene.seen(score) for score in (scores[0], max(scores, key=record.scene.seen)))
        row.lost_frames = last - first + WINDOW - statuses[-1].captured
    row.problems = [*_late(row, expected, telling), *_inconsistent(row, expected, record, statuses)]
    row.problems += [*_events(messages, expected, record), *_epochs(messages, expected, record)]
    return row


def tells(message: Message, expected: Expected, since_us: int) -> bool:
    """Whether a message is a status that tells the fault, which came at `since_us`."""
    if not isinstance(message, StatusMessage) or message.ts.pub_us < since_us:
        return False
    if expected.told == ("corrupt",):
        return message.dropped.get("corrupt", 0) > 0
    return message.source in expected.told and expected.detail in message.detail


def first_score_after(messages: Sequence[Message], expected: Expected, record: Record) -> ScoreMessage | None:
    """The first score after the fault's end; where time was lost, of a new epoch."""
    before = [m.epoch for m in messages if isinstance(m, ScoreMessage) and m.ts.pub_us < record.fault_us]
    least = before[-1] + 1 if before and expected.breaks else 0
    scores = (m for m in messages if isinstance(m, ScoreMessage))
    return next((m for m in scores if m.ts.pub_us >= record.healed_us and m.epoch >= least), None)


def wrong_labels(messages: Sequence[Message], scene: Scene, lag_s: float, smears: bool) -> Iterator[Message]:
    """The messages that tell a wrong label, or end a label that was in force for too long."""
    lag_us = round(lag_s * 1e6)
    true_us: dict[str, int] = {}  # label -> when a frame rightly showed it last
    held: dict[str, str] = {}  # what is in force by `state` and by `event`
    for message in messages:
        for kind, label in list(held.items()):
            if message.ts.pub_us - true_us.get(label, 0) > lag_us:
                del held[kind]
                yield message
        frame_us = message.ts.frame_us
        if isinstance(message, ScoreMessage) and frame_us is not None:
            label, until_us = message.topk[0][0], frame_us + round(_TOLERANCE_S * 1e6)
            if label in scene.labels(frame_us - round(_PROMPT_S * 1e6), until_us):
                true_us[label] = frame_us
            elif not smears and label not in scene.labels(frame_us - lag_us, until_us):
                yield message
        elif isinstance(message, StateMessage | EventMessage):
            over = isinstance(message, EventMessage) and message.type == "end"
            if message.label is None or over:
                held.pop(message.kind, None)
            else:
                held[message.kind] = message.label


def _late(row: Row, expected: Expected, telling: Message | None) -> Iterator[str]:
    if expected.told and telling is None:
        said = f" with {expected.detail!r}" if expected.detail else ""
        yield f"no status told it ({' or '.join(expected.told)}{said})"
    elif expected.told and row.detected_s is not None and row.detected_s > expected.detected_s:
        yield f"told after {row.detected_s:.1f} s instead of {expected.detected_s:g} s"
    if expected.recovered_s is not None:
        if row.recovered_s is None:
            yield "no score came after it"
        elif row.recovered_s > expected.recovered_s:
            yield f"recovered after {row.recovered_s:.1f} s instead of {expected.recovered_s:g} s"


def _inconsistent(
    row: Row, expected: Expected, record: Record, statuses: Sequence[StatusMessage]
) -> Iterator[str]:
    if row.wrong_labels:
        yield f"{row.wrong_labels} wrong labels"
    if record.exit_code:
        yield f"exit code {record.exit_code}"
    if record.missed:
        yield f"{record.missed} messages are missing"
    told = [message.detail for message in statuses] + [record.log]
    if record.secret and any(record.secret in text for text in told):
        yield "a password was told"
    if "Traceback" in record.log:
        yield "a traceback in the log"
    if not statuses:
        yield "no status at all"
        return
    end = statuses[-1]
    unseen = sum(count for reason, count in end.dropped.items() if reason != "corrupt")
    if end.captured != end.inferred + unseen:
        yield f"captured {end.captured}, but inferred {end.inferred} and dropped {unseen}"
    if end.reconnects < expected.reconnects:
        yield f"{end.reconnects} reconnects instead of {expected.reconnects}"
    if row.lost_frames is None:
        return
    if expected.lost is not None:
        if row.lost_frames != expected.lost:
            yield f"lost {row.lost_frames} frames instead of {expected.lost}"
        return
    most = (record.healed_us - record.fault_us) / 1e6 + expected.detected_s + (expected.recovered_s or 0)
    if not 0 <= row.lost_frames <= most * FPS:
        yield f"lost {row.lost_frames} frames; from 0 to {most * FPS:.0f} are plausible"


def _events(messages: Sequence[Message], expected: Expected, record: Record) -> Iterator[str]:
    """Every start has one end; the event that was open ends as expected, soon."""
    running: EventMessage | None = None
    interrupted = None
    for event in (message for message in messages if isinstance(message, EventMessage)):
        if event.type == "start":
            if running:
                yield f"event {running.id} has no end"
            running = event
        elif running is None or event.id != running.id:
            yield f"an {event.type} of event {event.id}, which is not open"
        elif event.type == "end":
            if running.ts.pub_us < record.fault_us <= event.ts.pub_us:
                interrupted = event
            running = None
    if running:
        yield f"event {running.id} has no end"
    if expected.breaks and any(isinstance(m, ScoreMessage) and m.ts.pub_us < record.fault_us for m in messages):
        bound_us = record.fault_us + round((expected.detected_s + expected.lag_s) * 1e6)
        if interrupted is None:
            yield "no event was open at the fault"
        elif interrupted.reason != expected.reason:
            yield f"the event ended with {interrupted.reason}, not with {expected.reason}"
        elif interrupted.ts.pub_us > bound_us:
            yield f"the event ended {(interrupted.ts.pub_us - record.fault_us) / 1e6:.1f} s after the fault"


def _epochs(messages: Sequence[Message], expected: Expected, record: Record) -> Iterator[str]:
    """Each gap raises the epoch by one, and no window reaches over it; a fault that breaks has one."""
    gap: GapMessage | None = None
    epoch, told = 0, False
    for message in messages:
        if isinstance(message, GapMessage):
            told |= message.ts.pub_us >= record.fault_us
            if message.epoch != epoch + 1:
                yield f"the epoch after {epoch} is {message.epoch}"
            gap, epoch = message, message.epoch
        elif message.epoch != epoch:
            yield f"a {message.kind} of epoch {message.epoch} in epoch {epoch}"
            epoch = message.epoch
        elif isinstance(message, ScoreMessage) and gap and message.window.first_us < gap.to_us:
            yield f"the window of score {message.seq} reaches back over the gap"
    back = expected.recovered_s is not None
    before = any(isinstance(m, ScoreMessage) and m.ts.pub_us < record.fault_us for m in messages)
    if expected.breaks and back and before and not told:
        yield "no new epoch"


def _seconds(from_us: int, message: Message | None) -> float | None:
    return None if message is None else round(max(0, message.ts.pub_us - from_us) / 1e6, 2)
