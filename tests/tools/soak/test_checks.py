"""The checks of the soak can fail: each thing that must not be is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from streamer.labels.events import Event, State
from streamer.labels.messages import Message, MessageBuilder, Stamp, Window, encode, topic
from tools.peers.usage import Rest, Usage, growth, mib_an_hour
from tools.soak.checks import SILENCE_S, STUCK_S, Checker

BEGIN_US = 1_700_000_000_000_000
MS = 1000


class Life:
    """A stream's messages from its first to its last, half a second apart, as a run would send them."""

    def __init__(self) -> None:
        self.now_us = BEGIN_US
        self.build = MessageBuilder("net@1234", "stream", session="run", now_us=lambda: self.now_us)
        self.frame_us = BEGIN_US
        self.inferred = 0
        self.epoch = 0
        self.messages: list[Message] = []
        self.status("connecting")
        self.scores(3)
        self.status("online")
        self.event("start", 0)
        self.scores(2)
        self.event("end", 0, "score")
        self.scores(1)
        self.event("start", 1)
        self.scores(1)
        self.event("end", 1, "gap")
        self.epoch += 1
        self.messages.append(self.build.gap("cam", self.stamp(ready=False), BEGIN_US, self.frame_us, "gap"))
        self.scores(2)
        self.status("online")
        self.status("stopped")

    def stamp(self, ready: bool = True) -> Stamp:
        self.now_us += 500 * MS
        return Stamp(self.epoch, ready, self.frame_us, self.frame_us + 20 * MS)

    def scores(self, count: int) -> None:
        for _ in range(count):
            self.frame_us = self.now_us + 400 * MS
            self.inferred += 1
            window = Window(n=8, step_ms=100.0, first_us=self.frame_us - 700 * MS, last_us=self.frame_us)
            self.messages.append(self.build.score("cam", self.stamp(), [("wave", 0.9)], window))

    def event(self, kind: Any, label_id: int, reason: Any = None) -> None:
        label = ("wave", "nod")[label_id]
        end_us = self.frame_us if kind == "end" else None
        event = Event(kind, label, label_id, 0.9, 0.9, self.frame_us - 100 * MS * label_id, end_us, reason)
        self.messages.append(self.build.event("cam", self.stamp(), event))
        state = State(since_us=self.frame_us) if end_us else State(label, label_id, 0.9, self.frame_us)
        self.messages.append(self.build.state("cam", self.stamp(), state))

    def status(self, source: Any) -> None:
        dropped = {"above_rate": 2 * self.inferred}
        message = self.build.status(
            "cam", self.stamp(), source, "", captured=3 * self.inferred, dropped=dropped, inferred=self.inferred
        )
        self.messages.append(message)


def heard(messages: list[Message]) -> Checker:
    """What is found of these messages, which come when they were published."""
    checker = Checker()
    for message in messages:
        at_us = message.ts.pub_us
        checker.take(topic(message.stream, message.kind).encode(), encode(message), at_us / 1e6, at_us)
    checker.finish()
    return checker


def test_a_whole_life_is_all_right() -> None:
    checker = heard(Life().messages)
    assert checker.problems == []
    assert checker.counts == {"score": 9, "event": 4, "state": 4, "status": 4, "gap": 1}
    assert checker.ends == {"score": 1, "gap": 1}


def test_what_is_sent_again_for_a_new_subscriber_is_a_repeat_only_if_it_is_the_same() -> None:
    messages = Life().messages
    last = next(n for n, message in enumerate(messages) if message.kind == "status" and message.seq == 1)
    assert heard([*messages[: last + 1], messages[last], *messages[last + 1 :]]).problems == []
    other = msgspec.structs.replace(messages[last], detail="other")
    (problem,) = heard([*messages[: last + 1], other, *messages[last + 1 :]]).problems
    assert problem == "cam: status 1 came after seq 1"


def index(kind: str, seq: int) -> int:
    return next(n for n, one in enumerate(Life().messages) if (one.kind, one.seq) == (kind, seq))


def without(kind: str, seq: int) -> Callable[[list[Message]], list[Message]]:
    at = index(kind, seq)
    return lambda messages: [*messages[:at], *messages[at + 1 :]]


def changed(kind: str, seq: int, **fields: Any) -> Callable[[list[Message]], list[Message]]:
    at = index(kind, seq)

    def change(messages: list[Message]) -> list[Message]:
        times = {name: fields.pop(name) for name in list(fields) if name.endswith("_us") and name != "t_end_us"}
        new = msgspec.structs.replace(messages[at], **fields)
        new = msgspec.structs.replace(new, ts=msgspec.structs.replace(new.ts, **times))
        return [*messages[:at], new, *messages[at + 1 :]]

    return change


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (without("score", 3), "score 4 came after seq 2"),
        (without("score", 0), "score 1 is the first of its kind"),
        (without("event", 0), "is an end of cam-0; open is none"),
        (without("event", 1), "starts cam-2 while cam-0 is open"),
        (without("gap", 0), "has epoch 1 after 0"),
        (without("status", 3), "the last status is not `stopped`"),
        (changed("event", 1, id="cam-7"), "is an end of cam-7; open is cam-0"),
        (changed("event", 1, label="nod"), "is an end of cam-0; open is cam-0"),
        (changed("event", 1, reason=None), "ends before its start"),
        (changed("event", 1, t_end_us=BEGIN_US), "ends before its start"),
        (changed("event", 1, t_end_us=2 * BEGIN_US), "starts before the last one's end"),
        (changed("event", 0, ready=False), "starts before the model is ready"),
        (changed("event", 3, type="update"), "event cam-2 has no end"),
        (changed("state", 0, label=None), "names None, the open event is of wave"),
        (changed("state", 1, label="wave"), "names wave, the open event is of None"),
        (changed("score", 7, epoch=0), "has epoch 0 after 1"),
        (changed("score", 2, session="other"), "is of session other"),
        (changed("score", 2, ready=False), "was told before the model is ready"),
        (changed("score", 2, age_ms=1.0), "has age_ms 1.0 instead of"),
        (changed("score", 2, infer_us=BEGIN_US), "has times out of order"),
        (changed("score", 2, pub_us=BEGIN_US), "us too early"),
        (changed("status", 2, captured=90), "lost 63 of 90 frames"),
        (changed("status", 2, inferred=2), "inferred fell from 3 to 2"),
        (changed("status", 2, dropped={"above_rate": 4}), "dropped fell from 6 to 4"),
    ],
)  # fmt: skip
def test_what_must_not_be_is_found(wrong: Callable[[list[Message]], list[Message]], problem: str) -> None:
    assert problem in "; ".join(heard(wrong(Life().messages)).problems)


def test_what_was_retained_before_the_observer_joined_may_be_older_than_what_it_heard_first() -> None:
    messages = Life().messages
    first = index("state", 0)
    late = [*messages[:first], *messages[first + 1 : first + 2], messages[first], *messages[first + 2 :]]
    assert messages[first + 1].ts.pub_us > messages[first].ts.pub_us
    assert not any("too early" in problem for problem in heard(late).problems)


def test_a_stream_that_says_nothing_is_found_and_one_that_has_stopped_may_be_silent() -> None:
    messages = Life().messages
    checker = heard(messages[:-1])
    checker.listen(messages[-2].ts.pub_us / 1e6 + SILENCE_S + 1)
    assert checker.problems[-1] == f"cam: silent for {SILENCE_S + 1:.0f} s"
    checker = heard(messages)
    checker.listen(messages[-1].ts.pub_us / 1e6 + SILENCE_S + 1)
    assert checker.problems == []


def test_a_source_that_is_online_and_of_which_nothing_is_inferred_is_found() -> None:
    life = Life()
    life.messages.pop()
    for _ in range(round(2 * STUCK_S) + 3):  # half a second each
        life.status("online")
    assert "cam: online, and nothing inferred for" in "; ".join(heard(life.messages).problems)


def test_a_stream_that_comes_back_goes_on_counting_in_its_next_epoch() -> None:
    life = Life()
    life.epoch += 1
    life.status("connecting")
    life.scores(1)
    life.status("stopped")
    assert heard(life.messages).problems == []
    life.status("connecting")
    assert "has epoch 2 after 2" in heard(life.messages).problems[0]


def test_what_is_no_label_is_found() -> None:
    checker = Checker()
    checker.take(b"act/1/cam/gap/", b"{}", 0.0, 0)
    assert "unreadable: the message on act/1/cam/gap/ cannot be read" in checker.problems[0]
    checker.finish()
    assert checker.problems[1] == "nothing was published"


def test_there_are_not_more_problems_in_words_than_one_reads() -> None:
    checker = Checker()
    for _ in range(60):
        checker.take(b"x", b"", 0.0, 0)
    assert (len(checker.problems), checker.wrong) == (50, 60)


USAGE = Usage(mib=100.0, threads=12.0, descriptors=24.0, processes=1.0)


def rests(**changes: tuple[float, ...]) -> list[Rest]:
    """Forty rests; a change is what a measure was in each tenth of the time."""
    return [
        Rest(n / 40, replace(USAGE, **{name: values[n // 4] for name, values in changes.items()})) for n in range(40)
    ]


WARM = (80.0, 90.0, 95.0, 98.0, 99.0)


@pytest.mark.parametrize(
    ("measure", "values", "minutes", "flat"),
    [
        ("mib", (*WARM, 100, 100, 100, 100, 100), 30, True),
        ("mib", (*WARM, 100, 100, 101, 101, 101), 30, True),
        ("mib", (*WARM, 100, 102, 104, 106, 108), 30, False),
        ("mib", (*WARM, 100, 101, 102, 104, 105), 1, True),
        ("mib", (*WARM, 100, 104, 108, 112, 116), 1, False),
        ("mib", (*WARM, 104, 103, 102, 101, 100), 30, True),
        ("threads", (12,) * 10, 1, True),
        ("threads", (12, 12, 12, 12, 12, 12, 12, 13, 13, 13), 1, False),
        ("descriptors", (24, 24, 24, 24, 24, 24, 24, 25, 25, 25), 30, False),
    ],
)
def test_only_what_stays_as_it_was_is_flat(measure: str, values: Any, minutes: float, flat: bool) -> None:
    judged = {one.measure: one.flat for one in growth(rests(**{measure: values}), minutes)}
    assert judged == dict.fromkeys(judged, True) | {measure: flat}


def test_one_rest_that_is_not_like_the_others_decides_nothing() -> None:
    found = rests()
    found[38] = Rest(0.95, replace(USAGE, threads=14.0, mib=150.0))
    assert all(one.flat for one in growth(found, 30))


def test_the_slope_is_in_mib_an_hour() -> None:
    grown = [Rest(n / 40, replace(USAGE, mib=100 + n)) for n in range(40)]
    assert mib_an_hour(grown, 60) == pytest.approx(40)


def test_with_less_than_two_rests_in_the_second_half_nothing_can_be_said() -> None:
    assert growth(rests()[:21], 30) == []
    assert mib_an_hour(rests()[:21], 30) is None
