from __future__ import annotations

import subprocess
import sys

import pytest

import streamer


def test_the_public_names_are_sorted_and_each_is_there() -> None:
    assert sorted(streamer.__all__) == streamer.__all__ == dir(streamer)
    assert all(getattr(streamer, name).__name__ == name for name in streamer.__all__ if name != "Message")


def test_a_name_that_is_not_public_is_an_error_as_in_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'streamer' has no attribute 'Subscribr'"):
        _ = streamer.Subscribr


def test_a_public_name_brings_only_what_it_needs() -> None:
    program = "import sys; from streamer import Subscriber; print({'av', 'cv2', 'openvino'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout == "set()\n"
