"""A GPU's memory, streams and captured graphs through the CUDA runtime (cuda-bindings), without torch.

Everything gives its memory back when nothing refers to it any more. Every call that fails raises EngineError.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import EngineError, install

REMEDIES = {
    "cudaErrorMemoryAllocation": "the GPU's memory is full: run fewer streams or end what else uses it",
    "cudaErrorNoDevice": "no NVIDIA GPU is visible; `nvidia-smi` must list it, CUDA_VISIBLE_DEVICES must not hide it",
    "cudaErrorInsufficientDriver": (
        "the NVIDIA driver is missing, or older than the CUDA of cuda-bindings; `nvidia-smi` shows the driver: install "
        "or update it, or take the cuda-bindings of its CUDA (pip install 'cuda-bindings<13' for CUDA 12)"
    ),
}


class Device:
    """The first visible GPU: its name, compute capability ("9.0") and the newest CUDA that its driver knows ("12.4").

    Raises EngineError if there is no usable one.
    """

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError as error:
            told = f"the Python package cuda-bindings cannot be used ({error}); {install('tensorrt')}"
            raise EngineError(told) from error
        self.runtime: Any = runtime
        if self.call("cudaGetDeviceCount") == 0:
            raise EngineError(f"no usable GPU: {REMEDIES['cudaErrorNoDevice']}")
        properties = self.call("cudaGetDeviceProperties", 0)
        driver = self.call("cudaDriverGetVersion")  # 1000 * major + 10 * minor
        self.name: str = properties.name.decode()
        self.compute_capability = f"{properties.major}.{properties.minor}"
        self.driver = f"{driver // 1000}.{driver % 1000 // 10}"

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of the CUDA runtime: its result, or EngineError with the remedy if one is known."""
        try:
            status, *results = getattr(self.runtime, function)(*arguments)
        except (RuntimeError, OSError) as error:  # the bindings load the driver's library at the first call
            raise EngineError(f"no usable GPU: {error}; {REMEDIES['cudaErrorInsufficientDriver']}") from error
        if status.name == "cudaSuccess":
            return results[0] if results else None
        remedy = REMEDIES.get(status.name, "if it happens again, look at `dmesg` and update the NVIDIA driver")
        what = "no usable GPU" if function == "cudaGetDeviceCount" else f"{function} failed"
        raise EngineError(f"{what}: CUDA says {status.name}; {remedy}")

    def later(self, owner: object, function: str, handle: Any) -> None:
        """Give a handle back when `owner` is gone; at the end of the process the driver does it."""
        weakref.finalize(owner, getattr(self.runtime, function), handle).atexit = False


class Buffer:
    """`nbytes` of the GPU's memory at the address `pointer`, with whatever was there before."""

    def __init__(self, device: Device, nbytes: int) -> None:
        self.nbytes = nbytes
        self.pointer: int = int(device.call("cudaMalloc", max(nbytes, 1)))
        device.later(self, "cudaFree", self.pointer)


def pinned(device: Device, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros in memory that the GPU reads and writes by itself. The memory lives as long as any view."""
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    pointer = int(device.call("cudaHostAlloc", max(nbytes, 1), 0))
    memory = (ctypes.c_uint8 * nbytes).from_address(pointer)
    device.later(memory, "cudaFreeHost", pointer)
    array: NDArray[Any] = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
    array[...] = 0
    return array


class Stream:
    """A queue of work on the GPU, independent of every other."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.handle = device.call("cudaStreamCreateWithFlags", device.runtime.cudaStreamNonBlocking)
        device.later(self, "cudaStreamDestroy", self.handle)

    def upload(self, source: NDArray[Any], target: Buffer) -> None:
        """Queue a copy of a host array (contiguous, of the buffer's size) into a buffer."""
        self._copy(target.pointer, source.ctypes.data, source.nbytes, "cudaMemcpyHostToDevice")

    def download(self, source: Buffer, target: NDArray[Any]) -> None:
        """Queue a copy of a buffer into a host array (contiguous, of the buffer's size)."""
        self._copy(target.ctypes.data, source.pointer, target.nbytes, "cudaMemcpyDeviceToHost")

    def _copy(self, target: int, source: int, nbytes: int, kind: str) -> None:
        way = getattr(self.device.runtime.cudaMemcpyKind, kind)
        self.device.call("cudaMemcpyAsync", target, source, nbytes, way, self.handle)

    def clear(self, buffer: Buffer) -> None:
        """Queue zeros for a buffer."""
        self.device.call("cudaMemsetAsync", buffer.pointer, 0, buffer.nbytes, self.handle)

    def wait(self) -> None:
        """Until all that is queued is done."""
        self.device.call("cudaStreamSynchronize", self.handle)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """What `work` queues, as one graph: the function that is returned queues it all in one call.

        Raises EngineError if that cannot be captured; the stream is as before then.
        """
        call, runtime = self.device.call, self.device.runtime
        # Relaxed: other threads, and the collector in this one, may allocate and free meanwhile.
        call("cudaStreamBeginCapture", self.handle, runtime.cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed)
        try:
            work()
        except EngineError:
            runtime.cudaStreamEndCapture(self.handle)  # leaves the capture; what failed is told already
            raise
        graph = call("cudaStreamEndCapture", self.handle)
        try:
            executable = call("cudaGraphInstantiate", graph, 0)
        finally:
            call("cudaGraphDestroy", graph)

        def launch() -> None:
            call("cudaGraphLaunch", executable, self.handle)

        self.device.later(launch, "cudaGraphExecDestroy", executable)
        return launch
