"""`streamer build` and `streamer verify` as they are typed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from engines import EngineError, find_models
from engines.spec import Certificate
from streamer.commands import app
from streamer.errors import ConfigError
from tests.conftest import needs_torch

SHORT = ("--steps", "4", "--precision", "fp32")


@needs_torch
def test_build_tells_what_it_does_and_installs_a_certificate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ACTION_STREAMER_CACHE", str(tmp_path))
    command = ["build", "default", "--backend", "openvino", *SHORT]
    done = CliRunner().invoke(app, [*command, "--rebuild"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "comparing with torch" in done.stderr
    assert "certificate  openvino fp32: " in done.stdout
    assert f"sidecar      {tmp_path / 'openvino'}" in done.stdout
    assert done.stdout.endswith("to run it:   streamer run 0 --model default --backend openvino\n")
    again = CliRunner().invoke(app, command, catch_exceptions=False)
    assert "is installed already" in again.stderr
    assert "(was there)" in again.stdout


def test_verify_tells_the_figures_and_fails_for_an_engine_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Certificate("openvino", "fp32", 1250, 1e-6, 1.0, {10: 1e-6})
    monkeypatch.setattr("engines.build.install.verify", lambda *_, **__: found)
    done = CliRunner().invoke(app, ["verify", "default"], catch_exceptions=False)
    assert done.stdout == f"openvino {found}\ndefault: holds\n"
    found = msgspec.structs.replace(found, top1_agreement=0.99)
    with pytest.raises(EngineError, match=r"default: does not hold: only 99\.00% of the answers agree"):
        CliRunner().invoke(app, ["verify", "default"], catch_exceptions=False)


@pytest.mark.parametrize(
    "options",
    [
        ["--backend", "cuda"],
        ["--backend", "openvino", "--rows", "0"],
        ["--backend", "openvino", "--via", "magic"],
        ["--backend", "openvino", "--steps", "-1"],
        [],
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_built(options: list[str]) -> None:
    done = CliRunner().invoke(app, ["build", "default", *options])
    assert done.exit_code == 2
    assert "--" in done.stderr


def test_a_model_that_does_not_exist_is_one_sentence() -> None:
    with pytest.raises(EngineError, match=f"no model is called 'nothing'; there are {', '.join(find_models())}"):
        CliRunner().invoke(app, ["build", "nothing", "--backend", "openvino"], catch_exceptions=False)


def test_a_graph_alone_is_for_tensorrt() -> None:
    with pytest.raises(ConfigError, match="--graph-only writes what TensorRT builds from"):
        CliRunner().invoke(app, ["build", "default", "--backend", "openvino", "--graph-only"], catch_exceptions=False)
