"""Photograph the page in every situation that it should look well in: python -m tools.docs.shots [--out shots]

What the page is told is made up here, so that every situation can be had at once and looks the same each time. It needs
the extras view and dev, and Debian's chromium. Each situation is photographed on the screens that are named with it.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engines.opencv import cv2
from streamer.config import EventConfig
from streamer.labels.events import Event, State, resolved
from streamer.labels.messages import MessageBuilder, Stamp, Window
from streamer.labels.publisher import wall_us
from streamer.types import Image
from streamer.view.asking import Run
from streamer.view.auth import claim
from streamer.view.server import PageServer
from tools.errors import ToolError

SCREENS = {"desk": (1280, 800), "wide": (1920, 1080), "tablet": (820, 1180), "phone": (390, 844), "side": (844, 390)}
NAMES = ("door", "yard", "gate", "hall", "lift", "stairs", "garage", "roof", "shop", "office", "kitchen", "bar", "dock")
LABELS = ("moving left", "approaching", "turning counterclockwise", "shaking")
LONG = "Pretending to put something behind something else, but there is nothing where the hand ends up, in truth"
SETTLE_MS = 900


@dataclass(frozen=True)
class Situation:
    """What is on the page, on which screens it is photographed, and what is done before."""

    streams: int
    screens: tuple[str, ...] = ("desk", "wide", "tablet", "phone", "side")
    away: int = 0
    long: bool = False
    fresh: bool = False
    alone: bool = False
    act: Callable[[Any], None] | None = None


def _press(*keys: str) -> Callable[[Any], None]:
    def act(page: Any) -> None:
        for key in keys:
            page.keyboard.press(key)

    return act


SITUATIONS = {
    **{f"{count}-streams": Situation(count) for count in (1, 2, 4, 6, 9, 16)},
    "alone": Situation(4, alone=True),
    "long": Situation(1, long=True),
    "long-four": Situation(4, ("desk", "phone"), long=True),
    "away": Situation(4, ("desk", "tablet", "phone"), away=1),
    "away-only": Situation(1, ("desk", "phone"), away=1),
    "fresh": Situation(1, ("desk", "phone"), fresh=True),
    "on-the-picture": Situation(2, ("desk",), act=_press("l")),
    "keys": Situation(2, ("desk", "phone"), act=_press("?")),
    "labels": Situation(2, ("desk",), act=_press("h")),
    "an-hour": Situation(1, ("desk",), act=_press("-", "-")),
    "thresholds": Situation(1, ("desk", "phone"), act=_press("e")),
    "clips": Situation(1, ("desk", "phone"), act=_press("c")),
    "model": Situation(2, ("desk",), act=_press("m")),
}


class MadeUp(Run):
    """A run that is not there, and what it would answer."""

    async def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Settings, and clips that cannot be played."""
        if request["command"] == "status":
            return {"ok": {"set": {}, "events": resolved(EventConfig()).model_dump(mode="json"), "knows": [*LABELS]}}
        now_us = wall_us()
        clip = {"stream": "door", "bytes": 1, "peak": 0.93}
        clips = [
            {**clip, "name": f"clip-{n}", "label": LABELS[n % 4], "start_us": now_us - n * 217_000_000,
             "end_us": now_us - n * 217_000_000 + 6_400_000, "answer": ["", LABELS[1], "nothing"][n % 3],
             "why": "unsure" if n % 4 == 3 else "event"}
            for n in range(12)
        ]  # fmt: skip
        return {"ok": clips}


class Scene:
    """A page that is told of streams which do not exist."""

    def __init__(self, situation: Situation) -> None:
        self._names = [NAMES[n % len(NAMES)] + (f"-{n}" if n >= len(NAMES) else "") for n in range(situation.streams)]
        self._situation = situation
        self._build = MessageBuilder("default@1f2e3d4c", "stream", now_us=wall_us)
        self._pictures = {name: _picture(number) for number, name in enumerate(self._names)}
        run = MadeUp("ipc://nowhere", changes=True, clips=Path("nowhere"))
        self.page = PageServer(claim("127.0.0.1:0"), self._pictures.get, self._names, run)
        self._tell()

    def first(self) -> str:
        """The stream that is shown alone."""
        return self._names[0]

    def _tell(self) -> None:
        for number, name in enumerate(self._names):
            if number >= len(self._names) - self._situation.away:
                self._lost(name)
            else:
                self._seen(name, number)

    def _stamp(self) -> Stamp:
        now_us = wall_us()
        return Stamp(0, True, now_us - 48_000, now_us - 6_000)

    def _lost(self, name: str) -> None:
        now_us = wall_us()
        detail = "rtsp://192.0.2.14/stream1: no route to it; is the camera on, and is the address right?"
        times: dict[str, Any] = {"since_us": now_us - 40_000_000, "retry_us": now_us + 3_400_000}
        self.page(self._build.status(name, Stamp(), "offline", detail, reconnects=3, **times))

    def _seen(self, name: str, number: int) -> None:
        stamp, dropped = self._stamp(), {"above_rate": 603, "shed": 12, "ring_full": 2}
        counts: dict[str, Any] = {
            "captured": 900,
            "inferred": 300,
            "fps_in": 29.97,
            "step_ms_p50": 5.8,
            "step_ms_p99": 9.1,
        }
        self.page(self._build.status(name, stamp, "online", dropped=dropped, **counts))
        labels = [LONG[: 100 - n] for n in range(4)] if self._situation.long else list(LABELS)
        labels = labels[number % 4 :] + labels[: number % 4]
        if not self._situation.fresh:
            self._events(name, labels)
        best = labels[1] if number == 1 else labels[0]
        topk = [(best, 0.83), *((label, 0.06 / n) for n, label in enumerate([*labels, "still"], 1) if label != best)]
        assert stamp.frame_us
        window = Window(n=16, step_ms=100, first_us=stamp.frame_us - 1_500_000, last_us=stamp.frame_us)
        self.page(self._build.score(name, stamp, topk[:5], window))

    def _events(self, name: str, labels: list[str]) -> None:
        now_us = wall_us()
        ends_s = [3300, 2400, 900, 400, 58, 47, 31, 22, 12]
        for number, end_s in enumerate(ends_s):
            start_us, end_us = now_us - (end_s + 4) * 1_000_000, now_us - end_s * 1_000_000
            label = labels[(number + 1) % 4]
            stamp = self._stamp()
            self.page(self._build.event(name, stamp, Event("start", label, 0, 0.8, 0.8, start_us)))
            ended = Event("end", label, 0, 0.2, 0.9 + number / 100, start_us, end_us, "score")
            self.page(self._build.event(name, stamp, ended))
        since_us = now_us - 2_400_000
        self.page(self._build.event(name, self._stamp(), Event("start", labels[0], 0, 0.8, 0.97, since_us)))
        self.page(self._build.state(name, self._stamp(), State(labels[0], 0, 0.83, since_us)))


def _picture(number: int) -> Image:
    """A drawn room, so that pictures can be told apart: [H, W, 3]."""
    height, width = 480, 640 if number % 2 else 854
    rows = np.linspace(0.35, 1, height)[:, None, None]
    hue = np.array([[[number * 23 % 180, 70, 150]]], np.uint8)
    colour = np.asarray(cv2.cvtColor(hue, cv2.COLOR_HSV2BGR), np.uint8)[0, 0]
    image = np.ascontiguousarray((rows * colour[None, None]).repeat(width, 1).astype(np.uint8))
    cv2.circle(image, (width // 2 + number * 9, 190), 42, (225, 225, 232), -1, cv2.LINE_AA)
    cv2.ellipse(image, (width // 2 + number * 9, 400), (90, 170), 0, 180, 360, (225, 225, 232), -1, cv2.LINE_AA)
    return image


def photograph(browser: Any, situation: Situation, name: str, out: Path, scheme: str) -> None:
    """The pictures of one situation."""
    scene = Scene(situation)
    try:
        for screen in situation.screens:
            width, height = SCREENS[screen]
            options = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
            page = browser.new_page(**options, has_touch=screen in ("phone", "side"))
            page.goto(scene.page.url + (f"#{scene.first()}" if situation.alone else ""))
            page.wait_for_selector("article[data-stream]")
            page.wait_for_timeout(SETTLE_MS)
            if situation.act:
                situation.act(page)
                page.wait_for_timeout(SETTLE_MS // 3)
            page.screenshot(path=out / f"{name}-{screen}.png")
            page.close()
    finally:
        scene.page.close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs.shots", description="Photograph the page.")
    parser.add_argument("--out", type=Path, default=Path("shots"))
    parser.add_argument("--only", default="", help="situations that have this in their name")
    parser.add_argument("--scheme", choices=("dark", "light"), default="dark")
    options = parser.parse_args()
    chosen = {name: one for name, one in SITUATIONS.items() if options.only in name}
    chromium = shutil.which("chromium")
    if not chosen or chromium is None:
        what = f"no situation has {options.only!r} in its name; there are {', '.join(SITUATIONS)}"
        raise ToolError("there is no browser: apt-get install chromium" if chosen else what)
    from playwright.sync_api import sync_playwright

    options.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, situation in chosen.items():
            photograph(browser, situation, name, options.out, options.scheme)
        browser.close()
    count = sum(len(one.screens) for one in chosen.values())
    print(f"wrote {count} pictures to {options.out} in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
