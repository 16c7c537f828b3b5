"""Decoding on an NVIDIA GPU (NVDEC), by FFmpeg; in software where that cannot be, and told where it was asked for.

A decoded frame comes down into this machine's memory once, as NV12 in the camera's size, whether it is wanted or not.
The decoding itself has never run: the tests run everything around it.
"""

from __future__ import annotations

import av
import av.error
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.video.stream import VideoStream

from streamer.config import Hwaccel

_CUDA = "cuda"


def accelerator(hwaccel: Hwaccel) -> HWAccel | None:
    """What `av.open` is to be given, which fails to open anything where no GPU is; None: software decodes."""
    return None if hwaccel == "none" or no_decoder() else _cuda()


def in_software(hwaccel: Hwaccel, stream: VideoStream) -> str:
    """What is to be told of a stream of which a frame was decoded: why a GPU that was asked for did not do it."""
    if hwaccel != _CUDA or stream.codec_context.pix_fmt == _CUDA:
        return ""
    why = no_decoder() or f"the GPU, or FFmpeg, cannot decode its video ({stream.codec_context.name}) in hardware"
    return f"is decoded in software: {why} (hwaccel: cuda)"


def no_decoder() -> str | None:
    """None if a GPU may decode, else what is missing. Without a driver this takes no time, with one 0.1 s or so."""
    if _CUDA not in hwdevices_available():  # HWAccel would take another device
        return "this FFmpeg (of PyAV) was made without CUDA"
    try:
        av.CodecContext.create("h264", "r", hwaccel=_cuda())
    except (av.error.FFmpegError, NotImplementedError):
        return "no NVIDIA GPU can be used; nvidia-smi must list one"
    return None


def _cuda() -> HWAccel:
    return HWAccel(_CUDA, allow_software_fallback=True)
