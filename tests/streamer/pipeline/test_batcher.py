from __future__ import annotations

from streamer.pipeline.batcher import Batcher

from .seeing import SeeingEngine, picture


def test_only_the_rows_that_were_filled_since_the_last_step_run() -> None:
    engine = SeeingEngine()
    batcher = Batcher(engine, rows=2)
    batcher.row(0)[:] = picture(1)[:8, :8]
    batcher.row(1)[:] = picture(3)[:8, :8]
    batcher.fill(0, fresh=True)
    batcher.fill(1, fresh=False)
    logits, _ = batcher.step()
    assert logits.argmax(1).tolist() == [1, 3]
    batcher.fill(1, fresh=False)
    batcher.step()
    assert engine.seen == [[96, 224], [-1, 224]]
    assert engine.fresh == [[True, False], [False, False]]


def test_a_row_is_ready_after_its_own_number_of_frames() -> None:
    batcher = Batcher(SeeingEngine(), rows=2)
    readiness = []
    for step in range(6):
        batcher.fill(0, fresh=step == 0)
        if step % 2:
            batcher.fill(1, fresh=step == 1)
        readiness.append(batcher.step()[1].tolist())
    assert [ready[0] for ready in readiness] == [False] * 3 + [True] * 3
    assert not any(ready[1] for ready in readiness)


def test_steps_are_timed() -> None:
    batcher = Batcher(SeeingEngine(), rows=1)
    assert batcher.step_ms.percentile(50) is None
    batcher.fill(0, fresh=True)
    batcher.step()
    assert batcher.step_ms.percentile(50) is not None
