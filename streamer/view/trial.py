"""What events the last minute's scores would have made by other settings. Pure; the run is not touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streamer.config import Config, EventConfig
from streamer.labels.events import Decider, Event
from streamer.settings import changed
from streamer.view.feed import Scores


def trial(
    scores: Scores, labels: Sequence[str], events: Mapping[str, Any], values: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The events that `scores` would have made, the oldest first; one that goes on has no end.

    labels  the model's
    events  the settings that the run obeys; values: what shall be different, by path, as the request `set` has it

    Of each evaluation only the highest probabilities are known (publish.topk); the others count as 0. Raises
    ConfigError for settings that the run would not take.
    """
    config, _ = changed(Config(events=EventConfig.model_validate(events)), {}, values)
    decider = Decider(labels, config.events)
    places = {label: place for place, label in enumerate(labels)}
    made: dict[int, Event] = {}
    last_us = -1
    for time_us, topk in scores:
        if time_us <= last_us:  # the clock was set
            decider.close("reset", last_us)
        row = np.zeros(len(labels), np.float32)
        for label, probability in topk:
            if label in places:
                row[places[label]] = probability
        made |= {event.t_start_us: event for event in decider.update(time_us, row, ready=True)}
        last_us = time_us
    return [
        {"label": event.label, "start_us": event.t_start_us, "end_us": event.t_end_us, "peak": event.peak}
        for event in made.values()
    ]
