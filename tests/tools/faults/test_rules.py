from __future__ import annotations

from collections.abc import Callable

import pytest

from streamer.labels.events import Event
from streamer.labels.messages import Message, MessageBuilder, Stamp, Window
from tools.faults.fleet import FleetRow
from tools.faults.machines import samples_missed
from tools.faults.rules import broken

START = Event("start", "wave", 0, 0.9, 0.9, 1000)
END = Event("end", "wave", 0, 0.1, 0.9, 1000, 2000, "score")


def story() -> list[Message]:
    """A stream that moves to another node, with an event on each: as it should be."""
    build = MessageBuilder("net@0", "stream", node="a")
    first, second = (Stamp(0, True, 1000, 1000, term) for term in (1, 2))
    return [
        build.event("door", first, START),
        build.event("door", first, END),
        build.status("door", first, "connecting"),
        build.event("door", second, START),
        build.event("door", second, END),
        build.status("door", second, "online"),
    ]


def test_a_story_that_is_as_it_should_be_breaks_no_rule_and_repeats_are_none() -> None:
    told = story()
    assert broken(told) == []
    assert broken([*told[:3], told[2], *told[3:]]) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda told: told[1:], "end of door-0 without its start"),
        (lambda told: told[:4], "event door-2 has no end"),
        (lambda told: [told[0], *told[2:]], "event door-0 has no end before the next start"),
        (lambda told: [told[0], told[3]], "event 0 is followed by 2"),
        (lambda told: [*told[3:], *story()[:1]], "term 1 was heard after 2"),
    ],
)
def test_each_broken_rule_is_told(change: Callable[[list[Message]], list[Message]], sentence: str) -> None:
    assert sentence in "; ".join(broken(change(story())))


def test_samples_that_are_missing_between_two_scores_are_counted() -> None:
    build = MessageBuilder("net@0", "stream")
    scores = [
        build.score(
            "door", Stamp(), [], Window(n=8, step_ms=100.0, first_us=0, last_us=at * 100_000 + 20_000 * (at % 2))
        )
        for at in (10, 11, 12, 15)
    ]
    assert samples_missed(scores[:3]) == 0
    assert samples_missed(scores) == 2


def test_a_row_fails_with_a_figure_above_its_bar_or_a_problem() -> None:
    assert FleetRow("kill", {"status s": 2.9}, {"status s": 3.0}).passed
    row = FleetRow("kill", {"status s": 3.1}, {"status s": 3.0})
    assert not row.passed
    assert "FAILED  status s 3.1 / 3" in row.line()
    assert not FleetRow("rules", problems=["door: event door-0 has no end"]).passed
    assert FleetRow("unplugged", skipped="needs root").line().split() == ["unplugged", "skipped", "needs", "root"]
