"""The networks of the field's papers on 2-D backbones, in clip form and in causal (streaming) form from the same
parameters.

    build_network("tcm", "resnet50", frames=8, classes=174, causal=False).frame_logits(clip)

network.py      what all share: stem, stages with memory, head; temporal.py: the state, and one frame back
resnet.py, inverted.py    the backbones: ResNets; MobileNetV2 and EfficientNet-Lite0
tsm.py, tcm.py, stm.py, tanet.py, gtdnet.py   one paper each; TSN is in tsm.py
statistics.py   statistics pooling: a head that reads what the last frames' maps were and how they varied;
                matching.py: and how the picture moved
registry.py     all of them by name, and `build_network`
stepper.py      one step of many streams, as it is exported
checkpoints.py  published files -> these networks; tensors.py reads them without running code
folding.py      batch norms as part of the layers before them
measure.py      what a network costs to run and to keep
"""

from __future__ import annotations

from .checkpoints import import_checkpoint
from .network import Network
from .registry import BACKBONES, NETWORKS, build_network

__all__ = ["BACKBONES", "NETWORKS", "Network", "build_network", "import_checkpoint"]
