"""A trained network -> the files of a model: state dict, ONNX step graph, sidecar with its certificate."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import msgspec
import torch

from ..backends.eager import EagerEngine, load_network
from ..backends.openvino import OpenVINOEngine, has_bf16
from ..errors import EngineError
from ..networks import Network
from ..networks.folding import even_out
from ..networks.measure import cost
from ..spec import EnginePrecision, EngineSpec, Precision, TensorSpec, sha256, write_spec
from .certificate import STEPS, certify
from .export import export_onnx, node_count

FEW_STEPS = 200  # of a certificate where a step is expensive
EXPENSIVE_MACS = 5e8  # 1,000 steps of a ResNet-50 take some minutes: `streamer build` does that


def build_model(
    network: Network, spec: EngineSpec, folder: Path, *, steps: int | None = None, half: bool = False
) -> EngineSpec:
    """Write `NAME.pt`, `NAME.onnx` and `NAME.json` into a folder; returns the sidecar, with states, hashes,
    certificates.

    The ONNX graph is certified in OpenVINO against the eager network: in float32, where EngineError refuses a graph
    that differs, and in bf16 if this processor has it and the graph stays within its limit. Without a bf16
    certificate the engine's `auto` runs float32. `steps` are those of the certificates; by default 1,000, or for a
    large network 200 of a stream and T of a window. `half` keeps the weights in float16 on disk,
    rounded so; what is computed stays float32.

    All three files come anew, or none. Raises OSError where they cannot be written.
    """
    if (spec.mode == "stream") != network.causal:
        raise EngineError(f"{spec.name}: {spec.mode} mode needs the {'clip' if network.causal else 'causal'} form")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{spec.name[:40]}.", dir=folder) as draft:
        spec = _write_model(network, spec, Path(draft), steps, half)
        for name in (*spec.files, f"{spec.name}.json"):  # the sidecar comes last: without it the others are no model
            (Path(draft) / name).replace(folder / name)
    return spec


def _write_model(network: Network, spec: EngineSpec, folder: Path, steps: int | None, half: bool) -> EngineSpec:
    weights, graph = folder / f"{spec.name}.pt", folder / f"{spec.name}.onnx"
    if half:
        even_out(network)
        network.load_state_dict({name: _halved(value) for name, value in network.state_dict().items()})
    parameters = {name: _halved(value) if half else value for name, value in network.state_dict().items()}
    content = io.BytesIO()  # torch tells a full disk by a RuntimeError without a reason
    torch.save({name: value.cpu() for name, value in parameters.items()}, content)
    weights.write_bytes(content.getbuffer())
    stepper = export_onnx(network, spec.height, spec.width, graph, spec.hop, half=half)
    state = zip(stepper.state_names, stepper.initial_state(1), strict=True)
    states = tuple(TensorSpec(name, tuple(value.shape[1:]), "float32") for name, value in state)
    files = {path.name: sha256(path) for path in (weights, graph)}
    figures = cost(network.eval(), spec.height, spec.width)
    spec = msgspec.structs.replace(
        spec,
        states=states,
        files=files,
        nodes=node_count(graph),
        parameters=sum(value.numel() for value in network.parameters()),
        step_macs=figures.step_macs,
        latency=int(figures.reach.ahead),
    )
    precisions: tuple[EnginePrecision, ...] = ("fp32", "bf16") if has_bf16() else ("fp32",)
    engines = [(OpenVINOEngine(graph, spec, precision=precision), precision) for precision in precisions]
    if steps is None:
        cheap = figures.step_macs <= EXPENSIVE_MACS
        steps = STEPS if cheap else FEW_STEPS if network.causal else spec.frames
    exact, *coarser = certify(EagerEngine(weights, spec, device="cpu"), engines, steps)
    if exact.fault:
        raise EngineError(f"the graph of {spec.name} in OpenVINO differs from the eager network: {exact.fault}")
    spec = msgspec.structs.replace(spec, certificates=(exact, *(c for c in coarser if not c.fault)))
    write_spec(folder / f"{spec.name}.json", spec)
    return spec


def _halved(value: torch.Tensor) -> torch.Tensor:
    """A matrix or kernel in float16 where that can hold it."""
    return value.half() if value.ndim > 1 and bool(value.abs().max() <= torch.finfo(torch.half).max) else value


def export_graph(weights: Path, spec: EngineSpec, out: Path, precision: Precision) -> None:
    """Write the step graph of a model that is there, with free rows."""
    export_onnx(load_network(weights, spec), spec.height, spec.width, out, spec.hop, precision=precision)
