"""What thresholds do, in lines for people, and how far that can be relied on."""

from __future__ import annotations

from collections.abc import Iterator

from streamer.text import printable
from streamer.tuning.choosing import Choice, Truths, at_most, left_out, mean_recall

FEW = 5  # a label that happens less often says little


def sum_up(truths: Truths, choice: Choice) -> str:
    """What the thresholds do, in a line."""
    found, hours = choice.matching, truths.hours
    return (
        f"{mean_recall(truths, found):.0%} found (mean of the labels), "
        f"{len(found.false) / hours:.1f} false events an hour, at most {at_most(len(found.false), hours):.1f} "
        f"with 95 % certainty, in {60 * hours:.1f} minutes"
    )


def report(truths: Truths, choice: Choice, false_per_hour: float, summary: str) -> Iterator[str]:
    """What was found, and how far that can be relied on."""
    yield f"{'happens':>7} {'enter':>5} {'found':>5} {'false/h':>8}  label"
    for label, count in zip(truths.labels, truths.segments.tolist(), strict=True):
        if label in choice.config.labels:
            one, enter = choice.matching.of(label), choice.config.labels[label].enter
            recall = f"{one.recall:5.0%}" if count else "    -"
            yield f"{count:7} {enter:5.2f} {recall} {len(one.false) / truths.hours:8.1f}  {printable(label)}"
    unknown = choice.config.unknown
    yield "unknown: no share, which finds more" if unknown is None else f"unknown: {unknown:g}"
    yield summary
    if others := left_out(truths, choice, false_per_hour):
        yield (
            "thresholds from the other recordings, for those left out in turn: "
            f"{mean_recall(truths, others):.0%} found, {len(others.false) / truths.hours:.1f} false events an hour"
        )
    else:
        yield "these figures are of the recording that was tuned on; a second one would show what others give"
    yield from warnings(truths, choice, false_per_hour)


def warnings(truths: Truths, choice: Choice, false_per_hour: float) -> Iterator[str]:
    """Why the figures may not hold."""
    false, hours = len(choice.matching.false), truths.hours
    happening_s = sum(segment.end_s - segment.start_s for heard in truths.heard for segment in heard.segments)
    if false > int(false_per_hour * hours):
        worst = max(truths.labels, key=lambda label: len(choice.matching.of(label).false))
        yield (
            f"more than {false_per_hour:g} an hour, though thresholds are as high as they go: {printable(worst)} makes "
            "the most; make it a background label, teach the model, or allow more"
        )
    elif (unseen := at_most(0, hours)) > false_per_hour:
        yield (
            f"{60 * hours:.1f} minutes cannot prove {false_per_hour:g} an hour: even without a false event in them "
            f"there may be {unseen:.1f}; add recordings in which nothing happens"
        )
    if 3600 * hours - happening_s < 60:
        yield "there is less than a minute in which nothing happens, for false events to be; add recordings of that"
    if any(heard.recording.judged for heard in truths.heard):
        yield (
            "the clips of a run are of moments at which it told events: an hour of them has more false ones than an "
            "hour of the camera"
        )
    counts = dict(zip(truths.labels, truths.segments.tolist(), strict=True))
    if few := [f"{label} ({count})" for label, count in counts.items() if 0 < count < FEW]:
        yield f"too few to tell: {printable(', '.join(few))}; {FEW} times and more say more"
    if never := [label for label in choice.config.labels if not counts[label]]:
        yield f"never happens, so that only false events speak: {printable(', '.join(never))}"
