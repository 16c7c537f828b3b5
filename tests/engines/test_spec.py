"""A sidecar from anybody: what cannot be is told in a sentence, and never used."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import EngineError, find_models, load_engine
from engines.spec import MOST_SIDECAR_BYTES, check_spec, read_spec

SIDECAR = find_models()["default"]
SOUND: dict[str, Any] = json.loads(SIDECAR.read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped model."""
    for kind in (".json", ".onnx"):
        shutil.copy(SIDECAR.with_suffix(kind), tmp_path)
    return tmp_path


def write(folder: Path, **changes: Any) -> Path:
    (folder / "default.json").write_text(json.dumps(SOUND | changes))
    return folder / "default.onnx"


def state(**changes: Any) -> list[dict[str, Any]]:
    return [SOUND["states"][0] | changes, *SOUND["states"][1:]]


IMPOSSIBLE: list[dict[str, Any]] = [
    {"name": "../../pwned/x"}, {"name": "/pwned"}, {"name": ".."}, {"name": "."}, {"name": ""}, {"name": "a/b"},
    {"name": "a\\b"}, {"name": "evil[/b]"}, {"name": "\x1b]0;pwned\x07"}, {"name": "x\n"}, {"name": "x" * 1000},
    {"name": "a\0b"}, {"files": {"../default.onnx": "0" * 64}}, {"files": {"/etc/passwd": "0" * 64}},
    {"files": {"default.onnx": "00"}}, {"files": {f"f{n}": "0" * 64 for n in range(1000)}},
    {"rate_hz": 0}, {"rate_hz": -1}, {"rate_hz": 1e9}, {"rate_hz": None},
    {"height": 0}, {"height": -5}, {"height": 1_000_000}, {"width": 10**30}, {"height": 112.5},
    {"frames": 0}, {"frames": -3}, {"frames": 10**9}, {"hop": 0, "mode": "window"}, {"hop": -1}, {"latency": -1},
    {"labels": []}, {"labels": ["a", "a"]}, {"labels": ["\x1b[31m", "b"]}, {"labels": ["", "b"]},
    {"labels": [f"l{n}" for n in range(5000)]}, {"labels": ["x" * 10_000]},
    {"states": state(shape=[-2])}, {"states": state(shape=[0])}, {"states": state(shape=[2**40, 2**40])},
    {"states": state(shape=[2**24, 2**24])}, {"states": state(dtype="object")}, {"states": state(name="../x")},
    {"states": [SOUND["states"][0]] * 2}, {"channel_width": 0}, {"channel_width": 1e6}, {"options": {"a": -1}},
    {"events": {"labels": {"a": {"enter": "high"}}}}, {"events": {"labels": {"": {"enter": 0.5}}}},
    {"events": {"labels": {"a": {"b": {"c": 1}}}}},
    {"nodes": -1}, {"parameters": -1}, {"network": "\x1b[2J"}, {"certificates": [{"backend": "openvino"}]},
    {"certificates": [SOUND["certificates"][0] | {"max_probability_difference": -1}]},
    {"certificates": [SOUND["certificates"][0] | {"processor": "\x1b[2J"}]},
]  # fmt: skip


@pytest.mark.parametrize("changes", IMPOSSIBLE, ids=lambda changes: str(changes)[:40])
def test_a_value_that_cannot_be_is_refused_in_one_sentence(folder: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match="is not a model's sidecar: ") as caught:
        load_engine(write(folder, **changes), "openvino")
    told = str(caught.value).replace(str(folder), "")
    assert told.startswith("/default.json: ")
    assert told.isprintable()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 64}, r"input frames is u8 \[.*,112,112,3\], and should be u8 \[\?,64,112,3\]"),
        ({"labels": ["a", "b"]}, r"output logits is f32 \[.*,10\], and should be f32 \[\?,2\]"),
        ({"states": state(shape=[2, 28, 27])}, "input layer1.0.shift.last is f32"),
        ({"states": state(dtype="float16")}, "and should be f16"),
        ({"states": state(name="nothing.here")}, "input nothing.here is not there"),
        ({"states": SOUND["states"][1:]}, "inputs, and should have"),
        ({"states": []}, "inputs, and should have"),
    ],
)
def test_a_sidecar_that_the_graph_contradicts_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    load_engine(folder / "default.onnx", "openvino", precision="fp32", threads=1).new_state(1)  # is compiled and kept
    with pytest.raises(EngineError, match=f"its graph is not the one that its sidecar describes: .*{message}"):
        load_engine(write(folder, **changes), "openvino", precision="fp32", threads=1).new_state(1)


def test_what_is_no_file_is_not_waited_for(folder: Path) -> None:
    sidecar = folder / "default.json"
    sidecar.unlink()
    os.mkfifo(sidecar)
    with pytest.raises(EngineError, match="is missing"):
        load_engine(folder / "default.onnx", "openvino")
    (folder / "pipe.onnx").symlink_to("/dev/zero")
    for name in ("pipe.onnx", "a\0b.onnx", "x" * 5000 + ".onnx", "a\0b.scores.json", "no.scores.json"):
        with pytest.raises(EngineError):
            load_engine(folder / name)


def test_a_sidecar_as_large_as_a_film_is_not_read(folder: Path) -> None:
    with (folder / "default.json").open("r+b") as file:
        file.truncate(MOST_SIDECAR_BYTES + 1)
    with pytest.raises(EngineError, match="it is larger than"):
        read_spec(folder / "default.onnx")


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a\0b", "../../etc/passwd", "x" * 5000, "\x1b[2J", "default/"])
def test_no_name_on_the_command_line_ends_in_a_traceback(name: str) -> None:
    for backend in ("auto", "openvino", "scripted"):
        try:
            load_engine(name, backend, threads=1)
        except EngineError:
            continue
        assert Path(name) == Path("default")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all values in a JSON document, the first three of each list."""
    inside = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    return [path, *(place for key, one in inside for place in places(one, (*path, key)))]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from([0, -1, 1, 10**19, 1e308, "../x", "\x1b[2J", "", "float32", "\ud800"]),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=8), inside, max_size=4),
    max_leaves=8,
)  # fmt: skip


@hypothesis.settings(max_examples=200, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(places(SOUND)), value=JSON)
def test_any_value_anywhere_in_a_sidecar_is_taken_whole_or_refused_in_a_sentence(
    tmp_path: Path, place: tuple[Any, ...], value: Any
) -> None:
    document = {"root": json.loads(json.dumps(SOUND))}
    *way, last = ("root", *place)
    at: Any = document
    for key in way:
        at = at[key]
    at[last] = value
    (tmp_path / "default.json").write_text(json.dumps(document["root"]))
    try:
        engine = load_engine(tmp_path / "default.json", "scripted")
    except EngineError:
        return
    spec = engine.spec
    assert len(tmp_path.joinpath(f"{spec.name}.blob").relative_to(tmp_path).parts) == 1
    frame = np.zeros((1, spec.height, spec.width, 3), np.uint8)
    engine.step(frame, np.ones(1, np.bool_), np.ones(1, np.bool_), engine.new_state(1))


@hypothesis.settings(max_examples=100, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_any_bytes_in_a_sidecars_or_a_scripts_place_are_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    for name in ("m.json", "m.scores.json"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(EngineError):
            load_engine(tmp_path / name, "scripted")


def test_what_is_written_can_be_read() -> None:
    spec = read_spec(SIDECAR)
    check_spec(spec)
    for wrong in ({"rate_hz": float("nan")}, {"height": 0}, {"labels": ("a", "a")}, {"name": "../x"}):
        with pytest.raises(EngineError, match="cannot be a model"):
            check_spec(msgspec.structs.replace(spec, **wrong))
