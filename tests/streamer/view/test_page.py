"""The page in a real browser: Debian's Chromium, without a screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from streamer.labels.messages import StateMessage
from streamer.labels.publisher import Publisher
from streamer.pipeline.pipeline import Pipeline
from streamer.view.colours import colour
from streamer.view.server import PageServer

from ..pipeline.seeing import SPEC, picture
from ..pipeline.test_pipeline import Camera, Run
from ..pipeline.test_slow import SlowCamera
from .browsing import brightness, expect, tile
from .conftest import Serve
from .peers import Speaker

if TYPE_CHECKING:
    from playwright.sync_api import Page

TOKEN = "a token of ours"


class Shown(Run):
    """A pipeline whose messages go to a page and to a publisher."""

    def __init__(self, page: PageServer, cameras: list[Any]) -> None:
        publisher = Publisher("tcp://127.0.0.1:*", SPEC.version, "stream")
        super().__init__(cameras, publisher=publisher, listeners=[page])


def test_the_page_shows_the_picture_the_published_label_and_how_the_stream_is(
    serve: Serve, visit: Callable[..., Page]
) -> None:
    frames: list[Pipeline] = []
    page = serve(newest=lambda name: frames[0].picture(name) if frames else None)
    camera = Camera("door")
    camera.label = 2
    run = Shown(page, [camera])
    frames.append(run.pipeline)
    tab = visit(page)
    door = tile(tab, "door")
    door.locator(".label strong", has_text="light").wait_for()
    published = next(message for message in reversed(run.said(StateMessage)) if message.label == "light")
    assert published.score is not None
    assert door.locator(".label output").inner_text() == f"peak {published.score:.2f}"
    assert door.locator(".bars li").first.inner_text().split() == ["light", f"{published.score:.2f}"]
    expect(lambda: abs(brightness(door) - picture(2).mean()) < 5, tab)
    camera.label = 0
    expect(lambda: abs(brightness(door) - picture(0).mean()) < 5, tab)
    expect(lambda: door.locator('[data-fact="source"]').inner_text() == "online", tab)
    expect(lambda: door.locator('[data-fact="age"]').inner_text().endswith(" ms"), tab)
    run.finish()


def test_a_camera_that_is_too_slow_says_so_on_its_picture(serve: Serve, visit: Callable[..., Page]) -> None:
    page = serve()
    run = Shown(page, [SlowCamera(1.1)])
    tab = visit(page)
    camera = tile(tab, "camera")
    camera.locator(".notice", has_text="no labels; raise its frame rate, or max_gap").wait_for()
    assert camera.get_attribute("data-source") == "online"
    run.finish()


def test_a_camera_that_goes_away_is_seen_and_comes_back(serve: Serve, visit: Callable[..., Page]) -> None:
    page = serve()
    camera = Camera("door")
    run = Shown(page, [camera])
    tab = visit(page)
    door = tile(tab, "door")
    door.locator(".label strong", has_text="dark").wait_for()
    camera.broken.set()
    tab.locator('article[data-source="offline"]').wait_for()
    assert "the plug was pulled" in door.locator(".notice").inner_text()
    door.locator(".label strong", has_text="no label").wait_for()
    camera.broken.clear()
    tab.locator('article[data-source="online"]').wait_for()
    door.locator(".label strong", has_text="dark").wait_for()
    assert door.locator(".notice").inner_text() == ""
    assert door.locator(".span.lost").count() >= 1
    expect(lambda: door.locator('[data-fact="epoch"]').inner_text() != "0", tab)
    run.finish()


def test_the_timeline_grows_with_the_events_and_an_open_one_reaches_now(
    serve: Serve, visit: Callable[..., Page]
) -> None:
    page = serve()
    speaker = Speaker(page)
    speaker.status()
    tab = visit(page)
    spans = tile(tab, "cam").locator(".span")
    for number, label in enumerate(("wave", "nod", "wave"), start=1):
        event = speaker.start(label)
        expect(lambda number=number: spans.count() == number, tab)  # type: ignore[misc]
        running = tile(tab, "cam").locator(".span.running")
        lane, span = (tile(tab, "cam").locator(css).bounding_box() for css in (".lane", ".span.running"))
        assert lane
        assert span
        assert abs(lane["x"] + lane["width"] - span["x"] - span["width"]) < 8
        before = span["width"]
        expect(lambda: (running.bounding_box() or {"width": 0})["width"] > before + 2, tab)  # noqa: B023
        speaker.end(event)
        running.wait_for(state="detached")
    assert spans.first.evaluate("span => getComputedStyle(span).getPropertyValue('--colour')") == colour("wave")
    assert tile(tab, "cam").locator(".events li").count() == 3
    assert not tile(tab, "cam").locator(".events .none").is_visible()


def test_the_page_and_the_overlay_give_a_label_the_same_colour(serve: Serve, visit: Callable[..., Page]) -> None:
    page = serve()
    tab = visit(page)
    tab.locator('body[data-state="live"]').wait_for()
    labels = ["still", "moving left", "Zoom In With Full Hand", "wäve 挥手", ""]
    shown = tab.evaluate("async labels => labels.map((await import('/labels.js')).colour)", labels)
    assert shown == [colour(label) for label in labels]


def test_the_page_survives_a_server_that_is_restarted(serve: Serve, visit: Callable[..., Page]) -> None:
    page = serve()
    Speaker(page).state("wave")
    tab = visit(page)
    tile(tab, "cam").locator("strong", has_text="wave").wait_for()
    page.close()
    tab.locator('body[data-state="lost"]').wait_for()
    assert "trying again" in tab.locator("#link").inner_text()
    again = serve(address=urlsplit(page.url).netloc)
    Speaker(again).state("nod")
    tab.locator('body[data-state="live"]').wait_for()
    tile(tab, "cam").locator("strong", has_text="nod").wait_for()


def test_four_streams_are_a_grid_and_each_can_be_alone(serve: Serve, visit: Callable[..., Page]) -> None:
    page = serve()
    speaker = Speaker(page)
    names = ["cam1", "cam2", "cam9", "cam10"]
    for name in reversed(names):
        speaker.status(name)
        speaker.state("wave", name)
    tab = visit(page)
    expect(lambda: tab.locator("article:visible").count() == 4, tab)
    assert [one.get_attribute("data-stream") for one in tab.locator("article").all()] == names[::-1]
    tile(tab, "cam2").locator(".open").click()
    expect(lambda: tab.locator("article:visible").count() == 1, tab)
    assert tile(tab, "cam2").is_visible()
    tab.keyboard.press("ArrowLeft")
    tile(tab, "cam9").wait_for()
    tab.keyboard.press("Escape")
    expect(lambda: tab.locator("article:visible").count() == 4, tab)
    tile(tab, "cam10").locator(".open").focus()
    tab.keyboard.press("Enter")
    expect(lambda: not tile(tab, "cam1").is_visible(), tab)
    tab.locator("#back").click()
    expect(lambda: tab.locator("article:visible").count() == 4, tab)


def test_pictures_are_asked_for_only_while_they_can_be_seen(serve: Serve, visit: Callable[..., Page]) -> None:
    asked: list[str] = []

    def newest(name: str) -> None:
        asked.append(name)

    page = serve(newest=newest)
    speaker = Speaker(page)
    for name in ("cam1", "cam2"):
        speaker.status(name)
    tab = visit(page)
    expect(lambda: {"cam1", "cam2"} <= set(asked), tab)
    tile(tab, "cam1").locator(".open").click()

    def only_one() -> bool:
        asked.clear()
        tab.wait_for_timeout(300)
        return set(asked) == {"cam1"}

    expect(only_one, tab)


def test_a_wrong_token_is_refused_and_a_right_one_is_taken_and_not_shown(
    serve: Serve, visit: Callable[..., Page]
) -> None:
    page = serve(token=TOKEN)
    Speaker(page).state("wave")
    tab = visit(page, "#token=not%20the%20one")
    tab.locator("#refusal", has_text="not the right token").wait_for()
    assert tab.locator("article").count() == 0
    tab.fill("#token", TOKEN)
    tab.keyboard.press("Enter")
    tile(tab, "cam").locator("strong", has_text="wave").wait_for()
    assert "token" not in tab.url
    tab.reload()
    tile(tab, "cam").wait_for()  # it is kept for this tab
    other = visit(page, "#token=a%20token%20of%20ours")
    tile(other, "cam").wait_for()
    assert "token" not in other.url


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_follows_its_colour_scheme(
    serve: Serve, visit: Callable[..., Page], scheme: str
) -> None:
    page = serve()
    speaker = Speaker(page)
    for name in ("a-camera-with-quite-a-long-name-that-goes-on-and-on", "cam"):
        speaker.status(name)
        speaker.score([("turning counterclockwise, or so it seems from here", 0.9), ("none", 0.1)], name)
    speaker.status("gone", "offline", "rtsp://camera.example/stream: connection refused; is the camera on?")
    tab = visit(page, viewport={"width": 360, "height": 640}, color_scheme=scheme)
    tile(tab, "gone").locator(".notice", has_text="connection refused").wait_for()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(ground.split("(")[1].split(",")[0]) < 128) == (scheme == "dark")
    tab.keyboard.press("t")
    expect(lambda: tab.evaluate("getComputedStyle(document.body).backgroundColor") != ground, tab)
