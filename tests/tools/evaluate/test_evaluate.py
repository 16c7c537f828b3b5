"""The evaluation's commands, from their options to their figures, with models whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from engines import EngineSpec, load_engine
from engines.spec import read_spec, sha256
from tests.engines.checkpoint import write_checkpoint
from tests.tools.sets import picture, write_lines, write_video
from tools.data.clips import View
from tools.evaluate.__main__ import main, make_parser, view_of
from tools.motion.paths import LABELS

torch.set_num_threads(1)

CLASSES = ("jump", "run", "walk")
Script = Callable[..., str]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Writes a model that gives the same probabilities at each step; its path."""

    def write(name: str, *scores: float, labels: Sequence[str] = CLASSES) -> str:
        path = tmp_path / f"{name}.scores.json"
        content = {"labels": labels, "scores": [scores], "frames": 4, "height": 32, "width": 32}
        path.write_text(json.dumps(content), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each class, for validation 1, 2 and 3 short videos; the last one of `walk` is broken."""
    root = tmp_path_factory.mktemp("films")
    for count, label in enumerate(CLASSES, 1):
        (root / "train" / label).mkdir(parents=True)
        for number in range(count):
            write_video(root / "validation" / label / f"{number}.mp4", 6)
    (root / "validation" / "walk" / "2.mp4").write_bytes(b"no video")
    return root


@pytest.fixture
def evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[dict[str, Any], str]]:
    """Runs a command that must succeed; its figures and what it printed."""

    def run(*arguments: str) -> tuple[dict[str, Any], str]:
        figures = tmp_path / "figures.json"
        assert main([*arguments, "--json", str(figures)]) == 0, capsys.readouterr().err
        return json.loads(figures.read_text(encoding="utf-8")), capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def motions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of two videos with the labels of the shipped model."""
    root = tmp_path_factory.mktemp("motions")
    for label in LABELS:
        (root / "train" / label).mkdir(parents=True)
    for label in LABELS[:2]:
        write_video(root / "validation" / label / "0.mp4", 12, fps=10)
    return root


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Writes random weights as a training run does; their path."""
    return partial(write_checkpoint, tmp_path, labels=CLASSES)


def clips(films: Path, *arguments: str) -> list[str]:
    return ["clips", *arguments, "--data", f"folders:{films}", "--workers", "0"]


# ------------------------------------------------------------------------------------------------ videos of a set


def test_a_model_that_always_says_run_is_right_about_the_videos_of_run(
    films: Path, script: Script, evaluate: Callable[..., tuple[dict[str, Any], str]], tmp_path: Path
) -> None:
    drawing = tmp_path / "confusion.png"
    figures, said = evaluate(*clips(films, script("runner", 0.1, 0.7, 0.2), "--confusion", str(drawing)))
    assert figures["videos"] == 5
    assert figures["top1"] == pytest.approx(2 / 5)
    assert figures["top5"] == 1
    assert figures["classes"] == {"jump": 0, "run": 1, "walk": 0}
    assert "top-1 40.00%, top-5 100.00%" in said
    assert drawing.stat().st_size > 0


def test_a_video_that_cannot_be_read_is_listed_and_the_denominator_told(
    films: Path, script: Script, evaluate: Callable[..., tuple[dict[str, Any], str]]
) -> None:
    figures, said = evaluate(*clips(films, script("runner", 0.1, 0.7, 0.2)))
    (fault,) = figures["left_out"]
    assert "walk/2.mp4" in fault
    assert f"1 of 6 videos are left out, because they cannot be read:\n  {fault}\n" in said
    assert "5 videos" in said


@pytest.mark.parametrize(
    ("weights", "winner"), [([], "jump"), (["1", "1"], "jump"), (["1", "2"], "run"), (["0.1", "10"], "run")]
)
def test_an_ensemble_adds_scores_with_weights(
    films: Path,
    script: Script,
    evaluate: Callable[..., tuple[dict[str, Any], str]],
    weights: list[str],
    winner: str,
) -> None:
    # jump and run score -0.2 and -2.3 with the first, -1.6 and -0.3 with the second
    models = script("first", 0.8, 0.1, 0.1), script("second", 0.2, 0.75, 0.05)
    figures, _ = evaluate(*clips(films, *models), *(["--weights", *weights] if weights else []))
    assert max(figures["classes"], key=figures["classes"].get) == winner
    assert len(figures["models"]) == 2


@pytest.mark.parametrize("protocol", ["1x1", "2x3", "10x3"])
def test_a_training_checkpoint_is_measured_in_torch_in_each_protocol(
    films: Path, checkpoint: Callable[..., Path], evaluate: Callable[..., tuple[dict[str, Any], str]], protocol: str
) -> None:
    figures, _ = evaluate(*clips(films, str(checkpoint()), "--protocol", protocol))
    assert figures["videos"] == 5
    assert figures["sampling"] == ("dense" if protocol == "10x3" else "uniform")


def test_whole_pictures_go_through_a_network_in_torch_but_not_through_a_built_model(
    motions: Path, evaluate: Callable[..., tuple[dict[str, Any], str]], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = clips(motions, "default", "--protocol", "full")
    figures, _ = evaluate(*whole, "--backend", "eager")
    assert figures["videos"] == 2
    assert main(whole) == 2
    assert "default takes pictures of " in capsys.readouterr().err


def test_a_model_is_asked_at_the_rate_that_its_sidecar_tells_and_this_is_said(
    motions: Path, evaluate: Callable[..., tuple[dict[str, Any], str]]
) -> None:
    figures, said = evaluate(*clips(motions, "default"))
    assert (figures["videos"], figures["sampling"]) == (2, "steady")
    assert "as a stream at 10 frames a second, as the model's sidecar tells: 2 videos" in said
    figures, said = evaluate(*clips(motions, "default", "--sampling", "uniform"))
    assert figures["sampling"] == "uniform"
    assert "sidecar" not in said


def test_a_protocol_says_what_a_model_sees() -> None:
    stretched = msgspec.structs.replace(load_engine("default", "scripted").spec, frames=8, height=112, rate_hz=10.0)
    cropped = msgspec.structs.replace(stretched, fit="crop")

    def view(spec: EngineSpec, *arguments: str) -> View:
        return view_of(spec, make_parser().parse_args(["clips", "default", "--data", "folders:here", *arguments]))

    for spec in (cropped, stretched):
        assert view(spec) == View("steady", 8, 112, fps=10.0, live=spec)
    resized = view(stretched, "--size", "112")
    assert resized == View("steady", 8, 112, fps=10.0, resize=(112, 112), short_side=112)
    assert view(cropped, "--size", "112").shorter == 128
    assert view(stretched, "--protocol", "1x1") == View("uniform", 8, 112, resize=(112, 112), short_side=112)
    assert view(stretched, "--protocol", "2x3") == View("uniform", 8, 112, clips=2, crops=3, short_side=112)
    papers = view(cropped, "--protocol", "10x3", "--size", "256")
    assert papers == View("dense", 8, 256, clips=10, crops=3, short_side=256)
    resized = view(cropped, "--protocol", "1x1", "--resize", "120x160")
    assert resized == View("uniform", 8, 112, resize=(120, 160), short_side=120)
    assert view(cropped, "--protocol", "full") == View("uniform", 8, 112, crops="full")
    live = view(cropped, "--protocol", "2x3", "--sampling", "steady")
    assert live == View("steady", 8, 112, fps=10.0, crops=3, short_side=112)


# -------------------------------------------------------------------------------------------- drawn clips, streams


def test_a_model_that_always_says_still_knows_nothing_else(
    script: Script, evaluate: Callable[..., tuple[dict[str, Any], str]]
) -> None:
    model = script("still", 0.9, *[0.1 / 9] * 9, labels=LABELS)
    figures, said = evaluate("synthetic", model, "--clips", "80")
    assert figures["classes"] == {label: float(label == "still") for label in LABELS}
    assert 0 < figures["frame_accuracy"] < 0.4
    assert 0 < figures["clip_accuracy"] < 0.2
    assert f"frames: {figures['frame_accuracy']:.1%} of {figures['frames']}" in said


def test_drawn_labels_may_stand_in_another_order(
    script: Script, evaluate: Callable[..., tuple[dict[str, Any], str]]
) -> None:
    model = script("still", *[0.1 / 9] * 9, 0.9, labels=LABELS[::-1])
    figures, _ = evaluate("synthetic", model, "--clips", "80")
    assert figures["classes"] == {label: float(label == "still") for label in LABELS}


def test_a_model_that_always_says_still_has_no_event_in_drawn_scenes(
    script: Script, evaluate: Callable[..., tuple[dict[str, Any], str]]
) -> None:
    model = script("still", 0.9, *[0.1 / 9] * 9, labels=LABELS)
    figures, said = evaluate("stream", model, "--minutes", "0.4")
    assert figures["minutes"] == pytest.approx(0.4)
    assert (figures["f1"], figures["recall"], figures["false_per_minute"]) == (0, 0, 0)
    assert figures["median_delay_s"] is None
    assert "false events: 0.00 a minute" in said


def test_the_event_settings_are_those_of_a_configuration(
    script: Script, evaluate: Callable[..., tuple[dict[str, Any], str]], tmp_path: Path
) -> None:
    model = script("still", 0.9, *[0.1 / 9] * 9, labels=LABELS)
    config = write_lines(tmp_path / "config.yaml", "events:", "  background: []", "  enter: 0.95")
    stream = ("stream", model, "--minutes", "0.2", "-c", str(config))
    assert evaluate(*stream)[0]["f1"] == 0
    figures, _ = evaluate(*stream, "--set", "events.enter=0.6")
    assert figures["precision"] == 1  # the scene begins still, and now that is an event


def test_recordings_are_measured_by_what_is_written_beside_them(
    evaluate: Callable[..., tuple[dict[str, Any], str]], tmp_path: Path
) -> None:
    phases = np.repeat(np.eye(3), [15, 20, 15], axis=0) * 0.97 + 0.01
    content = {"labels": CLASSES, "scores": phases.tolist(), "frames": 4, "height": 32, "width": 32}
    (tmp_path / "known.scores.json").write_text(json.dumps(content), encoding="utf-8")
    video = write_video(tmp_path / "film.mp4", [picture(0)] * 50, fps=10)
    write_lines(tmp_path / "film.csv", "label,start_s,end_s", "jump,0,1.5", "run,1.5,3.5", "walk,3.5,5")
    figures, _ = evaluate(
        "stream", str(tmp_path / "known.scores.json"), "--video", str(video), "--set", "events.background=[jump]"
    )
    assert figures["f1"] == 1
    assert figures["frame_accuracy"] == 1
    assert 0.3 <= figures["median_delay_s"] <= 0.6
    assert figures["minutes"] == pytest.approx(5 / 60)


def test_a_training_checkpoint_runs_as_a_stream(
    checkpoint: Callable[..., Path], evaluate: Callable[..., tuple[dict[str, Any], str]]
) -> None:
    weights = checkpoint(mode="stream", labels=LABELS)
    figures, _ = evaluate("stream", str(weights), "--minutes", "0.2")
    assert 0 <= figures["frame_accuracy"] <= 1


# --------------------------------------------------------------------------------------------------------- bad input


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    """Runs a command that must be refused in one line; the line."""
    assert main(arguments) == code
    said = capsys.readouterr().err
    assert said.startswith("evaluate: ")
    assert said.count("\n") == 1
    return said


def test_labels_that_are_not_the_models_are_named(
    films: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, *clips(films, script("other", 0.5, 0.5, labels=("jump", "fly"))))
    assert "only in the model 'fly'" in said


def test_models_with_other_labels_are_no_ensemble(
    films: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    first, swapped = script("first", 0.8, 0.1, 0.1), script("swapped", 0.8, 0.1, 0.1, labels=("jump", "walk", "run"))
    fewer = script("fewer", 0.8, 0.2, labels=("jump", "run"))
    assert "label 1 is 'run' in first and 'walk' in swapped" in refused(capsys, *clips(films, first, swapped))
    assert "label 2 is 'walk' in first and None in fewer" in refused(capsys, *clips(films, first, fewer))


def test_every_model_of_an_ensemble_needs_a_weight(
    films: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, *clips(films, script("first", 0.8, 0.1, 0.1)), "--weights", "1", "2")
    assert "--weights: there are 2 for 1 models" in said


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "weights.pt: does not match its sidecar"),
        (lambda path: path.unlink(), "weights.pt: no such model file"),
        (lambda path: path.with_suffix(".json").write_bytes(b'{"network": "tsm'), "weights.json: is not a model's"),
        (lambda path: path.with_suffix(".json").unlink(), "its sidecar weights.json is missing"),
    ],
)
def test_a_corrupt_checkpoint_is_refused(
    films: Path,
    checkpoint: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], Any],
    message: str,
) -> None:
    path = checkpoint()
    damage(path)
    assert message in refused(capsys, *clips(films, str(path)), code=4)


def test_weights_of_another_network_are_refused_in_one_line(
    films: Path, checkpoint: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint()
    torch.save({"stranger": torch.zeros(1)}, path)
    spec = read_spec(path)
    spec = msgspec.structs.replace(spec, files={path.name: sha256(path)})
    path.with_suffix(".json").write_bytes(msgspec.json.encode(spec))
    assert "weights.pt: is not the state dict of tsm" in refused(capsys, *clips(films, str(path)), code=4)


def test_weights_that_are_not_finite_are_told(
    films: Path, checkpoint: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, *clips(films, str(checkpoint(bias=np.nan))))
    assert "weights gives scores that are not finite" in said


def test_a_stream_of_scores_that_are_not_finite_is_told(
    checkpoint: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    broken = str(checkpoint(bias=np.nan, mode="stream", labels=LABELS))
    assert "not finite" in refused(capsys, "stream", broken, "--minutes", "0.2", code=1)
    assert "not finite" in refused(capsys, "synthetic", broken, "--clips", "80")


def test_a_set_without_a_readable_video_is_refused(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in CLASSES:
        (tmp_path / "train" / label).mkdir(parents=True)
        write_lines(tmp_path / "validation" / label / "text.mp4", "no video")
    said = refused(capsys, *clips(tmp_path, script("first", 0.8, 0.1, 0.1)))
    assert "none of the 3 videos can be read; the first: " in said


@pytest.mark.parametrize("command", [["synthetic"], ["stream"]])
def test_drawn_motions_need_a_model_that_knows_them(
    command: list[str], script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, *command, script("first", 0.8, 0.1, 0.1))
    assert "first has no label 'still', so drawn motions cannot measure it; it knows jump, run, walk" in said


def test_a_model_a_configuration_and_a_recording_that_do_not_exist_are_told(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no model is called 'nobody'" in refused(capsys, "stream", "nobody", code=4)
    model = script("first", 0.8, 0.1, 0.1)
    missing = str(tmp_path / "missing")
    assert "missing.csv: cannot be read" in refused(capsys, "stream", model, "--video", f"{missing}.mp4")
    assert "missing.yaml cannot be read" in refused(capsys, "stream", model, "-c", f"{missing}.yaml")
    write_lines(tmp_path / "missing.csv", "label,start_s,end_s", "jump,0,1")
    assert "missing.mp4" in refused(capsys, "stream", model, "--video", f"{missing}.mp4", code=3)


def test_figures_that_cannot_be_written_say_where(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = write_video(tmp_path / "film.mp4", 6)
    write_lines(tmp_path / "film.csv", "label,start_s,end_s", "jump,0,1")
    stream = ("stream", script("first", 0.8, 0.1, 0.1), "--video", str(video))
    nowhere = str(tmp_path / "no_such_folder" / "figures")
    assert "no_such_folder" in refused(capsys, *stream, "--json", f"{nowhere}.json")
    assert "no_such_folder" in refused(capsys, *stream, "--confusion", f"{nowhere}.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clips", "default", "--data", "folders"], "'folders' is not LAYOUT:FOLDER; layouts are something-v1"),
        (["clips", "default", "--data", "folders:x", "--protocol", "3x3"], "invalid choice: '3x3'"),
        (["clips", "default", "--data", "folders:x", "--resize", "240"], "'240' is not HEIGHTxWIDTH"),
        (["clips", "default", "--data", "folders:x", "--weights", "0"], "0 is not above 0"),
        (["stream", "default", "--minutes", "-1"], "-1 is not above 0"),
        (["synthetic", "default", "--clips", "many"], "invalid int value: 'many'"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err
