"""A trained network -> the files of a model: state dict, ONNX step graph, sidecar with its certificate."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec
import torch

from .certificate import certify
from .eager import EagerEngine
from .errors import EngineError
from .export import export_onnx, node_count
from .networks import Network
from .networks.measure import cost
from .openvino import OpenVINOEngine, has_bf16
from .spec import EngineSpec, TensorSpec, sha256


def build_model(network: Network, spec: EngineSpec, folder: Path, *, steps: int = 200) -> EngineSpec:
    """Write `NAME.pt`, `NAME.onnx` and `NAME.json` into a folder; returns the sidecar, with states, hashes,
    certificates.

    The ONNX graph is certified in OpenVINO against the eager network: in float32, where EngineError refuses a graph
    that differs, and in bf16 if this processor has it and the graph stays within its limit. Without a bf16
    certificate the engine's `auto` runs float32.
    """
    if (spec.mode == "stream") != network.causal:
        raise EngineError(f"{spec.name}: {spec.mode} mode needs the {'clip' if network.causal else 'causal'} form")
    folder.mkdir(parents=True, exist_ok=True)
    weights, graph = folder / f"{spec.name}.pt", folder / f"{spec.name}.onnx"
    torch.save({name: value.cpu() for name, value in network.state_dict().items()}, weights)
    stepper = export_onnx(network, spec.height, spec.width, graph, spec.hop)
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
    reference = EagerEngine(weights, spec)
    certificates = [certify(reference, OpenVINOEngine(graph, spec, precision="fp32"), "fp32", steps)]
    if has_bf16():
        with suppress(EngineError):
            certificates.append(certify(reference, OpenVINOEngine(graph, spec, precision="bf16"), "bf16", steps))
    spec = msgspec.structs.replace(spec, certificates=tuple(certificates))
    (folder / f"{spec.name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(spec), indent=1) + b"\n")
    return spec
