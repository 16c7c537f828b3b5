"""What a page asks of its run: thresholds, clips and what people say of them, the model."""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from socket import create_connection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from streamer.view.asking import CHANGING, NO_CONTROL, NO_RUN, NOT_YOURS, Run, refusal
from streamer.view.auth import is_ours
from streamer.view.clips import open_clip, wanted

from ..commands.test_cli import SCRIPTED, start
from .browsing import expect, serious_faults, tile
from .conftest import Serve
from .peers import PATIENCE_S, Speaker, Viewer, dial
from .test_process import Address, page_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["start"]  # a fixture

Start = Callable[..., "subprocess.Popen[str]"]
Visit = Callable[..., "Page"]
QUICK_CLIPS = ("--set", "clips.before_s=0.2", "--set", "clips.after_s=0.1", "--set", "clips.folder=")


def begin(start: Start, *arguments: object) -> Address:
    process = start("run", "pattern://swipe?fps=10&size=160x120", *SCRIPTED, "--no-publish", "--view", "127.0.0.1:0",
                    *arguments)  # fmt: skip
    return page_of(process)


@pytest.fixture
def filmed(start: Start, tmp_path: Path) -> tuple[Address, Path]:
    """A run that keeps clips, and its folder."""
    folder = tmp_path / "clips"
    return begin(start, *QUICK_CLIPS[:-1], f"{QUICK_CLIPS[-1]}{folder}"), folder


def get(page: Address, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    with closing(http.client.HTTPConnection(urlsplit(page.url).netloc, timeout=PATIENCE_S)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def test_thresholds_are_tried_on_the_page_and_obeyed_only_when_one_says_so(start: Start, visit: Visit) -> None:
    page = begin(start, "--set", "events.leave=0.1")
    tab = visit(page)
    expect(lambda: tile(tab, "swipe").locator(".span:not(.lost)").count() >= 1, tab)
    tab.keyboard.press("e")
    tab.locator("#tune-enter").wait_for()
    expect(lambda: tab.locator("#tune-would output").inner_text() not in ("", "0 events"), tab)
    assert serious_faults(tab) == []
    move = "value => { const knob = document.querySelector('#tune-enter'); knob.value = value; "
    tab.evaluate(move + "knob.dispatchEvent(new Event('input')); }", 1)
    expect(lambda: tab.locator("#tune-would output").inner_text() == "0 events", tab)
    assert tab.locator("#tune-was output").inner_text() != "0 events"
    assert tab.locator("#tune-command").inner_text() == "streamer ctl set 'events.enter=1'"
    with Viewer(page) as viewer:
        assert viewer.ask(command="status")["ok"]["set"] == {}  # nothing has changed yet
        tab.locator("#tune-apply").click()
        tab.locator("#tune-said", has_text="the run obeys events.enter=1, until it ends").wait_for()
        assert viewer.ask(command="status")["ok"]["set"] == {"events.enter": 1.0}
        tab.evaluate(move + "knob.dispatchEvent(new Event('input')); }", 0.05)
        tab.locator("#tune-said", has_text="so an event would end as it starts").wait_for()  # as --set says it
        tab.locator("#tune-back").click()
        tab.locator("#tune-said", has_text="the run obeys its configuration").wait_for()
        assert viewer.ask(command="status")["ok"]["set"] == {}


def test_another_model_takes_over_from_the_page(start: Start, visit: Visit) -> None:
    tab = visit(begin(start))
    tile(tab, "swipe").locator(".label strong", has_text="moving").wait_for()
    tab.keyboard.press("m")
    tab.locator("#model-name").select_option("default")
    tab.locator("#model-go").click()
    tab.locator("#model-said", has_text="has taken over").wait_for()
    assert serious_faults(tab) == []
    tab.keyboard.press("Escape")
    tile(tab, "swipe").locator(".events li").first.wait_for()
    expect(lambda: tile(tab, "swipe").locator('[data-fact="epoch"]').inner_text() not in ("", "0"), tab)


def test_an_event_plays_its_clip_and_is_answered_with_keys(filmed: tuple[Address, Path], visit: Visit) -> None:
    page, folder = filmed
    tab = visit(page)
    swipe = tile(tab, "swipe")
    swipe.locator(".events li button").last.click()  # the first event
    playing = "() => document.querySelector('video').readyState >= 2"
    tab.wait_for_function(playing)
    assert serious_faults(tab) == []
    name = tab.evaluate("document.querySelector('video').dataset.name")
    label = json.loads((folder / f"{name}.json").read_text())["label"]
    tab.keyboard.press("y")
    tab.locator("#clips-said", has_text="answered right").wait_for()
    assert (folder / "answers" / label / f"{name}.mp4").is_file()
    tab.locator(f'#clips-list [data-name="{name}"]').click()
    tab.keyboard.press("0")
    tab.locator("#clips-said", has_text="answered nothing").wait_for()
    assert (folder / "answers" / "nothing" / f"{name}.mp4").is_file()
    assert not (folder / "answers" / label / f"{name}.mp4").exists()
    tab.locator(f'#clips-list [data-name="{name}"]').click()
    tab.keyboard.press("w")
    tab.keyboard.type("drinks tea")
    with Viewer(page) as other:  # somebody else answers meanwhile
        assert other.ask(command="answer", clip=name, label="somersault")["ok"]["before"] == "nothing"
    tab.keyboard.press("Enter")
    tab.locator("#clips-said", has_text="answered drinks tea; another had answered somersault").wait_for()
    assert [path.parent.name for path in (folder / "answers").glob(f"*/{name}.mp4")] == ["drinks tea"]
    tab.locator(f'#clips-list [data-name="{name}"]').click()
    tab.keyboard.press("u")
    tab.locator("#clips-said", has_text="the answer is taken back").wait_for()
    assert not list((folder / "answers").glob(f"*/{name}.mp4"))


def test_clips_that_are_written_while_the_list_is_open_come_into_it(filmed: tuple[Address, Path], visit: Visit) -> None:
    tab = visit(filmed[0])
    tab.locator("#clips").wait_for()  # the run has said that it keeps clips
    tab.keyboard.press("c")
    which = tab.locator("#clips-which")
    which.select_option("all")
    which.focus()
    buttons = tab.locator("#clips-list button")
    buttons.first.wait_for()
    before = buttons.count()
    expect(lambda: buttons.count() > before, tab)
    assert tab.evaluate("document.activeElement.id") == "clips-which"


def test_a_clip_is_read_in_parts_by_those_who_are_let_in_and_nothing_else_of_the_folder(
    filmed: tuple[Address, Path], wait_for: Callable[[Callable[[], Any]], None], tmp_path: Path
) -> None:
    page, folder = filmed
    wait_for(lambda: list(folder.glob("*.json")))
    name = next(folder.glob("*.json")).stem
    whole = (folder / f"{name}.mp4").read_bytes()
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (folder / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    (folder / "link.json").write_text("{}")
    with Viewer(page) as viewer:
        place = viewer.hello()["clips"]
        status, headers, body = get(page, f"{place}{name}.mp4")
        assert (status, headers["Content-Type"], headers["Accept-Ranges"], body) == (200, "video/mp4", "bytes", whole)
        status, headers, body = get(page, f"{place}{name}.mp4", Range="bytes=100-199")
        assert (status, headers["Content-Range"]) == (206, f"bytes 100-199/{len(whole)}")
        assert body == whole[100:200]
        assert get(page, f"{place}{name}.mp4", Range="bytes=999999999-")[0] == 416
        for path in (f"{name}.json", "link.mp4", "../secret.mp4", "%2e%2e/secret.mp4", "", "x.mp4", f"{name}.mp4/.."):
            assert get(page, place + path)[0] == 404, path
        assert get(page, f"/clips/{'x' * 22}/{name}.mp4")[0] == 404
        assert get(page, f"{place}{name}.mp4", Host="evil.example")[0] == 403
    wait_for(lambda: get(page, f"{place}{name}.mp4")[0] == 404)  # the browser has left


def test_a_browser_that_leaves_a_clip_in_the_middle_or_reads_no_further_is_let_go(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("streamer.view.clips.PATIENCE_S", 0.3)
    (tmp_path / "long.mp4").write_bytes(bytes(50_000_000))
    (tmp_path / "long.json").write_text("{}")
    page = serve(run=Run(f"ipc://{tmp_path}/nobody", changes=True, clips=tmp_path))
    host, port = urlsplit(page.url).netloc.split(":")
    with Viewer(page) as viewer:
        path = f"{viewer.hello()['clips']}long.mp4"
        for leaves in (False, True):
            with create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                assert connection.recv(100).startswith(b"HTTP/1.1 200 OK")
                if leaves:
                    continue
                time.sleep(1)
                with suppress(ConnectionError):
                    count = sum(len(piece) for piece in iter(lambda: connection.recv(1 << 16), b""))
                    assert count < 50_000_000
        assert get(Address(page.url), path, Range="bytes=0-9")[2] == bytes(10)
    assert not caplog.records


def test_what_a_page_cannot_ask_is_told_in_a_sentence(start: Start) -> None:
    page = begin(start)
    with Viewer(page) as viewer:
        hello = viewer.hello()
        assert (hello["why_not"], hello["clips"]) == (None, None)
        assert "default" in hello["models"]
        for request, message in (
            ({"command": "drain"}, "a page cannot ask for 'drain'; it can for answer, clips, model, set, status"),
            ({"command": "add", "source": "/etc/passwd"}, "a page cannot ask for 'add'"),
            ({}, "a page cannot ask for 'None'"),
            ({"command": "set"}, "missing required field `set`"),
            ({"command": "set", "set": {"model": "x"}}, "cannot be changed while the run goes on"),
            ({"command": "clips"}, "this run keeps no clips"),
            ({"command": "model", "model": "/etc/passwd"}, "takes the name of a model only"),
            ({"command": "model", "model": "defualt"}, "default"),
        ):
            assert message in viewer.ask(**request)["error"], request
        viewer.say(**{"try": {"events.entr": 1}, "stream": "swipe", "id": 7})
        answer = viewer.answer()
        assert (answer["id"], "did you mean events.enter" in answer["error"]) == (7, True)
        viewer.say(ask={"command": "set", "set": {"events.enter": 0.9}})
    with Viewer(page) as viewer:  # the other one left without waiting for its answer
        assert viewer.ask(command="status")["ok"]["set"] in ({}, {"events.enter": 0.9})


def test_a_run_that_takes_no_commands_takes_none_from_its_page(start: Start) -> None:
    with Viewer(begin(start, "--set", "control=null")) as viewer:
        assert viewer.hello()["why_not"] == NO_CONTROL
        assert viewer.ask(command="set", set={"events.enter": 0.9}) == {"kind": "answer", "id": 1, "error": NO_CONTROL}
        assert viewer.ask(command="status")["ok"]["set"] == {}


def test_a_page_of_labels_from_elsewhere_asks_nothing(serve: Serve) -> None:
    page = serve()
    Speaker(page).status()
    with Viewer(page) as viewer:
        assert viewer.hello()["why_not"] == NO_RUN
        assert viewer.ask(command="status")["error"] == NO_RUN
        viewer.say(**{"try": {}, "stream": "cam", "id": 2})
        assert viewer.answer()["error"] == NO_RUN


def test_a_run_that_does_not_answer_is_told_and_only_a_few_may_wait(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.view.asking.ANSWER_S", 0.5)
    page = serve(run=Run(f"ipc://{tmp_path}/nobody", changes=True, clips=None))
    with Viewer(page) as viewer:
        for number in range(5):
            viewer.say(ask={"command": "status"}, id=number)
        errors = [viewer.answer()["error"] for _ in range(5)]
    assert errors == ["4 requests wait for an answer already", *["the run did not answer within 0.5 s"] * 4]


@pytest.mark.parametrize("command", sorted(CHANGING))
def test_who_is_not_the_runs_user_may_only_look(command: str) -> None:
    run = Run("ipc://x", changes=True, clips=None)
    assert refusal({"command": command}, run, may_change=False) == NOT_YOURS
    assert refusal({"command": command, "model": "default"}, run, may_change=True) is None
    assert refusal({"command": "status"}, run, may_change=False) is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can open a connection as another user")
def test_a_program_of_another_user_may_look_and_change_nothing(start: Start) -> None:
    page, libc = begin(start), ctypes.CDLL(None)
    host, port = urlsplit(page.url).netloc.split(":")
    libc.setfsuid(65534)  # of this thread alone: the kernel notes it with the socket
    try:
        socket = create_connection((host, int(port)))
    finally:
        libc.setfsuid(0)
    with dial(page, sock=socket) as connection:
        connection.send('{"token": null}')
        assert json.loads(connection.recv(PATIENCE_S))[0]["why_not"] == NOT_YOURS
        connection.send('{"ask": {"command": "set", "set": {"events.enter": 0.9}}, "id": 3}')
        answers = (one for text in iter(lambda: connection.recv(PATIENCE_S), "") for one in json.loads(text))
        assert next(one for one in answers if one["kind"] == "answer")["error"] == NOT_YOURS


HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


@pytest.mark.skipif(sys.byteorder == "big", reason="the table is written for the other order of bytes")
def test_the_kernel_tells_whose_program_is_at_the_other_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 1000)
    row = "   1: {} {} 01 00000000:00000000 00:00000000 00000000  {}        0 42 1 0000 20 4 30 10 -1\n"
    (tmp_path / "tcp").write_text(
        HEAD + row.format("0100007F:D431", "0100007F:1F90", 1000) + row.format("0100007F:D432", "0100007F:1F90", 1001)
    )
    (tmp_path / "tcp6").write_text(HEAD + row.format("0" * 24 + "01000000:D431", "0" * 24 + "01000000:1F90", 1000))
    here = ("127.0.0.1", 8080)
    assert is_ours(("127.0.0.1", 54321), here, tmp_path)
    assert is_ours(("::1", 54321), ("::1", 8080), tmp_path)
    assert not is_ours(("127.0.0.1", 54322), here, tmp_path)  # of another user
    assert not is_ours(("127.0.0.1", 54323), here, tmp_path)  # of nobody
    assert not is_ours(("192.0.2.1", 54321), here, tmp_path)
    assert not is_ours(("127.0.0.1", 54321), here, tmp_path / "missing")


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        (None, (0, 100)), ("bytes=0-", (0, 100)), ("bytes=10-19", (10, 20)), ("bytes=90-200", (90, 100)),
        ("bytes=-5", (95, 100)), ("bytes=-500", (0, 100)), ("bytes=100-", None), ("bytes=20-10", None),
        ("bytes=-", (0, 100)), ("bytes=1-2,5-6", (0, 100)), ("pages=1-2", (0, 100)), ("bytes=" + "9" * 99, (0, 100)),
    ],
)  # fmt: skip
def test_a_range_is_a_part_of_the_clip_or_all_of_it(asked: str | None, part: tuple[int, int] | None) -> None:
    assert wanted(asked, 100) == part


@pytest.mark.parametrize("name", ["../a.mp4", "a.mp4/", "A.mp4", "a.mp4\0", ".mp4", "a" * 200 + ".mp4", "folder.mp4"])
def test_only_clips_of_the_folder_are_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "folder.json").write_text("{}")
    assert open_clip(tmp_path, name) is None
    (tmp_path / "half.mp4").write_bytes(b"1")  # its note comes last
    assert open_clip(tmp_path, "half.mp4") is None
