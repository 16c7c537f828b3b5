from __future__ import annotations

import logging
import pickle
import re
from pathlib import Path

import pytest
import torch

from engines import EngineError
from engines.networks import Network, build_network, import_checkpoint
from engines.networks.checkpoints import JESTER_LABELS, read_checkpoint
from engines.networks.temporal import per_frame
from tests.golden import load_case

CASES = ["tsm_resnet50_t8_s1", "tcm_resnet50_t8_s1", "tanet_resnet50_t8_s1", "tsm_online_mobilenetv2_s1"]


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_a_published_checkpoint_gives_the_reference_logits(name: str) -> None:
    case = load_case(name)
    network = import_checkpoint(case.state_dict)
    assert network.causal == case.meta.get("causal", False)
    logits = network.frame_logits(case.clip[:1])
    reference = case.outputs["frame_logits"].view(-1, *logits.shape[1:])[:1]
    assert (logits - reference).abs().max() <= 1e-3 * reference.abs().max()


@torch.no_grad()
def test_the_motion_module_gives_the_reference_maps() -> None:
    case = load_case("tcm_resnet50_t8_s1")
    network = import_checkpoint(case.state_dict)
    x = per_frame(network.stem, case.clip[:1])
    for name, stage in network.stages():
        if name == "tcm":
            break
        x, _ = stage(x, {})
    motion, _ = network.get_submodule("tcm.mtdm")(x, {})
    torch.testing.assert_close(motion[0, :, :, ::4, ::4], case.outputs["mtdm"], rtol=1e-3, atol=1e-3)


def published(
    network: str = "tsm", backbone: str = "resnet18", frames: int = 8, **options: int
) -> dict[str, torch.Tensor]:
    """A state dict under the names of the official files."""
    state = build_network(network, backbone, frames, 6, causal=False, **options).state_dict()
    renamed = {}
    for key, value in state.items():
        block = re.match(r"(layer\d)\.(\d+)\.", key)
        shifted = network == "tsm" and block and int(block[2]) % options.get("shift_every", 1) == 0
        name = key.replace(".conv1.", ".conv1.net.") if shifted else key
        if network == "tcm":
            name = name.replace("tcm.", "tcm_layer.").replace(".eta.", ".ETA.")
        if network == "tanet" and ".tam." not in name:
            name = re.sub(r"(layer\d\.\d+)\.", r"\1.net.", name)
        renamed[("new_" if key.startswith("fc") else "base_model.") + name] = value
    return renamed


def of_mmaction2(state: dict[str, torch.Tensor], network: str) -> dict[str, torch.Tensor]:
    """A ResNet's state dict under the names of mmaction2."""
    renamed = {}
    for key, value in state.items():
        name = re.sub(r"\bconv(\d)\.", r"conv\1.conv.", re.sub(r"\bbn(\d)\.", r"conv\1.bn.", key))
        name = name.replace(".downsample.0.", ".downsample.conv.").replace(".downsample.1.", ".downsample.bn.")
        if network == "tsm":
            name = re.sub(r"(layer.*\.conv1\.conv\.)", r"\1net.", name)
        if network == "tanet" and ".tam." not in name:
            name = re.sub(r"(layer\d\.\d+)\.", r"\1.block.", name)
        renamed[name.replace("fc.", "cls_head.fc_cls.") if key.startswith("fc") else f"backbone.{name}"] = value
    return renamed


def nested(state: dict[str, torch.Tensor], *, mmaction2: bool) -> dict[str, torch.Tensor]:
    """MobileNetV2's state dict under the names of torchvision, or of mmaction2's TSM."""
    renamed = {}
    first = (0, 1, 2, 4, 7, 11, 14, 17)
    for key, value in state.items():
        kind, *rest = key.split(".")
        if kind == "fc":
            name = ("cls_head.fc_cls." if mmaction2 else "classifier.1.") + rest[0]
        elif rest[1] != "conv":
            name = key
            if mmaction2:
                outer = "conv1" if rest[0] == "0" else "conv2"
                name = f"backbone.{outer}.{'bn' if rest[1] == '1' else 'conv'}.{rest[2]}"
        else:
            index, place = int(rest[0]), int(rest[2])
            last = 3 if index == 1 else 6
            if mmaction2:
                layer = max(number for number in range(1, 8) if first[number] <= index)
                wrapped = ".net" if index not in first and place < 3 else ""
                part = "bn" if place % 3 else "conv"
                if place >= last:  # the projection, a convolution module without activation
                    wrapped = ""
                name = f"backbone.layer{layer}.{index - first[layer]}.conv.{place // 3}{wrapped}.{part}.{rest[3]}"
            else:
                inner = f"{place // 3}.{place % 3}" if place < last else str(last // 3 + place - last)
                name = f"features.{index}.conv.{inner}.{rest[3]}"
        renamed[name] = value
    return renamed


def same(network: Network, state: dict[str, torch.Tensor]) -> bool:
    """Whether the network has exactly these parameters."""
    own = network.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[key], value) for key, value in state.items())


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
    with pytest.raises(EngineError, match="carries code, which is refused"):
        import_checkpoint(path)
    assert "never run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no state dict"),
        ({"a": 1}, "holds no state dict"),
        ({"a": torch.zeros(1)}, "of none of the files that can be read: TCM"),
    ],
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


@pytest.mark.parametrize(("network", "backbone"), [("tanet", "resnet26"), ("tsm", "resnet26"), ("tsn", "resnet18")])
def test_files_of_mmaction2_are_recognised(network: str, backbone: str) -> None:
    state = build_network(network, backbone, 8, 6, causal=False).state_dict()
    found = read_checkpoint({"meta": {}, "state_dict": of_mmaction2(state, network)})
    assert (found.network, found.backbone, found.classes, found.causal) == (network, backbone, 6, False)
    assert same(found.build(), state)


def test_mobilenet_files_are_recognised() -> None:
    state = build_network("tsm", "mobilenet_v2", 8, 6, causal=False).state_dict()
    for content, network, causal in (
        (nested(state, mmaction2=True), "tsm", False),
        (nested(state, mmaction2=False), "tsn", False),
        ({key.replace("fc.", "classifier."): value for key, value in state.items()}, "tsm", True),
    ):
        found = read_checkpoint(content)
        assert (found.network, found.backbone, found.causal) == (network, "mobilenet_v2", causal)
        assert same(found.build(), state)


def of_efficientnet_lite(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """EfficientNet-Lite0's state dict under the names of its file."""
    parts = ("_expand_conv", "_bn0", "", "_depthwise_conv", "_bn1", "", "_project_conv", "_bn2")
    outer = {
        "features.0.0": "_conv_stem",
        "features.0.1": "_bn0",
        "features.17.0": "_conv_head",
        "features.17.1": "_bn1",
    }
    renamed = {}
    for key, value in state.items():
        module, _, parameter = key.rpartition(".")
        if ".conv." in module:
            index, place = int(module.split(".")[1]) - 1, int(module.split(".")[3])
            name = f"_blocks.{index}.{parts[place + (3 if index == 0 else 0)]}"
        else:
            name = outer.get(module, "_fc")
        renamed[f"{name}.{parameter}"] = value
    return renamed


def test_the_file_of_efficientnet_lite_is_recognised_and_every_key_of_it_has_its_place() -> None:
    state = build_network("tsn", "efficientnet_lite0", 8, 1000, causal=False).state_dict()
    content = of_efficientnet_lite(state)
    assert len(content) == 296
    found = read_checkpoint(content)
    assert (found.network, found.backbone, found.classes) == ("tsn", "efficientnet_lite0", 1000)
    assert same(found.build(), state)
    trained_further = read_checkpoint(content, "tcm", classes=5).build(causal=True)
    assert torch.equal(trained_further.state_dict()["features.16.conv.6.weight"], state["features.16.conv.6.weight"])
    del content["_blocks.3._bn1.bias"]
    with pytest.raises(EngineError, match=r"1 keys differ: missing features\.4\.conv\.4\.bias"):
        read_checkpoint(content)


def test_a_backbone_without_a_head_is_one_to_train_further() -> None:
    state = build_network("tsn", "mobilenet_v2", 8, 6, causal=False).state_dict()
    headless = {key: value for key, value in state.items() if not key.startswith("fc.")}
    assert len(headless) == 312
    with pytest.raises(EngineError, match=r"has no head.*to train it as a backbone, give the number of classes"):
        read_checkpoint(headless)
    network = import_checkpoint(headless, "tsm", classes=5)
    assert network.fc.out_features == 5
    assert torch.equal(network.state_dict()["features.9.conv.0.weight"], state["features.9.conv.0.weight"])


def test_the_first_names_of_tanet_and_its_frames_are_recognised() -> None:
    state = published("tanet", "resnet26", frames=16)
    old = {
        k.replace(".tam.G.", ".self_conv.conv_f.").replace(".tam.L.", ".self_conv.conv_g."): v for k, v in state.items()
    }
    for content in (state, old):
        network = import_checkpoint(content)
        assert network.frames == 16
        assert torch.equal(network.state_dict()["layer2.0.tam.L.0.weight"], state["base_model.layer2.0.tam.L.0.weight"])
    with pytest.raises(EngineError, match="is made for 16 frames, not 8"):
        import_checkpoint(state, frames=8)


def test_the_attention_of_tcm_tells_which_frames_are_possible() -> None:
    state = published("tcm", frames=16)
    assert import_checkpoint(state, frames=16).frames == 16
    with pytest.raises(EngineError, match="has 5 taps, and 8 frames need 3; say how many frames it was trained with"):
        import_checkpoint(state)


def test_a_file_without_a_shift_is_tsn_and_one_that_shifts_elsewhere_is_refused() -> None:
    plain = published("tsn")
    assert read_checkpoint(plain).network == "tsn"
    wrapped = {key.replace("layer3.0.conv1.", "layer3.0.conv1.net."): value for key, value in plain.items()}
    with pytest.raises(EngineError, match=r"shifts in other blocks than TSM, .*layer1\.0"):
        import_checkpoint(wrapped)


def test_an_imagenet_file_is_a_backbone_whose_new_parts_are_asked_for_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    state = build_network("tsn", "resnet18", 8, 1000, causal=False).state_dict()
    assert same(import_checkpoint(state), state)
    with pytest.raises(EngineError, match=r"missing tcm\..*to train it as a backbone, give the number of classes"):
        import_checkpoint(state, network="tcm")
    with caplog.at_level(logging.INFO):
        network = import_checkpoint(state, network="tcm", classes=5)
    assert network.fc.out_features == 5
    assert torch.equal(network.state_dict()["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])
    assert "new and untrained are fc.bias, fc.weight, tcm.mtdm" in caplog.text
    del state["layer1.0.bn1.weight"]
    with pytest.raises(EngineError, match=r"1 keys differ: missing layer1\.0\.bn1\.weight"):
        import_checkpoint(state, network="tcm", classes=5)


def test_a_file_from_before_the_counters_of_batch_norms_is_read() -> None:
    state = build_network("tsn", "resnet18", 8, 1000, causal=False).state_dict()
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert same(import_checkpoint(old), state)


def test_jester_has_27_labels() -> None:
    assert len(set(JESTER_LABELS)) == 27
    assert JESTER_LABELS[2] == "No gesture"
