"""Files of torch.save from anybody: numbers are read, code is not run, and no file takes more memory than it has."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engines import EngineError
from engines.networks.checkpoints import read_checkpoint
from engines.networks.tensors import NumberType, load_content, number, plain_tensors


def saved(folder: Path, content: Any, *, archive: bool = True) -> Path:
    path = folder / "file.pth"
    torch.save(content, path, _use_new_zipfile_serialization=archive)
    return path


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "of old torch"])
@pytest.mark.parametrize("value", [np.float64(48.2), np.float32(0.5), np.int64(-3), np.bool_(True), np.float16(2)])
def test_numbers_of_numpy_are_read(tmp_path: Path, value: np.generic, archive: bool) -> None:
    assert load_content(saved(tmp_path, {"best_prec1": value}, archive=archive)) == {"best_prec1": value.item()}


def test_a_number_of_a_machine_with_another_byte_order_is_read() -> None:
    kind = NumberType("f8", False, True)
    kind.__setstate__((3, ">", None, None, None, -1, -1, 0))
    assert number(kind, struct.pack(">d", 1.5)) == 1.5


def test_a_published_checkpoint_with_a_number_of_numpy_fails_at_its_keys_only(tmp_path: Path) -> None:
    names = {
        "module.base_model.conv1.weight": (2, 3, 3, 3), "module.new_fc.weight": (6, 2), "module.new_fc.bias": (6,),
    }  # fmt: skip
    tensors = {name: torch.zeros(shape) for name, shape in names.items()}
    content = {"epoch": 45, "arch": "resnet50", "state_dict": tensors, "best_prec1": np.float64(48.2)}
    with pytest.raises(EngineError, match="blocks in layer1 to layer4 are no ResNet"):
        read_checkpoint(saved(tmp_path, content))


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "of old torch"])
def test_code_is_refused_by_its_name_and_not_run(tmp_path: Path, archive: bool) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(EngineError, match=r"one that carries code \(posix\.system\), which is refused"):
        load_content(saved(tmp_path, {"weight": Evil(mark)}, archive=archive))
    assert not mark.exists()


@pytest.mark.parametrize("thing", [np.array([1, 2]), np.array(["a"]), np.array([None])])
def test_other_things_of_numpy_are_refused(tmp_path: Path, thing: Any) -> None:
    with pytest.raises(EngineError, match="is not a plain checkpoint"):
        load_content(saved(tmp_path, {"weight": thing}))


def rewritten(path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))
    return path


def test_a_file_that_would_be_larger_than_itself_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, {"weight": torch.zeros(10_000)})
    bomb = rewritten(path, lambda name, content: content * (100 if "/data/" in name else 1), zipfile.ZIP_DEFLATED)
    with pytest.raises(EngineError, match="is compressed, which no PyTorch file is"):
        load_content(bomb)


@pytest.mark.parametrize("claimed", [5000, 2**31 - 1])
def test_a_storage_that_claims_more_than_the_file_has_is_refused(tmp_path: Path, claimed: int) -> None:
    path = saved(tmp_path, {"weight": torch.zeros(200)})
    short, long = b"K\xc8", b"J" + claimed.to_bytes(4, "little")  # 200 and more, as pickle writes them
    lying = rewritten(path, lambda name, content: content.replace(short, long) if "pkl" in name else content)
    with pytest.raises(EngineError):
        read_checkpoint(lying)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).half().expand(10**12),
        torch.eye(3).to_sparse(),
        torch.empty(10**9, device="meta"),
    ],
    ids=["views of one number", "sparse", "without values"],
)
def test_tensors_that_are_not_plain_numbers_are_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    path = saved(tmp_path, {"weight": tensor})
    with pytest.raises(EngineError):
        read_checkpoint(path)


def test_plain_tensors_are_taken_also_where_two_names_share_one(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    path = saved(tmp_path, {"a": shared, "b": shared.view(2, 3), "none": torch.zeros(0)})
    tensors = plain_tensors(load_content(path), path)
    assert tensors is not None
    assert tensors["b"].tolist() == [[0, 1, 2], [3, 4, 5]]


@hypothesis.settings(max_examples=100, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=20), end=st.integers(0, 10**4))
def test_a_damaged_file_is_refused_in_a_sentence_or_read(
    tmp_path: Path, places: list[tuple[int, int]], end: int
) -> None:
    whole = bytearray(saved(tmp_path, {"state_dict": {"weight": torch.zeros(9)}, "best": np.float64(1)}).read_bytes())
    for place, value in places:
        whole[place % len(whole)] = value
    path = tmp_path / "damaged.pth"
    path.write_bytes(whole[: end if end < len(whole) else None])
    with pytest.raises(EngineError):
        read_checkpoint(path)
