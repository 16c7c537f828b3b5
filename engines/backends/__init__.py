"""One file a runtime, each an `Engine`; `load_engine` picks one.

openvino.py (CPU), tensorrt.py (GPU; tensorrt_build.py makes its engines, cuda.py speaks to the driver), eager.py
(torch, the reference), scripted.py (written scores, for tests).
"""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
"""OpenVINO does without this library where it is not to be had; else every import of OpenVINO would report to a server
that it happened, unasked.
"""
