"""One file a runtime, each an `Engine`; `load_engine` picks one.

openvino.py (CPU), tensorrt.py (GPU; tensorrt_build.py makes its engines, cuda.py speaks to the driver), eager.py
(torch, the reference), scripted.py (written scores, for tests).
"""
