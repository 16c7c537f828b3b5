"""Cameras to try things on: a real RTSP server in a process of its own (rtsp_server.py), and MJPEG over HTTP
(http_server.py). answering.py answers each request as a test says; barcode.py draws pictures that carry their number.
"""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import av
import cv2

from tools.cameras.barcode import barcode

PYTHON = "/usr/bin/python3"  # has the Debian packages of GStreamer
_IMPORTS = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"


def missing_for_rtsp() -> str | None:
    """Why there can be no RTSP server here; None if there can."""
    try:
        subprocess.run([PYTHON, "-c", _IMPORTS], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.CalledProcessError):
        return (
            "apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
        )
    return None


def write_rtsp_clip(path: Path, count: int = 60, height: int = 128, width: int = 160, keys: int = 10) -> None:
    """A clip for `RtspServer`: numbered frames in H.264, a keyframe every `keys`, one slice per picture."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base = Fraction(1, 30)
    x264 = f"keyint={keys}:min-keyint={keys}:scenecut=0:repeat-headers=1:annexb=1:sliced-threads=0:slices=1"
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": x264}
    with path.open("wb") as file:
        for number in range(count + 1):
            frame = None
            if number < count:
                frame = av.VideoFrame.from_ndarray(barcode(number, height, width), format="bgr24")
                frame.pts = number
            for packet in encoder.encode(frame):
                file.write(struct.pack(">I", packet.size) + bytes(packet))


class CameraProcess:
    """A camera in a process of its own: it can be frozen, killed and started again."""

    scheme, host = "", "127.0.0.1"

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        words = self._process.stdout.readline().split()
        assert words[:1] == ["port"], f"the {self.scheme} server did not start"
        self.port = int(words[1])

    def url(self, credentials: str = "", path: str = "/cam") -> str:
        return f"{self.scheme}://{credentials}{self.host}:{self.port}{path}"

    def command(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        with self._process:
            self._process.wait()


class RtspServer(CameraProcess):
    """rtsp_server.py. before: what starts a program elsewhere, such as in a network of its own, where it has `host`."""

    scheme = "rtsp"

    def __init__(
        self, clip: Path, *options: str, port: int = 0, host: str = "127.0.0.1", before: Sequence[str] = ()
    ) -> None:
        self.host = host
        script = Path(__file__).with_name("rtsp_server.py")
        super().__init__(*before, PYTHON, str(script), str(clip), "--host", host, "--port", str(port), *options)


class HttpServer(CameraProcess):
    """http_server.py, an `HttpCamera`."""

    scheme = "http"

    def __init__(self, port: int = 0) -> None:
        super().__init__(sys.executable, "-m", "tools.cameras.http_server", str(port))


class HttpCamera(ThreadingHTTPServer):
    """Serves numbered MJPEG frames at /cam, 25 a second until `cut` is set; and `other` answers at other paths.

    since     when frame 0 was shown, seconds UTC; None: when each connection began
    password  of the user `viewer`, without which /cam answers 401; None: everybody may watch
    moods     commands that hold: `silent`, `still`, `large`, `corrupt`, `truncate` and `single` (the decoder needs a
              second frame to see the first one), as rtsp_server.py has them; `missing`: /cam answers 404; `unended`:
              no JPEG has its last two bytes, as with some cheap cameras
    """

    daemon_threads = True
    fps = 25

    def __init__(
        self,
        other: dict[str, tuple[int, bytes]],
        port: int = 0,
        since: float | None = None,
        password: str | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", port), _HttpHandler)
        self.port = self.server_port
        self.cut = threading.Event()
        self.damaged: set[int] = set()  # numbers of the frames that are sent broken
        self.other, self.since, self.password = other, since, password
        self.moods: set[str] = set()
        self._shown = 0

    def url(self, path: str = "/cam", credentials: str = "") -> str:
        return f"http://{credentials}127.0.0.1:{self.port}{path}"

    def command(self, word: str) -> None:
        if word == "clean":
            self.moods.clear()
        else:
            self.moods.add(word)

    def kill(self) -> None:
        self.cut.set()
        self.shutdown()
        self.server_close()

    def jpeg(self, number: int) -> bytes:
        """The picture with this number, as the moods have it."""
        if "still" not in self.moods:
            self._shown = number
        jpeg = _jpeg(self._shown % 1024, 240 if "large" in self.moods else 128)
        if number in self.damaged or "corrupt" in self.moods:
            return jpeg[:20] + bytes(len(jpeg) - 20)
        if "unended" in self.moods:
            return jpeg[:-2]
        return jpeg[: len(jpeg) * 2 // 3] if "truncate" in self.moods else jpeg


@cache
def _jpeg(number: int, height: int) -> bytes:
    return cv2.imencode(".jpg", barcode(number, height, height * 5 // 4))[1].tobytes()


class _HttpHandler(BaseHTTPRequestHandler):
    server: HttpCamera

    def do_GET(self) -> None:
        camera = self.server
        if self.path != "/cam" or "missing" in camera.moods:
            self._answer(*camera.other.get(urlsplit(self.path).path, (404, b"")))
            return
        known = f"Basic {b64encode(f'viewer:{camera.password}'.encode()).decode()}"
        if camera.password and self.headers["Authorization"] != known:
            self._answer(401, b"")
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        since = time.time() if camera.since is None else camera.since
        number = first = int((time.time() - since) * camera.fps) + 1
        while not camera.cut.wait(max(0.0, since + number / camera.fps - time.time())):
            if "silent" not in camera.moods:
                jpeg = camera.jpeg(number)
                head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
                try:
                    self.wfile.write(head + jpeg + b"\r\n")
                except OSError:
                    return
            number += 1
            if "single" in camera.moods and number > first + 1:
                return

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: a client that goes away is part of the test."""
