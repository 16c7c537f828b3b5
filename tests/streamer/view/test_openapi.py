"""What /api/ says of itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from streamer.view import api
from streamer.view.openapi import OPERATIONS, document, page

from .browsing import serious_faults
from .conftest import Serve

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_the_document_is_openapi_and_names_all_that_is_answered_and_nothing_else() -> None:
    validator = pytest.importorskip("openapi_spec_validator", reason="pip install openapi-spec-validator")
    validator.validate(document())
    described = {(one.method.upper(), one.path.removeprefix("/api/").replace("{name}", "NAME")) for one in OPERATIONS}
    assert described == {(method, place) for place, answers in api._PLACES.items() for method in answers}
    assert str(api.MOST_EVENTS) in json.dumps(document())
    assert f"[default: {api.EVENTS}]" in json.dumps(document())


def test_the_page_names_each_request_and_links_lead_to_what_is_there() -> None:
    told = page().body.decode()
    for one in OPERATIONS:
        assert f"<b>{one.method.upper()}</b> <code>{one.path}</code>" in told
    for name in document()["components"]["schemas"]:
        assert f'id="{name}"' in told
    links = {piece.partition('"')[0] for piece in told.split('href="#')[1:]}
    assert links <= set(document()["components"]["schemas"])
    assert "http://" not in told.replace("`http(s)://", "").replace("http(s)://", "")
    assert "<script" not in told


def test_a_browser_shows_it_and_asks_nobody_else(serve: Serve, visit: Callable[..., Page]) -> None:
    tab = visit(serve(), "api/")
    assert tab.locator("h1").inner_text() == "action-streamer over HTTP"
    assert tab.locator("h2", has_text="/api/events").count() == 1
    assert serious_faults(tab) == []
