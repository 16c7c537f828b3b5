from __future__ import annotations

import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines.backends.openvino import OpenVINOEngine
from engines.networks import build_network
from engines.networks.inverted import InvertedNet
from tools.bench.__main__ import main
from tools.bench.graphs import FORMS, Subject, WholeClip, forms, graphs
from tools.bench.networks import answers, torch_engine
from tools.bench.peers import PublishedStep, continual_resnet
from tools.bench.timing import in_turns

SMALL = ["--parts", "networks", "--backbone", "resnet18", "--size", "32", "--width", "0.125", "--rounds", "2"]
NAMED = {
    "network", "backbone", "frames", "device", "backend", "rows", "limit_ms", "step_ms", "window_ms", "recompute_ms",
    "step_over_limit", "recompute_over_step",
}  # fmt: skip


def test_the_tool_measures_every_form_and_writes_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    options = ["--networks", "tsm,tcm", "--frames", "4", "--precision", "fp32", "--backends", "eager"]
    assert main([*SMALL, *options, "--json", str(file)]) == 0
    rows = json.loads(file.read_text())
    assert [(row["backend"], row["precision"], row["network"], row["frames"]) for row in rows] == [
        ("eager", "fp32", "tsm", 4), ("eager", "fp32", "tcm", 4)
    ]  # fmt: skip
    for row in rows:
        assert row.keys() >= NAMED
        assert min(row["step_over_limit"], row["recompute_over_step"], row["frames_per_s"]) > 0
        assert row["step_over_limit"] == row["step_ms"] / row["limit_ms"]
        assert row["recompute_over_step"] == row["recompute_ms"] / row["step_ms"]
        assert row["spread_ms"].keys() == set(FORMS)
        assert all(low <= row[f"{form}_ms"] <= high for form, (low, high) in row["spread_ms"].items())
        assert row["difference"] < 1e-4
    assert capsys.readouterr().out.count("tsm       4    1 eager fp32") == 1
    assert main(["--show", str(file), str(file)]) == 0
    assert capsys.readouterr().out.count("tsm       4    1 eager fp32") == 2


@pytest.mark.timeout(600)  # an export takes 5 s of a core, and on a busy machine far longer
def test_graphs_are_exported_once_and_compute_what_the_network_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = forms("tsm", "resnet18", 4, 32, 0.125)["recompute"]
    path, spec = graphs([subject], tmp_path)[subject]
    monkeypatch.setattr("engines.build.export.export_onnx", None)  # a second export would fail
    assert graphs([subject], tmp_path) == {subject: (path, spec)}
    found = answers(OpenVINOEngine(path, spec, threads=1, precision="fp32"))
    expected = answers(torch_engine(subject, "cpu", "fp32"))
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_clip_that_is_computed_whole_is_half_where_its_network_is() -> None:
    network = build_network("tcm", "resnet18", 4, 3, causal=False, width=0.125)
    halved = WholeClip(copy.deepcopy(network)).half().clip_form.named_parameters()
    assert {name: value.dtype for name, value in halved} == {
        name: value.dtype for name, value in network.half().named_parameters()
    }


def test_what_cannot_be_measured_here_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    options = ["--device", "cuda", "--networks", "tsm", "--frames", "2", "--backends", "eager,openvino", "--rows", "1"]
    assert main([*SMALL, *options, "--precision", "fp16,fp32"]) == 2
    printed = capsys.readouterr()
    assert "tsm       2    1 eager fp16      left out: torch sees no GPU" in printed.out
    assert "tsm       2    1 openvino fp32   left out: OpenVINO is the engine of CPUs" in printed.out
    assert "bench: nothing could be measured" in printed.err
    broken = tmp_path / "rows.json"
    broken.write_text("{}")
    assert main(["--show", str(broken)]) == 2
    assert "is not what --json writes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--networks", "tms"), "'tms' is not one of tsm, tcm"),
        (("--frames", "8,"), "is not a list of numbers from 1"),
        (("--rows", "0"), "'0' is not a list of numbers from 1"),
        (("--size", "32,64"), "'32,64' is not one number"),
    ],
)
def test_a_wrong_setting_is_refused(option: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(list(option))
    assert message in capsys.readouterr().err


def test_a_case_that_fails_is_a_row_that_says_why_and_ends_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    options = ["--networks", "tanet,tsn", "--frames", "2", "--backends", "eager", "--precision", "fp32"]
    assert main([*SMALL, *options, "--json", str(file)]) == 0
    failed, measured = json.loads(file.read_text())
    assert (failed["kind"], failed["network"], measured["kind"], measured["network"]) == (
        "failure", "tanet", "row", "tsn",
    )  # fmt: skip
    assert "bottleneck" in failed["why"]
    assert main(["--show", str(file)]) == 0
    assert capsys.readouterr().out.count("left out: ") == 2


def test_what_does_not_fit_into_the_budget_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--networks", "tsn,tsm", "--frames", "2", "--backends", "eager", "--precision", "fp32"]
    assert main([*SMALL, *options, "--budget-s", "0.001"]) == 0
    told = capsys.readouterr().out
    assert "tsn       2    1 eager fp32 " in told
    assert "tsm       2    1 all             left out: the budget of 0.001 s is used up" in told


@torch.no_grad()
def test_the_forms_of_a_network_have_the_same_weights_and_the_clip_is_computed_whole() -> None:
    made = {form: subject.build() for form, subject in forms("tcm", "resnet18", 4, 32, 0.125).items()}
    for name, value in made["step"].state_dict().items():
        assert torch.equal(made["window"].state_dict()[name], value)
    frame = torch.randn(2, 1, 3, 32, 32)
    whole, _ = made["recompute"](frame, {})
    expected = made["window"].frame_logits(frame.expand(-1, 4, -1, -1, -1)).mean(1, keepdim=True)
    torch.testing.assert_close(whole, expected)


@torch.no_grad()
def test_the_published_way_computes_what_this_projects_network_does() -> None:
    subject = Subject("step", "tsm", "mobilenet_v2", 8, 64, 0.5)
    network = subject.build()
    assert isinstance(network, InvertedNet)
    published, buffers = PublishedStep(network), tuple(network.initial_state(1, 64, 64).values())
    state = network.initial_state(1, 64, 64)
    for picture in torch.randn(6, 1, 3, 64, 64):
        logits, *buffers = published(picture, *buffers)
        expected, state = network(picture.unsqueeze(1), state)
        torch.testing.assert_close(logits, expected[:, 0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_continual_peer_answers_steps_as_it_does_clips() -> None:
    co = pytest.importorskip("continual")
    torch.manual_seed(0)
    network: Any = continual_resnet(co, 0.125)
    clip = torch.randn(1, 3, 24, 32, 32)
    steps = [network.forward_step(frame) for frame in clip.unbind(2)]
    whole = network.forward(clip)
    torch.testing.assert_close(steps[-1], whole[:, :, -1 - network.delay], rtol=1e-3, atol=1e-3)


def test_turns_are_shuffled_and_the_first_round_does_not_count() -> None:
    called: list[str] = []
    runs = {name: partial(called.append, name) for name in "abc"}
    times = in_turns(runs, ["a", "a", "b", "c"], rounds=30)
    assert called.count("a") == 62
    assert called.count("b") == called.count("c") == 31
    assert len({tuple(called[n : n + 4]) for n in range(0, len(called), 4)}) > 6
    assert all(found.low <= found.median <= found.high <= found.p99 for found in times.values())


def test_engines_are_compared_over_a_new_start_and_without_frames_that_do_not_count() -> None:
    subject = forms("tsm", "resnet18", 3, 32, 0.125)["step"]
    found = answers(torch_engine(subject, "cpu", "fp32"))
    assert found.shape == (5, 174)
    assert np.array_equal(found, answers(torch_engine(subject, "cpu", "fp32")))
