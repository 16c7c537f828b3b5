from __future__ import annotations

import numpy as np
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


def test_a_picture_that_stands_still_is_nothing_to_the_model_of_actions() -> None:
    engine = load_engine("actions", threads=1, precision="fp32")
    generator = np.random.default_rng(0)
    picture = np.repeat(np.repeat(generator.integers(0, 256, (12, 12, 3), np.uint8), 16, 0), 16, 1)
    state, yes, no = engine.new_state(1), np.ones(1, np.bool_), np.zeros(1, np.bool_)
    for _ in range(engine.spec.frames + 5):
        logits, ready = engine.step(picture[None], yes, no, state)
    assert ready.all()
    assert engine.spec.labels[int(logits[0].argmax())] == "nothing"
