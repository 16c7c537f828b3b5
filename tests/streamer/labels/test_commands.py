from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engines import EngineError
from streamer.commands.options import make_curve
from streamer.config import SourceConfig
from streamer.errors import ConfigError, SourceError
from streamer.labels.commands import (
    COMMANDS,
    Add,
    ClipReport,
    Controlled,
    Model,
    Report,
    State,
    act,
    answer,
    parse,
    source_config,
)
from streamer.labels.messages import Message
from streamer.labels.requests import make_request
from streamer.sources import Source, open_source

SWIPE = "pattern://swipe?size=64x48"


def told(result: Any) -> Future[Any]:
    """A result that is there."""
    done: Future[Any] = Future()
    done.set_result(result)
    return done


class Nobody:
    """Takes every command and remembers it."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    @property
    def moves(self) -> Nobody:
        return self

    def give(self, name: str) -> Future[Path]:
        self.done.append(("give", name))
        return told(Path("/run/it.state"))

    def read(self, path: Path) -> str:
        return f"content of {path}"

    def take(self, name: str, passed: str) -> None:
        self.done.append(("take", name, passed))

    def report(self) -> Report:
        return Report("m@1", "s", None, False, [])

    def snapshot(self) -> list[Message]:
        return []

    def reset(self, name: str) -> int:
        self.done.append(("reset", name))
        return 1

    def open(self, config: SourceConfig) -> Source:
        return open_source(config)

    def add(
        self, config: SourceConfig, source: Source | None = None, term: int = 0, *, held: bool = False
    ) -> list[str]:
        assert source
        self.done.append(("add", config, term, held) if term else ("add", config))
        return [*source.streams]

    def remove(self, name: str, term: int | None = None) -> None:
        self.done.append(("remove", name) if term is None else ("remove", name, term))

    def set(self, values: Mapping[str, Any]) -> dict[str, Any]:
        self.done.append(("set", values))
        return dict(values)

    def load(self, model: str) -> str:
        raise EngineError(f"no model is called {model!r}")

    def swap(self, loaded: str) -> str:
        self.done.append(("swap", loaded))
        return "other@2"

    def clips(self) -> Future[list[ClipReport]]:
        return told([])

    def answer(self, clip: str, label: str) -> Future[dict[str, Any]]:
        self.done.append(("answer", clip, label))
        return told({"clip": clip, "label": label, "before": ""})

    def drain(self) -> None:
        self.done.append("drain")


def reply(request: Any, on: Controlled | None = None) -> dict[str, Any]:
    encoded = request if isinstance(request, bytes) else json.dumps(request).encode()
    on, done = on or Nobody(), Future[Any]()
    try:
        asked = parse(encoded)
        config = source_config(asked.source) if isinstance(asked, Add) else None
        made = on.load(asked.model) if isinstance(asked, Model) else on.open(config) if config else None
        result = act(asked, on, config, made)
        done.set_result(result.result() if isinstance(result, Future) else result)
    except (ConfigError, SourceError, EngineError) as error:
        done.set_exception(error)
    decoded: dict[str, Any] = json.loads(answer(done))
    assert decoded.keys() in ({"ok"}, {"error"})
    return decoded


def error_of(request: Any) -> str:
    nobody = Nobody()
    error: str = reply(request, nobody)["error"]
    assert nobody.done == []
    assert "\n" not in error
    return error


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (b"", "cannot read the request: Input data was truncated; send one JSON object"),
        (b"{", "the commands are status, snapshot, reset, add, remove, state, set, model, clips, answer, drain"),
        (b"status", "JSON is malformed"),
        (b"\xff\xfe{}", "cannot read the request"),
        (b"[" * 100_000, "cannot read the request"),
        (b'{"command": "status"} {"command": "drain"}', "trailing characters"),
        ([], "Expected `object`, got `array`"),
        ({}, "missing required field `command`"),
        ({"command": "explode"}, "Invalid value 'explode'"),
        ({"command": 1}, "Expected `str`"),
        ({"command": "reset"}, "missing required field `stream`"),
        ({"command": "reset", "stream": 5}, "Expected `str`, got `int`"),
        ({"command": "status", "stream": "a"}, "unknown field `stream`"),
        ({"command": "add", "source": None}, "Expected `int | str | object`"),
        ({"command": "add", "source": {}}, r"sources.0.uri (from the request): field required"),
        ({"command": "add", "source": {"uri": "0", "nmae": "a"}}, "did you mean sources.0.name?"),
        ({"command": "add", "source": "a" * 2049}, "uri: is too long; 2048 characters are allowed"),
        ({"command": "add", "source": {"uri": "0", "a" * 99: 1}}, "aaaa: is too long"),
        ({"command": "add", "source": {f"{n:x}": 1 for n in range(33)}}, "has 33 fields; 32 are allowed"),
        ({"command": "add", "source": int("9" * 300)}, "uri: is too large; 1000000000 is allowed"),
        ({"command": "add", "source": {"uri": "0", "width": 10**30}}, "width: is too large"),
        ({"command": "set", "set": {}}, "Expected `object` of length >= 1"),
        ({"command": "set", "set": {f"events.{n}": 1 for n in range(33)}}, "Expected `object` of length <= 32"),
        ({"command": "set", "set": {"e" * 257: 1}}, "Expected `str` of length <= 256"),
        ({"command": "set", "set": "events.enter=1"}, "Expected `object`, got `str`"),
        ({"command": "model", "model": ""}, "Expected `str` of length >= 1"),
        ({"command": "model", "model": "x" * 1025}, "Expected `str` of length <= 1024"),
        ({"command": "model", "model": "mobile"}, "no model is called 'mobile'"),
        ({"command": "reset", "stream": ["x"] * 9}, "Expected `str`, got `array`"),
        ({"command": "add", "source": {"uri": "0", "name": "Door 1"}}, "sources.0.name (from the request): string"),
        (
            {"command": "add", "source": {"uri": "0", "views": {"bed": [0, 0, 1, 1.5]}}},
            "sources.0.views.bed (from the request): 1.5 is outside the picture",
        ),
        ({"command": "add", "source": {"uri": "rtsp://u:secret@h/1", "name": "A"}}, "sources.0.name"),
    ],
)
def test_a_request_that_cannot_be_is_answered_with_what_is_wrong(request_: Any, message: str) -> None:
    error = error_of(request_)
    assert message in error
    assert "secret" not in error


def test_a_source_that_cannot_be_is_answered_without_its_password() -> None:
    error = reply({"command": "add", "source": "rtp://me:secret@camera/1"})["error"]
    assert "rtp://***@camera/1: no source is called rtp://; did you mean rtsp://?" in error
    for uri in (
        "rtsp://me:secret@camera\u2100/1",
        "pattern://me:secret@\u2100/1",
        "pattern://[x",
    ):  # urlsplit repeats what it dislikes
        error = reply({"command": "add", "source": uri})["error"]
        assert "malformed" in error
        assert "secret" not in error


def test_every_command_does_its_work() -> None:
    nobody = Nobody()
    assert reply({"command": "status"}, nobody)["ok"]["model"] == "m@1"
    assert reply({"command": "snapshot"}, nobody) == {"ok": []}
    assert reply({"command": "reset", "stream": "a"}, nobody) == {"ok": {"stream": "a", "epoch": 1}}
    assert reply({"command": "add", "source": SWIPE}, nobody) == {"ok": {"stream": "swipe"}}
    assert reply({"command": "add", "source": {"uri": SWIPE, "name": "b"}}, nobody) == {"ok": {"stream": "b"}}
    views = {"bed": [0, 0.2, 0.5, 1], "door": [0.5, 0, 1, 1]}
    with_views = {"uri": SWIPE, "name": "c", "views": views}
    told = {"stream": "c-bed", "streams": ["c-bed", "c-door"]}
    assert reply({"command": "add", "source": with_views}, nobody) == {"ok": told}
    assert reply({"command": "remove", "stream": "a"}, nobody) == {"ok": {"stream": "a"}}
    assert reply({"command": "state", "stream": "a"}, nobody) == {"ok": {"stream": "a", "file": "/run/it.state"}}
    assert act(State("b", "f"), nobody, None, "read") == {"stream": "b"}
    assert reply({"command": "set", "set": {"events.enter": 0.7}}, nobody) == {"ok": {"set": {"events.enter": 0.7}}}
    assert reply({"command": "clips"}, nobody) == {"ok": []}
    answered = reply({"command": "answer", "clip": "c", "label": "wave"}, nobody)
    assert answered == {"ok": {"clip": "c", "label": "wave", "before": ""}}
    assert act(Model("other"), nobody, None, "loaded") == {"model": "other@2"}
    assert reply({"command": "drain"}, nobody) == {"ok": {}}
    sources = [SourceConfig.model_validate(one) for one in (SWIPE, {"uri": SWIPE, "name": "b"}, with_views)]
    assert nobody.done == [
        ("reset", "a"),
        *(("add", one) for one in sources),
        ("remove", "a"),
        ("give", "a"),
        ("take", "b", "read"),
        ("set", {"events.enter": 0.7}),
        ("answer", "c", "wave"),
        ("swap", "loaded"),
        "drain",
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
COMMAND = st.fixed_dictionaries(
    {"command": st.sampled_from([*COMMANDS, "x"])}, optional={"stream": JSON, "source": JSON, "other": JSON}
)
SCHEME = st.sampled_from(["", "rtsp://", "http://", "file:", "/dev/", "v4l2:", "pattern://", "pattern://swipe?", "/"])
URI = st.builds(lambda scheme, text: scheme + text, SCHEME, st.text() | st.text("a\0/:@[]%?&=", min_size=1, max_size=9))


@given(
    st.binary()
    | st.text().map(str.encode)
    | JSON
    | COMMAND
    | st.fixed_dictionaries({"command": st.just("add"), "source": URI})
    | st.fixed_dictionaries({"command": st.just("answer"), "clip": st.text(), "label": st.text()})
)
@example({"command": "add", "source": "pattern://[x"})
@example({"command": "add", "source": "a" * 5000})
@settings(max_examples=60)
def test_whatever_is_asked_gets_one_answer(request_: Any) -> None:
    reply(request_)


@pytest.mark.parametrize(
    ("arguments", "request_"),
    [
        (("status",), {"command": "status"}),
        (("reset", ["door"]), {"command": "reset", "stream": "door"}),
        (("remove", ["door"]), {"command": "remove", "stream": "door"}),
        (("clips",), {"command": "clips"}),
        (("answer", ["c-1", "a b"]), {"command": "answer", "clip": "c-1", "label": "a b"}),
        (("answer", ["c-1", ""]), {"command": "answer", "clip": "c-1", "label": ""}),
        (("add", ["0"]), {"command": "add", "source": {"uri": "0"}}),
        (("add", ["0"], "door"), {"command": "add", "source": {"uri": "0", "name": "door"}}),
        (
            ("set", ["events.enter=0.7", 'events.labels."No. 1".leave=0.2', "events.min_s="]),
            {
                "command": "set",
                "set": {"events.enter": "0.7", 'events.labels."No. 1".leave': "0.2", "events.min_s": None},
            },
        ),
    ],
)
def test_a_command_line_is_a_request(arguments: tuple[Any, ...], request_: dict[str, Any]) -> None:
    assert make_request(*arguments) == request_
    assert "ok" in reply(request_)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("explode",), "there is no such command; known are status, snapshot, reset"),
        (("reset",), "name a stream, such as `streamer ctl reset STREAM`"),
        (("add",), "name a source, such as `streamer ctl add SOURCE`"),
        (("drain", ["door"]), "takes nothing more, got 'door'"),
        (("reset", ["door", "window"]), "takes nothing more, got 'window'"),
        (("reset", ["door"], "window"), "--name is for add only"),
        (("model",), "name a model, such as `streamer ctl model MODEL`"),
        (("set",), "name a setting, such as `streamer ctl set events.enter=0.7`"),
        (("set", ["events.enter"]), "ctl set events: write it as key=value, such as ctl set events.enter=0.7"),
    ],
)
def test_a_command_line_that_is_no_request_is_told(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_request(*arguments)


def test_a_model_file_is_named_with_its_folder_since_the_run_may_be_in_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.onnx").touch()
    monkeypatch.chdir(tmp_path)
    assert make_request("model", ["mine.onnx"]) == {"command": "model", "model": f"{tmp_path}/mine.onnx"}
    assert make_request("model", ["default"]) == {"command": "model", "model": "default"}


def test_keys_on_the_command_line_come_in_pairs() -> None:
    assert make_curve(None, None) is None
    for pair in ((Path("a.key"), None), (None, Path("a.key_secret"))):
        with pytest.raises(ConfigError, match="--server-key and --key belong together"):
            make_curve(*pair)
