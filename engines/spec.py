"""What a model is, beside its weights: the sidecar `NAME.json`, and the checks of a model file against it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from .errors import EngineError
from .files import write_whole

STATE_OUT = ".out"  # the output of a state is called as its input, with this appended
FLOAT32_NODE = "float32/"  # how the names of a float16 graph's nodes begin that must be computed in float32

Precision = Literal["fp32", "fp16"]
"""Of a graph."""

EnginePrecision = Literal["fp32", "bf16", "fp16", "int8"]
"""Of an engine."""

LIMIT = 2e-2
"""Of a difference in a probability, in every precision. In a rare answer two correct float32 runtimes (torch, and torch
with its batch norms folded) differ by 7e-4 for the default model and by 7e-3 for one taught with a clip a label: TCM
looks around the strongest displacement, and where two are as strong rounding decides. A wrong graph shows in the
states.
"""
FP32_DRIFT = 1e-3  # of a state in float32, relative to its largest value; rounding makes 3e-6
AGREEMENT = 0.995  # of the best labels


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One state tensor: its name (a module path), its shape without the row axis, its type (numpy's name)."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an engine compared with the eager network, over drawn video with motion, cuts and resets.

    steps                       answers that were compared
    max_probability_difference  the largest, over all labels of all answers
    top1_agreement              the share of answers with the same best label (or one that the reference holds for as
                                good, to 0.002)
    state_drift                 frames since the start -> the largest difference of a state tensor, relative to its
                                largest value
    reference, runtime          what was compared with what: "torch 2.13.0", "OpenVINO 2026.2"; empty in old sidecars
    processor                   that the engine ran on; empty in old sidecars
    """

    backend: str
    precision: EnginePrecision
    steps: int
    max_probability_difference: float
    top1_agreement: float
    state_drift: dict[int, float] = {}
    reference: str = ""
    runtime: str = ""
    processor: str = ""

    @property
    def fault(self) -> str | None:
        """None if the engine may be used, else which limit it exceeds."""
        if not self.max_probability_difference <= LIMIT:
            return f"a probability differs by {self.max_probability_difference:.2g}, more than the {LIMIT:g} allowed"
        if self.precision == "fp32" and not max(self.state_drift.values(), default=0.0) <= FP32_DRIFT:
            return (
                f"a state differs by {max(self.state_drift.values()):.2g}, more than the {FP32_DRIFT:g} allowed in fp32"
            )
        if not self.top1_agreement >= AGREEMENT:
            return f"only {self.top1_agreement:.2%} of the answers agree, less than the {AGREEMENT:.1%} required"
        return None

    @property
    def drifts(self) -> bool:
        """Whether the last difference of the states is more than twice as large as any before: it may grow on."""
        *before, last = self.state_drift.values() or (0.0,)
        return bool(before) and last > 2 * max(before)

    def __str__(self) -> str:
        drift = ", ".join(f"{value:.1g} after {frames}" for frames, value in self.state_drift.items())
        return (
            f"{self.precision}: {self.steps} answers, largest difference of a probability "
            f"{self.max_probability_difference:.2g}, same best label {self.top1_agreement:.2%}"
            + (f"; states differ by {drift} frames{', and it grows' if self.drifts else ''}" if drift else "")
        )


class EngineFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a TensorRT engine file was built by and for: it runs there and nowhere else.

    tensorrt            the version of TensorRT that built it, and must run it
    gpu                 the GPU's name
    compute_capability  "8.7": major.minor of that GPU
    driver              the newest CUDA that the driver knew, "12.6"
    precision           of the graph that it was built from
    rows                how many streams a step takes; fixed when it is built
    """

    tensorrt: str
    gpu: str
    compute_capability: str
    driver: str
    precision: Precision
    rows: int


class EngineSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a program must know to run a model and to read its answers.

    labels          class names, in the order of the logits
    height, width   of the frames that go in, pixels
    rate_hz         the rate of frames that the network was trained at
    frames          T; `ready` holds from a stream's T-th frame on
    mode            "stream": the causal form, one frame a step; "window": the clip form over the last T frames
    hop             window mode: how many frames from one evaluation to the next; `ready` holds only at those
    fit             how a picture becomes a frame: "stretch" to the size, or "crop" (short side to 256/224 of it,
                    centre)
    network, backbone, channel_width, options   what `build_network` needs to make it again
    states          the state table, in the order of the graph's inputs
    files           file name -> SHA-256 of every file that belongs to the model
    certificates    the precisions in which the graph was proven equal to the eager network
    nodes           how many operations the graph has; None where there is no graph
    parameters, step_macs   of the network: trained numbers, multiply-adds of one step; None where there is none
    latency         frames that an answer is behind: those after itself that a frame's logits depend on
    engine          beside `NAME.engine`: what TensorRT built it for; None beside the other files
    """

    name: str
    labels: tuple[str, ...]
    height: int
    width: int
    rate_hz: float
    frames: int
    mode: Literal["stream", "window"]
    fit: Literal["stretch", "crop"]
    network: str
    backbone: str
    channel_width: float
    states: tuple[TensorSpec, ...]
    files: dict[str, str]
    certificates: tuple[Certificate, ...] = ()
    hop: int = 1
    options: dict[str, int | str] = {}
    nodes: int | None = None
    parameters: int | None = None
    step_macs: int | None = None
    latency: int = 0
    engine: EngineFacts | None = None
    format: Literal[1] = 1

    @property
    def version(self) -> str:
        """`name@hash`, the hash over all of the model's files: what messages carry."""
        digest = hashlib.sha256("".join(sorted(self.files.values())).encode()).hexdigest()
        return f"{self.name}@{digest[:8]}"


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_spec(path: Path) -> EngineSpec:
    """The sidecar of a model file (any of `NAME.onnx`, `NAME.pt`, `NAME.engine`, `NAME.json`), without a look at
    the model file itself.

    Raises EngineError if there is none or it is not one.
    """
    sidecar = path.with_suffix(".json")
    try:
        return msgspec.json.decode(sidecar.read_bytes(), type=EngineSpec)
    except FileNotFoundError:
        raise EngineError(
            f"{path}: its sidecar {sidecar.name} is missing beside it; a model is both files, copy them together"
        ) from None
    except OSError as error:
        raise EngineError(f"{sidecar}: cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise EngineError(f"{sidecar}: is not a model's sidecar: {error}") from error


def write_spec(sidecar: Path, spec: EngineSpec) -> None:
    """Write a sidecar: whole, or not at all."""
    write_whole(sidecar, msgspec.json.format(msgspec.json.encode(spec), indent=1) + b"\n")


def check_file(path: Path, spec: EngineSpec) -> None:
    """Raise EngineError unless `path` is, byte for byte, one of the files that the sidecar names."""
    if not path.is_file():
        raise EngineError(f"{path}: no such model file; `streamer models` lists the ones that are there")
    expected = spec.files.get(path.name)
    if expected is None:
        raise EngineError(f"{path}: the sidecar beside it is of another model ({spec.name}: {', '.join(spec.files)})")
    if sha256(path) != expected:
        raise EngineError(
            f"{path}: does not match its sidecar: it is truncated, changed or another model's; copy both files again"
        )
