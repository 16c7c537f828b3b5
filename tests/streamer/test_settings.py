from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamer.errors import ConfigError
from streamer.settings import changed, load_settings


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
        ("sources.3.name=x", r"sources.3.name \(.*: there is no item '3' in a list of 0"),
        ("buffer", "write it as key=value"),
        ("=3", "write it as key=value"),
        ("model=[1", "is not a YAML value"),
        ("publish=3", "publish .* valid dictionary"),
        ("sources=[null]", r"sources.0.uri .*: field required"),
        ("events.background=[null]", r"events.background.0 .*: is empty; delete the line or give it a value"),
        ("sources.0.width.x=1", "valid integer"),
        ("sources." + "9" * 5000 + ".uri=x", "there is no item"),
        ("sources=[{uri: x, user: me}]", "user belongs together with password"),
        ('events.labels."No. 1.enter=1', r"events.labels.*there is no such key|valid dictionary"),
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
        ("sources: [1, 2]\n--- \nmodel: b", "a second document"),
        ("model: !x y", "a tag that is not known"),
        ("model: @x", "in quotes"),
        ("a: &a [*a]", "an alias without its anchor"),
        ("publish: 3", "publish .*: should be a valid dictionary"),
        ("events: {labels: 3}", "events.labels .*: should be a valid dictionary"),
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


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("STREAMER_MODLE", r"model \(STREAMER_MODEL\)"),
        ("STREAMER_VIEW_TOKEN", r"view.token \(STREAMER_VIEW__TOKEN\)"),
        ("STREAMER_EVENTS__ENTR", "events.enter"),
        ("STREAMER_SOURCE__0__NAME", r"sources \(STREAMER_SOURCES\)"),
    ],
)
def test_an_unknown_variable_of_ours_is_an_error_too(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=rf"\(from environment {name}\).*did you mean {hint}"):
        load_settings(environment={name: "x"})


def test_what_kubernetes_and_others_set_is_passed_over_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    service = {
        "STREAMER_SERVICE_HOST": "10.0.0.5",
        "STREAMER_SERVICE_PORT_LABELS": "5557",
        "STREAMER_PORT": "tcp://10.0.0.5:5557",
        "STREAMER_PORT_5557_TCP": "tcp://10.0.0.5:5557",
        "STREAMER_PORT_5557_TCP_ADDR": "10.0.0.5",
        "STREAMER_VIEW_PORT": "tcp://10.0.0.6:80",  # of a Service streamer-view
        "STREAMER_EVENTS_SERVICE_HOST": "10.0.0.7",
        "STREAMER_NAME": "/web/streamer",
        "STREAMER_ENV_PATH": "/bin",
        "STREAMER_IMAGE_TAG": "7",
    }
    settings = load_settings(environment={**service, "STREAMER_BUFFER": "5"})
    assert settings.config == load_settings(environment={"STREAMER_BUFFER": "5"}).config
    (warning,) = caplog.messages
    assert all(name in warning for name in service)
    assert "enableServiceLinks: false" in warning


@pytest.mark.parametrize(
    ("environment", "uris"),
    [
        ({"STREAMER_SOURCES": "pattern://swipe"}, ["pattern://swipe"]),
        ({"STREAMER_SOURCES": "[pattern://swipe, 0]"}, ["pattern://swipe", "0"]),
        ({"STREAMER_SOURCES": "rtsp://u:p @x@h/a #1"}, ["rtsp://u:p @x@h/a #1"]),
        ({"STREAMER_SOURCES": "{uri: clip.mp4, name: door}"}, ["clip.mp4"]),
        ({"STREAMER_SOURCES__0": "0", "STREAMER_SOURCES__1": "1"}, ["0", "1"]),
        ({f"STREAMER_SOURCES__{n}__URI": f"{n}.mp4" for n in range(11, -1, -1)}, [f"{n}.mp4" for n in range(12)]),
        ({"STREAMER_SOURCES": "a.mp4", "STREAMER_SOURCES__0__NAME": "a", "STREAMER_SOURCES__1": "b.mp4"},
         ["a.mp4", "b.mp4"]),
    ],
)  # fmt: skip
def test_the_environment_alone_can_make_a_list_of_sources(environment: dict[str, str], uris: list[str]) -> None:
    assert [source.uri for source in load_settings(environment=environment).config.sources] == uris


def test_the_environment_adds_to_other_lists_too_and_a_gap_in_one_is_told() -> None:
    background = {"STREAMER_EVENTS__BACKGROUND__0": "still", "STREAMER_EVENTS__BACKGROUND__1": "no"}
    assert load_settings(environment=background).config.events.background == ("still", "no")
    with pytest.raises(ConfigError, match=r"sources.1.uri .*no item '1' in a list of 0; items are numbered from 0"):
        load_settings(environment={"STREAMER_SOURCES__1__URI": "x"})


def test_a_setting_reaches_into_the_sources_of_the_command_line() -> None:
    options: dict[str, Any] = {"sources": ["clip.mp4", {"uri": "b.mp4", "pace": "fast"}]}
    config = load_settings(None, {}, ["sources.0.name=door", "sources.1.open_s=9"], options).config
    assert [(source.name, source.open_s, source.pace) for source in config.sources] == [
        ("door", 5.0, "realtime"), (None, 9.0, "fast")
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"sources.0 \(from .*valid here are"):
        load_settings(None, {}, ["sources.0.zzzzz=1"], options)


def test_sources_of_the_command_line_replace_those_of_the_environment_and_it_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    environment = {"STREAMER_SOURCES__0__URI": "rtsp://u:secret@a/b", "STREAMER_SOURCES__0__TRANSPORT": "udp"}
    (source,) = load_settings(None, environment, (), {"sources": ["clip.mp4"]}).config.sources
    assert (source.uri, source.transport) == ("clip.mp4", "tcp")
    (warning,) = caplog.messages
    assert "STREAMER_SOURCES__0__TRANSPORT" in warning
    assert "secret" not in warning


@pytest.mark.parametrize("token", ["20240131", "007", "@S3cret", "%S3cret", "`S3", "&S3", "*S3", "!S3", "a #b", "null",
                                   "yes", "[x", "{", "1e5", "- x", ": x", "'x", '"', " x ", "é", "|", ">"])  # fmt: skip
def test_a_secret_is_taken_as_it_is(token: str) -> None:
    keys = {"view.token": "STREAMER_VIEW__TOKEN", "sources.0.password": "STREAMER_SOURCES__0__PASSWORD"}
    rest = {"STREAMER_SOURCES__0__URI": "rtsp://cam", "STREAMER_SOURCES__0__USER": "u"}
    for environment, sets in [
        (dict.fromkeys(keys.values(), token), []),
        ({}, [f"{key}={token}" for key in keys]),
    ]:
        settings = load_settings(environment={**rest, **environment}, assignments=sets)
        assert settings.config.view.token
        assert settings.config.view.token.get_secret_value() == token
        assert settings.config.sources[0].password
        assert settings.config.sources[0].password.get_secret_value() == token
        shown = [line.partition(" ")[2] for line in settings.lines() if line.startswith(tuple(keys))]
        assert [line.partition("  #")[0] for line in shown] == ["'**********'", "null", "'**********'"]


def test_texts_of_a_file_are_taken_as_they_are_written(tmp_path: Path) -> None:
    text = "view: {token: 0123}\nevents: {background: [no, 1.0, on], labels: {off: {enter: 0.8}, 1: }}\n"
    config = load_settings(write(tmp_path / "c.yaml", text), {}).config
    assert config.view.token
    assert config.view.token.get_secret_value() == "0123"
    assert config.events.background == ("no", "1.0", "on")
    assert set(config.events.labels) == {"off", "1"}


def test_a_label_with_a_dot_can_have_a_rule(tmp_path: Path) -> None:
    rules = 'events: {labels: {"No. 1": {enter: 0.8}}, inhibit: {"No. 1": a.b}}'
    settings = load_settings(write(tmp_path / "c.yaml", rules), {}, ['events.labels."No. 1".leave=0.1'])
    assert (settings.config.events.labels["No. 1"].enter, settings.config.events.labels["No. 1"].leave) == (0.8, 0.1)
    assert settings.config.events.inhibit == {"No. 1": ("a.b",)}
    shown = list(settings.lines())
    assert f'events.labels."No. 1".enter: 0.8  # {tmp_path / "c.yaml"}' in shown
    assert 'events.labels."No. 1".leave: 0.1  # command line --set events.labels."No. 1".leave' in shown


def test_anchors_and_merge_keys_work_as_in_other_programs(tmp_path: Path) -> None:
    text = """
sources:
  - &cam {uri: "rtsp://127.0.0.1:1/a", transport: udp, open_s: 8, name: north}
  - <<: *cam
    uri: rtsp://127.0.0.1:1/b
    name: east
  - {<<: [{read_s: 3}, *cam], name: south}
"""
    settings = load_settings(write(tmp_path / "c.yaml", text), {}, ["sources.1.open_s=9"])
    north, east, south = settings.config.sources
    assert (north.transport, north.open_s, north.name) == ("udp", 8, "north")
    assert (east.transport, east.open_s, east.name, east.uri) == ("udp", 9, "east", "rtsp://127.0.0.1:1/b")
    assert (south.read_s, south.uri, south.name) == (3, "rtsp://127.0.0.1:1/a", "south")


@pytest.mark.parametrize("key", ["sources", "publish", "view", "engine", "events", "model", "backend", "buffer",
                                 "events: {labels", "publish: {curve", "events: {background"])  # fmt: skip
def test_a_key_with_nothing_behind_it_is_its_default(tmp_path: Path, key: str) -> None:
    text = f"{key}: \n{'}' if '{' in key else ''}"
    assert load_settings(write(tmp_path / "c.yaml", text), {}).config == load_settings(environment={}).config


@pytest.mark.parametrize("word", ["off", "no", "false"])
def test_what_can_be_switched_off_is_switched_off_by_a_word(tmp_path: Path, word: str) -> None:
    text = f"control: {word}\nmetrics: {word}\nmax_age_ms: {word}\npublish: {{address: {word}}}\n"
    config = load_settings(write(tmp_path / "c.yaml", text), {}).config
    assert (config.control, config.metrics, config.max_age_ms, config.publish.address) == (None, None, None, None)


def test_a_password_in_a_wrong_value_is_not_shown() -> None:
    options: dict[str, Any] = {"sources": [{"uri": "rtsp://me:secret@host/", "name": "A B", "transport": "x"}]}
    with pytest.raises(ConfigError) as caught:
        load_settings(environment={}, options=options)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "path", sorted(set(Path("configs").glob("*.yaml")) - {Path("configs/fleet.yaml")}), ids=lambda path: path.name
)
def test_every_shipped_configuration_is_valid(path: Path) -> None:
    assert load_settings(path, {}).config.sources


def test_changes_of_a_run_lie_over_its_configuration_and_null_takes_them_back() -> None:
    begun = load_settings(environment={}, assignments=["events.enter=0.5", "events.background=[still]"]).config
    _, first = changed(begun, {}, {"events.enter": "0.7", "events.labels.wave.enter": 0.8})
    assert first == {"events.enter": 0.7, "events.labels.wave.enter": 0.8}
    config, second = changed(begun, first, {"events.labels.wave.leave": 0.1, ' events."enter"': 0.9})
    events = config.events
    assert (events.enter, events.background) == (0.9, ("still",))
    assert (events.labels["wave"].enter, events.labels["wave"].leave) == (0.8, 0.1)
    assert changed(begun, {}, {"events.background.1": "nothing"})[1] == {"events.background.1": "nothing"}
    assert changed(begun, second, {"events.labels": None})[1] == {"events.enter": 0.9}
    assert changed(begun, second, {"events": None}) == (begun, {})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "x"}, "model: it cannot be changed while the run goes on; what begins with events. can"),
        ({"": 1}, "it cannot be changed while"),
        ({'events."': 1}, "there is no such key"),
        ({"events.entr": 0.5}, "events.entr (from the request): there is no such key; did you mean events.enter?"),
        ({"events.enter": 1.5}, "events.enter (from the request): input should be less than or equal to 1, got 1.5"),
        ({"events.background.7": "x"}, "there is no item '7' in a list of 0"),
        ({"events.enter.x": 1}, "events.enter (from the request)"),
        ({"events": 5}, "events (from the request): should be a valid dictionary"),
        ({"events.labels.wave": {"entr": 1}}, "did you mean events.labels.wave.enter?"),
    ],
)
def test_a_change_that_cannot_be_is_told_in_one_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        changed(load_settings(environment={}).config, {}, values)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
