"""Whatever is in a file, a variable or on the command line: a configuration, or one sentence. And never a secret."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engines.build.importing import read_labels
from engines.errors import EngineError
from streamer.config import Config
from streamer.errors import ConfigError, SourceError
from streamer.labels.commands import Add, answer, parse, source_config
from streamer.reading import NotYamlError, read_yaml
from streamer.settings import Settings, load_settings
from streamer.sources import open_source
from streamer.text import redact, shown_address

quick = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

SIGNS = "abn01:#-?[]{},&*!|>'\"%@`~<= \n\t\\./\ufeffü\x00\x1b"
texts = st.text(st.sampled_from(SIGNS), max_size=40) | st.text(max_size=20)
keys = st.sampled_from(["sources", "publish", "view", "events", "model", "labels", "token", "uri", "0", "<<", "curve"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
trees = st.recursive(
    scalars, lambda below: st.lists(below, max_size=3) | st.dictionaries(keys | texts, below), max_leaves=9
)


def in_one_sentence(read: Callable[[], Any], *errors: type[Exception]) -> Any:
    """What reading gives; an error must be one of ours, and one line that can be printed."""
    try:
        return read()
    except errors as error:
        told = str(error)
    assert told
    assert "\n" not in told
    return None


@quick
@given(
    text=texts | trees.map(yaml.safe_dump) | trees.map(lambda tree: yaml.safe_dump({"sources": tree, "events": tree}))
)
@example(text="a: &a [*a]")
@example(text="a: !!int x")
@example(text="a: !!timestamp x")
@example(text="a: !!binary x")
@example(text="!!python/object/apply:os.system [x]")
@example(text="? [a]\n: b")
@example(text="'\\UFFFFFFFF'")
@example(text='"\\UFFFFFFFF"')
@example(text='model: "\\ud800"')
@example(text="sources: [{uri: x, password_file: '\\0', user: a}]")
@example(text="%TAG ! tag:x,2000:\n--- !a b")
def test_no_text_of_a_file_gives_a_traceback(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    found = in_one_sentence(lambda: load_settings(file, {}), ConfigError)
    assert found is None or list(found.lines())


@quick
@given(content=st.binary(max_size=60))
@example(content=b"\xef\xbb\xbfmodel: x")
@example(content=b"\xff\xfem\x00")
def test_no_bytes_of_a_file_give_a_traceback(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(content)
    in_one_sentence(lambda: load_settings(file, {}), ConfigError)
    for classes in (1, 2):
        in_one_sentence(lambda count=classes: read_labels(file, count), EngineError)  # type: ignore[misc]


names = st.lists(st.sampled_from([*Config.model_fields, "uri", "0", "1", "token", "labels", "x", ""]), max_size=4)


@quick
@given(names, texts | trees.map(yaml.safe_dump))
def test_no_variable_and_no_assignment_gives_a_traceback(path: list[str], text: str) -> None:
    for found in (
        in_one_sentence(lambda: load_settings(None, {"STREAMER_" + "__".join(path).upper(): text}), ConfigError),
        in_one_sentence(lambda: load_settings(None, {}, [f"{'.'.join(path)}={text}"]), ConfigError),
        in_one_sentence(lambda: load_settings(None, {}, [text]), ConfigError),
    ):
        assert found is None or list(found.lines())


@quick
@given(texts)
def test_no_address_gives_a_traceback(uri: str) -> None:
    for scheme in ("", "rtsp://", "http://", "file:", "pattern://", "v4l2:"):
        in_one_sentence(lambda text=scheme + uri: open_all({"sources": [text]}), ConfigError, SourceError)  # type: ignore[misc]


@pytest.mark.parametrize(
    "text", ["a: " + "[" * 50_000, "{" * 50_000, "- " * 50_000, "[a]," * 50_000, "x: y\n" * 60_000]
)
def test_a_large_or_deep_text_is_refused_soon(text: str) -> None:
    with pytest.raises(NotYamlError):
        read_yaml(text)


def test_aliases_are_counted_before_they_are_written_out() -> None:
    rows = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1]"]
    rows += [f"a{n}: &a{n} [{', '.join(8 * [f'*a{n - 1}'])}]" for n in range(1, 40)]
    with pytest.raises(NotYamlError, match="more than 10000 values"):
        read_yaml("\n".join(rows))
    with pytest.raises(NotYamlError, match="20 levels"):
        read_yaml("\n".join(["a0: &a0 [1]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 40))]))


def test_what_aliases_repeat_is_not_shared() -> None:
    tree = read_yaml("a: &a {x: [1]}\nb: *a\n")
    tree["b"]["x"].append("2")
    assert tree["a"] == {"x": ["1"]}


@pytest.mark.parametrize(
    "unit", ["://", "a://", "x", "=-", "pass", "a=b&", "rtsp://a:b c", "@", "a:b ", "[", "%41/", "?"]
)
def test_text_is_made_safe_in_linear_time(unit: str) -> None:
    """Quadratic time would be many minutes."""
    text = unit * (200_000 // len(unit))
    assert redact(text)
    assert shown_address(text)


# ------------------------------------------------------------------------------------------------ secrets

SECRET_SIGNS = "abcXYZ0189@/:?#%&=;,'\"\\ []{}!*`|>$+~.-_ü"
secrets = st.text(st.sampled_from(SECRET_SIGNS), min_size=6, max_size=16).map(lambda text: f"q{text}Q7zK")
Way = Callable[[str, str], dict[str, Any]]
HOST = "cam.example:554"

WAYS: dict[str, Way] = {
    "escaped": lambda u, p: {"options": [f"rtsp://{quote(u, safe='')}:{quote(p, safe='')}@{HOST}/a"]},
    "raw": lambda u, p: {"options": [f"rtsp://{u}:{p}@{HOST}/a"]},
    "raw, no path": lambda u, p: {"options": [f"http://{u}:{p}@{HOST}"]},
    "misspelt scheme": lambda u, p: {"options": [f"rtps://{u}:{p}@{HOST}/a"]},
    "lost slash": lambda u, p: {"options": [f"rtsp:/{u}:{p}@{HOST}/a"]},
    "lost scheme": lambda u, p: {"options": [f"{u}:{p}@{HOST}/a"]},
    "bad port": lambda u, p: {"options": [f"rtsp://{quote(u, safe='')}:{quote(p, safe='')}@cam:port/a"]},
    "query": lambda u, p: {"options": [f"http://{HOST}/v.cgi?user={u}&pwd={p}"]},
    "escaped query": lambda u, p: {"options": [f"http://{HOST}/v?x={quote(u, safe='')}&y={quote(p, safe='')}"]},
    "path": lambda u, p: {"options": [f"rtsp://{HOST}/user={u}_password={p}_channel=1"]},
    "keys": lambda u, p: {"options": [{"uri": f"rtsp://{HOST}/a", "user": u, "password": p}]},
    "keys, misspelt": lambda u, p: {"options": [{"uri": f"rtsp://{HOST}/a", "usr": u, "pasword": p}]},
    "keys of a file": lambda u, p: {"options": [{"uri": "clip.mp4", "user": u, "password": p}]},
    "both": lambda u, p: {"options": [{"uri": f"rtsp://{u}:{p}@{HOST}/a", "user": u, "password": p}]},
    "wrong type": lambda u, p: {"options": [{"uri": [u], "user": {u: p}, "password": [p]}]},
    "variables": lambda u, p: {
        "environment": {"STREAMER_SOURCES__0__URI": f"rtsp://{u}:{p}@{HOST}/", "STREAMER_VIEW__TOKEN": p}
    },
    "variables of keys": lambda u, p: {
        "environment": {
            "STREAMER_SOURCES__0": f"rtsp://{HOST}/a",
            "STREAMER_SOURCES__0__USER": u,
            "STREAMER_SOURCES__0__PASSWORD": p,
        }
    },
    "one variable": lambda u, p: {"environment": {"STREAMER_SOURCES": f"rtsp://{u}:{p}@{HOST}/a"}},
    "foreign variable": lambda u, p: {"environment": {"STREAMER_PASSWORD": p, "STREAMER_TOKEN": u}},
    "variable of a section": lambda u, p: {
        "environment": {"STREAMER_VIEW": f"'{p}'", "STREAMER_SOURCES": f"['{u}@{p}']"}
    },
    "assignments": lambda u, p: {"assignments": [f"sources.0.uri=rtsp://{u}:{p}@{HOST}/", f"view.token={p}"]},
    "an item": lambda u, p: {"assignments": [f"sources.0=rtsp://{u}:{p}@{HOST}/"]},
    "no key": lambda u, p: {"assignments": [f"rtsp://{quote(u, safe='')}:{quote(p, safe='')}@{HOST}/a"]},
    "file": lambda u, p: {"file": f"sources: [{{uri: rtsp://{u}:{p}@{HOST}/a}}]\nview: {{token: {p}}}\n"},
    "file, block": lambda u, p: {"file": f"sources:\n  - rtsp://{u}:{p}@{HOST}/a\nview:\n  token: {p}\n"},
    "file, keys": lambda u, p: {"file": f"sources:\n  - uri: rtsp://{HOST}/a\n    user: {u}\n    password: {p}\n"},
    "file, quoted": lambda u, p: {
        "file": yaml.safe_dump({"sources": [{"uri": f"rtsp://{u}:{p}@{HOST}/a"}], "view": {"token": p}})
    },
}


def open_all(options: dict[str, Any], **layers: Any) -> Settings:
    found = load_settings(layers.get("file"), layers.get("environment", {}), layers.get("assignments", ()), options)
    for source in found.config.sources:
        open_source(source)
    return found


def leaked(secret: str, shown: str) -> list[str]:
    """The pieces of at least four characters of a secret that are shown, as it is or escaped."""
    pieces = {text[at : at + 4] for text in (secret, quote(secret, safe="")) for at in range(len(text) - 3)}
    always = "\n".join(load_settings(environment={}).lines()) + f"'{HOST}'/***"
    return [
        piece
        for piece in sorted(pieces)
        if piece in shown and piece not in always and len(set(piece) - set(" */:.'@?")) > 1
    ]


@pytest.mark.parametrize("way", WAYS)
@settings(quick, max_examples=12)
@given(user=secrets, password=secrets)
def test_no_piece_of_a_secret_is_told(
    way: str, user: str, password: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    given_ = WAYS[way](user, password)
    if "file" in given_:
        file = tmp_path_factory.getbasetemp() / "c.yaml"
        file.write_text(given_["file"], encoding="utf-8")
        given_["file"] = file
    sources = given_.pop("options", None)
    log: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamer.settings._log.warning", lambda text, *values: log.append(text % values))
        try:
            found = load_settings(
                given_.get("file"), given_.get("environment", {}), given_.get("assignments", ()),
                {"sources": sources} if sources else {},
            )  # fmt: skip
            log += found.lines()
            for source in found.config.sources:
                opened = open_source(source)
                log += [opened.uri, opened.name]
        except (ConfigError, SourceError) as error:
            log += ["".join(traceback.format_exception(error)), redact(str(error))]
    for one in sources or ():
        log.append(reply_to(json.dumps({"command": "add", "source": one}).encode()))
    shown = "\n".join(log)
    assert leaked(user, shown) == []
    assert leaked(password, shown) == []


def reply_to(request: bytes) -> str:
    """What a run answers to a request that adds a source."""
    done: Future[str] = Future()
    try:
        asked = parse(request)
        assert isinstance(asked, Add)
        done.set_result(open_source(source_config(asked.source)).name)
    except Exception as error:
        done.set_exception(error)
    return answer(done).decode()
