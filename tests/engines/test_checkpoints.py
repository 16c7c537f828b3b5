from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from engines import EngineError
from engines.networks import build_network, import_checkpoint
from tests.golden import load_case

CASES = ["tsm_resnet50_t8_s1", "tcm_resnet50_t8_s1"]


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_a_published_checkpoint_gives_the_reference_logits(name: str) -> None:
    case = load_case(name)
    network = import_checkpoint(case.state_dict)
    logits = network.frame_logits(case.clip)
    reference = case.outputs["frame_logits"]
    assert (logits - reference).abs().max() <= 1e-3 * reference.abs().max()
    assert (logits.mean(1) - case.outputs["logits"]).abs().max() <= 1e-3 * case.outputs["logits"].abs().max()


@torch.no_grad()
def test_the_motion_module_gives_the_reference_maps() -> None:
    case = load_case("tcm_resnet50_t8_s1")
    network = import_checkpoint(case.state_dict)
    seen: list[torch.Tensor] = []
    network.get_submodule("tcm.mtdm").register_forward_hook(lambda _module, _inputs, output: seen.append(output[0]))
    network.frame_logits(case.clip[:1])
    torch.testing.assert_close(seen[0][0, :, :, ::4, ::4], case.outputs["mtdm"], rtol=1e-3, atol=1e-3)


def published(
    network: str = "tsm", backbone: str = "resnet18", width: float = 1.0, **options: int
) -> dict[str, torch.Tensor]:
    """A state dict under the names of the official files."""
    state = build_network(network, backbone, 8, 6, causal=False, width=width, **options).state_dict()
    renamed = {}
    for key, value in state.items():
        index = int(key.split(".")[1]) if key.startswith("layer") else 0
        shifted = network == "tsm" and key.startswith("layer") and ".conv1." in key
        shifted = shifted and index % options.get("shift_every", 1) == 0
        name = key.replace(".conv1.", ".conv1.net.") if shifted else key
        renamed[("new_" if key.startswith("fc") else "base_model.") + name] = value
    return renamed


def test_a_file_is_read_bare_or_under_state_dict(tmp_path: Path) -> None:
    state = published()
    torch.save(state, tmp_path / "bare.pth")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, tmp_path / "nested.pth.tar")
    for name in ("bare.pth", "nested.pth.tar"):
        network = import_checkpoint(tmp_path / name)
        assert not network.training
        assert torch.equal(network.fc.weight, state["new_fc.weight"])


def test_a_tsm_that_shifts_every_second_block_is_recognised() -> None:
    network = import_checkpoint(published(backbone="resnet34", shift_every=2))
    assert not network.get_submodule("layer1.1.shift").state_dict()
    assert type(network.get_submodule("layer1.0.shift")).__name__ == "TemporalShift"
    assert type(network.get_submodule("layer1.1.shift")).__name__ == "NoShift"


def test_keys_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    state = published()
    state["base_model.layer1.0.extra"] = torch.zeros(1)
    del state["base_model.bn1.weight"]
    state["base_model.conv1.weight"] = torch.zeros(1, 1, 1, 1)
    with pytest.raises(EngineError) as caught:
        import_checkpoint(state)
    for part in (
        "3 keys differ",
        "unknown layer1.0.extra",
        "missing bn1.weight",
        r"conv1.weight is [1, 1, 1, 1] instead",
    ):
        assert part in str(caught.value)


class Code:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("this must never run",)


def test_a_file_with_code_in_it_is_refused_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"state_dict": Code()}))
    with pytest.raises(EngineError, match="carries code is refused"):
        import_checkpoint(path)
    assert "never run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [({}, "holds no state dict"), ({"a": 1}, "holds no state dict"), ({"a": torch.zeros(1)}, "has no head")],
)
def test_what_is_no_checkpoint_is_told_so(content: dict[str, object], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        import_checkpoint(content)


def test_a_missing_file_and_a_text_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot be read: No such file"):
        import_checkpoint(tmp_path / "nothing.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(EngineError, match="not a plain checkpoint of tensors"):
        import_checkpoint(tmp_path / "text.pth")


def test_a_network_that_contradicts_the_file_is_refused() -> None:
    with pytest.raises(EngineError, match="holds a tsm network, not tcm"):
        import_checkpoint(published(), network="tcm")
