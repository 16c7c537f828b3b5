"""A GPU's memory, streams and captured graphs through the driver that is installed with it, by ctypes: no package whose
version would have to match, no torch.

Everything gives its memory back when nothing refers to it any more, or at `free`. Every call that fails raises
EngineError.
"""

from __future__ import annotations

import ctypes
import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import EngineError

NO_DRIVER = "no NVIDIA driver is here (libcuda.so.1): install the one for this GPU; in a container, give it the GPU"
REMEDIES = {
    "CUDA_ERROR_OUT_OF_MEMORY": "the GPU's memory is full: run fewer streams or end what else uses it",
    "CUDA_ERROR_NO_DEVICE": "no NVIDIA GPU is visible; `nvidia-smi` must list it, CUDA_VISIBLE_DEVICES not hide it",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "the driver was updated while the system ran: start the machine anew",
}
Handle = ctypes.c_void_p
Pointer = ctypes.c_uint64
NON_BLOCKING = 1  # of a stream: it does not wait for the default stream
RELAXED = 2  # of a capture: other threads, and the collector in this one, may allocate and free meanwhile
COMPUTE_CAPABILITY = (75, 76)  # the attributes of a device: major, minor


class Out:
    """A parameter through which a function of the driver gives a value back."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind


FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cuInit": (ctypes.c_uint,),
    "cuDriverGetVersion": (Out(ctypes.c_int),),
    "cuDeviceGetCount": (Out(ctypes.c_int),),
    "cuDeviceGet": (Out(ctypes.c_int), ctypes.c_int),
    "cuDeviceGetName": (Out(ctypes.c_char * 256), ctypes.c_int, ctypes.c_int),
    "cuDeviceGetAttribute": (Out(ctypes.c_int), ctypes.c_int, ctypes.c_int),
    "cuDevicePrimaryCtxRetain": (Out(Handle), ctypes.c_int),
    "cuCtxSetCurrent": (Handle,),
    "cuMemGetInfo_v2": (Out(ctypes.c_size_t), Out(ctypes.c_size_t)),
    "cuMemAlloc_v2": (Out(Pointer), ctypes.c_size_t),
    "cuMemFree_v2": (Pointer,),
    "cuMemHostAlloc": (Out(Handle), ctypes.c_size_t, ctypes.c_uint),
    "cuMemFreeHost": (Handle,),
    "cuMemcpyHtoDAsync_v2": (Pointer, Handle, ctypes.c_size_t, Handle),
    "cuMemcpyDtoHAsync_v2": (Handle, Pointer, ctypes.c_size_t, Handle),
    "cuMemsetD8Async": (Pointer, ctypes.c_ubyte, ctypes.c_size_t, Handle),
    "cuStreamCreate": (Out(Handle), ctypes.c_uint),
    "cuStreamDestroy_v2": (Handle,),
    "cuStreamSynchronize": (Handle,),
    "cuStreamBeginCapture_v2": (Handle, ctypes.c_int),
    "cuStreamEndCapture": (Handle, Out(Handle)),
    "cuGraphInstantiateWithFlags": (Out(Handle), Handle, ctypes.c_ulonglong),
    "cuGraphLaunch": (Handle, Handle),
    "cuGraphDestroy": (Handle,),
    "cuGraphExecDestroy": (Handle,),
    "cuGetErrorName": (ctypes.c_int, Out(ctypes.c_char_p)),
}


@functools.cache
def load_driver() -> Any:
    """The driver's library; raises EngineError where there is none."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise EngineError(f"no usable GPU: {NO_DRIVER}") from error


class Driver:
    """Calls into the driver, with each argument in the type that the driver declares."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def __call__(self, function: str, *arguments: Any) -> Any:
        """The value that a function gives back (None, one, or a tuple of several); EngineError if it fails."""
        status, given = self.status(function, *arguments)
        if status == 0:
            return given[0] if len(given) == 1 else given or None
        name = self.name_of(status)
        remedy = REMEDIES.get(name, "if it happens again, look at `dmesg` and update the NVIDIA driver")
        what = "no usable GPU" if function in ("cuInit", "cuDeviceGetCount") else f"{function} failed"
        raise EngineError(f"{what}: CUDA says {name}; {remedy}")

    def status(self, function: str, *arguments: Any) -> tuple[int, tuple[Any, ...]]:
        """The status that a function returns, and what it gives back."""
        call = getattr(self._library, function, None)
        if call is None:
            raise EngineError(f"no usable GPU: the NVIDIA driver is too old: it has no {function}; update it")
        given = iter(arguments)
        kinds = FUNCTIONS[function]
        values = [kind.kind() if isinstance(kind, Out) else kind(next(given)) for kind in kinds]
        outs = [value for value, kind in zip(values, kinds, strict=True) if isinstance(kind, Out)]
        passed = (ctypes.byref(v) if isinstance(k, Out) else v for v, k in zip(values, kinds, strict=True))
        status = int(call(*passed))
        return status, tuple(value.value for value in outs)

    def name_of(self, status: int) -> str:
        """A status by its name."""
        failed, (name,) = self.status("cuGetErrorName", status)
        return f"error {status}" if failed or not name else str(name.decode())


@functools.cache
def primary_context(library: Any, number: int) -> int:
    """The context of a GPU that the whole process shares, TensorRT's too. It lives as long as the process."""
    return int(Driver(library)("cuDevicePrimaryCtxRetain", number) or 0)


class Device:
    """The first visible GPU: its name, compute capability ("9.0") and the newest CUDA that its driver knows ("12.4").

    Raises EngineError if there is no usable one.
    """

    def __init__(self) -> None:
        library = load_driver()
        self._driver = driver = Driver(library)
        driver("cuInit", 0)
        if driver("cuDeviceGetCount") == 0:
            raise EngineError(f"no usable GPU: {REMEDIES['CUDA_ERROR_NO_DEVICE']}")
        number = driver("cuDeviceGet", 0)
        version = driver("cuDriverGetVersion")  # 1000 * major + 10 * minor
        major, minor = (driver("cuDeviceGetAttribute", attribute, number) for attribute in COMPUTE_CAPABILITY)
        self.name: str = driver("cuDeviceGetName", 256, number).decode(errors="replace")
        self.compute_capability = f"{major}.{minor}"
        self.driver = f"{version // 1000}.{version % 1000 // 10}"
        self._context = functools.partial(primary_context, library, number)  # made when it is needed: it takes a while
        self._thread = threading.local()

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of the driver in the GPU's context: its result, or EngineError with the remedy."""
        if not getattr(self._thread, "ready", False):
            self._driver("cuCtxSetCurrent", self._context())
            self._thread.ready = True
        return self._driver(function, *arguments)

    def free_bytes(self) -> int:
        """Of the GPU's memory; on a Jetson, which has no other, of the machine's."""
        return int(self.call("cuMemGetInfo_v2")[0])

    def later(self, owner: object, function: str, handle: Any) -> Callable[[], object]:
        """Give a handle back when `owner` is gone, or when the function that is returned is called; the second time it
        does nothing. At the end of the process the driver does it.
        """
        finalizer = weakref.finalize(owner, self.call, function, handle)
        finalizer.atexit = False
        return finalizer


class Buffer:
    """`nbytes` of the GPU's memory at the address `pointer`, with whatever was there before."""

    def __init__(self, device: Device, nbytes: int) -> None:
        self.nbytes = nbytes
        self.pointer: int = device.call("cuMemAlloc_v2", max(nbytes, 1))
        self.free = device.later(self, "cuMemFree_v2", self.pointer)


def pinned(device: Device, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros in memory that the GPU reads and writes by itself. The memory lives as long as any view."""
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    pointer = int(device.call("cuMemHostAlloc", max(nbytes, 1), 0))
    memory = (ctypes.c_uint8 * nbytes).from_address(pointer)
    device.later(memory, "cuMemFreeHost", pointer)
    array: NDArray[Any] = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
    array[...] = 0
    return array


class Graph:
    """Work that was captured on a stream: `launch` queues all of it there in one call."""

    def __init__(self, stream: Stream, graph: int) -> None:
        self._stream = stream
        self._executable = stream.device.call("cuGraphInstantiateWithFlags", graph, 0)
        self.free = stream.device.later(self, "cuGraphExecDestroy", self._executable)

    def launch(self) -> None:
        """Queue the work."""
        self._stream.device.call("cuGraphLaunch", self._executable, self._stream.handle)


class Stream:
    """A queue of work on the GPU, independent of every other."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.handle: int = device.call("cuStreamCreate", NON_BLOCKING)
        self.free = device.later(self, "cuStreamDestroy_v2", self.handle)

    def upload(self, source: NDArray[Any], target: Buffer) -> None:
        """Queue a copy of a host array (contiguous, of the buffer's size) into a buffer."""
        self.device.call("cuMemcpyHtoDAsync_v2", target.pointer, source.ctypes.data, source.nbytes, self.handle)

    def download(self, source: Buffer, target: NDArray[Any]) -> None:
        """Queue a copy of a buffer into a host array (contiguous, of the buffer's size)."""
        self.device.call("cuMemcpyDtoHAsync_v2", target.ctypes.data, source.pointer, target.nbytes, self.handle)

    def clear(self, buffer: Buffer) -> None:
        """Queue zeros for a buffer."""
        self.device.call("cuMemsetD8Async", buffer.pointer, 0, buffer.nbytes, self.handle)

    def wait(self) -> None:
        """Until all that is queued is done."""
        self.device.call("cuStreamSynchronize", self.handle)

    def capture(self, work: Callable[[], None]) -> Graph:
        """What `work` queues, as one graph, without doing it.

        Raises EngineError if that cannot be captured, and whatever `work` raises; the stream is as before then.
        """
        call = self.device.call
        call("cuStreamBeginCapture_v2", self.handle, RELAXED)
        try:
            work()
        except BaseException:
            self.device._driver.status("cuStreamEndCapture", self.handle)  # leaves the capture; what failed is told
            raise
        graph = call("cuStreamEndCapture", self.handle)
        try:
            return Graph(self, graph)
        finally:
            call("cuGraphDestroy", graph)
