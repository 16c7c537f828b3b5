from __future__ import annotations

from pathlib import Path

import av
import pytest

from streamer.clips import mp4
from streamer.sources.packets import Packet

from .films import SECOND, film, numbers


def shifted(packet: Packet, by_s: float) -> Packet:
    return Packet(packet.data, packet.time_us + round(by_s * SECOND), packet.run, packet.form)


def test_a_browser_can_begin_before_it_has_all_of_a_clip(tmp_path: Path) -> None:
    mp4.write(tmp_path / "clip.mp4", film(), "wave")
    data = (tmp_path / "clip.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_a_clip_tells_its_label_and_when_it_began(tmp_path: Path) -> None:
    assert mp4.write(tmp_path / "clip.mp4", film(10, 1_700_000_000), "wave") == (
        1_700_000_000 * SECOND, 1_700_000_000 * SECOND + 9 * SECOND // 10,
    )  # fmt: skip
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert container.metadata["title"] == "wave"
        assert container.metadata["creation_time"].startswith("2023-11-14T22:13:20")
        assert container.duration == pytest.approx(SECOND, abs=1000)  # the last picture has its length, too


def test_time_without_pictures_stays_in_a_clip(tmp_path: Path) -> None:
    packets = film(20)
    mp4.write(tmp_path / "clip.mp4", [*packets[:10], *(shifted(one, 30) for one in packets[10:])], "wave")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times[9:11] == pytest.approx([0.9, 31.0])


def test_pictures_that_need_what_came_before_the_clip_are_left_out(tmp_path: Path) -> None:
    packets = film(20)
    leading = shifted(packets[5], -0.6)  # behind the keyframe, shown before it
    mp4.write(tmp_path / "clip.mp4", [packets[0], leading, *packets[1:]], "wave")
    assert numbers(tmp_path / "clip.mp4") == list(range(20))


def test_times_that_are_the_same_are_no_obstacle(tmp_path: Path) -> None:
    packets = film(20)
    mp4.write(tmp_path / "clip.mp4", [*packets[:10], shifted(packets[10], -0.1), *packets[11:]], "wave")
    assert numbers(tmp_path / "clip.mp4") == list(range(20))


def test_a_clip_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        mp4.write(tmp_path / "gone" / "clip.mp4", film(), "wave")
    assert list(tmp_path.iterdir()) == []
