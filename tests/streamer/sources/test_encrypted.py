"""Cameras behind TLS, rtsps:// and https://. Such cameras sign their certificates themselves."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TypeVar
from urllib.parse import urlsplit

import pytest

from streamer.config import Capture, SourceConfig
from streamer.sources import open_source
from tools.cameras import HttpCamera, RtspServer
from tools.cameras.barcode import read_barcode

T = TypeVar("T")
Encrypt = Callable[[str], str]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    if shutil.which("openssl") is None:
        pytest.skip("apt-get install openssl")
    file = tmp_path_factory.mktemp("tls") / "camera.pem"
    words = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=camera -keyout {file} -out {file}"
    subprocess.run(["openssl", *words.split()], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.fixture
def encrypt(tls: ssl.SSLContext) -> Iterator[Encrypt]:
    """Give a camera's address one that takes TLS, and passes on what comes in."""
    loop, servers = asyncio.new_event_loop(), list[asyncio.Server]()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait(work: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    def start(address: str) -> str:
        camera = urlsplit(address)
        servers.append(wait(asyncio.start_server(partial(pass_on, camera.port or 0), "127.0.0.1", 0, ssl=tls)))
        return f"{camera.scheme}s://127.0.0.1:{servers[-1].sockets[0].getsockname()[1]}{camera.path}"

    yield start
    wait(end(servers))
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)
    loop.close()


async def pass_on(port: int, reader: StreamReader, writer: StreamWriter) -> None:
    from_camera, to_camera = await asyncio.open_connection("127.0.0.1", port)
    try:
        await asyncio.gather(copy(reader, to_camera), copy(from_camera, writer))
    finally:
        for each in (writer, to_camera):
            each.transport.abort()


async def copy(reader: StreamReader, writer: StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


async def end(servers: list[asyncio.Server]) -> None:
    for server in servers:
        server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@pytest.fixture(params=["rtsps", "https"])
def address(request: pytest.FixtureRequest, encrypt: Encrypt) -> str:
    if request.param == "rtsps":
        rtsp: RtspServer = request.getfixturevalue("rtsp_server")()
        return encrypt(rtsp.url())
    http: HttpCamera = request.getfixturevalue("http_camera")()
    return encrypt(http.url())


@pytest.mark.parametrize("capture", ["thread", "process"])
def test_an_encrypted_camera_is_watched(address: str, capture: Capture) -> None:
    source = open_source(SourceConfig(uri=address, capture=capture))
    frames = source.frames(0, threading.Event())
    numbers = [read_barcode(frame.bgr()) for frame in islice(frames, 5)]
    frames.close()
    source.close()
    assert numbers == list(range(numbers[0], numbers[0] + 5))
