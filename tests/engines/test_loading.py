from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engines import EngineError, find_models, load_engine


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the built model that a test may damage."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def test_a_model_is_found_by_any_of_its_files(folder: Path) -> None:
    assert load_engine(folder / "small.onnx").backend == "openvino"
    assert load_engine(folder / "small.pt").backend == "eager"
    assert load_engine(folder / "small.json").backend == "openvino"
    assert load_engine(folder / "small.json", backend="eager").backend == "eager"


def test_a_model_without_its_sidecar_is_refused(folder: Path) -> None:
    (folder / "small.json").unlink()
    with pytest.raises(EngineError, match=r"its sidecar small\.json is missing beside it"):
        load_engine(folder / "small.onnx")


def test_a_model_with_anothers_sidecar_is_refused(folder: Path) -> None:
    shutil.copy(folder / "small.json", folder / "other.json")
    shutil.copy(folder / "small.onnx", folder / "other.onnx")
    with pytest.raises(
        EngineError, match=r"the sidecar beside it is of another model \(small: small\.pt, small\.onnx\)"
    ):
        load_engine(folder / "other.onnx")


@pytest.mark.parametrize("name", ["small.onnx", "small.pt"])
def test_a_truncated_model_is_refused(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(EngineError, match="does not match its sidecar: it is truncated"):
        load_engine(path)


def test_a_text_file_under_a_models_name_is_refused(folder: Path) -> None:
    (folder / "small.onnx").write_text("not a model")
    with pytest.raises(EngineError, match="does not match its sidecar"):
        load_engine(folder / "small.onnx")


@pytest.mark.parametrize("content", ["not json", "[]", "{}", '{"name": 3}'])
def test_a_sidecar_that_is_none_is_refused(folder: Path, content: str) -> None:
    (folder / "small.json").write_text(content)
    with pytest.raises(EngineError, match="is not a model's sidecar"):
        load_engine(folder / "small.onnx")


@pytest.mark.parametrize("name", ["small.onnx", "small.pt"])
def test_a_file_of_another_kind_that_the_sidecar_vouches_for_is_still_refused(folder: Path, name: str) -> None:
    """A hash proves that the file is the one that was meant, not that a runtime can read it."""
    from engines.spec import sha256

    (folder / name).write_bytes(b"garbage")
    sidecar = json.loads((folder / "small.json").read_text())
    sidecar["files"][name] = sha256(folder / name)
    (folder / "small.json").write_text(json.dumps(sidecar))
    with pytest.raises(EngineError, match=rf"{name}: (OpenVINO cannot use this graph|is not a plain checkpoint)"):
        load_engine(folder / name).new_state(1)


def test_a_missing_file_a_wrong_name_and_a_wrong_backend_are_told_apart(folder: Path) -> None:
    with pytest.raises(EngineError, match="no such model file"):
        load_engine(folder / "nothing.onnx")
    with pytest.raises(EngineError, match="no model is called 'defualt'"):
        load_engine("defualt")
    with pytest.raises(EngineError, match=r"the eager backend runs \.pt files"):
        load_engine(folder / "small.onnx", backend="eager")
    with pytest.raises(EngineError, match="unknown backend 'cuda'"):
        load_engine(folder / "small.onnx", backend="cuda")
    with pytest.raises(EngineError, match=r"the openvino backend runs \.onnx files"):
        load_engine(folder)


def test_a_backend_that_is_not_installed_says_how_to_get_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"torch is not installed; pip install '.*\[train\]'"):
        load_engine(folder / "small.pt")


def test_the_shipped_default_model_loads_and_has_the_ten_motions() -> None:
    assert "default" in find_models()
    spec = load_engine("default").spec
    assert spec.labels == (
        "still", "moving left", "moving right", "moving up", "moving down",
        "approaching", "receding", "turning clockwise", "turning counterclockwise", "shaking",
    )  # fmt: skip


def test_the_seam_is_imported_without_torch_and_without_a_runtime() -> None:
    code = "import sys, engines; print(sorted({'torch', 'openvino', 'cv2', 'onnx'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"
