"""A model -> an engine for this machine, compared with the eager network and installed if it holds.

OpenVINO: the model's own graph; what is installed is the certificate, by which a precision may be used. TensorRT: an
engine file in the cache, with its sidecar.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..base import Engine
from ..cache import engine_file, local_graph, local_sidecar, make_room
from ..errors import EngineError, install
from ..files import same_file
from ..loading import (
    BUILT_IN,
    PRECISIONS,
    WEIGHTS,
    certificate_of,
    find_model,
    load_engine,
    make_engine,
    precision_of,
    read_local_spec,
    why_not,
)
from ..spec import (
    Certificate,
    EnginePrecision,
    EngineSpec,
    Precision,
    check_file,
    is_file,
    read_spec,
    sha256,
    write_spec,
)
from .agreement import LIMIT, graph_difference
from .certificate import STEPS, certify, processor, runtime

Progress = Callable[[str], None]
Via = Literal["onnx", "torch-tensorrt"]


class CertificateError(EngineError):
    """An engine that fails its certificate."""


@dataclass(frozen=True)
class Installed:
    """What was installed, or was there already: the file to run, where its certificates are, and they."""

    path: Path
    sidecar: Path
    certificates: tuple[Certificate, ...]
    found: bool


def build_for_here(
    model: str | Path,
    backend: str,
    *,
    precision: str = "auto",
    rows: int = 1,
    via: Via = "onnx",
    steps: int = STEPS,
    rebuild: bool = False,
    force: bool = False,
    progress: Progress = print,
) -> Installed:
    """Build, compare and install; see `streamer build`.

    precision   auto: for TensorRT fp16, or float32 if that fails its certificate; for OpenVINO float32, and bf16 as
                well if it holds
    rebuild     also if it is there already
    force       install also what fails its certificate

    Raises EngineError for what cannot be built here, and for a certificate that fails.
    """
    if backend not in ("openvino", "tensorrt"):
        raise EngineError(f"streamer build makes engines for openvino and tensorrt; {backend!r} needs no build")
    if precision == "int8":
        raise EngineError("int8 is left out: nobody has shown that it keeps the certificate; use fp16, bf16 or fp32")
    if precision not in ("auto", *PRECISIONS[backend]):
        raise EngineError(f"the {backend} backend computes in {' or '.join(PRECISIONS[backend])}, not in {precision}")
    if rows < 1:
        raise EngineError(f"--rows {rows}: an engine needs a row for each stream, 1 or more")
    if via != "onnx" and backend != "tensorrt":
        raise EngineError(f"--via {via} builds TensorRT engines; leave it out for {backend}")
    if missing := why_not(backend):
        raise EngineError(f"nothing can be built for {backend} here: {missing}")
    path = find_model(model)
    if path.suffix == ".engine":
        raise EngineError(f"{path}: is an engine already; build from the model, NAME.onnx or NAME.json")
    if not is_file(path):
        raise EngineError(f"{path}: no such model file; `streamer models` lists the ones that are there")
    spec = read_local_spec(path)
    install = Install(path.with_suffix(".json"), spec, rows, steps, rebuild, force, progress)
    return install.for_openvino(precision) if backend == "openvino" else install.for_tensorrt(precision, via)


@dataclass(frozen=True)
class Install:
    """One build: the model (its sidecar's path and content) and what was asked for."""

    path: Path
    spec: EngineSpec
    rows: int
    steps: int
    rebuild: bool
    force: bool
    progress: Progress

    def for_openvino(self, precision: str) -> Installed:
        """Compile, compare, and write the certificates beside the model, or into the cache for a shipped one."""
        from ..backends.openvino import OpenVINOEngine, has_bf16

        graph = self.path.with_suffix(".onnx")
        check_file(graph, self.spec)
        wanted: tuple[EnginePrecision, ...] = tuple(p for p in PRECISIONS["openvino"] if precision in ("auto", p))
        if precision == "auto" and not has_bf16():
            wanted = ("fp32",)
        engines = [OpenVINOEngine(graph, self.spec, precision=p) for p in wanted]
        for engine in engines:
            self.progress(f"compiling {graph.name} for {engine.device}")
            engine.new_state(self.rows)
        if not self.rebuild and self.is_current(engines[0]):
            self.progress(f"{self.spec.version}: is installed already (--rebuild compares it again)")
            local = local_sidecar(self.spec)
            return Installed(graph, local if local.is_file() else self.path, self.spec.certificates, found=True)
        expected = self.reference(but=engines[-1])
        if expected.backend == "openvino":  # then float32 has nobody to be compared with, and keeps what it has
            engines = engines[-1:]
        certificates = self.compare(expected, engines, (1, self.rows if self.rows > 1 else 3))
        wanted = tuple(c.precision for c in certificates)
        good = [c for c in certificates if self.may_install(c, needed=precision != "auto" or c.precision == "fp32")]
        kept = [c for c in self.spec.certificates if (c.backend, c.precision) not in {("openvino", p) for p in wanted}]
        spec = msgspec.structs.replace(self.spec, certificates=(*kept, *good))
        return Installed(graph, self.write(spec), spec.certificates, found=False)

    def is_current(self, engine: Engine) -> bool:
        """Whether an engine has a full certificate of this runtime on this processor. With `auto` float32 answers for
        bf16 as well: both are compared together.
        """
        known = certificate_of(engine)
        here = (runtime(engine), processor(engine.spec))
        return known is not None and (known.runtime, known.processor) == here and known.steps >= self.steps

    def for_tensorrt(self, precision: str, via: Via) -> Installed:
        """Build an engine file in the cache, compare it, and give it its sidecar, which makes it one that is used."""
        from ..backends.tensorrt_build import BuildError

        kinds = [kind for kind in BUILT_IN if precision in ("auto", kind)]
        if self.force:  # then the first is installed whatever its certificate says
            kinds = kinds[:1]
        last = kinds[-1]
        plan = cache(partial(self.plan, via))  # large files are hashed in it
        if not self.rebuild:
            for kind in kinds:
                if found := self.built(plan(kind)[1]):
                    return found
        for kind in kinds[:-1]:
            try:
                return self.build_tensorrt(kind, via, *plan(kind))
            except (CertificateError, BuildError) as refused:
                self.progress(f"{refused}; building in {last}")
        return self.build_tensorrt(last, via, *plan(last))

    def plan(self, via: Via, kind: Precision) -> tuple[Path, Path]:
        """What a TensorRT engine for this machine is built from, and where it lies then."""
        from ..backends.tensorrt import cache_key, machine_facts

        source = self.graph(kind) if via == "onnx" else self.weights()
        beside = source.parent == self.path.parent  # then it was just found to be what the sidecar says
        digest = self.spec.files[source.name] if beside else sha256(source)
        return source, engine_file(self.spec, cache_key(digest, machine_facts(rows=self.rows, precision=kind)))

    def built(self, out: Path) -> Installed | None:
        """The TensorRT engine that is there already."""
        sidecar = out.with_suffix(".json")
        if not (sidecar.is_file() and out.is_file()):
            return None
        spec = read_spec(out)
        check_file(out, spec)
        self.progress(f"{out}: is built already (--rebuild builds it again)")
        return Installed(out, sidecar, spec.certificates, found=True)

    def build_tensorrt(self, kind: Precision, via: Via, source: Path, out: Path) -> Installed:
        """Build, compare and install one TensorRT engine; raises CertificateError if it fails its certificate."""
        from ..backends.tensorrt import TensorRTEngine, build_engine

        sidecar = make_room(out).with_suffix(".json")
        sidecar.unlink(missing_ok=True)
        options: dict[str, Any] = {"rows": self.rows, "precision": kind, "progress": self.progress}
        if via == "onnx":
            facts = build_engine(source, self.spec, out, **options)
        else:
            from ..backends.eager import load_network
            from . import torch_tensorrt

            facts = torch_tensorrt.build_engine(load_network(source, self.spec), self.spec, out, **options)
        files = {**self.spec.files, out.name: sha256(out)}
        spec = msgspec.structs.replace(self.spec, engine=facts, files=files, certificates=())
        try:
            engine = TensorRTEngine(out, spec)
            facts = msgspec.structs.replace(facts, graphs=self.replays_rightly(engine))
            engine.graphs, spec = facts.graphs, msgspec.structs.replace(spec, engine=facts)
            (certificate,) = self.compare(self.reference(), [engine], (self.rows,))
            engine.close()
            self.may_install(certificate, needed=True)
        except BaseException:
            out.unlink(missing_ok=True)
            raise
        write_spec(sidecar, msgspec.structs.replace(spec, certificates=(certificate,)))
        return Installed(out, sidecar, (certificate,), found=False)

    def replays_rightly(self, engine: Engine) -> bool:
        """Whether an engine may replay its steps as CUDA graphs; told apart from what a certificate looks for, so that
        a wrong graph is not taken for a precision that is too coarse.
        """
        apart = graph_difference(engine, self.rows)
        if apart is None or apart <= LIMIT:
            return True
        self.progress(f"replayed as CUDA graphs its steps answer otherwise (by {apart:.2g}): it will run without them")
        return False

    def graph(self, precision: Precision) -> Path:
        """The step graph in a precision: the one beside the model, else one that torch exports into the cache."""
        name = f"{self.spec.name}.onnx" if precision == "fp32" else f"{self.spec.name}.{precision}.onnx"
        beside = self.path.with_name(name)
        if name in self.spec.files and beside.is_file():
            check_file(beside, self.spec)
            return beside
        exported = local_graph(self.spec, precision)
        if exported.is_file() and not self.rebuild:
            return exported
        check_can_export(beside)
        from .model import export_graph

        self.progress(f"exporting the graph in {precision}")
        export_graph(self.weights(), self.spec, make_room(exported), precision)
        return exported

    def weights(self) -> Path:
        """The network's weights, checked."""
        path = self.path.with_suffix(".pt")
        check_file(path, self.spec)
        return path

    def reference(self, but: Engine | None = None) -> Engine:
        """What to compare with: the eager network where torch is, else OpenVINO in float32 unless that is it."""
        weights = self.path.with_suffix(".pt")
        return reference(weights, self.spec, self.path.with_suffix(".onnx"), self.progress, but)

    def compare(self, expected: Engine, engines: Sequence[Engine], rows: tuple[int, ...]) -> list[Certificate]:
        """Certificates of engines."""
        self.progress(f"comparing with {expected.device}, over {self.steps} steps and more")
        pairs = [(engine, precision_of(engine)) for engine in engines]
        return certify(expected, pairs, self.steps, rows, self.progress)

    def may_install(self, certificate: Certificate, *, needed: bool) -> bool:
        """Whether a certificate holds, or was forced; raises CertificateError for one that fails and is needed."""
        self.progress(str(certificate))
        fault = certificate.fault
        if fault is None:
            return True
        told = f"{self.spec.name} in {certificate.precision} on {certificate.backend} fails its certificate: {fault}"
        if not needed:
            self.progress(f"not installed: {told}")
        elif not self.force:
            finer = "" if certificate.precision == "fp32" else "; --precision fp32 is finer"
            raise CertificateError(f"{told}; nothing is installed (--force installs it all the same{finer})")
        else:
            self.progress(f"installed by --force: {told}")
        return needed

    def write(self, spec: EngineSpec) -> Path:
        """Write the model's sidecar; where that cannot or should not be changed, one in the cache."""
        if self.path.parent != WEIGHTS:
            try:
                write_spec(self.path, spec)
            except OSError:
                self.progress(f"{self.path}: cannot be written; the certificates go into the cache")
            else:
                local_sidecar(spec).unlink(missing_ok=True)
                return self.path
        local = make_room(local_sidecar(spec))
        write_spec(local, spec)
        return local


def check_can_export(graph: Path) -> None:
    """Raise EngineError unless what an export needs is installed."""
    needed = ("torch", "onnx", "onnxscript")
    if missing := [library for library in needed if importlib.util.find_spec(library) is None]:
        raise EngineError(
            f"{graph}: is not there, and cannot be exported without {', '.join(missing)}: make it where they are "
            f"(streamer build {graph.name.partition('.')[0]} --backend tensorrt --graph-only) and copy it with the "
            f"sidecar, or {install('train')}"
        )


def add_graph(model: str | Path) -> Path:
    """Write `NAME.fp16.onnx` beside a model, and its hash into the sidecar: all that a machine with a GPU needs to
    build an engine without torch. Needs torch itself, and no GPU.
    """
    path = find_model(model).with_suffix(".json")
    spec, weights, graph = read_spec(path), path.with_suffix(".pt"), path.with_suffix(".fp16.onnx")
    check_can_export(graph)
    check_file(weights, spec)
    from .model import export_graph

    for read in (weights, path, path.with_suffix(".onnx")):
        if same_file(graph, read):
            raise EngineError(f"{graph}: is another name of {read.name}, which is read; delete this link")
    try:
        export_graph(weights, spec, graph, "fp16")
        write_spec(path, msgspec.structs.replace(spec, files={**spec.files, graph.name: sha256(graph)}))
    except OSError as error:
        raise EngineError(f"{path.parent}: cannot be written: {error.strerror}; copy the model elsewhere") from error
    return graph


def reference(
    weights: Path, spec: EngineSpec, graph: Path, progress: Progress = print, but: Engine | None = None
) -> Engine:
    """The eager network of a model, where torch and its weights are; else OpenVINO in float32, and says so.

    Raises EngineError if neither can be had, or if `but`, which is to be compared, is all there is.
    """
    if (no_torch := why_not("eager")) is None and weights.is_file():
        check_file(weights, spec)
        from ..backends.eager import EagerEngine

        return EagerEngine(weights, spec, device="cpu")
    lacking = no_torch or f"{weights} is missing"
    if (but is None or precision_of(but) != "fp32") and why_not("openvino") is None and graph.is_file():
        progress(f"the eager network cannot run ({lacking}): comparing with OpenVINO in float32 instead")
        return make_engine(graph, spec, "openvino", None, "fp32")
    raise EngineError(f"there is nothing to compare {spec.name} with: {lacking}")


def verify(
    model: str | Path,
    backend: str = "auto",
    *,
    precision: str = "auto",
    rows: int = 1,
    steps: int = STEPS,
    against: Path | None = None,
    progress: Progress = print,
) -> Certificate:
    """Compare an engine with the eager network as a build does, and change nothing.

    model     an engine file, or a model: then its engine on the backend, openvino if auto
    against   the model's weights, NAME.pt; needed for an engine file of a model that is not shipped
    """
    path = find_model(model)
    if path.suffix == ".pt":
        raise EngineError(f"{path}: is the eager network itself; give what to compare with it: NAME.onnx, NAME.engine")
    if backend == "auto":
        backend = "tensorrt" if path.suffix == ".engine" else "openvino"
    engine = load_engine(path, backend, precision=precision, rows=rows)
    spec = engine.spec
    weights = against or path.with_suffix(".pt")
    if path.suffix == ".engine" and against is None:
        weights = next(
            (f for f in (path.with_name(f"{spec.name}.pt"), WEIGHTS / f"{spec.name}.pt") if f.is_file()), weights
        )
    expected = reference(weights, spec, weights.with_suffix(".onnx"), progress, engine)
    progress(f"comparing {engine.device} with {expected.device}")
    several = (1, rows if rows > 1 else 3) if backend == "openvino" else (rows,)
    (certificate,) = certify(expected, [(engine, precision_of(engine))], steps, several, progress)
    engine.close()
    return certificate
