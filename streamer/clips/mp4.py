"""Packets -> an MP4 that a browser plays: the pictures as they are, with the times at which they were captured.

It is made in memory, with room for the index in front, and then copied: FFmpeg would hold the interpreter, and with it
the recognition, for as long as the disk takes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import av.error

from engines.files import replacing
from streamer.sources.packets import Packet

_HEADER, _ENTRY = 4096, 48  # bytes of the index: at most, and for each picture
_AT_ONCE = 1 << 20
_TIME_BASE = Fraction(1, 1_000_000)


def write(path: Path, packets: Sequence[Packet], title: str) -> tuple[int, int]:
    """Write packets in the order of decoding, the first one a keyframe; when the first and the last picture were
    captured, microseconds UTC. Raises OSError.

    Pictures that a decoder shows before the keyframe need what came before it, and are left out.
    """
    begin_us = packets[0].time_us
    shown = [packet for packet in packets if packet.time_us >= begin_us]
    memory = os.memfd_create("clip")
    try:
        _mux(f"file:/proc/self/fd/{memory}", shown, title)
        os.lseek(memory, 0, os.SEEK_SET)
        with replacing(path) as draft, draft.open("wb") as file:
            while os.sendfile(file.fileno(), memory, None, _AT_ONCE):
                pass
    except av.error.FFmpegError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error)) from error
    finally:
        os.close(memory)
    return begin_us, max(packet.time_us for packet in shown)


def _mux(url: str, packets: Sequence[Packet], title: str) -> None:
    begin_us, form = packets[0].time_us, packets[0].form
    assert form
    decoded_us = _decoding_times([packet.time_us - begin_us for packet in packets])
    lengths_us = [later - sooner for sooner, later in pairwise(decoded_us)]
    lengths_us.append(sorted(lengths_us)[len(lengths_us) // 2] if lengths_us else 40_000)
    options = {"moov_size": str(_HEADER + _ENTRY * len(packets))}
    with av.open(url, "w", format="mp4", options=options) as container:
        container.metadata["title"] = title
        container.metadata["creation_time"] = datetime.fromtimestamp(begin_us / 1e6, timezone.utc).isoformat()
        stream = container.add_mux_stream(form.codec, width=form.width, height=form.height, time_base=_TIME_BASE)
        for packet, at_us, length_us in zip(packets, decoded_us, lengths_us, strict=True):
            muxed = av.Packet(packet.data)
            muxed.stream, muxed.time_base, muxed.is_keyframe = stream, _TIME_BASE, packet.form is not None
            muxed.dts, muxed.pts, muxed.duration = at_us, packet.time_us - begin_us, length_us
            container.mux_one(muxed)


def _decoding_times(shown_us: Sequence[int]) -> list[int]:
    """When each picture is to be decoded, if they are shown at these times: evenly, and never too late."""
    sooner_us = sorted(shown_us)
    for index in range(1, len(sooner_us)):
        sooner_us[index] = max(sooner_us[index], sooner_us[index - 1] + 1)
    delay_us = max(early - at for early, at in zip(sooner_us, shown_us, strict=True))
    return [early - delay_us for early in sooner_us]
