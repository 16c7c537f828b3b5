from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines import EngineError, EngineSpec, find_models, load_engine
from engines.backends.openvino import has_bf16
from engines.build.export import node_count
from engines.build.model import build_model
from engines.networks import build_network
from engines.networks.folding import even_out, fold_batch_norms
from engines.networks.resnet import BACKBONES, Bottleneck
from engines.spec import LIMIT, read_spec

from ..conftest import make_model
from ..networks.contract import settle


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("tcm", "resnet18"),
        ("tsm", "resnet26"),
        ("tsm", "mobilenet_v2"),
        ("tcm", "efficientnet_lite0"),
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


@torch.no_grad()
def test_a_network_whose_norms_are_evened_out_computes_what_it_did() -> None:
    for name, backbone in (("tcm", "efficientnet_lite0"), ("tanet", "resnet26")):
        network = build_network(name, backbone, 8, 5, causal=True, width=0.25)
        settle(network)
        clip = torch.randn(1, 8, 3, 48, 48)
        before = network.frame_logits(clip)
        even_out(network)
        torch.testing.assert_close(network.frame_logits(clip), before, rtol=1e-3, atol=1e-4)
        norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        assert all(torch.equal(norm.weight, torch.ones_like(norm.weight)) for norm in norms)


def test_the_sidecar_holds_what_a_program_must_know(model_folder: Path) -> None:
    spec = read_spec(model_folder / "small.onnx")
    assert {"layer1.0.shift.last", "tcm.mtdm.ring", "tcm.tam.eta.means", "seen"} <= {t.name for t in spec.states}
    ring = next(t for t in spec.states if t.name == "tcm.mtdm.ring")
    assert (ring.shape, ring.dtype) == ((7, 64, 6, 8), "float32")
    assert set(spec.files) == {"small.pt", "small.onnx"}
    assert spec.version.startswith("small@")
    assert spec.certificates[0].precision == "fp32"
    assert all(c.max_probability_difference <= (5e-3 if c.precision == "fp32" else LIMIT) for c in spec.certificates)


def test_a_graph_that_differs_is_no_model(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.spec.LIMIT", -1.0)
    with pytest.raises(EngineError, match="the graph of it in OpenVINO differs from the eager network: a probability"):
        make_model(tmp_path, "it", "tsm", "resnet18")
    assert not (tmp_path / "it.json").exists()


def test_a_full_disk_leaves_the_model_that_was_there(tmp_path: Path) -> None:
    for suffix in (".pt", ".onnx", ".json"):
        (tmp_path / f"it{suffix}").write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            make_model(tmp_path, "it", "tsm", "resnet18")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("it.pt", "it.onnx", "it.json"), b"old"
    )


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
def test_a_shift_network_is_certified_in_bf16_too_and_then_runs_in_it(model_folder: Path) -> None:
    assert [c.precision for c in read_spec(model_folder / "window.onnx").certificates] == ["fp32", "bf16"]
    assert "bf16" in load_engine(model_folder / "window.onnx").device
    assert "fp32" in load_engine(model_folder / "window.onnx", precision="fp32").device


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("tanet", {}),
        ("stm", {}),
        ("gtdnet", {}),
        ("gtdnet", {"aggregator": "mta"}),
        ("gtdnet", {"aggregator": "lstm"}),
        ("gtdnet", {"aggregator": "bilstm", "mode": "window"}),
        ("tanet", {"mode": "window"}),
        ("stm", {"mode": "window"}),
        ("tcm", {"mode": "window", "hop": 3, "steps": 48}),
    ],
)
def test_every_network_is_built_and_equals_itself_in_openvino(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str, options: dict[str, Any]
) -> None:
    monkeypatch.setitem(BACKBONES, "resnet26", (Bottleneck, (2, 1, 1, 1)))  # an export takes seconds for each block
    built = make_model(tmp_path, "it", network, "resnet26", **options)
    assert built.certificates[0].precision == "fp32"
    assert built.certificates[0].max_probability_difference <= 5e-3
    assert load_engine(tmp_path / "it.pt").spec == built
    assert built.nodes == node_count(tmp_path / "it.onnx")


@pytest.mark.parametrize(("network", "options"), [("tsn", {"pooling": "statistics"}), ("tcm", {}), ("tanet", {})])
def test_a_light_network_whose_weights_are_kept_in_half_is_half_as_large_and_equals_itself_in_openvino(
    tmp_path: Path, network: str, options: dict[str, Any]
) -> None:
    built = make_model(tmp_path, "halved", network, "efficientnet_lite0", half=True, **options)
    assert built.parameters is not None
    whole = 4 * built.parameters
    for kind in ("pt", "onnx"):
        assert (tmp_path / f"halved.{kind}").stat().st_size < 0.5 * whole + 500_000  # names, statistics, the graph
    exact = built.certificates[0]
    assert (exact.precision, exact.fault) == ("fp32", None)
    state = torch.load(tmp_path / "halved.pt", weights_only=True)
    assert state["features.9.conv.0.weight"].dtype == torch.float16


def test_the_graph_does_not_tell_whose_machine_made_it(model_folder: Path) -> None:
    shipped = find_models()["default"].with_suffix(".onnx")
    for graph in (*model_folder.glob("*.onnx"), shipped):
        content = graph.read_bytes()
        assert b".py" not in content
        assert b"/engines/" not in content


def test_a_mode_that_the_network_is_not_made_for_is_refused(model_folder: Path, tmp_path: Path) -> None:
    spec = read_spec(model_folder / "small.onnx")
    clip = build_network("tcm", "resnet18", 8, 5, causal=False, width=0.25)
    with pytest.raises(EngineError, match="small: stream mode needs the causal form"):
        build_model(clip, spec, tmp_path)
