"""Batch norms as part of the layers before them, as every runtime wants them."""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from .network import Network


def fold_batch_norms(network: Network) -> Network:
    """A copy in eval mode whose batch norms are part of the layers before them; exact up to rounding.

    Pairs are told by their names: conv1 / bn1 side by side, and a layer followed by a batch norm in a Sequential.
    """
    folded = copy.deepcopy(network).eval()
    for parent in folded.modules():
        children = dict(parent.named_children())
        names = list(children)
        for name, module in children.items():
            follower = (
                names[names.index(name) + 1]
                if isinstance(parent, nn.Sequential) and name != names[-1]
                else name.replace("conv", "bn")
            )
            norm = children.get(follower)
            if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                continue
            if isinstance(module, nn.Conv1d | nn.Conv2d):
                setattr(parent, name, fuse_conv_bn_eval(module, norm))
                setattr(parent, follower, nn.Identity())
            elif isinstance(module, nn.Linear):
                setattr(parent, name, fuse_linear_bn_eval(module, norm))
                setattr(parent, follower, nn.Identity())
    return folded
