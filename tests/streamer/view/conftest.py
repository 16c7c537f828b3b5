"""Pages that are served, and a real browser that opens them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from streamer.types import Image
from streamer.view.auth import claim
from streamer.view.server import PageServer

Serve = Callable[..., PageServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve pages; they end with the test."""
    pages: list[PageServer] = []

    def start(
        token: str | None = None, newest: Callable[[str], Image | None] | None = None, address: str = "127.0.0.1:0"
    ) -> PageServer:
        pages.append(PageServer(claim(address, token), newest))
        return pages[-1]

    yield start
    for page in pages:
        page.close()
