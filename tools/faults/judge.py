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
from dataclasses import dataclass, field, replace

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
    log          what the program must have logged
    """

    told: tuple[str, ...]
    detected_s: float
    recovered_s: float | None
    breaks: bool = True
    reason: str = "gap"
    lag_s: float = 1.5
    lost: int | None = None
    smears: bool = False
    detail: str = ""
    reconnects: int = 0
    log: str = ""

    def on_busy_machine(self, busy_s: float) -> Expected:
        """The same with this time added to every bound."""
        recovered_s = None if self.recovered_s is None else self.recovered_s + busy_s
        return replace(self, detected_s=self.detected_s + busy_s, recovered_s=recovered_s, lag_s=self.lag_s + busy_s)


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
        row.lost_frames = lost_frames(scores, statuses[-1].inferred, record.scene)
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
    least = least_epoch(messages, expected, record.fault_us)
    scores = (message for message in messages if isinstance(message, ScoreMessage))
    return next((score for score in scores if score.ts.pub_us >= record.healed_us and score.epoch >= least), None)


def least_epoch(messages: Sequence[Message], expected: Expected, fault_us: int) -> int:
    """The epoch that a score after the fault must have reached."""
    before = [m.epoch for m in messages if isinstance(m, ScoreMessage) and m.ts.pub_us < fault_us]
    return before[-1] + 1 if before and expected.breaks else 0


def lost_frames(scores: Sequence[ScoreMessage], inferred: int, scene: Scene) -> int:
    """Pictures between the first and the last that the model saw, less those that it saw.

    The first frames of an epoch have no score, nor have epochs that end before the model is ready.
    """
    unscored = WINDOW - 1
    brief = inferred - len(scores) - unscored * len({score.epoch for score in scores})  # frames of such epochs
    missed = scores[0].seq  # scores that were published before anybody listened
    seen = inferred - (brief if scores[0].epoch else missed)
    return scene.seen(scores[-1]) - (scene.seen(scores[0]) - unscored) + 1 - seen


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


def _miscounted(row: Row, expected: Expected, record: Record, end: StatusMessage) -> Iterator[str]:
    unseen = sum(count for reason, count in end.dropped.items() if reason != "corrupt")
    if end.captured != end.inferred + unseen:
        yield f"captured {end.captured}, but inferred {end.inferred} and dropped {unseen}"
    if end.reconnects < expected.reconnects:
        yield f"{end.reconnects} reconnects instead of {expected.reconnects}"
    lasted_s = (record.healed_us - record.fault_us) / 1e6
    most = round((lasted_s + expected.detected_s + (expected.recovered_s or 0)) * FPS)
    if row.lost_frames is not None and expected.lost is not None and row.lost_frames != expected.lost:
        yield f"lost {row.lost_frames} frames instead of {expected.lost}"
    elif row.lost_frames is not None and not 0 <= row.lost_frames <= most:
        yield f"lost {row.lost_frames} frames; from 0 to {most} are plausible"


def _inconsistent(row: Row, expected: Expected, record: Record, statuses: Sequence[StatusMessage]) -> Iterator[str]:
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
    if expected.log not in record.log:
        yield f"the log does not say {expected.log!r}"
    if statuses:
        yield from _miscounted(row, expected, record, statuses[-1])
    else:
        yield "no status at all"


def _events(messages: Sequence[Message], expected: Expected, record: Record) -> Iterator[str]:
    """Every start has one end; the event that the fault interrupts ends as expected."""
    running: EventMessage | None = None
    ends: list[EventMessage] = []  # between the fault and the first score after it
    back = first_score_after(messages, expected, record)
    for event in (message for message in messages if isinstance(message, EventMessage)):
        if event.type == "start":
            if running:
                yield f"event {running.id} has no end"
            running = event
        elif running is None or event.id != running.id:
            yield f"an {event.type} of event {event.id}, which is not open"
        elif event.type == "end":
            running = None
            if record.fault_us <= event.ts.pub_us and (back is None or event.ts.pub_us <= back.ts.pub_us):
                ends.append(event)
    if running:
        yield f"event {running.id} has no end"
    if expected.breaks and _was_steady(messages, record):
        if not ends:
            yield "no event was open at the fault"
        elif ends[-1].reason != expected.reason:
            yield f"the event ended with {ends[-1].reason}, not with {expected.reason}"


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
    if expected.breaks and expected.recovered_s is not None and _was_steady(messages, record) and not told:
        yield "no new epoch"


def _was_steady(messages: Sequence[Message], record: Record) -> bool:
    """Whether labels came before the fault; not so when it was there from the start."""
    return any(isinstance(message, ScoreMessage) and message.ts.pub_us < record.fault_us for message in messages)


def _seconds(from_us: int, message: Message | None) -> float | None:
    return None if message is None else round(max(0, message.ts.pub_us - from_us) / 1e6, 2)
