"""Batch norms as part of the layers before them, as every runtime wants them."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from .network import Network

Norm = nn.BatchNorm1d | nn.BatchNorm2d


def pairs(network: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Every layer that a batch norm follows: their parent, and both names in it.

    They are told by their names: conv1 / bn1 side by side, and a layer followed by a batch norm in a Sequential.
    """
    for parent in network.modules():
        children = dict(parent.named_children())
        names = list(children)
        for name, module in children.items():
            follower = (
                names[names.index(name) + 1]
                if isinstance(parent, nn.Sequential) and name != names[-1]
                else name.replace("conv", "bn")
            )
            if isinstance(children.get(follower), Norm) and isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                yield parent, name, follower


def fused(parent: nn.Module, name: str, follower: str) -> nn.Module:
    """The layer with its batch norm in it."""
    layer, norm = getattr(parent, name), getattr(parent, follower)
    return fuse_linear_bn_eval(layer, norm) if isinstance(layer, nn.Linear) else fuse_conv_bn_eval(layer, norm)


def fold_batch_norms(network: Network) -> Network:
    """A copy in eval mode whose batch norms are part of the layers before them; exact up to rounding."""
    folded = copy.deepcopy(network).eval()
    for parent, name, follower in list(pairs(folded)):
        setattr(parent, name, fused(parent, name, follower))
        setattr(parent, follower, nn.Identity())
    return folded


@torch.no_grad()
def even_out(network: Network) -> None:
    """Give every layer the weights that it has with its batch norm in it, and leave the norm a bias alone: the network
    computes what it did, and what is rounded then stays as it is when the norms are folded.
    """
    network.eval()
    for parent, name, follower in pairs(network):
        whole, layer, norm = fused(parent, name, follower), getattr(parent, name), getattr(parent, follower)
        layer.weight.copy_(whole.weight)
        if layer.bias is not None:
            layer.bias.zero_()
        norm.bias.copy_(whole.bias)
        norm.weight.fill_(1)
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
