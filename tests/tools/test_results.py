from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tools.errors import ToolError
from tools.evaluate.__main__ import main
from tools.results import check_result, keep_result, write_result


def test_a_result_is_written_whole_or_told(tmp_path: Path) -> None:
    write_result("--json", tmp_path / "a.json", b"{}")
    assert (tmp_path / "a.json").read_bytes() == b"{}"
    with pytest.raises(ToolError, match="--json /dev/full: cannot be written: No space left on device"):
        write_result("--json", Path("/dev/full"), b"{}")


def test_a_tool_that_cannot_keep_its_result_ends_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        keep_result(argparse.ArgumentParser(prog="tool"), Path("/dev/full"), b"{}")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "tool: --json /dev/full: cannot be written: No space left on device\n"


def test_a_result_is_not_written_over_what_is_read(tmp_path: Path) -> None:
    read, link = tmp_path / "read", tmp_path / "link"
    read.touch()
    link.symlink_to(read)
    check_result("--json", None, [read])
    check_result("--json", tmp_path / "other", [read])
    with pytest.raises(ToolError, match="this is a file that is read"):
        check_result("--json", link, [read])


@pytest.mark.parametrize("option", ["--json", "--confusion"])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.csv", "net.json", "net.pt", "c.yaml"])
def test_an_evaluation_does_not_write_over_what_it_reads(
    option: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / name
    out.write_bytes(b"precious")
    stream = ["stream", str(tmp_path / "net.onnx"), "--video", str(tmp_path / "clip.mp4")]
    assert main([*stream, "-c", str(tmp_path / "c.yaml"), option, str(out)]) == 2
    assert f"{option} {out}: this is a file that is read" in capsys.readouterr().err
    assert out.read_bytes() == b"precious"
