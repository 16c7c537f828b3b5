"""torch-tensorrt is a second way to an engine file: what it needs, and how a machine without it is told."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from engines import EngineError
from engines.build.torch_tensorrt import load_converter


def install(monkeypatch: pytest.MonkeyPatch, convert: Any) -> None:
    module = types.ModuleType("torch_tensorrt")
    module.dynamo = types.SimpleNamespace(  # type: ignore[attr-defined]
        convert_exported_program_to_serialized_trt_engine=convert
    )
    monkeypatch.setitem(sys.modules, "torch_tensorrt", module)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "raise AssertionError('Torch not compiled with CUDA enabled')",
            "AssertionError: Torch not compiled with CUDA",
        ),
        ("raise Exception('no CUDA runtime')", "Exception: no CUDA runtime"),
        ("raise OSError('libcudart.so.13: cannot open')", "OSError: libcudart"),
    ],
)
def test_an_import_that_fails_names_torch_and_the_other_way(
    line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch_tensorrt.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch_tensorrt", raising=False)
    with pytest.raises(EngineError, match=rf"cannot be imported beside torch .*{message}.*torch with CUDA.*--via onnx"):
        load_converter()


def test_torch_tensorrt_that_is_not_installed_or_only_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_tensorrt", None)
    with pytest.raises(
        EngineError, match=r"torch-tensorrt is not installed; pip install torch-tensorrt, or build through"
    ):
        load_converter()
    monkeypatch.delitem(sys.modules, "torch_tensorrt")
    (tmp_path / "torch_tensorrt.py").write_text("import a_library_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineError, match=r"installed in part .*a_library_that_is_not_there"):
        load_converter()


def test_a_release_that_is_called_in_another_way_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(exported_program: Any, *, arg_inputs: Any, disable_tf32: bool, require_full_compilation: bool) -> bytes:
        return b""

    def other(exported_program: Any, inputs: Any) -> bytes:
        return b""

    install(monkeypatch, convert)
    assert load_converter() is convert
    install(monkeypatch, other)
    with pytest.raises(EngineError, match=r"called in another way .*install 2\.13"):
        load_converter()


def test_the_installed_release_is_called_as_it_wants() -> None:
    try:
        load_converter()
    except EngineError as error:
        if "in another way" in str(error):
            raise
        pytest.skip(f"cannot be looked at here, with torch {torch.__version__}: {error}")
