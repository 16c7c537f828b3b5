from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamer.errors import ConfigError
from streamer.settings import load_settings


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_each_layer_overrules_the_one_below_and_is_named_as_the_origin(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "model: from-file\nbuffer: 3\nmax_gap: 4\nevents: {enter: 0.7}\n")
    environment = {"STREAMER_MODEL": "from-environment", "STREAMER_BUFFER": "5", "OTHER": "x"}
    settings = load_settings(file, environment, ["buffer=6", "model=from-set"], {"model": "from-option"})
    assert (settings.config.model, settings.config.buffer, settings.config.max_gap) == ("from-option", 6, 4)
    lines = list(settings.lines())
    assert "model: from-option  # command line" in lines
    assert "buffer: 6  # command line --set buffer" in lines
    assert f"max_gap: 4.0  # {file}" in lines
    assert f"events.enter: 0.7  # {file}" in lines
    assert "events.leave: 0.35  # default" in lines


def test_two_underscores_in_the_environment_go_one_level_down_and_values_are_yaml() -> None:
    environment = {"STREAMER_PUBLISH__ADDRESS": "null", "STREAMER_EVENTS__BACKGROUND": "[still]"}
    config = load_settings(environment=environment).config
    assert config.publish.address is None
    assert config.events.background == ("still",)


def test_a_source_may_be_its_address_alone_and_settings_reach_into_the_list(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "sources: [0, {uri: 'rtsp://user:secret@host/a', name: door}]\n")
    settings = load_settings(file, {}, ["sources.0.width=640", "sources.1.transport=udp"])
    webcam, door = settings.config.sources
    assert (webcam.uri, webcam.width) == ("0", 640)
    assert (door.name, door.transport) == ("door", "udp")
    shown = "\n".join(settings.lines())
    assert "secret" not in shown
    assert "sources.1.transport: udp  # command line --set sources.1.transport" in shown
    assert f"sources.1.name: door  # {file}" in shown


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("evnts.enter=1", r"evnts \(from command line --set evnts.enter\): .* did you mean events\?"),
        ("events.entr=1", r"events.entr .* did you mean events.enter\?"),
        ("events.labels.still.ente=1", r"did you mean events.labels.still.enter\?"),
        ("sources=[{uri: x, trasport: tcp}]", r"did you mean sources.0.transport\?"),
        ("zzz=1", "there is no such key; valid here are backend, batch_wait_ms"),
        ("events.enter=2", "less than or equal to 1, got 2"),
        ("engine.precision=fp8", "should be 'auto', 'fp32', 'bf16' or 'fp16', got 'fp8'"),
        ("sources=[{name: Front Door}]", "should match pattern"),
        ("sources.3.name=x", "sources .* valid tuple"),
        ("buffer", "write it as key=value"),
        ("=3", "write it as key=value"),
        ("model=[1", "is not a YAML value"),
        ("publish=3", "publish .* valid dictionary"),
    ],
)
def test_a_setting_that_makes_no_sense_is_told_in_one_sentence(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings(environment={}, assignments=[assignment])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b", "must hold keys and values"),
        ("a: [", "is not YAML"),
        ("model: a\nmodel: b", "the key 'model' stands twice"),
        ("modle: a", r"modle \(from .*c.yaml\): there is no such key; did you mean model\?"),
    ],
)
def test_a_file_that_makes_no_sense_is_told_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings(write(tmp_path / "c.yaml", text), {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "message"), [("nothing.yaml", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(tmp_path / name, {})


def test_a_binary_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_settings(tmp_path / "c.yaml", {})


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path / "c.yaml", ""), {}).config == load_settings(environment={}).config


def test_an_unknown_variable_of_ours_is_an_error_too() -> None:
    with pytest.raises(ConfigError, match=r"modle \(from environment STREAMER_MODLE\).*did you mean model"):
        load_settings(environment={"STREAMER_MODLE": "x"})


def test_a_password_in_a_wrong_value_is_not_shown() -> None:
    options: dict[str, Any] = {"sources": [{"uri": "rtsp://me:secret@host/", "name": "A B", "transport": "x"}]}
    with pytest.raises(ConfigError) as caught:
        load_settings(environment={}, options=options)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_configuration_is_valid(path: Path) -> None:
    assert load_settings(path, {}).config.sources
