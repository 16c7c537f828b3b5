"""The networks of the field's papers on 2-D backbones, in clip form and in causal (streaming) form from the same
parameters.

build_network("tcm", "resnet50", frames=8, classes=174, causal=False).frame_logits(clip)
"""

from __future__ import annotations

from .checkpoints import import_checkpoint
from .network import Network
from .registry import BACKBONES, NETWORKS, build_network

__all__ = ["BACKBONES", "NETWORKS", "Network", "build_network", "import_checkpoint"]
