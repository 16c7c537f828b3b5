"""Fixtures shared by all tests: real cameras and real files, made on the fly. They are factories."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import hypothesis
import pytest
from av.video.stream import VideoStream

from tools.cameras import HttpCamera, RtspServer, missing_for_rtsp, write_rtsp_clip
from tools.cameras.answering import Answering
from tools.cameras.barcode import barcode

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two test processes with two threads each wait more than they work
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so do its children
hypothesis.settings.register_profile("project", deadline=None)  # time never decides a test
hypothesis.settings.load_profile("project")

EXTRAS = ("torch", "lightning_fabric", "onnx", "onnxscript", "paho", "tensorboardX")

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed; `make test` installs it")

WaitFor = Callable[[Callable[[], bool]], None]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Tests that need an extra which is not installed are skipped: the base install has its suite, too."""
    report = yield
    missing = re.search(rf"No module named '({'|'.join(EXTRAS)})\b", str(report.longrepr)) if report.failed else None
    if missing:
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 1, f"Skipped: {missing[1]} is not installed; `make test` installs it")
    return report


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache and a runtime folder of the tests' own, for the processes that they start as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("ACTION_STREAMER_CACHE", str(folder))
        yield folder


@pytest.fixture
def wait_for() -> WaitFor:
    """Wait until a condition holds, at most half a minute."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.01)

    return wait


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., Path]:
    """Write numbered frames into a video file; `pts` are in units of 1/fps, default 0, 1, 2, ..."""

    def write(
        name: str = "clip.mp4",
        count: int = 20,
        pts: list[int] | None = None,
        codec: str = "libx264",
        pixels: str = "yuv420p",
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=30)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = 160, 128, pixels
            stream.codec_context.time_base = Fraction(1, 30)
            for number, at in enumerate(pts or range(count)):
                frame = av.VideoFrame.from_ndarray(barcode(number), format="bgr24")
                frame.pts, frame.time_base = at, Fraction(1, 30)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write


@pytest.fixture(scope="session")
def rtsp_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := missing_for_rtsp():
        pytest.skip(reason)
    path = tmp_path_factory.mktemp("rtsp") / "clip"
    write_rtsp_clip(path)
    return path


@pytest.fixture
def rtsp_server(rtsp_clip: Path) -> Iterator[Callable[..., RtspServer]]:
    """Start RTSP servers; they end with the test."""
    servers: list[RtspServer] = []

    def start(*options: str, port: int = 0) -> RtspServer:
        servers.append(RtspServer(rtsp_clip, *options, port=port))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def http_camera() -> Iterator[Callable[..., HttpCamera]]:
    """Start HTTP cameras; they end with the test."""
    cameras: list[HttpCamera] = []

    def start(**other: tuple[int, bytes]) -> HttpCamera:
        cameras.append(HttpCamera({f"/{path}": answer for path, answer in other.items()}))
        threading.Thread(target=cameras[-1].serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return cameras[-1]

    yield start
    for camera in cameras:
        camera.cut.set()
        camera.shutdown()
        camera.server_close()


@pytest.fixture
def answering() -> Iterator[Callable[..., Answering]]:
    """Start cameras that answer as a test says; they end with the test."""
    cameras: list[Answering] = []

    def start(answer: Callable[[str], Iterable[bytes]], *, keep: bool = False) -> Answering:
        cameras.append(Answering(answer, keep=keep))
        return cameras[-1]

    yield start
    for camera in cameras:
        camera.kill()


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MobileNetV2's file, without a head, with random weights, whose batch norms have seen pictures."""
    import torch

    from engines.networks import build_network

    torch.manual_seed(0)
    network = build_network("tsn", "mobilenet_v2", 8, 2, causal=True)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    network.frame_logits(torch.randn(4, 1, 3, 64, 64))
    state = network.state_dict()
    path = tmp_path_factory.mktemp("backbone") / "mobilenet_v2.pt"
    torch.save({key: value for key, value in state.items() if not key.startswith("fc.")}, path)
    return path
