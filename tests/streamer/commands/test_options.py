from __future__ import annotations

from typing import Any

import pytest

from engines import load_engine
from streamer.commands import options
from streamer.pipeline import exchange
from streamer.settings import load_settings


@pytest.mark.parametrize("wanted", [True, False])
def test_cuda_graphs_can_be_left_out_by_the_configuration(wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def load(*model: str, graphs: bool, **how: Any) -> Any:
        asked.append(graphs)
        return load_engine(*model, graphs=graphs, **how)

    monkeypatch.setattr(exchange, "load_engine", load)
    sets = ["backend=scripted", f"engine.cuda_graphs={str(wanted).lower()}"]
    options.make_engine(load_settings(None, {}, sets, {}).config)
    assert asked == [wanted]
