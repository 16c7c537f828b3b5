from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamer.config import EventConfig
from streamer.errors import ConfigError
from streamer.labels.events import Decider, resolved
from streamer.view.feed import Scores
from streamer.view.trial import trial

LABELS = ["still", "wave", "nod"]
EVENTS: dict[str, Any] = resolved(EventConfig(background=("still",))).model_dump(mode="json")


def minute() -> Scores:
    """A wave of 2 s at 0.8 and one at 0.5, and a nod that goes on, ten times a second."""
    waves = [0.8 if 50 <= step < 70 else 0.5 if 150 <= step < 170 else 0.0 for step in range(200)]
    nods = [0.9 if step >= 180 else 0.0 for step in range(200)]
    return [
        (step * 100_000, [("wave", wave), ("nod", nod), ("still", 1 - wave - nod)])
        for step, (wave, nod) in enumerate(zip(waves, nods, strict=True))
    ]


def test_a_trial_decides_as_the_run_would_and_tells_what_goes_on() -> None:
    decider = Decider(LABELS, EventConfig(background=("still",)))
    run = []
    for time_us, topk in minute():
        row = np.array([dict(topk)[label] for label in LABELS], np.float32)
        run += decider.update(time_us, row, ready=True)
    ends = [(event.label, event.t_start_us, event.t_end_us) for event in run if event.type == "end"]
    tried = trial(minute(), LABELS, EVENTS, {})
    assert [(one["label"], one["start_us"], one["end_us"]) for one in tried[:1]] == ends
    assert [(one["label"], one["end_us"] is None) for one in tried] == [("wave", False), ("nod", True)]


def test_other_thresholds_make_other_events() -> None:
    def labels(**values: Any) -> list[str]:
        return [
            one["label"] for one in trial(minute(), LABELS, EVENTS, {f"events.{key}": values[key] for key in values})
        ]

    assert labels(enter=0.4) == ["wave", "wave", "nod"]
    assert labels(enter=0.85) == ["nod"]
    assert labels(**{"labels.wave.enter": 0.95}) == ["nod"]
    assert labels(background=["nod", "still"]) == ["wave"]


def test_a_clock_that_was_set_is_no_error_and_a_label_that_the_model_has_not_is_passed_over() -> None:
    scores = [*minute(), *minute()]
    assert {one["label"] for one in trial(scores, ["wave", "still"], EVENTS, {})} == {"wave"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"events.leave": 0.9}, "an event would end as it starts"),
        ({"events.background": ["wvae"]}, "did you mean 'wave'"),
        ({"sources": []}, "cannot be changed while the run goes on"),
    ],
)
def test_settings_that_the_run_would_not_take_are_refused_alike(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trial(minute(), LABELS, EVENTS, values)
