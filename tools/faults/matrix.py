"""The rows of the matrix: each fault, how it is played, and what it should lead to.

Bounds, in seconds: silence is told 1 s after the last frame, a lost connection at once, a server that does not answer
after `open_s` = 2 s; a program that connects again waits 5 s at most, 15 s after a wrong password. `--busy` adds to
each.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
from av.video.stream import VideoStream

from tools.cameras.barcode import barcode
from tools.faults.judge import Expected, Record
from tools.faults.scene import FPS, Scene
from tools.faults.stage import OPEN_S, READ_S, SECRET, Camera, Stage

STALLED_S, LOST_S, SILENT_S = 1.2, 0.2, OPEN_S + 0.2  # the sources are looked at every 0.2 s
AGAIN_S = 5.0 + OPEN_S  # longest delay, and a connection
SOON_S = 0.5  # a keyframe, and the frames that the model needs
FROZEN_S = 2.0
OUTAGE_S = 3.0
LONG_S = 12.0
BURST_S = 2.0
LEAP_S = 3600
RTSP_PASSWORD = ("--user", "viewer", "--password", SECRET)
LOGIN = f"viewer:{SECRET}@"

Needs = Literal["rtsp", "http"]
Play = Callable[[Stage], Record]


@dataclass(frozen=True)
class Fault:
    """A row: `about` it in a line; `needs` RTSP or not; `play` it."""

    name: str
    about: str
    needs: Needs
    expected: Expected
    play: Play


SILENCE = Expected(("stalled", "offline"), STALLED_S, AGAIN_S)
LOSS = Expected(("offline",), LOST_S, AGAIN_S, reconnects=1)
DAMAGE = Expected(("stalled",), 2.5, 1 + SOON_S, smears=True)  # 25 frames tell whether they can be believed
UNNOTICED = Expected((), 0, SOON_S, breaks=False, lost=0)


def _start(stage: Stage, needs: Needs, port: int = 0) -> Camera:
    return stage.rtsp(port=port) if needs == "rtsp" else stage.http(port)


def _commanded(needs: Needs, word: str, lasts_s: float, transport: str = "tcp", **limits: float) -> Play:
    """The camera is told to misbehave for a while."""

    def play(stage: Stage) -> Record:
        camera = _start(stage, needs)
        config = {"frozen_s": FROZEN_S} if word == "still" else None
        stage.begin(camera.url(), config, transport=transport, **limits)
        stage.steady()
        stage.fault(lambda: camera.command(word))
        stage.told(lasts_s)
        stage.heal(lambda: camera.command("clean"))
        return stage.finish(camera)

    return play


def _killed(transport: str, lasts_s: float = OUTAGE_S) -> Play:
    """The server's process is killed; another one comes."""

    def play(stage: Stage) -> Record:
        server = stage.rtsp()
        stage.begin(server.url(), transport=transport)
        stage.steady()
        stage.fault(server.kill)
        stage.told(lasts_s)
        stage.heal()
        return stage.finish(stage.rtsp(port=server.port))

    return play


def _frozen(transport: str, lasts_s: float, read_s: float) -> Play:
    """The server's process is stopped (SIGSTOP) and goes on."""

    def play(stage: Stage) -> Record:
        server = stage.rtsp()
        stage.begin(server.url(), transport=transport, read_s=read_s)
        stage.steady()
        stage.fault(server.freeze)
        stage.told(lasts_s)
        stage.heal(server.thaw)
        return stage.finish(server)

    return play


def _ended(stage: Stage) -> Record:
    camera = stage.rtsp()
    stage.begin(camera.url())
    stage.steady()
    stage.fault(lambda: camera.command("end"))
    stage.told()
    return stage.finish(camera)


def _leaped(stage: Stage) -> Record:
    camera = stage.rtsp()
    stage.begin(camera.url(), transport="udp")  # the server's TCP does not survive it
    stage.steady()
    stage.fault(lambda: camera.command(f"jump {LEAP_S}"))
    stage.told(1.5)
    stage.heal(lambda: camera.command(f"jump {-LEAP_S}"))
    return stage.finish(camera)


def _locked(stage: Stage, needs: Needs) -> Record:
    """Another password is set; then the right one."""
    wrong = stage.rtsp(*RTSP_PASSWORD[:-1], "another") if needs == "rtsp" else stage.http(password="another")
    stage.begin(wrong.url(credentials=LOGIN))
    stage.told(1.0)
    stage.heal(wrong.kill)
    port = wrong.port
    return stage.finish(stage.rtsp(*RTSP_PASSWORD, port=port) if needs == "rtsp" else stage.http(port, SECRET))


def _elsewhere(stage: Stage, needs: Needs) -> Record:
    """The path is not there; then it is."""
    if needs == "http":
        http = stage.http()
        http.command("missing")
        stage.begin(http.url(credentials=LOGIN))
        stage.told(1.0)
        stage.heal(lambda: http.command("clean"))
        return stage.finish(http)
    rtsp = stage.rtsp("--path", "/elsewhere")
    stage.begin(rtsp.url(credentials=LOGIN))
    stage.told(1.0)
    stage.heal(rtsp.kill)
    return stage.finish(stage.rtsp(port=rtsp.port))


def _nobody(stage: Stage, needs: Needs, listening: bool) -> Record:
    """Nobody answers at the port, or it is closed; then the camera is there."""
    with closing(socket.create_server(("127.0.0.1", 0)) if listening else socket.socket()) as other:
        if not listening:
            other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        stage.begin(f"{needs}://{LOGIN}127.0.0.1:{port}/cam")
        stage.told(1.0)
    stage.heal()
    return stage.finish(_start(stage, needs, port))


def _hung(stage: Stage) -> Record:
    """The library that the reading thread is in never returns."""
    camera = stage.http()
    hang = stage.hanging()
    stage.begin(camera.url())
    stage.steady()
    hang(True)
    stage.fault(lambda: camera.command("single"))
    stage.told(OUTAGE_S)
    hang(False)
    stage.heal(lambda: camera.command("clean"))
    return stage.finish(camera)


def _file(stage: Stage) -> Record:
    """A file that comes like a camera ends."""
    path, seconds = stage.folder / "clip.mp4", 4
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "tune": "zerolatency"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        for number in range(FPS * seconds):
            picture = av.VideoFrame.from_ndarray(barcode(number), format="bgr24")
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    stage.begin(str(path))
    first = stage.first_score()
    assert first.ts.frame_us is not None

    missed_s = first.seq / FPS  # scores that were published before anybody listened
    stage.scene = Scene(first.window.first_us / 1e6 - missed_s)  # it begins with picture 0
    stage.listen_for(stage.scene.since + seconds - 3 / FPS - time.time())  # a little before it ends
    stage.fault()
    stage.told()
    return stage.stop()


def _rows() -> list[Fault]:
    again = "then there is one"
    return [
        Fault("killed server, back after long", f"SIGKILL, {LONG_S:g} s, RTSP over TCP", "rtsp", LOSS,
              _killed("tcp", LONG_S)),
        Fault("wrong password", "RTSP; then the right one", "rtsp",
              Expected(("offline",), SILENT_S, 15 + OPEN_S, lost=0, detail="wrong user name or password"),
              lambda stage: _locked(stage, "rtsp")),
        Fault("wrong password, http", "401; then the right one", "http",
              Expected(("offline",), SILENT_S, 15 + OPEN_S, lost=0, detail="wrong user name or password"),
              lambda stage: _locked(stage, "http")),
        Fault("hung reader", "the library never returns: abandoned and replaced", "http",
              Expected(("offline",), LOST_S, 2 * (OPEN_S + READ_S) + AGAIN_S, log="hangs"), _hung),
        Fault("killed server", "SIGKILL, RTSP over TCP", "rtsp", LOSS, _killed("tcp")),
        Fault("killed server, udp", "SIGKILL, RTSP over UDP", "rtsp",
              Expected(("stalled", "offline"), STALLED_S, AGAIN_S, reconnects=1), _killed("udp")),
        Fault("frozen server", "SIGSTOP beyond the read limit, RTSP over TCP", "rtsp", SILENCE,
              _frozen("tcp", OUTAGE_S, READ_S)),
        Fault("frozen server, udp", "SIGSTOP beyond the read limit, RTSP over UDP", "rtsp", SILENCE,
              _frozen("udp", OUTAGE_S, READ_S)),
        Fault("frozen for a moment", "SIGSTOP for 2 s within the read limit, RTSP over TCP", "rtsp",
              Expected(("stalled",), STALLED_S, SOON_S), _frozen("tcp", 2.0, 3.0)),
        Fault("no packets", "the server lives on, RTSP over TCP", "rtsp", SILENCE,
              _commanded("rtsp", "silent", OUTAGE_S)),
        Fault("no packets, udp", "the server lives on, RTSP over UDP", "rtsp", SILENCE,
              _commanded("rtsp", "silent", OUTAGE_S, "udp")),
        Fault("no packets, http", "the server lives on, MJPEG", "http", SILENCE,
              _commanded("http", "silent", OUTAGE_S)),
        Fault("end of stream", "as a recording ends, RTSP over TCP", "rtsp", LOSS, _ended),
        Fault("end of file", "a file paced in real time", "http",
              Expected(("ended",), LOST_S, None, reason="shutdown", lost=0), _file),
        Fault("corrupted packets", "noise in every picture for 4 s, RTSP over TCP", "rtsp", DAMAGE,
              _commanded("rtsp", "corrupt", 4.0)),
        Fault("corrupted packets, http", "noise in every picture for 4 s, MJPEG", "http", SILENCE,
              _commanded("http", "corrupt", 4.0)),
        Fault("truncated packets", "a third of every picture is missing for 4 s, RTSP over TCP", "rtsp", DAMAGE,
              _commanded("rtsp", "truncate", 4.0)),
        Fault("truncated packets, udp", "a third of every picture is missing for 4 s, RTSP over UDP", "rtsp", DAMAGE,
              _commanded("rtsp", "truncate", 4.0, "udp")),
        Fault("truncated packets, http", "a third of every picture is missing for 4 s, MJPEG", "http", DAMAGE,
              _commanded("http", "truncate", 4.0)),
        Fault("wrong path", f"RTSP; {again}", "rtsp",
              Expected(("offline",), SILENT_S, AGAIN_S, lost=0, detail="no such stream"),
              lambda stage: _elsewhere(stage, "rtsp")),
        Fault("wrong path, http", f"404; {again}", "http",
              Expected(("offline",), SILENT_S, AGAIN_S, lost=0, detail="no such stream"),
              lambda stage: _elsewhere(stage, "http")),
        Fault("refused port", f"nobody listens, RTSP; {again}", "rtsp",
              Expected(("offline",), LOST_S, AGAIN_S, lost=0, detail="connection refused"),
              lambda stage: _nobody(stage, "rtsp", listening=False)),
        Fault("refused port, http", f"nobody listens; {again}", "http",
              Expected(("offline",), LOST_S, AGAIN_S, lost=0, detail="connection refused"),
              lambda stage: _nobody(stage, "http", listening=False)),
        Fault("silent port", f"nobody answers, RTSP; {again}", "rtsp",
              Expected(("offline",), SILENT_S, AGAIN_S, lost=0, detail="no answer within"),
              lambda stage: _nobody(stage, "rtsp", listening=True)),
        Fault("silent port, http", f"nobody answers; {again}", "http",
              Expected(("offline",), SILENT_S, AGAIN_S, lost=0, detail="no answer within"),
              lambda stage: _nobody(stage, "http", listening=True)),
        Fault("one frame and dies", "each RTSP session ends after one picture", "rtsp", LOSS,
              _commanded("rtsp", "single", OUTAGE_S)),
        Fault("one frame and dies, http", "each connection ends after one picture", "http",
              Expected(("offline",), LOST_S, AGAIN_S, reconnects=2), _commanded("http", "single", OUTAGE_S)),
        Fault("resolution change", "160x128 to 320x240 and back, RTSP over TCP", "rtsp",
              Expected((), 0, SOON_S, breaks=False), _commanded("rtsp", "large", 2.0)),
        Fault("resolution change, http", "160x128 to 300x240 and back, MJPEG", "http", UNNOTICED,
              _commanded("http", "large", 2.0)),
        Fault("frozen picture", f"the same picture, RTSP over TCP; limit {FROZEN_S:g} s", "rtsp",
              Expected(("stalled",), FROZEN_S + 0.2, AGAIN_S, lag_s=FROZEN_S + 1.5),
              _commanded("rtsp", "still", FROZEN_S + OUTAGE_S)),
        Fault("frozen picture, http", f"the same picture, MJPEG; limit {FROZEN_S:g} s", "http",
              Expected(("stalled",), FROZEN_S + 0.2, AGAIN_S, lag_s=FROZEN_S + 1.5),
              _commanded("http", "still", FROZEN_S + OUTAGE_S)),
        Fault("camera clock jumps", f"{LEAP_S} s ahead and back, RTSP over UDP", "rtsp",
              Expected((), 0, SOON_S, breaks=False), _leaped),
        Fault("burst after a pause", f"{BURST_S:g} s of pictures at once, RTSP over TCP", "rtsp",
              Expected(("stalled",), STALLED_S, SOON_S, breaks=False, lost=0, lag_s=BURST_S + 1.5),
              _commanded("rtsp", "hold", BURST_S, read_s=3.0)),
    ]  # fmt: skip


FAULTS = {fault.name: fault for fault in _rows()}
