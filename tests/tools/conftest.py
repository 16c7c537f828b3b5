from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MobileNetV2's file, without a head, with random weights."""
    import torch

    from engines.networks import build_network

    torch.manual_seed(0)
    state = build_network("tsn", "mobilenet_v2", 8, 2, causal=True).state_dict()
    path = tmp_path_factory.mktemp("backbone") / "mobilenet_v2.pt"
    torch.save({key: value for key, value in state.items() if not key.startswith("fc.")}, path)
    return path
