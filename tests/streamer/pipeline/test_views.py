"""Several streams of one camera, each of a part of its picture."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.config import Config, SourceConfig
from streamer.errors import ConfigError
from streamer.health.metrics import Metrics
from streamer.labels.commands import source_config
from streamer.labels.control import Control
from streamer.labels.messages import EventMessage, GapMessage, Message, ScoreMessage, StatusMessage, encode
from streamer.labels.publisher import wall_us
from streamer.labels.requests import ask
from streamer.pipeline import pipeline as pipeline_module
from streamer.pipeline.intake import Intake
from streamer.pipeline.pipeline import Pipeline
from streamer.pipeline.replay import replay
from streamer.sources import Source, distinguish, open_source
from streamer.types import Frame, Image

from .seeing import SPEC, SeeingEngine, picture
from .test_pipeline import Run, WaitFor, begun

LEFT, RIGHT = [0, 0, 0.5, 1], [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]
VIEWS: dict[str, Any] = {"left": LEFT, "right": RIGHT}


def halves(left: int, right: int) -> Image:
    """A picture with one grey at the left and another at the right."""
    image = picture(left)
    image[:, image.shape[1] // 2 :] = picture(right)[0, 0]
    return image


class Eyes(Source):
    """A camera that is held in a test's hand; `decoded` counts how often a frame was converted."""

    noisy = False

    def __init__(self, name: str = "ward", views: Any = None) -> None:
        super().__init__(SourceConfig.model_validate({"uri": f"test://{name}", "name": name, "views": views or VIEWS}))
        self.left, self.right = 0, 3
        self.opened, self.decoded, self.given = 0, 0, 0
        self.broken = threading.Event()

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        self.opened += 1
        while not stop.wait(1 / 30):
            self.given += 1
            yield Frame(wall_us(), self.given, connection, self._decode)

    def _decode(self) -> Image:
        self.decoded += 1
        return halves(self.left, self.right)


class Reel(Source):
    """A recording of two things at a time, as fast as it goes."""

    live = False

    def __init__(self, views: Any = None, seconds: float = 6) -> None:
        settings = {"uri": "reel", "name": "reel", "pace": "fast", "views": views or VIEWS}
        super().__init__(SourceConfig.model_validate(settings))
        self._count = round(30 * seconds)

    def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
        for index in range(self._count):
            if stop.is_set():
                return
            at_s = index / 30
            image = halves(int(at_s / 2) % 4, 3 - int(at_s / 3) % 4)
            yield Frame(round(at_s * 1e6), index, connection, lambda image=image: image)  # type: ignore[misc]


class Seen(Run):
    """A pipeline that can be asked."""

    def __init__(self, *sources: Source, config: Config | None = None) -> None:
        self.control = Control("auto")
        super().__init__(sources, config or Config(max_gap=600), control=self.control)

    def ask(self, command: str, **fields: Any) -> Any:
        return ask(self.control.address, {"command": command, **fields}, timeout_s=30)


@pytest.fixture
def see() -> Iterator[Callable[..., Seen]]:
    yield from begun(Seen)


See = Callable[..., Seen]


def test_each_view_is_a_stream_of_its_own_and_the_camera_is_read_and_decoded_once(see: See, wait_for: WaitFor) -> None:
    camera = Eyes()
    run = see(camera)
    wait_for(lambda: len(run.said(EventMessage, type="start")) == 2)
    camera.left = 2
    wait_for(lambda: run.said(EventMessage, type="start", label="light"))
    summary = run.finish()
    labels = {m.stream: [] for m in run.messages}  # type: ignore[var-annotated]
    for event in run.said(EventMessage, type="start"):
        labels[event.stream].append(event.label)
    assert labels == {"ward-left": ["dark", "light"], "ward-right": ["bright"]}
    assert camera.opened == 1
    assert camera.decoded < 0.5 * camera.given  # at the rate of the model, for both together
    seen = {name: len(run.said(ScoreMessage, stream=name)) for name in labels}
    assert abs(seen["ward-left"] - seen["ward-right"]) <= 1
    together = [row for row in run.engine.seen if min(row) >= 0]
    assert len(together) > 0.9 * len(run.engine.seen)  # one step takes both
    assert summary.events == 3


def test_a_view_is_reset_removed_and_added_again_while_the_others_go_on(see: See, wait_for: WaitFor) -> None:
    camera = Eyes()
    run = see(camera)
    wait_for(lambda: len(run.said(EventMessage, type="start")) == 2)
    assert run.ask("reset", stream="ward-left") == {"stream": "ward-left", "epoch": 1}
    run.ask("remove", stream="ward-left")
    assert [stream["stream"] for stream in run.ask("status")["streams"]] == ["ward-right"]
    with pytest.raises(ConfigError, match="there is no stream 'ward'; did you mean 'ward-right'"):
        run.ask("remove", stream="ward")
    before = len(run.said(ScoreMessage, stream="ward-right"))
    wait_for(lambda: len(run.said(ScoreMessage, stream="ward-right")) > before + 5)
    run.ask("remove", stream="ward-right")
    given = camera.given
    added = run.ask("add", source={"uri": "pattern://swipe?size=64x48", "name": "ward", "views": VIEWS})
    assert added == {"stream": "ward-left", "streams": ["ward-left", "ward-right"]}
    wait_for(lambda: {m.stream for m in run.said(ScoreMessage, model=SPEC.version) if m.epoch > 0} >= {"ward-left"})
    wait_for(lambda: camera.given <= given + 2)  # nobody reads it any more
    run.finish()
    assert [m.reason for m in run.said(GapMessage)] == ["reset"]
    assert {m.epoch for m in run.said(ScoreMessage, stream="ward-left")} >= {0, 2}
    assert {m.source for m in run.said(StatusMessage, stream="ward-left")} >= {"online", "stopped"}


def test_a_view_that_is_removed_does_not_hold_up_a_file_that_waits_for_the_engine(see: See, wait_for: WaitFor) -> None:
    run = see(Reel(seconds=60), config=Config(buffer=1))
    wait_for(lambda: run.said(ScoreMessage))
    run.ask("remove", stream="reel-left")
    run.thread.join(60)
    assert not run.thread.is_alive()
    status = [m for m in run.said(StatusMessage, stream="reel-right") if m.source == "ended"][-1]
    assert status.captured == 1800
    assert status.inferred + sum(status.dropped.values()) == 1800
    assert status.inferred == 600


def test_names_that_clash_are_refused_or_changed_as_a_whole(see: See, monkeypatch: pytest.MonkeyPatch) -> None:
    run = see(Eyes("ward"), Eyes("hall-left", {"up": LEFT}))
    swipe = "pattern://swipe?size=64x48"
    with pytest.raises(ConfigError, match="two streams are called ward-left; give each another name"):
        run.ask("add", source={"uri": swipe, "name": "ward", "views": {"top": LEFT, "left": LEFT}})
    with pytest.raises(ConfigError, match="two sources are called ward-left"):
        run.ask("add", source={"uri": swipe, "name": "ward-left"})
    with pytest.raises(ConfigError, match="two streams are called hall-left-up"):
        run.ask("add", source={"uri": swipe, "name": "hall", "views": {"left-up": LEFT}})
    made = [run.ask("add", source={"uri": swipe, "views": {"left": LEFT, "top": LEFT}})["streams"] for _ in range(2)]
    assert made == [["swipe-left", "swipe-top"], ["swipe-2-left", "swipe-2-top"]]
    monkeypatch.setattr(pipeline_module, "MAX_STREAMS", 8)
    with pytest.raises(ConfigError, match="there are 7 streams already; remove one first"):
        run.ask("add", source={"uri": swipe, "views": VIEWS})


def test_names_are_no_longer_than_those_of_streams_may_be() -> None:
    views = {"v" * 32: LEFT}
    source = open_source(SourceConfig.model_validate({"uri": "pattern://swipe?size=64x48", "views": views}))
    source.name = "s" * 31
    distinguish(source, [f"{'s' * 31}-{'v' * 32}"])
    (name,) = source.streams
    assert len(name) <= 64
    assert name != f"{'s' * 31}-{'v' * 32}"
    long = open_source(SourceConfig.model_validate({"uri": "rtsp://camera/" + "a" * 200, "views": views}))
    assert [len(name) for name in long.streams] == [64]


@pytest.mark.parametrize(
    ("views", "sentence"),
    [
        ({"Bed": LEFT}, "sources.0.views.Bed.[key] (from the request): string should match pattern"),
        ({"": LEFT}, "string should match pattern"),
        ({"bed": [0, 0, 1, 2]}, "sources.0.views.bed (from the request): 2 is outside the picture"),
        ({"bed": None}, "sources.0.views.bed (from the request): is empty; delete the line or give it a value"),
        ({"bed": [[0, 0], [1, 1]]}, "a polygon has 3 to 64 corners, not 2"),
        ([{"name": "bed", "box": LEFT}], "sources.0.views (from the request): should be a valid dictionary"),
        ({f"v{number}": LEFT for number in range(17)}, "dictionary should have at most 16 items"),
    ],
)
def test_views_that_cannot_be_are_told_in_a_sentence(views: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as told:
        source_config({"uri": "0", "views": views})
    assert sentence in str(told.value)
    assert "\n" not in str(told.value)


def test_a_name_that_is_too_long_together_with_its_view_is_told() -> None:
    with pytest.raises(ConfigError, match=r"would be called n{60}-bedside, which has 68 characters; 64 are allowed"):
        source_config({"uri": "0", "name": "n" * 60, "views": {"bedside": LEFT}})


def test_no_views_are_none() -> None:
    for views in ("{}", "null"):
        config = source_config(json.loads(f'{{"uri": "pattern://still", "views": {views}}}'))
        assert [*open_source(config).streams] == ["still"]


def test_another_model_takes_over_all_views_at_once(see: See, wait_for: WaitFor, tmp_path: Path) -> None:
    path = tmp_path / "two.scores.json"
    path.write_text('{"labels": ["up", "down"], "scores": [[0.9, 0.1]], "height": 20, "width": 30}')
    camera = Eyes()
    run = see(camera)
    wait_for(lambda: len(run.said(EventMessage, type="start")) == 2)
    run.ask("model", model=str(path))
    wait_for(lambda: {m.stream for m in run.said(EventMessage, label="up")} == {"ward-left", "ward-right"})
    run.finish()
    assert sorted((m.stream, m.reason) for m in run.said(GapMessage)) == [
        ("ward-left", "model"),
        ("ward-right", "model"),
    ]
    assert camera.opened == 1


def test_metrics_and_the_page_know_each_view(see: See, wait_for: WaitFor) -> None:
    run = see(Eyes())
    metrics = Metrics()
    metrics.watch(run.pipeline, None)
    wait_for(lambda: {m.stream for m in run.said(ScoreMessage)} == {"ward-left", "ward-right"})
    text = metrics.text().decode()
    for name in ("ward-left", "ward-right"):
        assert f'streamer_frames_inferred_total{{stream="{name}"}}' in text
    assert run.pipeline.corners("ward-left") == ((0, 0), (0.5, 0), (0.5, 1), (0, 1))
    assert run.pipeline.corners("nobody") is None
    wait_for(lambda: run.pipeline.picture("ward-right") is not None)
    shown = run.pipeline.picture("ward-right")
    assert shown is not None
    assert shown.shape == (24, 32, 3)  # the whole: the page draws the view into it


def test_a_recording_with_views_gives_the_events_of_each_and_the_same_bytes_every_time() -> None:
    def lines() -> list[bytes]:
        messages: list[Message] = []
        streams = replay(Reel(), SeeingEngine(), Config(), messages.append)
        assert [stream.inferred for stream in streams] == [60, 60]
        return [encode(message) for message in messages]

    first = lines()
    assert first == lines()
    alone: list[Message] = []
    replay(Reel({"left": LEFT}), SeeingEngine(), Config(), alone.append)
    events = [line for line in first if b'"reel-left"' in line and b'"kind":"event"' in line]
    assert events == [encode(message) for message in alone if isinstance(message, EventMessage)]
    assert b'"dim"' in b"".join(events)


def test_a_child_process_reads_a_source_with_views(see: See, wait_for: WaitFor) -> None:
    views = {"all": [0, 0, 1, 1], "right": RIGHT}
    settings = {"uri": "pattern://swipe?size=64x48", "name": "swipe", "capture": "process", "views": views}
    run = see(open_source(SourceConfig.model_validate(settings)))
    wait_for(lambda: {m.stream for m in run.said(ScoreMessage)} == {"swipe-all", "swipe-right"})
    run.finish()


def test_a_view_sees_its_own_part_alone() -> None:
    source = Reel()
    intake = Intake(source, SPEC, Config())
    left = np.zeros((SPEC.height, SPEC.width, 3), np.uint8)
    right = left.copy()
    intake.offer(Frame(0, 0, 0, lambda: halves(0, 3)))
    assert intake.lens.rings["reel-left"].pop(left)
    assert intake.lens.rings["reel-right"].pop(right)
    assert (left == picture(0)[0, 0]).all()
    assert (right == picture(3)[0, 0]).all()


def test_a_source_that_breaks_takes_all_of_its_views_with_it(
    see: See, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Torn(Reel):
        def frames(self, connection: int, stop: threading.Event) -> Generator[Frame, None, None]:
            yield from ()
            raise MemoryError

    run = see(Eyes())
    with monkeypatch.context() as patched:
        patched.setattr(pipeline_module, "open_source", lambda *_: Torn())
        run.ask("add", source={"uri": "torn", "views": VIEWS})
    wait_for(lambda: len(run.said(StatusMessage, source="stopped")) == 2)
    assert {m.stream for m in run.said(StatusMessage, source="stopped")} == {"reel-left", "reel-right"}
    assert [stream["stream"] for stream in run.ask("status")["streams"]] == ["ward-left", "ward-right"]


def test_the_run_ends_when_every_view_of_every_file_has_ended() -> None:
    pipeline = Pipeline(Config(), SeeingEngine(), [Reel()])
    summary = pipeline.run(threading.Event())
    assert summary.inferred == 120
