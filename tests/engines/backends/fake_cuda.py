"""cuda-bindings' runtime over host memory: work is queued on a stream, and done when somebody waits for it."""

# ruff: noqa: N802, N815 - the names are NVIDIA's

from __future__ import annotations

import ctypes
import enum
import types
from collections.abc import Callable
from typing import Any

Work = Callable[[], object]


class Status(enum.Enum):
    """The outcomes that the tests need."""

    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorStreamCaptureUnsupported = 900


class MemcpyKind(enum.Enum):
    """Which way a copy goes."""

    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class FakeRuntime:
    """One GPU. `fails` has the status that a function is to return; `memory` is what is allocated, by address."""

    cudaStreamNonBlocking = 1
    cudaMemcpyKind = MemcpyKind
    cudaStreamCaptureMode = types.SimpleNamespace(cudaStreamCaptureModeRelaxed=2)

    def __init__(self) -> None:
        self.fails: dict[str, Status] = {}
        self.devices = 1
        self.name = b"NVIDIA Fake"
        self.memory: dict[int, Any] = {}
        self.queues: dict[int, list[Work]] = {}
        self.captures: dict[int, list[Work]] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.handles = 0
        self.launches = 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("cuda") and name in object.__getattribute__(self, "fails"):
            return lambda *_: (self.fails[name], None)
        return object.__getattribute__(self, name)

    def handle(self) -> int:
        self.handles += 1
        return self.handles

    def queue(self, stream: int, work: Work) -> tuple[Status]:
        """Queue on a stream, or into the graph that is captured from it."""
        self.captures.get(stream, self.queues[stream]).append(work)
        return (Status.cudaSuccess,)

    def cudaGetDeviceCount(self) -> tuple[Status, int]:
        return Status.cudaSuccess, self.devices

    def cudaGetDeviceProperties(self, device: int) -> tuple[Status, Any]:
        assert device == 0
        return Status.cudaSuccess, types.SimpleNamespace(name=self.name, major=8, minor=7)

    def cudaDriverGetVersion(self) -> tuple[Status, int]:
        return Status.cudaSuccess, 12060

    def cudaMalloc(self, nbytes: int) -> tuple[Status, int]:
        return Status.cudaSuccess, self.allocate(nbytes)

    def cudaHostAlloc(self, nbytes: int, flags: int) -> tuple[Status, int]:
        return Status.cudaSuccess, self.allocate(nbytes)

    def allocate(self, nbytes: int) -> int:
        """The address of memory that is not zero."""
        block = (ctypes.c_uint8 * nbytes)(*(0xA5 for _ in range(nbytes)))
        self.memory[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def cudaFree(self, pointer: int) -> tuple[Status]:
        del self.memory[pointer]
        return (Status.cudaSuccess,)

    cudaFreeHost = cudaFree

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Status, int]:
        stream = self.handle()
        self.queues[stream] = []
        return Status.cudaSuccess, stream

    def cudaStreamDestroy(self, stream: int) -> tuple[Status]:
        del self.queues[stream]
        return (Status.cudaSuccess,)

    def cudaMemcpyAsync(self, target: int, source: int, nbytes: int, kind: MemcpyKind, stream: int) -> tuple[Status]:
        assert (target if kind is MemcpyKind.cudaMemcpyHostToDevice else source) in self.memory
        return self.queue(stream, lambda: ctypes.memmove(target, source, nbytes))

    def cudaMemsetAsync(self, pointer: int, value: int, nbytes: int, stream: int) -> tuple[Status]:
        return self.queue(stream, lambda: ctypes.memset(pointer, value, nbytes))

    def cudaStreamSynchronize(self, stream: int) -> tuple[Status]:
        assert stream not in self.captures, "a stream that is captured cannot be waited for"
        work, self.queues[stream] = self.queues[stream], []
        for piece in work:
            piece()
        return (Status.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[Status]:
        self.captures[stream] = []
        return (Status.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Status, list[Work]]:
        return Status.cudaSuccess, self.captures.pop(stream)

    def cudaGraphInstantiate(self, graph: list[Work], flags: int) -> tuple[Status, int]:
        executable = self.handle()
        self.graphs[executable] = graph
        return Status.cudaSuccess, executable

    def cudaGraphDestroy(self, graph: list[Work]) -> tuple[Status]:
        return (Status.cudaSuccess,)

    def cudaGraphExecDestroy(self, executable: int) -> tuple[Status]:
        del self.graphs[executable]
        return (Status.cudaSuccess,)

    def cudaGraphLaunch(self, executable: int, stream: int) -> tuple[Status]:
        self.launches += 1
        self.queues[stream].extend(self.graphs[executable])
        return (Status.cudaSuccess,)
