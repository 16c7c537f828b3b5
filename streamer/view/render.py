"""A recording with its labels drawn in, as an H.264 video: each frame shows what was known when it came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.video.stream import VideoStream

from engines.files import replacing, same_file
from streamer.errors import ConfigError
from streamer.labels.messages import Message
from streamer.region import Corners
from streamer.sources import Source
from streamer.types import Frame
from streamer.view.overlay import Overlay

_FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov"}
_TIME_BASE = Fraction(1, 90_000)


def open_render(path: Path, sources: Sequence[Source]) -> Renderer:
    """The video of the only source. Raises ConfigError for several, and a file that cannot be written or is read."""
    if len(sources) > 1:
        raise ConfigError(f"--render writes one video, not {len(sources)}; replay one file at a time")
    replayed = sources[0].path
    if replayed and same_file(path, replayed):
        raise ConfigError(f"--render {path}: this is the file that is replayed; give another name")
    return Renderer(path, sources[0].streams)


class Renderer:
    """Writes an annotated video of the streams of one source. Call it with every message; `frame` with every frame,
    after its messages.

    Raises ConfigError when the file cannot be written.
    """

    def __init__(self, path: Path, streams: Mapping[str, Corners | None]) -> None:
        form = _FORMATS.get(path.suffix.lower())
        if form is None:
            raise ConfigError(f"--render {path}: a video's name ends with {', '.join(_FORMATS)}; use {path.stem}.mp4")
        self._path = path
        self._place = ExitStack()  # in which the file takes its place
        try:
            draft = self._place.enter_context(replacing(path))
            self._container = av.open(f"file:{draft}", "w", format=form)
        except OSError as error:
            raise ConfigError(
                f"--render {path}: cannot be written: {error.strerror}; does the folder exist?"
            ) from error
        self._stream: VideoStream | None = None
        self._overlays = {name: (Overlay(), corners) for name, corners in streams.items()}

    def __call__(self, message: Message) -> None:
        """Take a message that the frame to come shows."""
        self._overlays[message.stream][0](message)

    def frame(self, frame: Frame) -> None:
        """Draw one frame and write it, at its own time."""
        image = frame.bgr()
        for overlay, corners in self._overlays.values():
            image = overlay.draw_view(image, corners, frame.time_us)
        image = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]  # H.264's colours are in pairs of pixels
        if self._stream is None:
            self._stream = self._open(image.shape[1], image.shape[0])
        picture = av.VideoFrame.from_ndarray(image, format="bgr24")
        if (picture.width, picture.height) != (self._stream.width, self._stream.height):
            picture = picture.reformat(self._stream.width, self._stream.height)
        picture.pts, picture.time_base = round(frame.time_us * _TIME_BASE.denominator / 1_000_000), _TIME_BASE
        with self._writing():
            self._container.mux(self._stream.encode(picture))

    def _open(self, width: int, height: int) -> VideoStream:
        options = {"preset": "veryfast", "crf": "20"}
        stream = self._container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = _TIME_BASE
        return stream

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Finish the file; what failed, or has no frame, leaves none, and what stood there before."""
        with suppress(_NothingError), self._place:
            with self._writing():
                if self._stream is not None and error is None:
                    self._container.mux(self._stream.encode(None))
                self._container.close()
            if self._stream is None or error is not None:
                raise _NothingError

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, av.error.FFmpegError) as error:
            raise ConfigError(f"--render {self._path}: cannot be written: {error.strerror}") from error


class _NothingError(Exception):
    """There is no video to keep."""
