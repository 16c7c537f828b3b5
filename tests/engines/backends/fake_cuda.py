"""The NVIDIA driver's library over host memory: work is queued on a stream, and done when somebody waits for it."""

# ruff: noqa: N802 - the names are NVIDIA's

from __future__ import annotations

import ctypes
import enum
import threading
from collections.abc import Callable
from typing import Any

Work = Callable[[], object]
ATTRIBUTES = {75: 8, 76: 7}  # the compute capability, 8.7


class Status(enum.IntEnum):
    """The outcomes that the tests need."""

    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900


class FakeDriver:
    """One GPU. `fails` has the status that a function is to return; `memory` is what is allocated, by address.

    Like the real one it takes addresses in 64 bits only, and works only in a thread whose context is set.
    """

    def __init__(self) -> None:
        self.fails: dict[str, Status] = {}
        self.lacks: set[str] = set()
        self.devices = 1
        self.version = 12060
        self.name = b"NVIDIA Fake"
        self.free, self.total = 6 << 30, 8 << 30
        self.memory: dict[int, Any] = {}
        self.queues: dict[int, list[Work]] = {}
        self.captures: dict[int, list[Work]] = {}
        self.captured: dict[int, list[Work]] = {}  # graphs that nobody has destroyed
        self.graphs: dict[int, list[Work]] = {}
        self.handles = 0
        self.launches = 0
        self.mixed_up = False  # every graph does what the first one does
        self.retained = 0
        self.thread = threading.local()

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("cu") and name[2:3].isupper():
            if name in object.__getattribute__(self, "lacks"):
                raise AttributeError(name)
            if name in self.fails:
                return lambda *_: int(self.fails[name])
        return object.__getattribute__(self, name)

    def handle(self) -> int:
        self.handles += 1
        return self.handles

    def queue(self, stream: int, work: Work) -> int:
        """Queue on a stream, or into the graph that is captured from it."""
        if not getattr(self.thread, "context", 0):
            return Status.CUDA_ERROR_INVALID_CONTEXT
        self.captures.get(stream, self.queues[stream]).append(work)
        return 0

    def cuInit(self, flags: ctypes.c_uint) -> int:
        assert flags.value == 0
        return 0

    def cuGetErrorName(self, status: ctypes.c_int, name: Any) -> int:
        if status.value not in set(Status):
            return 1
        name._obj.value = Status(status.value).name.encode()
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = self.version
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self.devices
        return 0

    def cuDeviceGet(self, device: Any, number: ctypes.c_int) -> int:
        device._obj.value = number.value
        return 0

    def cuDeviceGetName(self, name: Any, length: ctypes.c_int, device: ctypes.c_int) -> int:
        assert (length.value, device.value) == (256, 0)
        name._obj.value = self.name
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: ctypes.c_int, device: ctypes.c_int) -> int:
        value._obj.value = ATTRIBUTES[attribute.value]
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: ctypes.c_int) -> int:
        self.retained += 1
        context._obj.value = 0xC0
        return 0

    def cuCtxSetCurrent(self, context: ctypes.c_void_p) -> int:
        assert context.value == 0xC0
        self.thread.context = context.value
        return 0

    def cuMemGetInfo_v2(self, free: Any, total: Any) -> int:
        free._obj.value, total._obj.value = self.free, self.total
        return 0

    def cuMemAlloc_v2(self, pointer: Any, nbytes: ctypes.c_size_t) -> int:
        pointer._obj.value = self.allocate(nbytes.value)
        return 0

    def cuMemHostAlloc(self, pointer: Any, nbytes: ctypes.c_size_t, flags: ctypes.c_uint) -> int:
        assert flags.value == 0
        pointer._obj.value = self.allocate(nbytes.value)
        return 0

    def allocate(self, nbytes: int) -> int:
        """The address of memory that is not zero."""
        block = (ctypes.c_uint8 * nbytes)(*(0xA5 for _ in range(nbytes)))
        self.memory[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def cuMemFree_v2(self, pointer: Any) -> int:
        del self.memory[pointer.value]
        return 0

    def cuMemFreeHost(self, pointer: Any) -> int:
        return self.cuMemFree_v2(pointer)

    def cuStreamCreate(self, stream: Any, flags: ctypes.c_uint) -> int:
        assert flags.value == 1
        stream._obj.value = self.handle()
        self.queues[stream._obj.value] = []
        return 0

    def cuStreamDestroy_v2(self, stream: ctypes.c_void_p) -> int:
        assert stream.value
        del self.queues[stream.value]
        return 0

    def cuMemcpyHtoDAsync_v2(self, target: Any, source: Any, nbytes: Any, stream: Any) -> int:
        assert target.value in self.memory
        return self.queue(stream.value, lambda: ctypes.memmove(target.value, source.value, nbytes.value))

    def cuMemcpyDtoHAsync_v2(self, target: Any, source: Any, nbytes: Any, stream: Any) -> int:
        assert source.value in self.memory
        return self.queue(stream.value, lambda: ctypes.memmove(target.value, source.value, nbytes.value))

    def cuMemsetD8Async(self, pointer: Any, value: ctypes.c_ubyte, nbytes: Any, stream: Any) -> int:
        return self.queue(stream.value, lambda: ctypes.memset(pointer.value, value.value, nbytes.value))

    def cuStreamSynchronize(self, stream: Any) -> int:
        assert stream.value not in self.captures, "a stream that is captured cannot be waited for"
        work, self.queues[stream.value] = self.queues[stream.value], []
        for piece in work:
            piece()
        return 0

    def cuStreamBeginCapture_v2(self, stream: Any, mode: ctypes.c_int) -> int:
        assert mode.value == 2
        self.captures[stream.value] = []
        return 0

    def cuStreamEndCapture(self, stream: Any, graph: Any) -> int:
        graph._obj.value = self.handle()
        self.captured[graph._obj.value] = self.captures.pop(stream.value)
        return 0

    def cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: ctypes.c_ulonglong) -> int:
        executable._obj.value = self.handle()
        self.graphs[executable._obj.value] = self.captured[graph.value]
        return 0

    def cuGraphDestroy(self, graph: Any) -> int:
        del self.captured[graph.value]
        return 0

    def cuGraphExecDestroy(self, executable: Any) -> int:
        del self.graphs[executable.value]
        return 0

    def cuGraphLaunch(self, executable: Any, stream: Any) -> int:
        self.launches += 1
        self.queues[stream.value].extend(self.graphs[min(self.graphs) if self.mixed_up else executable.value])
        return 0
