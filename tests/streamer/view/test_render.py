from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import pytest

from streamer.config import Config, SourceConfig
from streamer.errors import ConfigError, SourceError
from streamer.pipeline.replay import replay
from streamer.sources import open_source
from streamer.view.render import open_render

from ..pipeline.seeing import Film, SeeingEngine


def test_an_annotated_video_has_every_frame_at_its_time_and_the_labels_colours(
    write_video: Callable[..., Path], tmp_path: Path
) -> None:
    pts = [*range(30), *range(40, 70)]
    source = open_source(SourceConfig(uri=str(write_video(count=60, pts=pts)), pace="fast"))
    out = tmp_path / "out.mp4"
    with open_render(out, [source]) as video:
        replay(source, SeeingEngine(), Config(), video, video.frame)
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        frames = list(container.decode(stream))
    assert [round(frame.time * 30) for frame in frames if frame.time is not None] == pts
    first, last = (frame.to_ndarray(format="bgr24") for frame in (frames[0], frames[-1]))
    assert first.shape == (128, 160, 3)
    assert last[-8:-3].std() > first[-8:-3].std()  # the strip has an event now


def test_each_view_has_its_labels_drawn_into_its_part(write_video: Callable[..., Path], tmp_path: Path) -> None:
    views = {"top": [0, 0, 1, 0.5], "bottom": [0, 0.5, 1, 1]}
    settings = {"uri": str(write_video(count=60)), "pace": "fast", "views": views}
    source = open_source(SourceConfig.model_validate(settings))
    with open_render(tmp_path / "out.mp4", [source]) as video:
        replay(source, SeeingEngine(), Config(), video, video.frame)
    with av.open(str(tmp_path / "out.mp4")) as container:
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert len(frames) == 60
    for bottom in (64, 128):  # of each view: the strip has an event now
        assert frames[-1][bottom - 6 : bottom - 2].std() > frames[0][bottom - 6 : bottom - 2].std()


def test_odd_sizes_are_cropped_to_even_ones(tmp_path: Path) -> None:
    source = open_source(SourceConfig(uri="pattern://swipe?duration=0.5&size=161x121", pace="fast"))
    with open_render(tmp_path / "out.mp4", [source]) as video:
        replay(source, SeeingEngine(), Config(), video, video.frame)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (160, 120)


def test_a_render_that_fails_leaves_no_file(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    with pytest.raises(SourceError), open_render(out, [Film(lambda _: 0, [])]):
        raise SourceError("the film broke")
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "message"), [("no/out.mp4", "does the folder exist"), ("out.txt", "use out.mp4"), (".", "name ends with")]
)
def test_a_video_that_cannot_be_written_is_told(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_render(tmp_path / name, [Film(lambda _: 0, [])])


def test_the_replayed_file_is_not_overwritten(write_video: Callable[..., Path]) -> None:
    path = write_video()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="file that is replayed"):
        open_render(path, [open_source(SourceConfig(uri=str(path)))])
    assert path.read_bytes() == before
    with pytest.raises(ConfigError, match="one file at a time"):
        open_render(path, [Film(lambda _: 0, []), Film(lambda _: 0, [])])
