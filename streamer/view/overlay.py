"""Labels drawn into pictures: the one in force, its score, a strip of the last minute's events, the frame rate."""

from __future__ import annotations

import numpy as np

from engines.opencv import cv2
from streamer.labels.messages import EventMessage, Message, ScoreMessage, StateMessage, StatusMessage
from streamer.region import Corners
from streamer.types import Image
from streamer.view.colours import colour

SECONDS = 60
_DARK = 0.3  # what is left of the picture's brightness behind the text
_OUTSIDE = 0.5  # and of what a view does not see
_WHITE, _GREY = (245, 245, 245), (150, 150, 150)
_FONT = cv2.FONT_HERSHEY_DUPLEX
_FONT_PX = 22  # height of its capitals at scale 1


class Overlay:
    """What is drawn over the pictures of one stream. Call it with the stream's messages, in order."""

    def __init__(self) -> None:
        self._events: dict[str, EventMessage] = {}
        self._state: StateMessage | None = None
        self._status: StatusMessage | None = None
        self._scores: dict[str, float] = {}

    def __call__(self, message: Message) -> None:
        """Take one message."""
        if isinstance(message, EventMessage):
            self._events[message.id] = message
        elif isinstance(message, StateMessage):
            self._state = message
        elif isinstance(message, StatusMessage):
            self._status = message
        elif isinstance(message, ScoreMessage):
            self._scores = dict(message.topk)

    def draw(self, image: Image, now_us: int) -> Image:
        """A copy of the picture [H, W, 3] with the overlay as of `now_us`, the time of its frame."""
        drawn = image.copy()
        height, width = drawn.shape[:2]
        unit = max(1, round(min(height, width) / 100))
        band = drawn[-20 * unit :]
        band[:] = (band * _DARK).astype(band.dtype)
        self._draw_label(drawn, height - 11 * unit, unit)
        self._draw_strip(drawn, height - 8 * unit, height - 3 * unit, unit, now_us)
        return drawn

    def draw_view(self, image: Image, corners: Corners | None, now_us: int) -> Image:
        """As `draw`, into the part of the picture that the stream sees, with an outline; None: all."""
        if not corners:
            return self.draw(image, now_us)
        drawn = image.copy()
        points = np.round(np.array(corners) * (image.shape[1], image.shape[0])).astype(np.int32)
        (left, top), (right, bottom) = points.min(0), points.max(0)
        if right > left and bottom > top:
            drawn[top:bottom, left:right] = self.draw(drawn[top:bottom, left:right], now_us)
        cv2.polylines(drawn, [points], True, _WHITE, 1, cv2.LINE_AA)
        return drawn

    def _draw_label(self, drawn: Image, base: int, unit: int) -> None:
        """The label in force at the left, its score and the frame rate at the right, above the line `base`."""
        label = self._state.label if self._state else None
        probability = self._scores.get(label or "") if self._scores else self._state and self._state.score
        score = f"{probability:.2f}" if label and probability is not None else ""
        if label:
            cv2.rectangle(drawn, (3 * unit, base - 6 * unit), (4 * unit, base), _bgr(label), cv2.FILLED)
        _write(drawn, label or "no label", (6 * unit, base), 5 * unit, _WHITE if label else _GREY)
        right = drawn.shape[1] - 3 * unit
        _write(drawn, score, (right, base), 5 * unit, _WHITE, right=True)
        if self._status and self._status.source not in ("online", "degraded", "ended"):
            _write(drawn, self._status.source, (3 * unit, 7 * unit), 4 * unit, _WHITE)
        elif self._status and self._status.fps_in:
            _write(drawn, f"{self._status.fps_in:.0f} fps", (right, 7 * unit), 4 * unit, _WHITE, right=True)

    def _draw_strip(self, drawn: Image, top: int, bottom: int, unit: int, now_us: int) -> None:
        """The events of the last minute as coloured spans; now is at the right."""
        left, right = 3 * unit, drawn.shape[1] - 3 * unit
        cv2.rectangle(drawn, (left, top), (right, bottom), (60, 60, 60), cv2.FILLED)
        first_us = now_us - SECONDS * 1_000_000
        for name, event in list(self._events.items()):
            end_us = now_us if event.t_end_us is None else event.t_end_us
            if end_us < first_us:
                del self._events[name]
                continue
            x0, x1 = (
                left + round((right - left) * max(0, time_us - first_us) / (now_us - first_us))
                for time_us in (event.t_start_us, end_us)
            )
            cv2.rectangle(drawn, (min(x0, right), top), (min(x1, right), bottom), _bgr(event.label), cv2.FILLED)


def outlined(image: Image, corners: Corners | None) -> Image:
    """A copy of the picture [H, W, 3] with a view drawn in: its outline, and all else darkened; None: as it is."""
    if not corners:
        return image
    height, width = image.shape[:2]
    points = [np.round(np.array(corners) * (width - 1, height - 1)).astype(np.int32)]
    drawn = cv2.convertScaleAbs(image, alpha=_OUTSIDE)
    inside = cv2.fillPoly(np.zeros((height, width), np.uint8), points, (255,))
    cv2.copyTo(image, inside, drawn)
    cv2.polylines(drawn, points, True, _WHITE, max(1, round(min(height, width) / 200)), cv2.LINE_AA)
    return np.asarray(drawn, np.uint8)


def _write(
    drawn: Image, text: str, at: tuple[int, int], size_px: int, ink: tuple[int, ...], right: bool = False
) -> None:
    """Write `text`, its capitals `size_px` high, from or (right) up to `at`. OpenCV's fonts have ASCII alone."""
    shown = text.encode("ascii", "replace").decode()
    scale, thick = size_px / _FONT_PX, max(1, size_px // 14)
    width = cv2.getTextSize(shown, _FONT, scale, thick)[0][0]
    place = (at[0] - width if right else at[0], at[1])
    cv2.putText(drawn, shown, place, _FONT, scale, ink, thick, cv2.LINE_AA)


def _bgr(label: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour(label)[1:])
    return blue, green, red
