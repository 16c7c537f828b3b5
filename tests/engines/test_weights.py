from __future__ import annotations

import pytest

import engines.loading
from engines import find_models, load_engine
from engines.spec import read_spec, sha256

LIMIT_BYTES = 24e6  # of all files, which a clone and a wheel carry
MODEL_BYTES = 16e6


def test_the_shipped_models_are_small() -> None:
    sizes = {path: path.stat().st_size for path in engines.loading.WEIGHTS.iterdir()}
    assert sum(sizes.values()) < LIMIT_BYTES
    for name in find_models():
        assert sum(size for path, size in sizes.items() if path.name.startswith(f"{name}.")) < MODEL_BYTES


@pytest.mark.parametrize("name", find_models())
def test_a_shipped_model_is_whole_and_certified(name: str) -> None:
    sidecar = find_models()[name]
    spec = read_spec(sidecar)
    assert {file: sha256(sidecar.with_name(file)) for file in spec.files} == spec.files
    assert "fp32" in {certificate.precision for certificate in spec.certificates}
    background = spec.events.get("background", ())
    assert isinstance(background, tuple)
    assert set(background) <= set(spec.labels)


def test_the_model_of_actions_knows_what_is_nothing_and_tells_whose_data_it_learned_from() -> None:
    engine = load_engine("actions", threads=1)
    assert engine.spec.events["background"] == ("nothing",)
    assert len(engine.spec.labels) == 22
    notice = (engines.loading.WEIGHTS / "NOTICE.txt").read_text()
    assert "HMDB51" in notice
    assert "CC BY 4.0" in notice
