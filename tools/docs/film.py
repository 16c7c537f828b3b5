"""Film the page of a real run: python -m tools.docs.film [--out docs/pictures/live.webp] [--seconds 12] [--seeds 24 27]

Two drawn scenes, in which motions follow each other, are played as files in real time to `streamer run --view`, and a
browser's page is photographed. Needs the extras train, view and dev, Debian's chromium, and a machine with little else
to do: what the film shows is what the run did.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from tools.errors import ToolError
from tools.motion.clips import motion_clips
from tools.peers.program import free_port

WIDTH, HEIGHT, SHRINK = 1000, 740, 0.8  # of the browser, and what becomes of it in the film
SCENE_FPS, SCENE_PX = 20, 360
FILM_FPS = 6
SETTLE_S = 3.0  # from the first picture until the page has something to show


def draw_scene(path: Path, seed: int, seconds: float, whole: float) -> None:
    """A video of one drawn scene; whole: 1.0 if the whole picture moves, 0.0 if an object does."""
    clip, _ = motion_clips(1, round(seconds * SCENE_FPS), SCENE_PX, seed, SCENE_FPS, motions=12, whole=whole)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=SCENE_FPS, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = SCENE_PX * 16 // 9, SCENE_PX, "yuv420p"
        for picture in clip[0].permute(0, 2, 3, 1).numpy():  # [T, 3, H, W] -> [T, H, W, 3]
            wide = cv2.resize(picture, (stream.width, stream.height))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(wide, format="rgb24")))
        container.mux(stream.encode(None))


def wait_for(port: int, seconds: float = 60) -> None:
    """Return when somebody listens at the port."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise ToolError(f"the run served no page within {seconds:g} s") from error
            time.sleep(0.1)


def film(address: str, seconds: float) -> list[NDArray[np.uint8]]:
    """Photographs of the page, FILM_FPS a second, or fewer if the machine gives no more."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        raise ToolError("there is no browser to film: apt-get install chromium")
    shots: list[bytes] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="dark")
        page.goto(address)
        page.wait_for_selector("article[data-stream]", timeout=60_000)
        page.wait_for_timeout(SETTLE_S * 1e3)
        begin = time.monotonic()
        while time.monotonic() < begin + seconds:
            page.wait_for_timeout(max(0.0, begin + len(shots) / FILM_FPS - time.monotonic()) * 1e3)
            shots.append(page.screenshot(type="png"))
        browser.close()
    return [cv2.imdecode(np.frombuffer(shot, np.uint8), cv2.IMREAD_COLOR) for shot in shots]  # type: ignore[misc]


def write_webp(path: Path, pictures: list[NDArray[np.uint8]], seconds: float, quality: int) -> None:
    """A moving WebP that repeats for ever."""
    rate = Fraction(len(pictures) / seconds).limit_denominator(100)
    with av.open(str(path), "w", format="webp", options={"loop": "0"}) as container:
        options = {"quality": str(quality), "preset": "drawing"}
        stream = container.add_stream("libwebp_anim", rate=rate, options=options)
        stream.width, stream.height = round(WIDTH * SHRINK), round(HEIGHT * SHRINK)
        stream.pix_fmt, stream.time_base = "yuv420p", 1 / rate
        for picture in pictures:
            small = cv2.resize(picture, (stream.width, stream.height), interpolation=cv2.INTER_AREA)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(small.astype(np.uint8), format="bgr24")))
        container.mux(stream.encode(None))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs.film", description="Film the page of a real run.")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/live.webp"))
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--seeds", type=int, nargs=2, default=(24, 27), help="of the two scenes")
    parser.add_argument("--quality", type=int, default=60)
    options = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        scenes = [Path(folder, "an_object.mp4"), Path(folder, "the_camera.mp4")]
        for scene, seed, whole in zip(scenes, options.seeds, (0.0, 1.0), strict=True):
            draw_scene(scene, seed, options.seconds + 4 * SETTLE_S, whole)
        command = [sys.executable, "-m", "streamer", "run", *map(str, scenes), "--headless", "--no-publish"]
        command += ["--view", f"127.0.0.1:{port}", "--set", "control=null", "--set", "events.background=[still]"]
        with subprocess.Popen(command) as run:
            os.nice(10)  # the browser shall not take the processor from the run
            try:
                wait_for(port)
                pictures = film(f"http://127.0.0.1:{port}/", options.seconds)
            finally:
                run.terminate()
    write_webp(options.out, pictures, options.seconds, options.quality)
    print(f"wrote {options.out}, {options.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
