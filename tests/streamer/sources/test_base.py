from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from streamer.config import SourceConfig
from streamer.errors import SourceError
from streamer.sources import open_source
from streamer.sources.base import stream_name
from streamer.text import redact


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("rtsp://admin:secret@10.0.0.1:554/a", "rtsp://***@10.0.0.1:554/a"),
        ("no data: 'https://admin:secret@cam/a?b=c'", "no data: 'https://***@cam/a?***'"),
        ("rtsp://secret@cam/a failed, rtsp://u:secret@cam2/b too", "rtsp://***@cam/a failed, rtsp://***@cam2/b too"),
        ("rtsp://u:se@cret@cam/a", "rtsp://***@cam/a"),
        ("rtsp://u:se/cret#x@cam/a", "rtsp://***@cam/a"),
        ("http://cam/v.cgi?user=admin&password=secret&fps=5", "http://cam/v.cgi?***"),
        ("http://cam/v.cgi?pwd=secret", "http://cam/v.cgi?***"),
        ("rtsp://cam:554/a is down; mail me@example.org", "rtsp://cam:554/a is down; mail me@example.org"),
        ("/home/me@work/clip.mp4", "/home/me@work/clip.mp4"),
        ("rtsp://u:se cret@cam/a", "rtsp://***@cam/a"),
        ("{'uri': 'rtsp://u:se cret@cam/a'}", "{'uri': 'rtsp://***@cam/a'}"),
        (
            "write SCHEME://HOST:PORT/PATH, or pattern://swipe?fps=5",
            "write SCHEME://HOST:PORT/PATH, or pattern://swipe?fps=5",
        ),
        ("rtsp://cam/user=admin_password=secret_channel=1_stream=0.sdp", "rtsp://cam/***"),
        ("rtsp://cam/%75ser%3Dadmin_secret/1", "rtsp://cam/***"),
        ("http://cam/live;password=secret#token=secret", "http://cam/***#***"),
        ("http://cam/a?x=me@secret", "http://***"),
        ("GET /socket?token=secret&x=1 user=me", "GET /socket?token=***&x=1 user=***"),
        ("rtsp://u:secret", "rtsp://***"),
        ("tcp://127.0.0.1:5557 takes rtsp://u:secret@cam/a", "tcp://127.0.0.1:5557 takes rtsp://***@cam/a"),
    ],
)
def test_what_is_shown_has_no_credentials(text: str, safe: str) -> None:
    assert redact(text) == safe


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("0", "camera0"),
        ("/dev/video2", "video2"),
        ("v4l2:HD Pro Webcam C920", "hd-pro-webcam-c920"),
        ("rtsp://admin:secret@10.0.0.1:554/Streaming/101", "10-0-0-1-554-streaming-101"),
        ("http://cam/video.mjpg?token=secret", "cam-video-mjpg"),
        ("rtsp://u:se/cret@cam/a", "cam-a"),
        ("videos/My Clip.mp4", "my-clip"),
        ("file:///videos/a.b.mkv", "a-b"),
        ("file:clip.mp4", "clip"),
        ("pattern://swipe?fps=30", "swipe"),
        ("видео.mp4", "stream"),
        ("x" * 100 + ".mp4", "x" * 64),
    ],
)
def test_a_stream_is_named_after_its_uri(uri: str, name: str) -> None:
    assert stream_name(uri) == name
    assert re.fullmatch(r"[a-z0-9_-]{1,64}", stream_name(uri))


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("0", "CameraSource"),
        ("/dev/video0", "CameraSource"),
        ("/dev/v4l/by-id/usb-Camera-video-index0", "CameraSource"),
        ("v4l2:C920", "CameraSource"),
        ("rtsp://cam/a", "RtspSource"),
        ("RTSPS://cam/a", "RtspSource"),
        ("http://cam/a", "WebSource"),
        ("https://cam/a", "WebSource"),
        (f"file:{__file__}", "FileSource"),
        (__file__, "FileSource"),
        ("pattern://swipe", "PatternSource"),
    ],
)
def test_the_uri_tells_the_kind_and_nothing_is_opened_yet(uri: str, kind: str) -> None:
    source = open_source(SourceConfig(uri=uri, name="left_door"))
    assert type(source).__name__ == kind
    assert source.name == "left_door"
    assert source.live is (kind not in {"FileSource"})


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("", "no such file"),
        ("nowhere.mp4", "nowhere.mp4"),
        ("rstp://cam/a", "did you mean rtsp://?"),
        ("ftp://u:secret@cam/a", "no source is called ftp://"),
        ("rtsp:///a", "malformed"),
        ("rtsp://u:secret@:554/a", "malformed"),
        ("rtsp://u:sec/ret@cam/a", "%2F"),
        ("rtsp://u:secret@cam:port/a", "malformed"),
        ("http://cam:99999/a", "malformed"),
        ("http://[::1/a", "malformed"),
    ],
)
def test_a_uri_that_names_no_source_is_refused_with_advice(uri: str, words: str) -> None:
    with pytest.raises(SourceError, match=re.escape(words)) as caught:
        open_source(SourceConfig(uri=uri))
    assert caught.value.retry == "never"
    assert "sec" not in str(caught.value)


def test_importing_the_sources_loads_no_heavy_library() -> None:
    code = "import sys, streamer.sources; print([m for m in ('av', 'cv2', 'torch') if m in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert shown.stdout.strip() == "[]"
