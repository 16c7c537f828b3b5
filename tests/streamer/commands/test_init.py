from __future__ import annotations

from pathlib import Path

import pytest

from streamer.commands.init import FILES, init
from streamer.errors import ConfigError
from streamer.fleet.config import load_fleet
from streamer.settings import load_settings


@pytest.mark.parametrize("kind", ["webcam", "rtsp", "many"])
def test_what_it_writes_is_a_configuration(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    init(kind)
    assert capsys.readouterr().out == f"wrote {kind}.yaml; change it, then: streamer run -c {kind}.yaml\n"
    assert load_settings(Path(f"{kind}.yaml"), {}).config.sources


def test_what_it_writes_for_a_fleet_is_a_configuration_of_its_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    init("fleet")
    assert capsys.readouterr().out == "wrote fleet.yaml; change it, then: streamer fleet head -c fleet.yaml\n"
    config, run = load_fleet(Path("fleet.yaml"))
    assert [source.called for source in config.sources] == ["door", "yard"]
    assert set(run) == {"model", "events"}


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    mine, gone = tmp_path / "mine.yaml", tmp_path / "gone.yaml"
    mine.write_text("mine")
    gone.symlink_to(tmp_path / "nowhere")
    for path in (mine, gone):
        with pytest.raises(ConfigError, match="is there already"):
            init("webcam", out=path)
    assert mine.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(ConfigError, match="cannot be written: No such file"):
        init("webcam", out=tmp_path / "no" / "webcam.yaml")


def test_what_it_writes_says_how_it_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    init("webhook", out=tmp_path / "hook.py")
    assert capsys.readouterr().out.endswith(f"hook.py; while a run goes on: python {tmp_path}/hook.py URL\n")
    assert "from streamer import" in (tmp_path / "hook.py").read_text()


def test_it_can_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    init("service", out=Path("-"))
    assert "\nExecStart=" in capsys.readouterr().out


def test_a_name_that_is_none_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="nothing of that name; did you mean 'webcam'"):
        init("webcm")


def test_the_files_of_a_checkout_are_those_that_it_writes() -> None:
    names = {"many.yaml": "configs/four_cameras.yaml", "webhook.py": "examples/webhook.py"}
    for name in FILES.values():
        own = Path(names.get(name, f"configs/{name}"))
        assert own.resolve() == Path("streamer/commands/starters", name).resolve()
