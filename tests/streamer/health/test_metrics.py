from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamer.clips.room import Clips
from streamer.config import ClipsConfig, Config, EventConfig
from streamer.health.metrics import STATES, Metrics
from streamer.labels.messages import StatusMessage
from streamer.labels.publisher import Publisher
from streamer.labels.subscriber import Subscriber
from streamer.pipeline.pipeline import Pipeline
from streamer.pipeline.ring import Origin

from ..pipeline.seeing import LABELS, SPEC, Film, picture
from ..pipeline.test_pipeline import Camera
from .monitored import families, monitored, values

WaitFor = Callable[[Callable[[], Any]], None]


def test_every_metric_moves_with_what_it_measures(wait_for: WaitFor) -> None:
    camera = Camera()
    publisher = Publisher("tcp://127.0.0.1:*", SPEC.version, "stream")
    with monitored(camera, publisher=publisher, config=Config(buffer=2)) as running:
        seen: list[dict[tuple[str, ...], float]] = []

        def now(*sample: str) -> float:
            seen.append(values(running.address))
            return seen[-1].get(sample, 0)

        wait_for(lambda: now("streamer_source_state", "camera") == STATES.index("online"))
        wait_for(lambda: now("streamer_events_total", "camera"))
        with Subscriber(publisher.address):
            wait_for(lambda: now("streamer_subscriptions") == 1)
        wait_for(lambda: now("streamer_subscriptions") == 0)

        running.engine.free.clear()
        wait_for(lambda: now("streamer_frames_dropped_total", "ring_full", "camera"))
        wait_for(lambda: now("streamer_ring_frames", "camera") == 2)
        running.engine.free.set()

        camera.crashes += 1
        camera.broken.set()
        wait_for(lambda: now("streamer_source_state", "camera") == STATES.index("offline"))
        camera.broken.clear()
        wait_for(lambda: now("streamer_gaps_total", "reconnect", "camera"))
        assert now("streamer_reconnects_total", "camera") == 1
        assert now("streamer_resets_total", "camera") >= 1
        assert now("streamer_lost_seconds_total", "reconnect", "camera") > 0
        for stage in ("convert", "step", "decide", "publish"):
            assert now("streamer_stage_seconds_count", stage) > 0

        still = {
            family.name
            for family in families(running.address)
            if not any(
                len({one[key] for one in seen if key in one}) > 1
                for key in seen[-1]
                if key[0].removesuffix("_total").removesuffix("_count") == family.name
            )
        }
        assert still == {"streamer_engine_info", "streamer_shedding_stage"}  # test_load.py moves the stage
        assert seen[-1]["streamer_engine_info", "seeing", "test", SPEC.version] == 1


def test_each_reason_of_a_drop_and_of_a_gap_is_counted(wait_for: WaitFor) -> None:
    camera = Camera()
    camera.silent.set()
    with monitored(camera) as running:
        stream, second = running.pipeline.streams[0], 1_000_000
        ring = stream.intake.lens.rings[stream.name]
        for time_us, connection in (
            (100 * second, 0),
            (100 * second + 10_000, 0),  # not due
            (90 * second, 0),  # the clock went back
            (92 * second, 0),  # a gap
            (99 * second, 1),  # a reconnect
        ):
            ring.push(Origin(time_us, 0, connection), picture(0)[:8, :8])
        camera.damaged()

        def found(*sample: str) -> float:
            return values(running.address).get((*sample, "camera"), 0)

        wait_for(lambda: found("streamer_resets_total") == 3)
        assert found("streamer_frames_dropped_total", "out_of_step") == 1
        assert found("streamer_frames_dropped_total", "corrupt") == 1
        for reason, lost_s in (("clock", 0), ("gap", 2), ("reconnect", 7)):
            assert found("streamer_gaps_total", reason) == 1
            assert found("streamer_lost_seconds_total", reason) == lost_s


def test_the_counts_are_those_of_the_status_messages() -> None:
    film = Film(lambda t: int(t / 2), [n / 30 for n in range(180)])
    with monitored(film) as running:
        running.thread.join(30)
        found = values(running.address)
        status = running.messages[-1]
    assert isinstance(status, StatusMessage)
    assert found["streamer_frames_captured_total", "film"] == status.captured == 180
    assert found["streamer_frames_inferred_total", "film"] == status.inferred == 60
    assert found["streamer_reconnects_total", "film"] == status.reconnects
    dropped = {key[1]: count for key, count in found.items() if key[0] == "streamer_frames_dropped_total" and count}
    assert dropped == status.dropped == {"above_rate": 120}


def test_rows_of_two_cameras_are_counted_as_a_batch(wait_for: WaitFor) -> None:
    with monitored(Camera("one"), Camera("two")) as running:
        running.engine.free.clear()
        rings = [stream.ring for stream in running.pipeline.streams]
        wait_for(lambda: all(len(ring) for ring in rings))
        running.engine.free.set()

        def two_at_once() -> bool:
            found = values(running.address)
            return found["streamer_batch_rows_sum",] > found["streamer_batch_rows_count",]

        wait_for(two_at_once)


def test_of_a_stream_that_was_removed_nothing_is_served_any_more(wait_for: WaitFor) -> None:
    class Hand:
        """In the place of the control socket."""

        def poll(self, on: Pipeline) -> None:
            if asked.is_set() and len(on.streams) > 1:
                on.remove("two")

    asked = threading.Event()
    with monitored(Camera("one"), Camera("two")) as running:
        running.pipeline._control = Hand()  # type: ignore[assignment]

        def streams() -> set[str]:
            return {one.labels["stream"] for family in families(running.address) for one in family.samples
                    if "stream" in one.labels}  # fmt: skip

        wait_for(lambda: ("streamer_frame_age_seconds_count", "two") in values(running.address))
        assert streams() == {"one", "two"}
        asked.set()
        wait_for(lambda: streams() == {"one"})


def test_names_end_in_their_unit_and_labels_are_few(wait_for: WaitFor) -> None:
    with monitored(Camera()) as running:
        wait_for(lambda: ("streamer_frame_age_seconds_count", "camera") in values(running.address))
        for family in families(running.address):
            if family.type == "histogram":
                assert family.name.endswith(("_seconds", "_rows"))
            for sample in family.samples:
                assert family.type != "counter" or sample.name.endswith("_total")
                assert not sample.name.endswith("_created")
                allowed = {"backend", "device", "model"} if family.name == "streamer_engine_info" else set()
                assert set(sample.labels) - {"le"} <= {"stream", "reason", "stage"} | allowed


def test_the_documentation_lists_each_metric_with_its_labels_and_meaning(tmp_path: Path, wait_for: WaitFor) -> None:
    page = Path("docs/reference/metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\| ([^|]*) \|$", page, re.M)
    documented = {name: (kind, set(re.findall(r"\w+", labels)), help_) for name, kind, labels, help_ in rows}
    with monitored(Camera(), keeper=Clips(ClipsConfig(folder=tmp_path), EventConfig(), SPEC)) as running:
        wait_for(lambda: ("streamer_frame_age_seconds_count", "camera") in values(running.address))
        served = {
            family.name + "_total" * (family.type == "counter"): (
                family.type,
                {label for sample in family.samples for label in sample.labels} - {"le"},
                family.documentation,
            )
            for family in families(running.address)
        }
    assert documented == served


def test_the_metrics_of_clips_move_with_them(tmp_path: Path, wait_for: WaitFor) -> None:
    camera = Camera()
    keeper = Clips(ClipsConfig(folder=tmp_path, before_s=0, after_s=0, keep_gb=1e-9), EventConfig(), SPEC)
    with monitored(camera, keeper=keeper) as running:
        wait_for(lambda: values(running.address)[("streamer_clips_memory_bytes",)] > 0)
        for label in (1, 2, 1):
            camera.label = label
            wanted = LABELS[label]
            wait_for(lambda: any(getattr(one, "label", "") == wanted for one in running.pipeline.snapshot()))  # noqa: B023
        wait_for(lambda: values(running.address)[("streamer_clips_deleted_total",)] >= 1)
        shown = values(running.address)
        assert shown["streamer_clips_written_total",] >= 1
        assert shown["streamer_clips_bytes",] == 0
        assert shown["streamer_clips_dropped_total", "failed"] == 0


def test_the_metrics_of_two_runs_in_one_process_are_their_own() -> None:
    one, two = Metrics(), Metrics()
    one.stepped(3)
    assert b"streamer_batch_rows_sum 3.0" in one.text()
    assert b"streamer_batch_rows_sum 0.0" in two.text()


def test_a_run_without_metrics_does_not_load_them() -> None:
    code = "import sys, streamer.commands.run, streamer.pipeline.pipeline; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"
