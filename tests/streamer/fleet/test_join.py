from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from streamer.errors import ConfigError, SourceError
from streamer.fleet.agent import Agent, Reign
from streamer.fleet.cluster import fault
from streamer.fleet.config import FleetConfig, load_fleet, near_labels
from streamer.fleet.facts import Assignment
from streamer.fleet.folder import Child, is_taken, take, write
from streamer.fleet.join import check_name, local_host, own_settings, port_range
from streamer.fleet.reign import check_token, rule

from .conftest import welcome

WaitFor = Callable[[Callable[[], bool]], None]


def test_a_node_obeys_the_newest_head_and_tells_an_older_one_to_stop(agent: Agent) -> None:
    agent.obey(Reign(7, "first"))
    agent.obey(Reign(7, "first"))
    agent.obey(Reign(8, "second"))
    with pytest.raises(ConfigError, match=r"n1 obeys a head that started later \(reign 8, this one: 7\)"):
        agent.obey(Reign(7, "first"))
    with pytest.raises(ConfigError, match="a fleet has one head"):
        agent.obey(Reign(8, "a copy of its folder"))


def test_another_version_than_the_heads_is_one_sentence_at_join(agent: Agent, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"it runs action-streamer \S+ and the head 9.9; install the head's version"):
        agent.welcome(welcome("9.9"))
    assert "and the head 9.9" in (tmp_path / "refused").read_text()


def test_a_nodes_run_obeys_the_fleets_settings_with_its_own_over_them(agent: Agent, tmp_path: Path) -> None:
    agent.welcome(welcome(model="actions", events={"enter": 0.5, "leave": 0.3}))
    settings = yaml.safe_load((tmp_path / "run.yaml").read_text())
    assert settings["model"] == "actions"
    assert settings["backend"] == "scripted"
    assert settings["events"] == {"enter": 0.7, "leave": 0.3}
    assert (settings["node"], settings["rows"]) == ("n1", 2)
    assert settings["publish"]["address"] == "tcp://127.0.0.1:*"
    assert (tmp_path / "run.yaml").stat().st_mode & 0o777 == 0o600


def test_an_agent_drives_a_run_that_is_there(agent: Agent, tmp_path: Path, wait_for: WaitFor) -> None:
    script = tmp_path / "two.scores.json"
    script.write_text('{"labels": ["up", "down"], "scores": [[0.9, 0.1]]}')
    with pytest.raises(ConfigError, match="no answer"):
        agent.status()
    (tmp_path / "authorized").mkdir()
    agent.welcome(welcome(model=str(script)))
    (tmp_path / "authorized" / "head.key").unlink()
    run = Child(tmp_path / "run.pid")
    run.start([sys.executable, "-m", "streamer", "run", "-c", str(tmp_path / "run.yaml"), "--headless"], os.environ)
    try:
        wait_for(lambda: run.alive and (tmp_path / "run.control").exists())
        facts = agent.facts()
        assert facts.labels.startswith("tcp://127.0.0.1:")
        source = {"uri": "pattern://swipe?size=64x48", "name": "door"}
        agent.add(Assignment("door", "n1", 5), source, held=False)
        agent.add(Assignment("door", "n1", 5), source, held=False)  # asked twice, done once
        agent.add(Assignment("door", "n1", 6), source, held=False)
        assert [(one.stream, one.term) for one in agent.status().running] == [("door", 6)]
        agent.remove("door", 5)
        assert len(agent.status().running) == 1
        found = Child(tmp_path / "run.pid")  # as a `join` after this one does
        assert found.alive
        agent.remove("door", 6)
        assert agent.status().running == []
        assert agent.status().session == facts.session
    finally:
        run.stop(10)
    assert not run.alive


def test_a_child_outlives_its_parent_and_is_stopped_with_all_of_its_group(tmp_path: Path, wait_for: WaitFor) -> None:
    begin = (
        "import sys, os; from pathlib import Path; from streamer.fleet.folder import Child;"
        f"Child(Path({str(tmp_path / 'pid')!r})).start(['sh', '-c', 'sleep 60 & sleep 60'], os.environ)"
    )
    subprocess.run([sys.executable, "-c", begin], check=True, timeout=60)
    child = Child(tmp_path / "pid")
    assert child.alive
    child.stop(5)
    assert not Child(tmp_path / "pid").alive
    assert not (tmp_path / "pid").exists()
    write(tmp_path / "pid", f"{os.getpid()} 1".encode())  # its number is another's by now
    assert not Child(tmp_path / "pid").alive


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    lock = take(tmp_path, "a `fleet join`")
    assert is_taken(tmp_path)
    with pytest.raises(ConfigError, match="a `fleet join` uses it already"):
        take(tmp_path, "a `fleet join`")
    os.close(lock)
    assert not is_taken(tmp_path)


def test_a_token_that_others_may_read_is_refused_and_never_told(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(ConfigError, match="cannot be read"):
        check_token(path)
    path.write_text("s3cret-s3cret-s3cret")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="run chmod 600") as error:
        check_token(path)
    assert "s3cret" not in str(error.value)
    path.chmod(0o600)
    check_token(path)
    path.write_text("two words")
    with pytest.raises(ConfigError, match="is not a token's file"):
        check_token(path)


@pytest.mark.parametrize("name", ["", "a b", "-a", "a" * 33, "Ä", "a.b"])
def test_a_name_that_no_node_can_have_is_told(name: str) -> None:
    with pytest.raises(ConfigError, match="use 1 to 32 of a-z"):
        check_name(name)


@pytest.mark.parametrize("ports", ["6400", "6400-6401", "6420-6400", "1-99", "6400-70000", "a-b"])
def test_ports_that_are_none_are_told(ports: str) -> None:
    with pytest.raises(ConfigError, match="write it as FIRST-LAST"):
        port_range(ports)


def test_what_a_daemon_of_ray_says_becomes_a_sentence() -> None:
    said = "Traceback ...\nRuntimeError: Version mismatch: The cluster was started with:\n    Ray: 2.60.0\n"
    assert fault(said).startswith("the versions differ: Version mismatch: The cluster was started with: Ray: 2.60.0")
    assert fault("RPC error: InvalidAuthToken: x").startswith("the head does not know this token")
    assert fault("[state-dump] a\nrtsp://me:secret@x/\n") == "rtsp://***@x/"
    assert fault("") == "it said nothing"


def test_a_head_that_is_no_address_and_settings_that_a_fleet_sets_are_told() -> None:
    with pytest.raises(ConfigError, match="is not HOST:PORT of a head"):
        local_host("192.0.2.1")
    with pytest.raises(ConfigError, match="rows: is set by the fleet"):
        own_settings({"rows": 3})
    with pytest.raises(ConfigError, match=r"--at: cannot listen on \S+: this machine has no such address"):
        local_host("127.0.0.1:6380", "192.0.2.77")
    assert local_host("127.0.0.1:6380") == "127.0.0.1"
    assert local_host("192.0.2.1:6380", "127.0.0.2") == "127.0.0.2"


def test_a_head_that_is_to_listen_where_its_machine_is_not_says_so_at_once(tmp_path: Path) -> None:
    config = FleetConfig(at="192.0.2.77:6380", folder=tmp_path / "fleet")
    with pytest.raises(ConfigError, match=r"at: cannot listen on \S+: this machine has no such address"):
        rule(config, {}, threading.Event(), print)
    assert not (tmp_path / "fleet").exists()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (["site"], "--label 'site': write it as KEY=VALUE, such as --label site=north"),
        (["=north"], "--label '=north': write it as"),
        (["Site=north"], "--label 'Site=north': write it as"),
        (["site=the north"], "--label 'site=the north': write it as"),
        (["site=north", "site=south"], "site is north already; a label has one value"),
        ([f"k{n}=1" for n in range(17)], "17 are given, and 16 are allowed"),
    ],
)
def test_a_label_that_no_camera_could_ask_for_is_told(given: list[str], error: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(error)):
        near_labels("--label", given)
    assert near_labels("--label", ["site=north", "floor=2"]) == {"site": "north", "floor": "2"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("sorces: []", "sorces (from {file}): there is no such key; did you mean sources?"),
        ("run: {modl: x}", "run.modl (from {file}): there is no such key; did you mean run.model?"),
        ("run: {node: x}", "run (from {file}): node of a node's run is set by its fleet; leave it out"),
        ("sources: [{uri: 0, name: a}, {uri: 1, name: a}]", "two sources are called a; give each another name"),
        ("sources: [{uri: 0, near: {Site: x}}]", "sources.0.near.Site"),
        ("run: {view: {token: [s3cret]}}", "run.view.token"),
        ("source: clip.mp4", "source (from {file}): there is no such key; did you mean sources?"),
        (
            "run: {events: {entr: 1}}",
            "run.events.entr (from {file}): there is no such key; did you mean run.events.enter?",
        ),
        ("run: {rows: 4}", "run (from {file}): rows of a node's run is set by its fleet; leave it out"),
        ("sources: [clip.mp4, {uri: rtsp://b/1, name: clip}]", "two sources are called clip; give each another name"),
        ("sources: [{uri: 0, near: {site: the north}}]", "sources.0.near.site (from {file}): string should match"),
        ("sources: [{uri: 0, near: north}]", "sources.0.near (from {file}): should be a valid dictionary"),
        ("labels: [tcp://127.0.0.1:1]", "labels (from {file})"),
        ("at: {host: x}", "at (from {file})"),
        ("curve: {secret_key_file: s3cret}", "curve.authorized_keys_dir"),
        ("curve: yes", "curve (from {file})"),
        ("folder: [fleet]", "folder (from {file})"),
        ("run: [model]", "run (from {file}): should be a valid dictionary"),
        ("run: {view: {token: {a: s3cret}}}", "run.view.token"),
        ("- sources", "{file}"),
        ("sources: [", "{file}"),
    ],
)
def test_a_fleet_yaml_that_cannot_be_is_one_sentence(tmp_path: Path, text: str, error: str) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_fleet(file)
    assert error.format(file=file) in str(raised.value)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("pattern://swip", "there is no pattern 'swip'; the patterns are swipe, still"),
        ("pattern://swipe?fsp=3", "unknown parameter 'fsp'"),
        ("rstp://camera/1", "no source is called rstp://; did you mean rtsp://?"),
        ("ftp://me:s3cret@camera/1", "no source is called ftp://"),
    ],
)
def test_an_address_that_no_node_could_read_is_told_by_the_head(tmp_path: Path, address: str, error: str) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(json.dumps({"sources": [{"uri": address}]}))
    with pytest.raises(SourceError, match=re.escape(error)) as raised:
        load_fleet(file)
    assert "s3cret" not in str(raised.value)


def test_a_fleet_yaml_is_read_with_the_command_line_over_it(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(
        "sources: [rtsp://camera/1, {uri: clip.mp4, near: {site: north}}]\nlabels: tcp://127.0.0.1:1\nrun: {model: x}"
    )
    config, run = load_fleet(file, labels="tcp://127.0.0.1:2", at=None)
    assert [source.called for source in config.sources] == ["camera-1", "clip"]
    assert config.labels == "tcp://127.0.0.1:2"
    assert run == {"model": "x"}
