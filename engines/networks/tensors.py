"""Files of torch.save -> their tensors, and nothing else: no code is run, and no more memory taken than the file has.

A model may come from anybody. `weights_only` keeps code out. What it lets in is a file that says that it is larger than
it is: entries that were compressed, and tensors that are many views of few bytes.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import EngineError


class NumberType:
    """What stands in a file for numpy's type of a number, such as `f8`."""

    def __init__(self, code: str, *_: object) -> None:
        if not re.fullmatch("[biuf][1248]", code):
            raise ValueError(f"numpy's type {code!r} is no number's")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] == ">":
            self.code = f">{self.code}"


def number(kind: NumberType, data: bytes) -> float | int | bool:
    """A number of numpy, as training scripts keep the best accuracy: harmless, but not known to torch."""
    value: float | int | bool = np.frombuffer(data, kind.code, 1)[0].item()
    return value


_NUMBERS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (NumberType, "numpy.dtype"),
    (number, "numpy.core.multiarray.scalar"),  # numpy 1
    (number, "numpy._core.multiarray.scalar"),
]


def load_content(path: Path) -> Any:
    """What a file of torch.save holds, on the CPU. Raises EngineError for one that is none, damaged, or not plain."""
    if not path.is_file():
        raise EngineError(f"{path}: cannot be read: No such file")
    try:
        check_archive(path)
        with torch.serialization.safe_globals(_NUMBERS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise EngineError(f"{path}: cannot be read: {error.strerror or error}") from error
    except EngineError:
        raise
    except Exception as error:  # torch raises half a dozen types for what is not a file of tensors
        raise EngineError(
            f"{path}: is not a plain checkpoint of tensors: it is no PyTorch file, or a damaged one, or one that "
            f"carries code{found_in(error)}, which is refused"
        ) from error


def found_in(error: Exception) -> str:
    """The name of what was refused, if torch says it."""
    found = re.search(r"(?:GLOBAL|function) ([\w.]{1,100})", str(error))
    return f" ({found[1]})" if found else ""


def check_archive(path: Path) -> None:
    """Raise EngineError for a zip archive whose entries would be larger than itself; torch never compresses."""
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return  # of torch before 1.6, which is not an archive
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > size or any(entry.compress_type for entry in entries):
            raise EngineError(f"{path}: is compressed, which no PyTorch file is; unpack it, or save it again")


def plain_tensors(content: Any, path: Path | None) -> dict[str, Tensor] | None:
    """The tensors of a state dict by name; None if it is not one, or has a tensor that is not plain numbers. `path` is
    the file that it came from: no more bytes can be meant than it has.
    """
    if not isinstance(content, Mapping) or not content:
        return None
    if not all(isinstance(name, str) and is_plain(value) for name, value in content.items()):
        return None
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in content.values()}
    if path is not None and sum(storages.values()) > path.stat().st_size:
        return None
    return dict(content)


def is_plain(value: Any) -> bool:
    """Whether it is a dense tensor on the CPU that has all of its values in memory."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )
