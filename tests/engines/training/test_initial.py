"""What a run begins with: fresh weights, a model's or a published checkpoint's; what stays frozen; and the teacher."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from engines.errors import EngineError
from engines.loading import find_models
from engines.networks import build_network
from engines.spec import read_spec
from engines.training.initial import build, frozen, load_teacher
from tests.engines.checkpoint import write_checkpoint
from tests.engines.training.runs import LABELS, recipe_of

DEFAULT: dict[str, Any] = {"network": "tcm", "width": 0.25, "frames": 8}


def imagenet(path: Path) -> dict[str, torch.Tensor]:
    """Writes a ResNet-18's state dict under torchvision's names, which are TSN's; returns it."""
    state = build_network("tsn", "resnet18", 8, 1000, causal=False).state_dict()
    torch.save(state, path)
    return state


def test_the_same_seed_gives_the_same_network() -> None:
    first, second, other = (build(recipe_of(seed=seed), LABELS).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_the_shipped_model_keeps_its_head_for_its_own_labels(caplog: pytest.LogCaptureFixture) -> None:
    sidecar = find_models()["default"]
    shipped = torch.load(sidecar.with_suffix(".pt"), weights_only=True)
    net = build(recipe_of(**DEFAULT, init="default"), read_spec(sidecar).labels)
    assert all(torch.equal(value, shipped[name]) for name, value in net.state_dict().items())
    assert not caplog.records


def test_for_other_labels_the_head_is_fresh_and_this_is_told(caplog: pytest.LogCaptureFixture) -> None:
    shipped = torch.load(find_models()["default"].with_suffix(".pt"), weights_only=True)
    net = build(recipe_of(**DEFAULT, init="default"), LABELS)
    assert net.fc.out_features == 3
    assert all(torch.equal(v, shipped[name]) for name, v in net.state_dict().items() if not name.startswith("fc."))
    assert "default lacks 2 tensors, which begin fresh: fc.weight, fc.bias" in caplog.text


def test_an_imagenet_file_gives_the_backbone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = imagenet(tmp_path / "imagenet.pth")
    recipe = recipe_of(network="tcm", width=1.0, frames=8, init=str(tmp_path / "imagenet.pth"))
    with caplog.at_level(logging.WARNING):
        net = build(recipe, LABELS).state_dict()
    assert all(torch.equal(net[name], value) for name, value in state.items() if not name.startswith("fc."))
    assert net["fc.weight"].shape == (3, 512)
    assert "begin fresh: fc.weight, fc.bias, tcm.mtdm" in caplog.text


@pytest.mark.parametrize("other", [{"backbone": "resnet34", "width": 1.0}, {"width": 0.5}])
def test_a_published_file_for_another_backbone_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    path = tmp_path / "imagenet.pth"
    imagenet(path)
    with pytest.raises(
        EngineError, match=f"cannot begin with {path}: it is tsm on resnet18, width 1, the recipe asks "
    ):
        build(recipe_of(**other, init=str(path)), LABELS)


def test_a_published_file_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tsm.pth"
    state = build_network("tsm", "resnet18", 8, 5, causal=False).state_dict()
    names = {name: re.sub(r"^(layer.*\.conv1)\.", r"\1.net.", name) for name in state}
    torch.save({("new_" if old.startswith("fc") else "base_model.") + names[old]: state[old] for old in state}, path)
    with pytest.raises(EngineError, match="holds a tsm network, not tcm"):
        build(recipe_of(network="tcm", width=1.0, init=str(path)), LABELS)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"network": "tcm", "mode": "stream"}, "it is tcm on resnet18, width 0.125, the recipe asks for tsm on res"),
        ({"channel_width": 0.25}, "it is tsm on resnet18, width 0.25, "),
        ({"options": {"shift_every": 2}}, "it is tsm on resnet18, width 0.125, shift_every 2, "),
    ],
)
def test_a_model_of_another_network_is_refused(tmp_path: Path, model: dict[str, Any], message: str) -> None:
    path = write_checkpoint(tmp_path, **model)
    with pytest.raises(EngineError, match=f"cannot begin with {path}: {message}"):
        build(recipe_of(init=str(path)), LABELS)


def test_a_model_with_another_number_of_frames_is_refused_where_its_weights_depend_on_it(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, network="tanet", backbone="resnet26")
    build(recipe_of(network="tanet", backbone="resnet26", init=str(path)), LABELS)
    with pytest.raises(EngineError, match=r"tensors do not fit, layer1\.0\.tam\.G.*was its T another"):
        build(recipe_of(network="tanet", backbone="resnet26", frames=8, init=str(path)), LABELS)


@pytest.mark.parametrize("name", ["none.pth", "none.pt", "", ".", "defualt", "/"])
def test_what_does_not_exist_is_refused_with_the_models_that_do(name: str) -> None:
    with pytest.raises(
        EngineError, match=r"cannot begin with .*no such file, and no such model among actions, default"
    ):
        build(recipe_of(init=name), LABELS)


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(EngineError, match="does not match its sidecar"):
        build(recipe_of(init=str(path)), LABELS)
    path.with_suffix(".json").unlink()
    with pytest.raises(EngineError, match="no PyTorch file, or a damaged one"):
        build(recipe_of(init=str(path)), LABELS)


def test_a_network_that_cannot_be_built_is_told() -> None:
    with pytest.raises(EngineError, match=r"cannot build the network of the recipe: .*did you mean 'resnet18'"):
        build(recipe_of(backbone="resnet19"), LABELS)


# --------------------------------------------------------------------------------------------------------- freezing


def test_freezing_the_backbone_leaves_the_head() -> None:
    recipe = recipe_of(freeze=["backbone"])
    net = build(recipe, LABELS)
    assert [name for name, p in net.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]
    assert net.fc not in list(frozen(net, recipe))


def test_single_modules_can_be_frozen() -> None:
    net = build(recipe_of(freeze=["conv1", "layer1", "layer2.0.bn1"]), LABELS)
    kept = {name.split(".conv")[0] for name, p in net.named_parameters() if not p.requires_grad}
    assert kept >= {"conv1.weight", "layer1.0", "layer2.0.bn1.weight"}
    assert net.get_parameter("layer2.0.conv1.weight").requires_grad


def test_an_unknown_module_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(EngineError, match=r"cannot freeze 'layer9': the network has backbone, conv1, .*layer4"):
        build(recipe_of(freeze=["layer9"]), LABELS)


def test_freezing_everything_is_refused() -> None:
    with pytest.raises(EngineError, match="nothing is left to train"):
        build(recipe_of(freeze=["backbone", "fc"]), LABELS)


# ---------------------------------------------------------------------------------------------------------- teachers


def test_a_teacher_gives_the_logits_of_its_model(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, bias=3.0)
    teacher = load_teacher(str(path), recipe_of(), LABELS)
    assert not teacher.causal
    assert not teacher.training
    assert teacher.fc.bias[0] == 3.0


@pytest.mark.parametrize(
    ("model", "labels", "message"),
    [
        ({"mode": "stream"}, LABELS, "does not look ahead"),
        ({"frames": 8}, LABELS, "sees 8 frames, not 4"),
        ({}, ("jump", "walk", "run"), "has other labels than the data set"),
        ({}, ("jump", "run"), "has other labels than the data set"),
    ],
)
def test_an_unfit_teacher_is_refused(
    tmp_path: Path, model: dict[str, Any], labels: tuple[str, ...], message: str
) -> None:
    path = write_checkpoint(tmp_path, **model)
    with pytest.raises(
        EngineError, match=f"the teacher {path} {message}: give a model that was trained with causal: f"
    ):
        load_teacher(str(path), recipe_of(), labels)


def test_a_published_teacher_must_look_ahead_and_know_as_many_labels(tmp_path: Path) -> None:
    online = build_network("tsm", "mobilenet_v2", 8, 3, causal=True).state_dict()
    torch.save({k.replace("fc.", "classifier."): v for k, v in online.items()}, tmp_path / "online.pth")
    with pytest.raises(EngineError, match="does not look ahead"):
        load_teacher(str(tmp_path / "online.pth"), recipe_of(frames=8), LABELS)
    imagenet(tmp_path / "imagenet.pth")
    with pytest.raises(EngineError, match="has other labels"):
        load_teacher(str(tmp_path / "imagenet.pth"), recipe_of(frames=8), LABELS)


def test_a_teacher_that_does_not_exist_is_told() -> None:
    with pytest.raises(EngineError, match=r"cannot use the teacher none\.pt: there is no such file"):
        load_teacher("none.pt", recipe_of(), LABELS)
