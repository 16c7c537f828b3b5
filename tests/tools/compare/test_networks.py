"""Networks trained side by side on people's actions: the packed set, what decides what, and going on after an end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from engines.training.head import Look
from tests.tools.sets import hmdb51, numbers
from tools.compare import jhmdb, networks, runs, shots, tuned
from tools.compare.__main__ import main
from tools.compare.finetune import Budget, Looks, finetune
from tools.compare.packed import read_packed
from tools.errors import ToolError

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labels of four clips, as films of 32 px."""
    root = tmp_path_factory.mktemp("jhmdb")
    hmdb51(root)
    assert main(["pack", "--data", str(root), "--out", str(root / "set"), "--size", "32"]) == 0
    return root / "set"


def test_a_packed_set_has_all_clips_whole_and_in_their_halves(packed: Path) -> None:
    found = read_packed(packed)
    assert len(found.labels) == 12
    for clip, begin in zip(found.contents.clips, found.begins.tolist(), strict=True):
        seen = torch.from_numpy(numbers(found.frames[begin : begin + clip.frames]))
        assert (seen - torch.arange(clip.frames)).abs().max() <= 1  # twice compressed
    for split in networks.SPLITS:
        halves = [set(found.half(split, trains=trains).tolist()) for trains in (True, False)]
        assert not halves[0] & halves[1]
        assert sorted(map(len, halves)) == [3, 6]


def test_a_set_that_is_not_whole_is_told(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"tools\.compare pack"):
        read_packed(tmp_path)
    (tmp_path / "clips.json").write_bytes((packed / "clips.json").read_bytes())
    with pytest.raises(ToolError, match="pack it again"):
        read_packed(tmp_path)


def test_what_is_general_in_imagenets_weights_stays_and_the_rest_learns(packed: Path, backbone: Path) -> None:
    found = read_packed(packed)
    run, budget = runs.Run("tcm", "causal", str(backbone), str(backbone), 1, 0), Budget(epochs=2)
    net = runs.network_of(run, 3, budget, "mean")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    looks = Looks(found, found.half(1, trains=True), budget, causal=True, seed=0)
    after = finetune(net, looks).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"fc.weight", "features.7.conv.0.weight", "tcm.mtdm.chnl_reduction.0.weight"} <= changed
    assert not any(name.startswith(tuple(f"features.{n}." for n in range(7))) for name in changed)
    assert not any("running" in name for name in changed if name.startswith("features."))


def test_drawn_motion_teaches_the_tcm_layer_alone(backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "DRAWN", Budget(epochs=2, batch=4))
    run = runs.Run("tcm", "causal", "drawn", str(backbone), 1, 0)
    net = runs.network_of(run, 3, Budget(), "mean")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    runs.learn_motion(net, str(backbone), 32, torch.device("cpu"), 0)
    after = net.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "tcm.tam.conv1.0.weight" in changed
    assert all(name.startswith("tcm.") for name in changed)


def test_every_moment_that_is_seen_lies_within_its_clip(packed: Path) -> None:
    found = read_packed(packed)
    lengths = torch.tensor([clip.frames for clip in found.contents.clips])
    for causal in (True, False):
        looks = Looks(found, torch.arange(12), Budget(), causal=causal, seed=0)
        places = looks.moments(torch.arange(12)) - found.begins.unsqueeze(1)
        assert places.shape == (12, 8)
        assert (places >= 0).all()
        assert (places < lengths.unsqueeze(1)).all()
        assert (places.diff(dim=1) >= 0).all()


@pytest.mark.timeout(300)
def test_one_command_trains_and_asks_and_does_nothing_twice(
    packed: Path, backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["networks", "--data", str(packed), "--init", str(backbone), "--out", str(tmp_path)]
    command += ["--networks", "tsn", "tcm", "--splits", "1", "--trials", "0"]
    assert main(command) == 0, capsys.readouterr().err
    rows = networks.read_rows(tmp_path / "rows.jsonl")
    assert [(row.network, row.form, row.trial) for row in rows.values()] == [
        ("tcm", "causal", -1), ("tsn", "causal", -1), ("tcm", "clip", -1), ("tsn", "clip", -1)
    ]  # fmt: skip
    assert {len(row.top1["own"]) for row in rows.values() if row.form == "causal"} == {5}
    assert (tmp_path / f"{next(reversed(rows))}.pt").exists()
    with (tmp_path / "rows.jsonl").open("ab") as file:
        file.write(b'{"name": "broken')
    capsys.readouterr()
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "own" in said
    assert "epoch" not in said
    assert networks.read_rows(tmp_path / "rows.jsonl") == rows


def test_trained_networks_are_asked_about_the_clips_themselves(
    packed: Path, backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, asked = tmp_path / "runs", tmp_path / "asked"
    command = ["tuned", "--data", str(packed.parent), "--runs", str(trained), "--out", str(asked), "--size", "32"]
    assert main(command) == 2
    assert "make some with `python -m tools.compare networks`" in capsys.readouterr().err
    training = ["networks", "--data", str(packed), "--init", str(backbone), "--out", str(trained)]
    training += ["--networks", "tcm", "--forms", "causal", "--splits", "1", "--trials", "0"]
    assert main(training) == 0, capsys.readouterr().err
    (row,) = networks.read_rows(trained / "rows.jsonl").values()
    capsys.readouterr()
    assert main(command) == 0, capsys.readouterr().err
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.endswith("-whole.pt: 12 clips")
    assert last.startswith("| tcm | mobilenet_v2 | causal |")
    weights = trained / f"{row.name}.pt"
    state = torch.load(weights, weights_only=True)
    state["fc.weight"], state["fc.bias"] = torch.zeros_like(state["fc.weight"]), torch.tensor([0.0, 1.0, 0.0]).half()
    torch.save(state, weights)
    clips = jhmdb.everything(packed.parent)
    found = tuned.asked(row, weights, clips, Look(size=32), asked).top1["own"]
    assert found == pytest.approx([1 / 3] * 5)  # the file's layer always says the second label
    del state["tcm.tam.conv1.0.weight"]
    torch.save(state, weights)
    with pytest.raises(ToolError, match=f"does not hold the weights of the run {row.name}.*conv1"):
        tuned.asked(row, weights, clips, Look(size=32), asked)


def test_a_trial_learns_and_asks_within_the_training_half(
    packed: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "SET", [])
    runs.begin(packed, "cpu", 1)
    half = runs.SET[0].half(1, trains=True)
    folds = iter((0, 1, 1, 0, 1, 1))
    seen: list[int] = []

    def answers(*given: Any) -> dict[str, tuple[float, ...]]:
        seen.extend(torch.cat(given[-2:]).tolist())
        return {"own": (0.0,)}

    monkeypatch.setattr(runs, "answers", answers)
    run = runs.Run("tsn", "causal", str(backbone), str(backbone), 1, 0, trial=0)
    monkeypatch.setattr(runs, "fold_of", lambda _: next(folds))
    assert runs.do(run, Budget(epochs=1), tmp_path).trial == 0
    assert sorted(seen) == sorted(half.tolist())
    monkeypatch.setattr(runs, "fold_of", lambda _: 1)
    with pytest.raises(ToolError, match="--trials 0"):
        runs.do(run, Budget(epochs=1), tmp_path)


def test_a_network_never_learns_the_actions_that_are_then_learned_from_a_few_clips(
    packed: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "SET", [])
    monkeypatch.setattr(shots, "LABELS", 1)
    runs.begin(packed, "cpu", 1)
    whole, seen = runs.SET[0], []
    learned = runs.learned

    def learn(run: runs.Run, given: Any, train: torch.Tensor, classes: int, budget: Budget) -> Any:
        seen.append((set(whole.labels[train].tolist()), set(given.labels[train].tolist()), classes))
        return learned(run, given, train, classes, budget)

    monkeypatch.setattr(runs, "learned", learn)
    run = runs.Run("tsn", "causal", str(backbone), str(backbone), 1, 0, shots=2)
    assert runs.do(run, Budget(epochs=1), tmp_path).top1 == {"shots": (1.0,)}  # one label cannot be mistaken
    ((before, after, classes),) = seen
    assert len(before) == classes == 2
    assert after == {0, 1}


def test_the_budget_and_the_decay_that_did_best_on_held_out_clips_are_taken() -> None:
    def row(trial: int, split: int, first: float, second: float) -> runs.Row:
        found: dict[str, tuple[float, ...]] = {"own": (first,), "solved 1": (second,)}
        return runs.Row("", "tcm", "", "causal", "", split, 0, trial, 0, found, {}, 0.0, 0.0)

    rows = [row(0, 1, 0.5, 0.5), row(0, 2, 0.5, 0.6)]
    assert networks.chosen(rows) == (networks.TRIALS[0], "solved 1")
    rows += [row(1, 1, 0.4, 0.7), row(1, 2, 0.4, 0.8), row(-1, 1, 1.0, 1.0)]
    assert networks.chosen(rows) == (networks.TRIALS[1], "solved 1")
    assert networks.chosen([]) == (networks.TRIALS[0], "solved 1")


def test_training_needs_no_library_that_a_gpu_machine_lacks() -> None:
    lacking = ("pydantic", "av", "openvino", "rich", "tensorboardX", "lightning_fabric", "onnx", "zmq")
    code = f"import sys; sys.modules.update(dict.fromkeys({lacking})); import tools.compare.networks"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
