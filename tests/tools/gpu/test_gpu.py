"""The check of a GPU, rehearsed where there is none: with only what a bare GPU machine has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BARE = """
import importlib.abc, runpy, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import torch
torch.set_num_threads(1)
sys.argv = [MODULE, *sys.argv[1:]]
runpy.run_module(MODULE, run_name="__main__")
"""
ABSENT = {
    "cv2", "openvino", "av", "onnx", "onnxscript", "pydantic", "yaml", "zmq", "typer", "rich", "streamer", "starlette",
    "lightning", "lightning_fabric", "prometheus_client", "tensorrt",
}  # fmt: skip


def bare(module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`python -m MODULE` on a machine with torch, numpy and msgspec, and nothing else of what this project uses."""
    code = BARE.replace("{ABSENT}", repr(ABSENT)).replace("MODULE", repr(module))
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)


@pytest.mark.timeout(600)
def test_the_check_runs_on_a_bare_machine_up_to_the_gpu(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    file, record = tmp_path / "found.json", tmp_path / "record"
    done = bare(
        "tools.gpu", "--device", "cpu", "--rows", "1", "--steps", "12", "--json", file, "--record", record
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    found = {(one["subject"], one["check"]): one for one in json.loads(file.read_text())}
    for check in ("correct", "restored", "threads", "speed x1"):
        assert found["torch fp32", check]["good"], found["torch fp32", check]
    assert "none are captured" in found["torch fp32", "graphs"]["told"]
    assert found["tensorrt", "usable"]["told"].startswith("TensorRT is not installed")
    assert {path.name for path in record.iterdir()} == {"reference", "rows1.npz"}
    assert done.stdout.count("\n") == len(found) + 1


def test_a_machine_without_a_gpu_is_told_so_by_the_check_and_by_the_bench() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = bare("tools.gpu", "--parts", "torch")
    assert done.returncode == 1
    assert "no usable GPU: torch sees none" in done.stdout
    options = (
        "--device",
        "cuda",
        "--parts",
        "networks",
        "--networks",
        "tsn",
        "--frames",
        "2",
        "--backbone",
        "resnet18",
    )
    done = bare("tools.bench", *options, "--size", "32", "--width", "0.125", "--rows", "1", "--backends", "eager")
    assert done.returncode == 2
    assert "left out: torch sees no GPU" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--parts", "torch,cuda"), "gpu: --parts torch,cuda: 'cuda' is not one of torch, tensorrt"),
        (("--rows", "0"), "gpu: --rows 0: give numbers from 1"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from tools.gpu.__main__ import main

    assert main(arguments) == 2
    assert message in capsys.readouterr().err
