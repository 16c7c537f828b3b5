"""A real RTSP server that plays an H.264 clip in a loop: a camera to try things on. Run with the system's Python.

    /usr/bin/python3 rtsp_server.py CLIP --fps 30 [--port N] [--user U --password P]    # prints "port N", then serves
    /cam

It needs the Debian packages gir1.2-gst-rtsp-server-1.0, python3-gi, gstreamer1.0-plugins-base and
gstreamer1.0-plugins-good. CLIP is a sequence of access units, each preceded by its length (4 bytes, big endian).

It shows the present: picture number (now - SINCE) * fps of the clip, over and over, whoever watches and whatever
happened meanwhile. Lines on standard input command it; the end of its input ends it, so it never outlives the program
that started it:

    corrupt     noise in the data of every picture
    truncate    the end of every picture is missing
    silent      no packets; afterwards the present
    hold        no packets; afterwards all that were held, in a burst
    still       the same picture again and again
    large       the pictures of the other clip, --large
    single      each connection ends after one picture
    clean       none of these any more
    end         the running connections end as a recording does
    jump S      the camera's clock leaps S seconds
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
_LATE_S = 1.0  # pictures that are later than this were missed, by a camera that was frozen
_HELD_POLL_S = 0.01


def read_units(clip: Path) -> list[bytes]:
    """The access units of a clip."""
    data, units, at = clip.read_bytes(), [], 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        units.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return units


def is_key(unit: bytes) -> bool:
    """Whether the access unit needs no other: it begins with a sequence parameter set."""
    return unit[unit.index(b"\1") + 1] & 31 == 7


def corrupted(unit: bytes) -> bytes:
    """The unit with noise in its picture data; parameter sets and the slice header stay whole."""
    noisy = bytearray(unit)
    for _ in range(len(unit) // 20):
        noisy[random.randrange(min(60, len(unit) - 1), len(unit))] = random.randrange(256)
    return bytes(noisy)


def truncated(unit: bytes) -> bytes:
    """The unit without its last third."""
    return unit[: len(unit) * 2 // 3]


class Camera:
    """Pushes the present into every pipeline that a client starts.

    clips    of numbered pictures, the other one for `large`
    since    when picture 0 was shown, seconds UTC; None: when the pipeline started
    moods    the commands that hold
    """

    def __init__(self, clips: list[list[bytes]], fps: float, since: float | None) -> None:
        self.clips, self.fps, self.since = clips, fps, since
        self.moods: set[str] = set()
        self.leap_s = 0.0
        self.ends = 0  # how often it was told to end

    def obey(self, line: str) -> None:
        """Do what a line commands."""
        word, *arguments = line.split()
        if word == "clean":
            self.moods.clear()
        elif word == "end":
            self.ends += 1
        elif word == "jump":
            self.leap_s += float(arguments[0])
        else:
            self.moods.add(word)

    def configure(self, _factory: Any, media: Any) -> None:
        running = threading.Event()
        running.set()
        media.connect("unprepared", lambda _media: running.clear())
        media.get_element().get_parent().connect("deep-element-added", send_at_once)
        source = media.get_element().get_by_name("src")
        threading.Thread(target=self.push, args=(source, running), daemon=True).start()

    def push(self, source: Any, running: threading.Event) -> None:
        since = time.time() if self.since is None else self.since
        first = number = int((time.time() - since) * self.fps)
        ends, pushed = self.ends, 0
        catching_up = False  # with what was held
        whole = large = False  # the decoder has what the next picture builds on; of which clip
        key = b""  # the last picture that needs no other
        while running.is_set():
            if self.ends > ends or ("single" in self.moods and pushed):
                source.emit("end-of-stream")
                return
            if "hold" in self.moods:
                catching_up = True
                time.sleep(_HELD_POLL_S)
                continue
            late = time.time() - since - number / self.fps
            if late < 0:
                catching_up = False
                time.sleep(-late)
            elif late > _LATE_S and not catching_up:
                number += int(late * self.fps)
                whole = False
            whole, large = whole and large == ("large" in self.moods), "large" in self.moods
            unit = self.picture(number, large, key)
            if is_key(unit):
                key = unit
            if "silent" in self.moods or not (whole or is_key(unit)):
                whole = False
            else:
                whole = True
                buffer = Gst.Buffer.new_wrapped(unit)
                buffer.pts = buffer.dts = int(((number - first) / self.fps + self.leap_s) * 1e9)
                if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                    return
                pushed += 1
            number += 1

    def picture(self, number: int, large: bool, key: bytes) -> bytes:
        """The access unit of a picture, as the moods have it; `key`: of the one that stands still."""
        units = self.clips[large]
        unit = units[number % len(units)]
        if "still" in self.moods:
            return key or unit
        if "corrupt" in self.moods:
            return corrupted(unit)
        return truncated(unit) if "truncate" in self.moods else unit


def send_at_once(_pipeline: Any, _bin: Any, element: Any) -> None:
    """Keep a sink from waiting for a packet's time: pictures come in time anyway, and the clock may leap."""
    if element.find_property("sync"):
        element.set_property("sync", False)


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
    parser.add_argument("--large", type=Path, help="the other clip")
    parser.add_argument("--fps", type=float, default=30)
    parser.add_argument("--since", type=float, help="when picture 0 was shown, seconds UTC [default: to each at first]")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--path", default="/cam")
    parser.add_argument("--transport", choices=["tcp", "udp"], help="RTP over this only [default: as the client likes]")
    parser.add_argument("--user")
    parser.add_argument("--password")
    options = parser.parse_args()

    Gst.init(None)
    clips = [read_units(clip) for clip in (options.clip, options.large or options.clip)]
    camera = Camera(clips, options.fps, options.since)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(_PIPELINE)
    factory.set_shared(True)
    if options.transport:
        factory.set_protocols({"tcp": GstRtsp.RTSPLowerTrans.TCP, "udp": GstRtsp.RTSPLowerTrans.UDP}[options.transport])
    factory.connect("media-configure", camera.configure)
    server = GstRtspServer.RTSPServer()
    server.set_address(options.host)
    server.set_service(str(options.port))
    if options.user:
        require_password(server, factory, options.user, options.password)
    server.get_mount_points().add_factory(options.path, factory)
    loop = GLib.MainLoop()
    if not server.attach(None):
        sys.exit(f"port {options.port} is taken")

    def obey() -> None:
        for line in sys.stdin:
            camera.obey(line)
        loop.quit()

    threading.Thread(target=obey, daemon=True).start()
    sys.stdout.write(f"port {server.get_bound_port()}\n")
    sys.stdout.flush()
    loop.run()


if __name__ == "__main__":
    main()
