from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engines import load_engine
from streamer.config import Config, EventConfig, SourceConfig
from streamer.labels.messages import EventMessage, GapMessage, Message, ScoreMessage, StatusMessage, encode
from streamer.pipeline.replay import replay
from streamer.sources import Source, open_source

from .seeing import Film, SeeingEngine

SCRIPT = (0, 3, 1, 2, 0, 2)  # each for 1.5 s
LENGTH_S = 1.5 * len(SCRIPT)


def scene(time_s: float) -> int:
    return SCRIPT[min(int(time_s / 1.5), len(SCRIPT) - 1)]


def messages_of(source: Source, config: Config | None = None) -> list[Message]:
    messages: list[Message] = []
    replay(source, SeeingEngine(), config or Config(), messages.append)
    return messages


def starts(messages: list[Message]) -> list[tuple[str, float]]:
    return [(m.label, m.t_start_us / 1e6) for m in messages if isinstance(m, EventMessage) and m.type == "start"]


def steady(fps: float, jitter_s: float = 0.0) -> list[float]:
    rng = random.Random(0)
    return sorted(n / fps + rng.uniform(0, jitter_s) for n in range(int(LENGTH_S * fps)))


EXPECTED = [("dark", 0.0), ("bright", 1.5), ("dim", 3.0), ("light", 4.5), ("dark", 6.0), ("light", 7.5)]


@pytest.mark.parametrize("jitter_s", [0.0, 0.02])
@pytest.mark.parametrize("fps", [10, 24, 30, 60])
def test_the_same_clip_gives_the_same_labels_at_any_frame_rate(fps: float, jitter_s: float) -> None:
    found = starts(messages_of(Film(scene, steady(fps, jitter_s))))
    assert [label for label, _ in found] == [label for label, _ in EXPECTED]
    for (_, time_s), (_, expected_s) in zip(found[1:], EXPECTED[1:], strict=True):
        assert expected_s - 0.05 <= time_s <= expected_s + 0.45  # smoothing, and at most one sample


def test_the_network_sees_its_own_rate_whatever_the_camera_does() -> None:
    for fps in (24, 30, 60):
        engine = SeeingEngine()
        (stream,) = replay(Film(scene, steady(fps, 0.01)), engine, Config(), lambda _: None)
        assert abs(stream.inferred - 10 * LENGTH_S) <= 1
        assert stream.dropped["above_rate"] == int(LENGTH_S * fps) - stream.inferred


def test_what_the_model_does_not_know_makes_no_event_and_its_share_is_left_out() -> None:
    def told(events: EventConfig) -> tuple[list[str], float]:
        messages = messages_of(Film(scene, steady(30)), Config(events=events))
        shares = [sum(share for _, share in m.topk) for m in messages if isinstance(m, ScoreMessage)]
        return [label for label, _ in starts(messages)], max(shares)

    energy = np.log(np.exp(6) + 3)
    labels, share = told(EventConfig(unknown=energy - 3))
    assert labels == [label for label, _ in EXPECTED]
    assert share == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-5)
    labels, share = told(EventConfig(unknown=energy + 1))
    assert labels == []
    assert share == pytest.approx(1 / (1 + np.exp(1)), abs=1e-5)


def test_between_the_evaluations_of_a_model_with_a_hop_events_stay_open_and_nothing_is_told() -> None:
    messages: list[Message] = []
    replay(Film(scene, steady(30)), SeeingEngine(hop=3), Config(), messages.append)
    assert [label for label, _ in starts(messages)] == [label for label, _ in EXPECTED]
    ends = [message.reason for message in messages if isinstance(message, EventMessage) and message.type == "end"]
    assert "reset" not in ends
    scores = [message for message in messages if isinstance(message, ScoreMessage)]
    assert len(scores) == (10 * LENGTH_S - 4) // 3 + 1
    assert all(message.ready for message in scores)


def test_a_jump_of_the_clock_is_a_gap_and_the_labels_go_on() -> None:
    jumping = [t if t < 4 else t + 3600 for t in steady(30)]
    messages = messages_of(Film(lambda t: scene(t if t < 4 else t - 3600), jumping))
    assert [label for label, _ in starts(messages)] == ["dark", "bright", "dim", "dim", "light", "dark", "light"]
    gap = next(m for m in messages if isinstance(m, GapMessage))
    assert (gap.reason, gap.epoch) == ("gap", 1)
    ended = [m for m in messages if isinstance(m, EventMessage) and m.type == "end"]
    assert [m.reason for m in ended].count("gap") == 1


def test_a_clock_that_jumps_back_starts_anew_too() -> None:
    messages = messages_of(Film(scene, [t + 100 for t in steady(30)[:90]] + steady(30)[90:]))
    gap = next(m for m in messages if isinstance(m, GapMessage))
    assert gap.reason == "clock"
    assert gap.to_us < gap.from_us
    assert messages[-1].epoch == 1


def test_after_a_gap_nothing_is_said_before_the_window_is_full_again() -> None:
    with_hole = [t for t in steady(30) if not 2.0 < t < 3.2]
    messages = messages_of(Film(scene, with_hole))
    gap_at = next(index for index, m in enumerate(messages) if isinstance(m, GapMessage))
    after = next(m for m in messages[gap_at:] if isinstance(m, ScoreMessage))
    assert after.ts.frame_us is not None
    assert after.ts.frame_us >= 3_500_000  # the fourth frame after the hole
    assert messages[gap_at + 1 :][0].epoch == 1


def test_every_start_has_its_end_and_the_last_one_says_shutdown() -> None:
    messages = messages_of(Film(scene, steady(30)))
    events = [m for m in messages if isinstance(m, EventMessage)]
    begun = [m.id for m in events if m.type == "start"]
    assert begun == [m.id for m in events if m.type == "end"]
    assert events[-1].reason == "shutdown"
    assert isinstance(messages[-1], StatusMessage)
    assert (messages[-1].source, messages[-1].captured) == ("ended", len(steady(30)))


def test_background_labels_and_switched_off_scores_are_left_out() -> None:
    config = Config.model_validate({"events": EventConfig(background=("dark",)), "publish": {"scores": False}})
    messages = messages_of(Film(scene, steady(30)), config)
    assert [label for label, _ in starts(messages)] == ["bright", "dim", "light", "light"]
    assert not any(isinstance(m, ScoreMessage) for m in messages)


def test_the_same_file_gives_the_same_bytes(write_video: Callable[..., Path]) -> None:
    uri = str(write_video(count=60))
    runs = []
    for _ in range(2):
        lines: list[bytes] = []
        source = open_source(SourceConfig(uri=uri, pace="fast"))
        replay(source, load_engine("default"), Config(), lambda message: lines.append(encode(message)))  # noqa: B023
        runs.append(lines)
    assert runs[0] == runs[1]
    assert len(runs[0]) > 10


@pytest.mark.parametrize("fps", [10, 24, 30, 60])
def test_the_default_model_names_the_motions_of_the_pattern_at_any_frame_rate(fps: int) -> None:
    source = open_source(SourceConfig(uri=f"pattern://swipe?fps={fps}&duration=30", pace="fast"))
    truth: Callable[[int], str] = source.truth  # type: ignore[attr-defined]
    messages: list[Message] = []
    replay(source, load_engine("default"), Config(), messages.append)
    scores = [m for m in messages if isinstance(m, ScoreMessage)]
    settled = [m for m in scores if truth(m.window.first_us) == truth(m.window.last_us)]
    right = [m for m in settled if m.topk[0][0] == truth(m.window.last_us)]
    assert len(settled) > 80
    assert len(right) >= 0.8 * len(settled)
