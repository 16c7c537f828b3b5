"""Pages that are served, and a real browser that opens them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from streamer.types import Image
from streamer.view.auth import claim
from streamer.view.server import PageServer

from .browsing import PATIENCE_MS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
Serve = Callable[..., PageServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve pages; they end with the test."""
    pages: list[PageServer] = []

    def start(
        token: str | None = None,
        newest: Callable[[str], Image | None] | None = None,
        address: str = "127.0.0.1:0",
        **options: Any,
    ) -> PageServer:
        pages.append(PageServer(claim(address, token), newest, **options))
        return pages[-1]

    yield start
    for page in pages:
        page.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if CHROMIUM is None:
        pytest.skip("apt-get install chromium")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page. At the end it must have asked no other host, and found nothing to complain about."""
    complaints: list[str] = []
    asked: list[set[str]] = []

    def visit(page: PageServer, fragment: str = "", **options: Any) -> Page:
        tab = browser.new_page(**options)
        tab.set_default_timeout(PATIENCE_MS)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
        hosts = {urlsplit(page.url).netloc}
        tab.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        tab.goto(page.url + fragment)
        asked.append(hosts)
        return tab

    yield visit
    for context in browser.contexts:
        context.close()
    assert complaints == []
    assert all(len(hosts) == 1 for hosts in asked)
