"""What a configuration and a model say of events."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.config import EventConfig, LabelRule
from streamer.errors import ConfigError
from streamer.labels.events import Decider, resolved, suited

from .test_events import LABELS, config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"background": ["non"]}, r"events\.background: the model has no label 'non'; did you mean 'none'\?"),
        ({"labels": {"wav": {}}}, r"events\.labels: .*'wav'; did you mean 'wave'\?"),
        ({"inhibit": {"lefd": ["right"]}}, r"events\.inhibit: .*'lefd'; did you mean 'left'\?"),
        ({"inhibit": {"left": ["rihgt"]}}, r"events\.inhibit\.left: .*'rihgt'; did you mean 'right'\?"),
        ({"background": ["xyz"]}, r"no label 'xyz'; it has none, wave, left, right"),
        ({"labels": {"wave": {"enter": 0.2}}}, r"label 'wave': `leave` 0\.35 is above `enter` 0\.2"),
        ({"min_s": 40}, r"`min_s` 40\.0 is above `max_s` 30\.0"),
    ],
)
def test_a_configuration_that_does_not_fit_is_an_error_that_helps(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Decider(LABELS, config(**values))


def test_a_preset_changes_only_what_the_user_did_not_set() -> None:
    plain = EventConfig()
    assert resolved(plain) == plain
    slow = resolved(EventConfig(preset="activity", enter_s=plain.enter_s))
    assert slow.enter_s == plain.enter_s
    assert slow.leave_s > plain.leave_s
    assert slow.switch_lead == plain.switch_lead


def test_a_model_tells_the_thresholds_that_suit_it_and_the_user_overrules_them() -> None:
    told: dict[str, Any] = {"enter": 0.8, "leave": 0.5, "background": ("none",)}
    assert suited(EventConfig(), told, "m") == EventConfig(enter=0.8, leave=0.5, background=("none",))
    assert suited(EventConfig(enter=0.4), told, "m").enter == 0.4
    of_preset = suited(EventConfig(preset="activity"), told, "m")
    assert (resolved(of_preset).enter, of_preset.background) == (0.5, ("none",))
    with pytest.raises(ConfigError, match=r"the sidecar of m tells events\.enter, which cannot be used"):
        suited(EventConfig(), {"enter": 7}, "m")


def test_a_model_tells_thresholds_of_single_labels_and_the_user_overrules_them() -> None:
    told: dict[str, Any] = {
        "unknown": 2.5,
        "inhibit": {"left": ("right",)},
        "labels": {"wave": {"enter": 0.8, "enter_s": 0.4}, "left": {"enter": 0.7}},
    }
    of_model = suited(EventConfig(), told, "m")
    assert (of_model.unknown, of_model.inhibit) == (2.5, {"left": ("right",)})
    assert of_model.labels == {"wave": LabelRule(enter=0.8, enter_s=0.4), "left": LabelRule(enter=0.7)}
    one = suited(EventConfig(labels={"wave": LabelRule(enter=0.5), "right": LabelRule(max_s=9)}), told, "m")
    assert one.labels == {
        "wave": LabelRule(enter=0.5, enter_s=0.4),
        "left": LabelRule(enter=0.7),
        "right": LabelRule(max_s=9),
    }
    everything = suited(EventConfig(enter=0.5, unknown=None), told, "m")
    assert everything.labels == {"wave": LabelRule(enter_s=0.4)}
    assert (everything.enter, everything.unknown) == (0.5, None)
    assert suited(EventConfig(preset="activity"), told, "m").labels == {}
    with pytest.raises(ConfigError, match=r"the sidecar of m tells events\.labels\.wave\.entre, which cannot be used"):
        suited(EventConfig(), {"labels": {"wave": {"entre": 0.8}}}, "m")
