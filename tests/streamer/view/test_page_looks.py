"""How the page looks, and how it is used with keys and mouse, in a real browser."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from streamer.labels.publisher import wall_us
from streamer.view.server import PageServer

from .browsing import expect, serious_faults, tile
from .conftest import Serve
from .peers import Speaker

if TYPE_CHECKING:
    from playwright.sync_api import Page

Visit = Callable[..., "Page"]
SCREENS = {"desk": (1280, 800), "wide": (1920, 1080), "tablet": (820, 1180), "phone": (390, 844), "side": (844, 390)}
LONG = "Pretending to put something behind something else, but there is nothing where the hand ends up, yes!"


def heard(page: PageServer, *names: str, **options: Any) -> Speaker:
    """Streams that are online."""
    speaker = Speaker(page)
    for name in names:
        speaker.status(name, **options)
    return speaker


def test_the_headline_tells_how_long_and_its_peak_and_is_grey_while_the_scores_differ(
    serve: Serve, visit: Visit
) -> None:
    page = serve()
    speaker = heard(page, "cam")
    speaker.start("wave")
    speaker.state("wave", score=0.05)
    speaker.score([("wave", 0.97), ("nod", 0.01)])
    tab = visit(page)
    head = tile(tab, "cam").locator(".label")
    head.locator("output", has_text="peak 0.97").wait_for()
    expect(lambda: float(head.locator(".since").inner_text().removesuffix(" s")) > 0.3, tab)
    assert "differs" not in (head.get_attribute("class") or "")
    speaker.score([("nod", 0.9), ("wave", 0.05)])
    tab.locator(".label.differs").wait_for()
    assert (head.locator("strong").inner_text(), head.locator("output").inner_text()) == ("wave", "peak 0.97")
    assert tile(tab, "cam").locator(".scores h3").inner_text() == "Scores now"
    speaker.state(None)
    tab.locator(".label.none", has_text="no label").wait_for()


def test_keys_work_on_a_fresh_page_and_a_question_mark_lists_them(serve: Serve, visit: Visit) -> None:
    page = serve(order=["a", "b", "c", "d"])
    heard(page, "a", "b", "c", "d")
    tab = visit(page, viewport={"width": 1280, "height": 800})
    expect(lambda: tab.locator("article:visible").count() == 4, tab)
    tab.keyboard.press("Enter")
    expect(lambda: tab.locator("article:visible").count() == 1, tab)
    assert tile(tab, "a").is_visible()
    tab.keyboard.press("Escape")
    focused = "document.activeElement.closest('article')?.dataset.stream"
    for key, name in (("ArrowRight", "b"), ("ArrowDown", "d"), ("ArrowLeft", "c"), ("ArrowUp", "a")):
        tab.keyboard.press(key)
        assert tab.evaluate(focused) == name
    tab.keyboard.press("?")
    assert "back to all streams" in tab.locator("#keys-dialog").inner_text()
    tab.keyboard.press("ArrowRight")  # is not for the page now
    tab.keyboard.press("Escape")
    assert not tab.locator("#keys-dialog").is_visible()
    assert tab.evaluate(focused) == "a"
    below = tile(tab, "b").locator(".timeline").bounding_box()
    assert below
    tab.mouse.click(below["x"] + below["width"] / 2, below["y"] + 4)  # all of a tile opens it
    expect(lambda: tab.url.endswith("#b") and not tile(tab, "a").is_visible(), tab)


def test_tiles_fill_every_screen_and_none_is_wider_than_it(serve: Serve, visit: Visit) -> None:
    page = serve()
    speaker, shown = Speaker(page), 0
    tab = visit(page)
    for count in (1, 2, 4, 6, 9, 16):
        for number in range(shown, count):
            speaker.status(f"cam{number}")
            speaker.state("wave", f"cam{number}")
        shown = count
        for screen, (width, height) in SCREENS.items():
            tab.set_viewport_size({"width": width, "height": height})
            expect(lambda count=count: tab.locator("article:visible").count() == count, tab)  # type: ignore[misc]
            tab.evaluate("new Promise(requestAnimationFrame)")
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, (count, screen)
            boxes = tab.evaluate(
                "[...document.querySelectorAll('article')].map(one => one.getBoundingClientRect().toJSON())"
            )
            if screen in ("desk", "wide", "tablet"):
                assert max(box["bottom"] for box in boxes) <= height, (count, screen)
                covered = sum(box["width"] * box["height"] for box in boxes) / width / height
                assert covered > 0.7, (count, screen, covered)


@pytest.mark.parametrize("screen", ["desk", "phone", "side"])
def test_labels_of_a_hundred_letters_can_be_read(serve: Serve, visit: Visit, screen: str) -> None:
    page = serve()
    speaker = heard(page, "cam")
    speaker.start(LONG)
    speaker.state(LONG)
    speaker.score([(LONG, 0.9), (LONG[::-1], 0.1)])
    width, height = SCREENS[screen]
    tab = visit(page, viewport={"width": width, "height": height})
    strong = tile(tab, "cam").locator(".label strong", has_text=LONG)
    strong.wait_for()
    box, bar = strong.bounding_box(), tile(tab, "cam").locator(".bars li").first.bounding_box()
    assert box
    assert bar
    assert box["height"] < 90
    assert box["y"] + box["height"] <= bar["y"]
    assert strong.get_attribute("title") == LONG
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_a_camera_that_is_away_is_small_and_the_header_tells_since_when_and_when_it_is_tried(
    serve: Serve, visit: Visit
) -> None:
    page = serve()
    speaker = heard(page, "a", "b", "c")
    now_us = wall_us()
    times = {"since_us": now_us - 40_000_000, "retry_us": now_us + 600_000_000}
    speaker.status("gone", "offline", "rtsp://192.0.2.1/: connection refused", **times)
    tab = visit(page, viewport={"width": 1280, "height": 800})
    tab.locator("article.away").wait_for()
    sizes: dict[str, Any] = {name: tile(tab, name).bounding_box() or {} for name in ("a", "gone")}
    assert sizes["gone"]["height"] < 0.4 * sizes["a"]["height"]
    assert sizes["gone"]["y"] + sizes["gone"]["height"] <= 800
    assert "connection refused" in tile(tab, "gone").inner_text()
    told = tab.locator("#link").inner_text()
    assert told.startswith("1 of 4 offline, 4")
    assert told.endswith("next try in 10 min")
    tile(tab, "gone").click()
    tile(tab, "a").wait_for(state="hidden")
    speaker.status("gone", "stopped")  # somebody has removed it
    expect(lambda: tab.locator("#link").inner_text() == "live", tab)


def test_labels_are_hidden_everywhere_and_drawn_on_the_picture_on_demand(serve: Serve, visit: Visit) -> None:
    page = serve()
    speaker = heard(page, "cam")
    tab = visit(page)
    cam = tile(tab, "cam")
    cam.locator(".events .none", has_text="No events yet").wait_for()
    speaker.end(speaker.start("nod"))
    speaker.start("still")
    speaker.state("still")
    speaker.score([("still", 0.9), ("nod", 0.1)])
    cam.locator("strong", has_text="still").wait_for()
    assert not cam.locator(".drawn").is_visible()
    tab.keyboard.press("l")
    cam.locator(".drawn", has_text="still 0.90").wait_for()
    tab.keyboard.press("h")
    tab.locator("#filter-dialog label", has_text="still").click()
    tab.keyboard.press("Escape")
    cam.locator("strong", has_text="no label").wait_for()
    cam.locator(".drawn").wait_for(state="hidden")
    assert [one.split("\n")[0] for one in cam.locator(".bars li:visible").all_inner_texts()] == ["nod"]
    assert cam.locator(".events li:visible").count() == cam.locator(".span:visible").count() == 1
    tab.reload()
    expect(lambda: cam.locator(".events li").count() == 2, tab)
    assert cam.locator(".events li:visible").count() == 1  # this browser remembers


def test_the_events_of_an_hour_are_there_and_an_address_leads_to_a_moment(serve: Serve, visit: Visit) -> None:
    page = serve()
    speaker = heard(page, "cam", "other")
    now_us = wall_us()
    speaker.past("wave", now_us - 1_800_000_000, now_us - 1_795_000_000)
    speaker.past("nod", now_us - 30_000_000, now_us - 28_000_000)
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_us / 1e6 - 1798))
    tab = visit(page, f"#cam&t={moment}")
    cam = tile(tab, "cam")
    cam.locator(".events li.at", has_text="wave").wait_for()
    lane, span = cam.locator(".lane").bounding_box(), cam.locator(".span", has_text="wave").bounding_box()
    assert lane
    assert span
    middle = lane["x"] + lane["width"] / 2
    assert span["x"] <= middle <= span["x"] + span["width"] + lane["width"] / 60
    assert cam.locator(".axis i").nth(4).inner_text() != "now"
    tab.keyboard.press("n")
    expect(lambda: cam.locator(".axis i").nth(4).inner_text() == "now", tab)
    tab.goto(f"{page.url}#t={moment}")  # of all streams
    expect(lambda: cam.locator(".events li.at").count() == 1 and tile(tab, "other").is_visible(), tab)
    tab.locator("#now", has_text="back to now").click()
    tab.locator("#now").wait_for(state="hidden")
    tab.keyboard.press("Enter")
    for _ in range(2):
        tab.keyboard.press("-")
    assert cam.locator(".axis i").first.inner_text() == "\u221260 min"
    cam.locator(".events a", has_text="nod").click()
    assert "#cam&t=" in tab.url
    cam.locator(".events li.at", has_text="nod").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(serve: Serve, visit: Visit, scheme: str) -> None:
    pytest.importorskip("axe_playwright_python", reason="pip install axe-playwright-python")
    page = serve()
    speaker = heard(page, "cam", "door")
    speaker.status("gone", "offline", "rtsp://192.0.2.1/: connection refused", since_us=wall_us() - 10_000_000)
    for name in ("cam", "door"):
        speaker.end(speaker.start("nod", name), name)
        speaker.start("wave", name)
        speaker.state("wave", name)
    speaker.score([("nod", 0.9), ("wave", 0.05)])
    tab = visit(page, color_scheme=scheme, viewport={"width": 1280, "height": 800})
    tab.locator(".label.differs").wait_for()
    tab.locator("article.away").wait_for()

    assert serious_faults(tab) == []
    tab.keyboard.press("Enter")
    tile(tab, "door").wait_for(state="hidden")
    assert serious_faults(tab) == []
    for key in ("h", "?") if scheme == "dark" else ():
        tab.keyboard.press(key)
        tab.locator("dialog[open]").wait_for()
        assert serious_faults(tab) == []
        tab.keyboard.press("Escape")
        tab.locator("dialog[open]").wait_for(state="hidden")
