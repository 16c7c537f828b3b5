"""What the tests in a real browser share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

try:
    from axe_playwright_python.sync_playwright import Axe
except ImportError:
    Axe = None

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

PATIENCE_MS = 30_000


def tile(tab: Page, stream: str) -> Locator:
    return tab.locator(f'article[data-stream="{stream}"]')


def brightness(tile: Locator) -> float:
    """The middle of the picture that is shown, 0 to 255."""
    middle = "canvas => canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data[0]"
    return float(tile.locator("canvas").evaluate(middle))


def expect(condition: Callable[[], Any], tab: Page) -> None:
    """Wait for a condition while the browser goes on."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        tab.wait_for_timeout(50)


def serious_faults(tab: Page) -> list[str]:
    """What axe says that some people cannot use; nothing where it is not installed, for which one test is skipped."""
    found = Axe().run(tab).response["violations"] if Axe else []
    return [
        f"{one['id']}: {one['help']}: {one['nodes'][0]['html'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
