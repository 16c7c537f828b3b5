"""What must hold of everything that a run publishes, checked message by message. Pure: arrival times are given.

seq      without holes, each kind of each stream from 0 on; what comes twice is a repeat, byte for byte
event    a start, updates, exactly one end, of one label with one id; none starts before the one before it has ended
state    names the label of the open event and no other
epoch    never falls; every gap is one more, and so is the return of a stream that was removed
times    frame <= infer <= pub <= now, none runs backwards, age_ms is their difference
status   counts never fall, every frame is seen, dropped or still waiting, and a source that is online is inferred
silence  every stream says something every second; ten are too many
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from streamer.errors import StreamerError
from streamer.labels.messages import (
    EventMessage,
    GapMessage,
    Message,
    ScoreMessage,
    StateMessage,
    StatusMessage,
    decode,
)
from streamer.labels.publisher import RETAINED

SILENCE_S = 10.0
STUCK_S = 20.0  # a source gives frames for this long and none is inferred; a row for it may have to be compiled first
CLOCKS_US = 50_000  # what two clocks of one machine may disagree by
UNCOUNTED = 32  # frames between two counters at the moment of a status: in the ring, and being converted
MOST_PROBLEMS = 50  # that are told in words


@dataclass(slots=True)
class _Stream:
    """What was heard of a stream."""

    heard_s: float
    last: dict[str, tuple[int, bytes]] = field(default_factory=dict)  # kind -> seq and payload
    epoch: int = 0
    event: EventMessage | None = None  # the open one
    ended_us: int = 0  # the last event
    frame_us: int = 0  # the last score, within the epoch
    status: StatusMessage | None = None
    moved_s: float = 0.0  # when a frame was inferred, or none was to be
    stopped: bool = False


class Checker:
    """Takes all messages of one session from its beginning.

    problems  what was wrong, in sentences, the first fifty; `wrong` counts all
    counts    messages by kind, `repeat` among them
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.wrong = 0
        self.counts: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()  # of events, by reason
        self._streams: dict[str, _Stream] = {}
        self._session = ""
        self._pub_us = 0

    def take(self, topic: bytes, payload: bytes, now_s: float, now_us: int) -> None:
        """One message that arrived at `now_s` by the monotonic clock, `now_us` UTC."""
        try:
            message = decode(topic, payload)
        except StreamerError as error:
            self._complain(f"unreadable: {error}")
            return
        stream = self._streams.setdefault(message.stream, _Stream(now_s, moved_s=now_s))
        stream.heard_s = now_s
        retained = message.kind in RETAINED and message.kind not in stream.last  # perhaps older than the observer
        if self._is_repeat(stream, message, payload):
            self.counts["repeat"] += 1
            return
        self.counts[message.kind] += 1
        self._check_common(stream, message, now_us, retained)
        if isinstance(message, EventMessage):
            self._check_event(stream, message)
        elif isinstance(message, StateMessage):
            label = stream.event.label if stream.event else None
            self._expect(message.label == label, message, f"names {message.label}, the open event is of {label}")
        elif isinstance(message, ScoreMessage):
            self._check_score(stream, message)
        elif isinstance(message, StatusMessage):
            self._check_status(stream, message, now_s)

    def listen(self, now_s: float) -> None:
        """Nothing has come until `now_s`: complain of the streams that are silent."""
        for name, stream in self._streams.items():
            if not stream.stopped and now_s - stream.heard_s > SILENCE_S:
                self._complain(f"{name}: silent for {now_s - stream.heard_s:.0f} s")
                stream.heard_s = now_s

    def finish(self) -> None:
        """The run has ended: every event has its end, and every stream said that it stopped."""
        if not self._streams:
            self._complain("nothing was published")
        for name, stream in self._streams.items():
            if stream.event:
                self._complain(f"{name}: event {stream.event.id} has no end")
            if not stream.stopped:
                self._complain(f"{name}: the last status is not `stopped`")

    def _is_repeat(self, stream: _Stream, message: Message, payload: bytes) -> bool:
        kind = message.kind
        if kind not in stream.last:  # what was retained when the observer joined may have any number
            if kind not in RETAINED:
                self._expect(message.seq == 0, message, "is the first of its kind")
        else:
            seq, before = stream.last[kind]
            if message.seq == seq and payload == before and kind in RETAINED:
                return True
            self._expect(message.seq == seq + 1, message, f"came after seq {seq}")
        stream.last[kind] = message.seq, payload
        return False

    def _check_common(self, stream: _Stream, message: Message, now_us: int, retained: bool) -> None:
        self._session = self._session or message.session
        self._expect(message.session == self._session, message, f"is of session {message.session}")
        expected = stream.epoch + (isinstance(message, GapMessage) or stream.stopped)
        if stream.last.keys() == {message.kind} and message.seq == 0:
            expected = 0  # the first that was heard of it
        self._expect(message.epoch == expected, message, f"has epoch {message.epoch} after {stream.epoch}")
        if message.epoch != stream.epoch:
            stream.epoch, stream.frame_us = message.epoch, 0
        if stream.stopped:  # and is back
            stream.stopped, stream.status = False, None
        times = message.ts
        frame_us, infer_us = times.frame_us or 0, times.infer_us or 0
        in_order = max(frame_us, infer_us) <= times.pub_us + CLOCKS_US and times.pub_us <= now_us + CLOCKS_US
        if isinstance(message, ScoreMessage):  # else the next frame may have been taken, and not inferred
            in_order = in_order and frame_us <= infer_us + CLOCKS_US
        self._expect(in_order, message, f"has times out of order: {times}, now {now_us}")
        early_us = 0 if retained else self._pub_us - times.pub_us
        self._expect(early_us <= 0, message, f"was published {early_us} us too early")
        self._pub_us = max(self._pub_us, times.pub_us)
        age_ms = None if times.frame_us is None else (times.pub_us - times.frame_us) / 1000
        self._expect(message.age_ms == age_ms, message, f"has age_ms {message.age_ms} instead of {age_ms}")

    def _check_event(self, stream: _Stream, message: EventMessage) -> None:
        event = stream.event
        if message.type == "start":
            self._expect(event is None, message, f"starts {message.id} while {event.id if event else ''} is open")
            self._expect(message.ready, message, "starts before the model is ready")
            self._expect(message.t_start_us >= stream.ended_us, message, "starts before the last one's end")
            stream.event = message
            return
        same = event is not None and (event.id, event.label) == (message.id, message.label)
        self._expect(same, message, f"is an {message.type} of {message.id}; open is {event.id if event else 'none'}")
        if message.type == "end":
            end_us = message.t_end_us or 0
            self._expect(bool(message.reason) and end_us >= message.t_start_us, message, "ends before its start")
            stream.event, stream.ended_us = None, end_us
            self.ends[message.reason or "?"] += 1

    def _check_score(self, stream: _Stream, message: ScoreMessage) -> None:
        window, frame_us = message.window, message.ts.frame_us or 0
        self._expect(message.ready, message, "was told before the model is ready")
        self._expect(window.first_us <= window.last_us == frame_us, message, f"has window {window}")
        self._expect(frame_us > stream.frame_us, message, f"is of frame {frame_us} after {stream.frame_us}")
        stream.frame_us = frame_us

    def _check_status(self, stream: _Stream, message: StatusMessage, now_s: float) -> None:
        before, stream.status = stream.status, message
        seen = message.inferred + sum(count for reason, count in message.dropped.items() if reason != "corrupt")
        lost = message.captured - seen
        self._expect(abs(lost) <= UNCOUNTED, message, f"lost {lost} of {message.captured} frames")
        if before:
            for name in ("captured", "inferred", "reconnects"):
                old, new = getattr(before, name), getattr(message, name)
                self._expect(new >= old, message, f"{name} fell from {old} to {new}")
            old, new = sum(before.dropped.values()), sum(message.dropped.values())
            self._expect(new >= old, message, f"dropped fell from {old} to {new}")
        if before is None or message.inferred > before.inferred or message.source != "online":
            stream.moved_s = now_s
        elif now_s - stream.moved_s > STUCK_S:
            self._complain(f"{message.stream}: online, and nothing inferred for {now_s - stream.moved_s:.0f} s")
            stream.moved_s = now_s
        stream.stopped = message.source == "stopped"

    def _expect(self, holds: bool, message: Message, what: str) -> None:
        if not holds:
            self._complain(f"{message.stream}: {message.kind} {message.seq} {what}")

    def _complain(self, problem: str) -> None:
        self.wrong += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)
