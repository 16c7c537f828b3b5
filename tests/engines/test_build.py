from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engines import EngineError, EngineSpec, load_engine
from engines.build import LIMITS, build_model, certify, fold_batch_norms
from engines.networks import build_network
from engines.openvino import has_bf16
from engines.scripted import ScriptedEngine, each_label_in_turn
from engines.spec import read_spec

from .contract import settle


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("tcm", "resnet18"),
        ("tsm", "resnet26"),
        ("tsm", "mobilenet_v2"),
        ("tanet", "resnet26"),
        ("stm", "resnet26"),
        ("gtdnet", "resnet26"),
    ],
)
@torch.no_grad()
def test_folding_the_batch_norms_leaves_none_and_changes_nothing(name: str, backbone: str) -> None:
    network = build_network(name, backbone, 8, 5, causal=True, width=0.25)
    settle(network)
    folded = fold_batch_norms(network)
    assert not any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in folded.modules())
    x = torch.randn(1, 10, 3, 48, 48)
    expected = network.frame_logits(x)
    assert (folded.frame_logits(x) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_the_sidecar_holds_what_a_program_must_know(model_folder: Path) -> None:
    spec = read_spec(model_folder / "small.onnx")
    assert {"layer1.0.shift.last", "tcm.mtdm.ring", "tcm.tam.eta.means", "seen"} <= {t.name for t in spec.states}
    ring = next(t for t in spec.states if t.name == "tcm.mtdm.ring")
    assert (ring.shape, ring.dtype) == ((7, 64, 6, 8), "float32")
    assert set(spec.files) == {"small.pt", "small.onnx"}
    assert spec.version.startswith("small@")
    assert spec.certificates[0].precision == "fp32"
    assert all(c.max_probability_difference <= LIMITS[c.precision] for c in spec.certificates)


def test_an_engine_that_answers_otherwise_gets_no_certificate(model_folder: Path) -> None:
    reference = load_engine(model_folder / "small.pt")
    impostor = ScriptedEngine(reference.spec, each_label_in_turn(5))
    with pytest.raises(EngineError, match="scripted in fp32 differs from the eager network by"):
        certify(reference, impostor, "fp32", steps=3)


def test_a_graph_takes_any_number_of_rows(model_folder: Path) -> None:
    engine = load_engine(model_folder / "small.onnx")
    spec: EngineSpec = engine.spec
    for rows in (1, 3, 5):
        state = engine.new_state(rows)
        frames = np.zeros((rows, spec.height, spec.width, 3), np.uint8)
        logits, ready = engine.step(frames, np.ones(rows, np.bool_), np.zeros(rows, np.bool_), state)
        assert logits.shape == (rows, 5)
        assert ready.shape == (rows,)


@pytest.mark.skipif(not has_bf16(), reason="this processor has no bf16 arithmetic")
def test_a_shift_network_is_certified_in_bf16_too_and_then_runs_in_it(tmp_path: Path) -> None:
    network = build_network("tsm", "resnet18", 8, 5, causal=True, width=0.25)
    settle(network)
    spec = EngineSpec(
        name="shifts", labels=("a", "b", "c", "d", "e"), height=48, width=64, rate_hz=10.0, frames=8, mode="stream",
        fit="stretch", network="tsm", backbone="resnet18", channel_width=0.25, states=(), files={},
    )  # fmt: skip
    built = build_model(network, spec, tmp_path, steps=200)
    assert [c.precision for c in built.certificates] == ["fp32", "bf16"]
    assert "bf16" in load_engine(tmp_path / "shifts.onnx").device
    assert "fp32" in load_engine(tmp_path / "shifts.onnx", precision="fp32").device
