from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

import engines.build.model
from engines import EngineError, EngineSpec
from engines.build.importing import import_model, read_labels
from engines.networks import Network, build_network
from engines.networks.checkpoints import JESTER_LABELS

from ..networks.test_checkpoints import published


class Builds:
    """Stands for `build_model`: remembers what it was asked to build."""

    network: Network
    folder: Path

    def __call__(self, network: Network, spec: EngineSpec, folder: Path) -> EngineSpec:
        self.network, self.folder = network, folder
        return spec


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Builds:
    builds = Builds()
    monkeypatch.setattr(engines.build.model, "build_model", builds)
    return builds


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """online.pth (27 classes), clip.pth and half.pth (TSM, 6 classes) and six.txt (their labels)."""
    folder = tmp_path_factory.mktemp("published")
    online = build_network("tsm", "mobilenet_v2", 8, 27, causal=True).state_dict()
    torch.save({key.replace("fc.", "classifier."): value for key, value in online.items()}, folder / "online.pth")
    torch.save({"state_dict": published()}, folder / "clip.pth")
    torch.save({"state_dict": published(backbone="resnet34", shift_every=2)}, folder / "half.pth")
    (folder / "six.txt").write_text("one\ntwo\nthree\nfour\nfive\nsix \n\n")
    return folder


def test_online_tsm_becomes_a_stream_with_the_gestures_of_jester(files: Path, built: Builds, tmp_path: Path) -> None:
    spec = import_model(files / "online.pth", tmp_path / "gestures")
    assert (spec.name, spec.mode, spec.labels, spec.rate_hz) == ("gestures", "stream", JESTER_LABELS, 12)
    assert spec.events == {"background": ("Doing other things", "No gesture")}
    assert (spec.network, spec.backbone, spec.height, spec.width, spec.fit) == ("tsm", "mobilenet_v2", 224, 224, "crop")
    assert built.network.causal
    assert built.folder == tmp_path


def test_a_clip_network_becomes_a_window_at_the_pace_of_its_training(files: Path, built: Builds) -> None:
    spec = import_model(files / "clip.pth", Path("clip"), files / "six.txt", frames=16, hop=4)
    assert (spec.mode, spec.frames, spec.hop, spec.rate_hz) == ("window", 16, 4, 4.0)
    assert spec.labels == ("one", "two", "three", "four", "five", "six")
    assert not built.network.causal
    assert import_model(files / "clip.pth", Path("clip"), files / "six.txt", rate_hz=7.5, size=64).rate_hz == 7.5


def test_the_options_of_a_network_reach_the_sidecar(files: Path, built: Builds) -> None:
    assert import_model(files / "half.pth", Path("half"), files / "six.txt").options == {"shift_every": 2}


def test_a_clip_network_runs_as_a_stream_only_when_asked_and_with_a_warning(
    files: Path, built: Builds, caplog: pytest.LogCaptureFixture
) -> None:
    import_model(files / "online.pth", Path("x"), causal=True)
    assert not caplog.records
    spec = import_model(files / "clip.pth", Path("x"), files / "six.txt", causal=True)
    assert (spec.mode, spec.rate_hz) == ("stream", 2.0)
    assert built.network.causal
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "trained to see later frames" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbflabel 0\r\nlabel 1\r\nlabel 2",
        b"label 0\n\nlabel 1\n  \nlabel 2\n\n\n",
        b"\r\n label 0 \r\nlabel 1\r\n\r\nlabel 2\r\n",
    ],
    ids=["as Notepad writes it", "empty lines", "both"],
)
def test_a_mark_at_the_beginning_ends_of_lines_and_empty_lines_are_no_part_of_labels(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    assert read_labels(tmp_path / "labels.txt", 3) == ("label 0", "label 1", "label 2")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (b"one\ntwo\n", "has 2 labels, but the checkpoint has 6 classes"),
        (b"1\n2\n3\n4\n5\n3\n", "line 6 has '3' for the second time"),
        (b"1\n2\n\n4\n5\n6\n", "has 5 labels, but the checkpoint has 6 classes"),
        (b"\xff\xfe", "is not a text file in UTF-8"),
        (None, "cannot be read: No such file"),
    ],
)
def test_labels_that_do_not_fit_are_told(
    files: Path, built: Builds, tmp_path: Path, labels: bytes | None, message: str
) -> None:
    if labels is not None:
        (tmp_path / "labels.txt").write_bytes(labels)
    with pytest.raises(EngineError, match=f"labels.txt: {message}"):
        import_model(files / "clip.pth", Path("x"), tmp_path / "labels.txt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "has 6 classes without names; give --labels"),
        ({"out": Path("x.onnx")}, r"x\.onnx: give a name .* without a suffix"),
        ({"out": Path("my model")}, "my model: give a name of letters"),
        ({"out": Path("..")}, "give a name of letters"),
        ({"out": Path("a/\x1b[2J")}, "give a name of letters"),
        ({"out": Path("x" * 200), "causal": True, "labels": Path("six")}, "give a name of letters"),
    ],
)
def test_what_is_missing_is_asked_for(files: Path, built: Builds, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        import_model(files / "clip.pth", **{"out": Path("x")} | arguments)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"size": -1}, {"size": 10**6}, {"hop": 0}, {"rate_hz": float("nan")}])
def test_what_cannot_be_a_model_is_told_before_it_is_built(files: Path, built: Builds, wrong: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match="x: cannot be a model: Expected"):
        import_model(files / "clip.pth", Path("x"), files / "six.txt", **wrong)
    assert not hasattr(built, "network")


def test_without_torch_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        EngineError, match=r"imported with torch, onnx, onnxscript; pip install 'action-streamer\[train\]'"
    ):
        import_model(Path("x.pth"), Path("x"))
