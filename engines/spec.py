"""What a model is, beside its weights: the sidecar `NAME.json`, and the checks of a model file against it.

A model may come from anybody. So a sidecar is believed in nothing that could not be: its types say what a value may
be, and the runtimes compare shapes and names with the graph before they use them.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from .errors import EngineError
from .files import write_whole

STATE_OUT = ".out"  # the output of a state is called as its input, with this appended
FLOAT32_NODE = "float32/"  # how the names of a float16 graph's nodes begin that must be computed in float32

Read = TypeVar("Read")

Precision = Literal["fp32", "fp16"]
"""Of a graph."""

EnginePrecision = Literal["fp32", "bf16", "fp16", "int8"]
"""Of an engine."""

StateType = Literal["float32", "float16", "int64", "int32", "uint8", "bool"]
"""Of a state's values, by numpy's names."""

MOST_SIDECAR_BYTES = 1 << 20
MOST_STATE_VALUES = 1 << 28  # of all states of one row: 1 GiB in float32

NAME = r"^\w[\w.-]{0,99}\Z"
"""Of a model: becomes part of paths, so that it must not be able to lead out of a folder."""

Name = Annotated[str, Meta(pattern=NAME)]
FileName = Annotated[str, Meta(pattern=r"^\w[\w.-]{0,199}\Z")]

Count = Annotated[int, Meta(ge=0)]
Size = Annotated[int, Meta(ge=1, le=4096)]
Frames = Annotated[int, Meta(ge=1, le=1024)]
Rate = Annotated[float, Meta(ge=0.1, le=1000.0)]
Label = Annotated[str, Meta(min_length=1, max_length=256)]
Labels = Annotated[tuple[Label, ...], Meta(min_length=1, max_length=4096)]
Word = Annotated[str, Meta(max_length=256)]
OfLabels = Annotated[dict[Label, dict[Word, float] | Labels], Meta(max_length=4096)]
Difference = Annotated[float, Meta(ge=0.0)]

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

    name: Annotated[str, Meta(pattern=r"^[\w.]+\Z", max_length=256)]
    shape: Annotated[tuple[Annotated[int, Meta(ge=1, le=1 << 24)], ...], Meta(max_length=8)]
    dtype: StateType


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

    backend: Word
    precision: EnginePrecision
    steps: Count
    max_probability_difference: Difference
    top1_agreement: Annotated[float, Meta(ge=0.0, le=1.0)]
    state_drift: Annotated[dict[int, Difference], Meta(max_length=64)] = {}
    reference: Word = ""
    runtime: Word = ""
    processor: Word = ""

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
    graphs              whether its steps may be replayed as CUDA graphs: they answered as plain steps do
    """

    tensorrt: Word
    gpu: Word
    compute_capability: Word
    driver: Word
    precision: Precision
    rows: Size
    graphs: bool = True


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
    events          values of the configuration's section `events` that suit the model, where the user sets none
    engine          beside `NAME.engine`: what TensorRT built it for; None beside the other files
    """

    name: Name
    labels: Labels
    height: Size
    width: Size
    rate_hz: Rate
    frames: Frames
    mode: Literal["stream", "window"]
    fit: Literal["stretch", "crop"]
    network: Word
    backbone: Word
    channel_width: Annotated[float, Meta(gt=0.0, le=4.0)]
    states: Annotated[tuple[TensorSpec, ...], Meta(max_length=1024)]
    files: Annotated[dict[FileName, Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]], Meta(max_length=64)]
    certificates: Annotated[tuple[Certificate, ...], Meta(max_length=64)] = ()
    hop: Frames = 1
    options: Annotated[dict[Word, Annotated[int, Meta(ge=0, le=4096)] | Word], Meta(max_length=64)] = {}
    nodes: Count | None = None
    parameters: Count | None = None
    step_macs: Count | None = None
    latency: Annotated[int, Meta(ge=0, le=1024)] = 0
    events: Annotated[dict[Word, float | Word | Labels | OfLabels], Meta(max_length=64)] = {}
    engine: EngineFacts | None = None
    format: Literal[1] = 1

    @property
    def version(self) -> str:
        """`name@hash`, the hash over all of the model's files: what messages carry."""
        digest = hashlib.sha256("".join(sorted(self.files.values())).encode()).hexdigest()
        return f"{self.name}@{digest[:8]}"


IDLE = frozenset({"still", "nothing", "No gesture", "Doing other things"})
"""Labels that say that nothing of interest happens: of the default model, of models that are taught, of 20BN-Jester."""


def background(labels: Iterable[str]) -> dict[str, Any]:
    """`events` of a sidecar with those of a model's labels that shall make no event; empty if it has none."""
    idle = tuple(label for label in labels if label in IDLE)
    return {"background": idle} if idle else {}


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def read_spec(path: Path) -> EngineSpec:
    """The sidecar of a model file (any of `NAME.onnx`, `NAME.pt`, `NAME.engine`, `NAME.json`), without a look at
    the model file itself.

    Raises EngineError if there is none, or it is not one, or says what cannot be.
    """
    sidecar = path.with_suffix(".json")
    if not is_file(sidecar):
        raise EngineError(
            f"{path}: its sidecar {sidecar.name} is missing beside it; a model is both files, copy them together"
        )
    spec = read_json(sidecar, EngineSpec, "a model's sidecar")
    if wrong := fault_of(spec):
        raise EngineError(f"{sidecar}: is not a model's sidecar: {wrong}")
    return spec


def read_json(path: Path, kind: type[Read], what: str) -> Read:
    """A small file of a given form; raises EngineError for another, of which `what` says what it should have been."""
    try:
        if not path.is_file():
            raise EngineError(f"{path}: cannot be read: No such file")
        if path.stat().st_size > MOST_SIDECAR_BYTES:
            raise EngineError(f"{path}: is not {what}: it is larger than {MOST_SIDECAR_BYTES} bytes")
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise EngineError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise EngineError(f"{path}: is not {what}: {error}") from error


def is_file(path: Path) -> bool:
    """Whether a path, whatever somebody wrote, is one of a file."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, a folder that may not be entered, a NUL in it
        return False


def fault_of(spec: EngineSpec) -> str | None:
    """What types cannot say about a sidecar: None, or what is wrong with it."""
    shown = [*spec.labels, spec.network, spec.backbone, *spec.options, *map(str, spec.options.values())]
    shown += [text for one in spec.certificates for text in (one.backend, one.reference, one.runtime, one.processor)]
    shown += [spec.engine.tensorrt, spec.engine.gpu] if spec.engine else []
    if odd := next((text for text in shown if not text.isprintable()), None):
        return f"{odd!r} has characters that cannot be shown"
    names = [state.name for state in spec.states]
    for what, values in (("label", spec.labels), ("state", names)):
        if (most := Counter(values).most_common(1)) and most[0][1] > 1:
            return f"there are two {what}s {most[0][0]!r}"
    if sum(math.prod(state.shape) for state in spec.states) > MOST_STATE_VALUES:
        return f"its states have more than {MOST_STATE_VALUES} values"
    return None


def check_spec(spec: EngineSpec) -> None:
    """Raise EngineError unless `read_spec` would take this sidecar."""
    try:
        msgspec.json.decode(msgspec.json.encode(spec), type=EngineSpec)
    except msgspec.DecodeError as error:
        raise EngineError(f"{spec.name}: cannot be a model: {error}") from error
    if wrong := fault_of(spec):
        raise EngineError(f"{spec.name}: cannot be a model: {wrong}")


def write_spec(sidecar: Path, spec: EngineSpec) -> None:
    """Write a sidecar: whole, or not at all."""
    write_whole(sidecar, msgspec.json.format(msgspec.json.encode(spec), indent=1) + b"\n")


def check_file(path: Path, spec: EngineSpec) -> None:
    """Raise EngineError unless `path` is, byte for byte, one of the files that the sidecar names."""
    if not is_file(path):
        raise EngineError(f"{path}: no such model file; `streamer models` lists the ones that are there")
    expected = spec.files.get(path.name)
    if expected is None:
        raise EngineError(f"{path}: the sidecar beside it is of another model ({spec.name}: {', '.join(spec.files)})")
    try:
        found = sha256(path)
    except OSError as error:
        raise EngineError(f"{path}: cannot be read: {error.strerror}") from error
    if found != expected:
        raise EngineError(
            f"{path}: does not match its sidecar: it is truncated, changed or another model's; copy both files again"
        )
