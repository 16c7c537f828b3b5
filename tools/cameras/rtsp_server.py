"""A real RTSP server that plays an H.264 clip in a loop: a camera to try things on. Run with the system's Python.

    /usr/bin/python3 rtsp_server.py CLIP --fps 30 [--port N] [--user U --password P]    # prints "port N", then serves
    /cam

It needs the Debian packages gir1.2-gst-rtsp-server-1.0, python3-gi, gstreamer1.0-plugins-base and
gstreamer1.0-plugins-good. CLIP is a sequence of access units, each preceded by its length (4 bytes, big endian). Lines
on standard input command it: `corrupt` and `clean` switch damage on and off; the end of its input ends it, so it never
outlives the program that started it.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
gi.require_version("GstRtsp", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

_PIPELINE = (
    "( appsrc name=src is-live=true format=time caps=video/x-h264,stream-format=byte-stream,alignment=au"
    " ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
)


def read_units(clip: Path) -> list[bytes]:
    """The access units of a clip."""
    data, units, at = clip.read_bytes(), [], 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        units.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return units


def damage(unit: bytes) -> bytes:
    """The unit with noise in its picture data; parameter sets and the slice header stay whole."""
    noisy = bytearray(unit)
    for _ in range(len(unit) // 20):
        noisy[random.randrange(min(60, len(unit) - 1), len(unit))] = random.randrange(256)
    return bytes(noisy)


class Camera:
    """Pushes the clip in real time into every pipeline that a client starts."""

    def __init__(self, units: list[bytes], fps: float) -> None:
        self.units, self.fps = units, fps
        self.corrupt = False

    def configure(self, _factory: Any, media: Any) -> None:
        running = threading.Event()
        running.set()
        media.connect("unprepared", lambda _media: running.clear())
        source = media.get_element().get_by_name("src")
        threading.Thread(target=self.push, args=(source, running), daemon=True).start()

    def push(self, source: Any, running: threading.Event) -> None:
        count, start = 0, time.monotonic()
        while running.is_set():
            late = time.monotonic() - start - count / self.fps
            if late < 0:
                time.sleep(-late)
            elif late > 1:  # frozen meanwhile: go on from here, without a burst
                start += late
            unit = self.units[count % len(self.units)]
            buffer = Gst.Buffer.new_wrapped(damage(unit) if self.corrupt else unit)
            buffer.pts = buffer.dts = int(count * 1e9 / self.fps)
            if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                break
            count += 1


def require_password(server: Any, factory: Any, user: str, password: str) -> None:
    """Only this user may watch (digest authentication)."""
    auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    auth.add_digest(user, password, token)
    server.set_auth(auth)
    permissions = "user,media.factory.access=(boolean)true,media.factory.construct=(boolean)true"
    factory.add_role_from_structure(Gst.Structure.new_from_string(permissions))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("clip", type=Path)
    parser.add_argument("--fps", type=float, default=30)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--user")
    parser.add_argument("--password")
    options = parser.parse_args()

    Gst.init(None)
    camera = Camera(read_units(options.clip), options.fps)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(_PIPELINE)
    factory.set_shared(True)
    factory.connect("media-configure", camera.configure)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(options.port))
    if options.user:
        require_password(server, factory, options.user, options.password)
    server.get_mount_points().add_factory("/cam", factory)
    loop = GLib.MainLoop()
    if not server.attach(None):
        sys.exit(f"port {options.port} is taken")

    def obey() -> None:
        for line in sys.stdin:
            camera.corrupt = line.strip() == "corrupt"
        loop.quit()

    threading.Thread(target=obey, daemon=True).start()
    sys.stdout.write(f"port {server.get_bound_port()}\n")
    sys.stdout.flush()
    loop.run()


if __name__ == "__main__":
    main()
