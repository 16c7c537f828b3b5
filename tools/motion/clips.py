"""Labelled clips of a known motion, made on the fly: what the default model learns from.

    python -m tools.motion.clips --preview sheet.png     draws one row of frames for each label

A clip is a scene and, before it, sprites: an object (or a group) that moves, a small thing that hardly does, something
near that hides a part. Either the object moves before a still scene or the whole picture does; a label says how the
moving content moves as a viewer sees it. Then come the faults of cameras. Drawn with numpy and OpenCV, laid out with
torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from engines.training.feed import IGNORE
from tools.motion import textures as draw
from tools.motion.paths import (
    CLOCKWISE,
    COUNTERCLOCKWISE,
    LABELS,
    SHAKING,
    SPINS,
    Doubles,
    Rng,
    draw_path,
    draw_plan,
)

_CHANCES = [0.0925] * SHAKING + [0.1675]  # of the first motion: a shaking takes longer to see, so labels fewer frames

# ------------------------------------------------------------------------------------------------ what is in a clip


@dataclass
class _Clip:
    """One clip before it is rendered; poses are [T, 4].

    scene    the background, [S, S, 3], which covers the picture `span` times, so that a camera can move
    camera   the scene's poses
    sprites  what is before it, the farthest first, each with its poses
    labels   [T]
    """

    scene: draw.Floats
    span: float
    camera: Doubles
    sprites: list[tuple[draw.Floats, Doubles]]
    labels: NDArray[np.int64]


def _still(frames: int, x: float = 0, y: float = 0, radius: float = 1) -> Doubles:
    return np.tile(np.array([x, y, np.log(radius), 0]), (frames, 1))


def _compose_camera(rng: Rng, frames: int, size: int, fps: float, motions: int, first: int) -> _Clip:
    """The whole picture moves, and everything in it."""
    path = draw_path(rng, draw_plan(rng, frames, motions, first), fps, 1.0, 2.5)
    span = 1.5
    big = int(size * span)
    for _ in range(8):
        scene = draw.room(rng, big) if rng.random() < 0.5 else draw.texture(rng, big)
        for _ in range(rng.integers(0, 5)):
            draw.paste(scene, draw.sprite(rng, int(big * rng.uniform(0.1, 0.5))), rng.uniform(0.15, 0.85, 2) * big)
        if draw.structure(scene) > 0.0025:
            break
    poses = _seen_from_the_middle(path.poses - [0, 0, (path.poses[:, 2].min() + path.poses[:, 2].max()) / 2, 0])
    return _Clip(scene, span, poses, [], path.labels)


def _seen_from_the_middle(poses: Doubles) -> Doubles:
    """The same motions of a picture, [T, 4], each turn and zoom about the middle of the frame.

    About the picture's own middle, which may have left the frame, they would look like a movement along a line.
    """
    steps = np.diff(poses, axis=0)
    places = [complex(*poses[0, :2])]
    for x, y, growth, turn in steps:
        places.append(places[-1] * np.exp(growth + 1j * turn) + complex(x, y))
    return np.column_stack([np.real(places), np.imag(places), poses[:, 2:]])


def _compose_object(rng: Rng, frames: int, size: int, fps: float, motions: int, first: int) -> _Clip:
    """An object, or a group, moves before a still scene."""
    plan = draw_plan(rng, frames, motions, first)
    planned = {motion.label for motion in plan}
    spins = not planned.isdisjoint(SPINS)
    radius = np.exp(rng.uniform(np.log(0.3 if spins else 0.14), np.log(0.65)))
    path = draw_path(rng, plan, fps, radius, rng.uniform(0.5, 1.7))
    low, high = path.poses.min(axis=0), path.poses.max(axis=0)
    slack = np.maximum(0.1, (0.9 - 0.5 * radius if spins else 0.8) - (high - low)[:2] / 2)
    place = rng.uniform(-slack, slack)
    if not spins and rng.random() < 0.15:  # at the rim of the picture
        place += rng.uniform(-0.7, 0.7, 2)
    poses = path.poses - (low + high) / 2 * [1, 1, 1, 0] + [*place, np.log(radius), 0]
    spun = np.isin(path.labels, SPINS)
    limit = np.where(spun, 1 - 0.3 * radius, 1 + 0.3 * radius)  # half of a thing that turns looks as if it moved
    out = np.abs(poses[:, :2]).max(axis=1) > limit
    size_now = np.exp(poses[:, 2])
    tiny = size_now < np.where(spun, 0.2, 0.08)
    labels = np.where(out | tiny | (size_now > 2), IGNORE, path.labels)
    scene = (draw.room, draw.texture, draw.plain)[rng.choice(3, p=[0.5, 0.3, 0.2])](rng, size)
    turns = not planned.isdisjoint((CLOCKWISE, COUNTERCLOCKWISE))
    surface = draw.texture if turns or rng.random() < 0.6 else draw.plain
    shapes = int(rng.integers(2, 4)) if rng.random() < 0.2 else 1
    thing = draw.sprite(rng, size, shapes, surface)
    for _ in range(4):
        if draw.contrast(thing, scene) > 0.15:
            break
        thing = draw.sprite(rng, size, shapes, surface)
    return _Clip(scene, 1.0, _still(frames), [(thing, poses)], labels)


def _compose(rng: Rng, frames: int, size: int, fps: float, motions: int, first: int, whole: float) -> _Clip:
    clip = (_compose_camera if rng.random() < whole else _compose_object)(rng, frames, size, fps, motions, first)
    if rng.random() < 0.2:  # a small thing that hardly moves
        poses = _still(frames, rng.uniform(-0.9, 0.9), rng.uniform(-0.9, 0.9), rng.uniform(0.05, 0.15))
        poses[:, :2] += np.arange(frames)[:, None] * rng.normal(0, 0.002, 2)
        clip.sprites.append((draw.sprite(rng, size // 2), poses))
    if rng.random() < 0.15:  # something near hides a part of the scene
        heading, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.6)
        away = rng.uniform(0.7, 1.2)
        poses = _still(frames, away * np.cos(heading), away * np.sin(heading), radius)
        clip.sprites.append((draw.sprite(rng, size), poses))
    if rng.random() < 0.3:  # a hand-held or shaken camera, much less than a motion
        tremble = rng.normal(0, rng.uniform(0.001, 0.005), (frames, 2)).clip(-0.009, 0.009)
        clip.camera[:, :2] += tremble
        for _, poses in clip.sprites:
            poses[:, :2] += tremble
    if rng.random() < 0.3:  # out of focus, or scaled by software that blurs
        sigma = rng.uniform(0.4, 1.3)
        clip.scene = draw.blurred(clip.scene, sigma)
        clip.sprites = [(draw.blurred(sprite, sigma), poses) for sprite, poses in clip.sprites]
    return clip


# ------------------------------------------------------------------------------------------------------- rendering


def warp(pictures: Tensor, poses: Tensor, size: int, span: float = 1.0, padding: str = "zeros") -> Tensor:
    """Pictures [N, C, S, S] placed by poses [N, T, 4] -> frames [N, T, C, size, size].

    A pose is (x, y, log of the size, angle) in half picture widths; a picture of size 0 covers the frame `span` times.
    """
    x, y, scale, angle = poses.flatten(0, 1)[:, :, None].unbind(1)  # [N*T, 1] each
    inverse = torch.exp(-scale) / span
    cos, sin = inverse * torch.cos(angle), inverse * torch.sin(angle)
    centres = (torch.arange(size, device=poses.device) + 0.5) * (2 / size) - 1  # of the pixels, [S]
    along_x = torch.stack([cos * (centres - x), -sin * (centres - x)], 2)  # [N*T, W, 2], from the frame to the picture
    along_y = torch.stack([sin * (centres - y), cos * (centres - y)], 2)
    grid = along_x[:, None] + along_y[:, :, None]  # [N*T, H, W, 2]; affine_grid takes longer than the sampling
    count, frames = poses.shape[:2]
    repeated = pictures[:, None].expand(-1, frames, -1, -1, -1).flatten(0, 1)
    placed = F.grid_sample(repeated, grid, padding_mode=padding, align_corners=False)
    return torch.unflatten(placed, 0, (count, frames))


def _render(clips: Sequence[_Clip], size: int, shutters: draw.Floats, device: torch.device) -> Tensor:
    """Scenes, then the sprites of each clip in their order -> frames [B, T, 3, H, W], float, about 0..1."""
    frames = len(clips[0].camera)
    video = torch.empty(len(clips), frames, 3, size, size, device=device)
    for row, clip in enumerate(clips):
        scene = torch.from_numpy(clip.scene).to(device).permute(2, 0, 1)[None]
        moments = frames if np.ptp(clip.camera, axis=0).any() else 1  # a still scene is laid out once
        poses = torch.from_numpy(clip.camera[:moments]).float().to(device)
        video[row] = warp(scene, poses[None], size, clip.span, "reflection")[0]
        for sprite, path in clip.sprites:
            shown = _blurred(sprite, path, size, float(shutters[row]), device)
            video[row] *= 1 - shown[:, 3:]
            video[row] += shown[:, :3]
    return video


def _blurred(sprite: draw.Floats, path: Doubles, size: int, shutter: float, device: torch.device) -> Tensor:
    """One sprite along its path -> [T, 4, H, W]; averaged over two moments where the shutter is open for long."""
    picture = torch.from_numpy(sprite).to(device).permute(2, 0, 1)[None]
    poses = torch.from_numpy(path).float().to(device)[None]
    shown = warp(picture, poses, size)[0]
    if shutter > 0:
        earlier = poses - shutter * torch.diff(poses, dim=1, prepend=poses[:, :1])
        shown = (shown + warp(picture, earlier, size)[0]) / 2
    return shown


# ---------------------------------------------------------------------------------------------- faults of cameras


def _light(rng: Rng, frames: int) -> draw.Floats:
    """Brightness over time, [T]: steady, mains flicker, an exposure that hunts, or a lamp that is switched."""
    time = np.arange(frames)
    steady = np.ones(frames)
    flicker = 1 + rng.uniform(0.01, 0.12) * np.sin(rng.uniform(0.3, 3.1) * time + rng.uniform(0, 6.3))
    hunting = 1 + rng.normal(0, 0.25) * np.clip((time - rng.uniform(0, frames)) / rng.uniform(1, frames), 0, 1)
    switched = np.where(time < rng.integers(1, frames), 1, rng.uniform(0.6, 1.5))
    restless = 1 + rng.normal(0, rng.uniform(0.005, 0.04), frames)
    kinds = (steady, flicker, hunting, switched, restless)
    return np.asarray(kinds[rng.choice(5, p=[0.45, 0.15, 0.2, 0.05, 0.15])], np.float32)


def _compress(clip: Tensor, step: float) -> None:
    """Round the 8x8 cosine coefficients of a clip [T, 3, H, W], in place, the finer the coarser, as JPEG does."""
    index = torch.arange(8, device=clip.device, dtype=torch.float32)
    norms = torch.where(index == 0, 0.125, 0.25).sqrt()
    basis = norms[:, None] * torch.cos(torch.pi / 8 * (index + 0.5) * index[:, None])
    width = step * (1 + index + index[:, None])
    blocks = clip.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)  # [T, 3, H/8, W/8, 8, 8]
    coefficients = torch.round(basis @ blocks @ basis.T / width) * width
    clip.copy_((basis.T @ coefficients @ basis).transpose(3, 4).flatten(4, 5).flatten(2, 3))


def _degrade(rng: Rng, video: Tensor) -> None:
    """Light, noise, compression and repeated frames, in place; video [B, T, 3, H, W] float."""
    batch, frames, _, height, width = video.shape
    light = np.stack([_light(rng, frames) for _ in range(batch)])
    video *= torch.from_numpy(light).to(video.device)[:, :, None, None, None]
    pixels = 3 * height * width
    grain = torch.from_numpy(rng.standard_normal(5 * pixels, np.float32)).to(video.device)
    for clip in video:
        strength = max(0.004, rng.uniform(-0.02, 0.05))
        starts = rng.integers(0, 4 * pixels, frames)  # cut from one sheet: drawing noise for each frame takes too long
        for frame, start in zip(clip, starts, strict=True):
            frame.add_(grain[start : start + pixels].view(3, height, width), alpha=strength)
        if rng.random() < 0.15:
            _compress(clip, rng.uniform(0.01, 0.05))
        if rng.random() < 0.3:  # a source that repeats a frame and then catches up
            for index in 1 + np.flatnonzero(rng.random(frames - 1) < 0.08):
                clip[index] = clip[index - 1]


# --------------------------------------------------------------------------------------------------------- for use


def motion_clips(
    batch: int,
    frames: int,
    size: int,
    seed: int | Sequence[int],
    fps: float = 10.0,
    motions: int = 3,
    only: int | None = None,
    whole: float = 0.4,
    device: str | torch.device = "cpu",
) -> tuple[Tensor, Tensor]:
    """Clips [B, T, 3, size, size] uint8 RGB, and labels [B, T] int64: numbers of LABELS, or IGNORE.

    size     pixels, a multiple of 8
    frames   T, at least 8
    seed     the same arguments give the same clips
    fps      frames per second; motions keep their speed per second
    motions  the most successive motions in one clip
    only     the label of each clip's first motion (default: any)
    whole    share of clips in which the whole picture moves

    Raises ValueError for a size or a count that it cannot make.
    """
    if size % 8 or size < 16 or frames < 8 or batch < 1 or motions < 1:
        raise ValueError(
            "size must be a multiple of 8, frames at least 8, batch and motions at least 1: "
            f"got {size=}, {frames=}, {batch=}, {motions=}"
        )
    rng = np.random.default_rng(seed)
    firsts = rng.choice(len(LABELS), batch, p=_CHANCES).tolist() if only is None else [only] * batch
    clips = [_compose(rng, frames, size, fps, motions, first, whole) for first in firsts]
    shutters = rng.uniform(-0.5, 0.5, batch).clip(min=0).astype(np.float32)
    with torch.no_grad():
        video = _render(clips, size, shutters, torch.device(device))
        _degrade(rng, video)
        labels = torch.from_numpy(np.stack([clip.labels for clip in clips])).to(device)
        return video.mul_(255).round_().clamp_(0, 255).to(torch.uint8), labels


def preview(path: FilePath, seed: int = 0, columns: int = 10, clips: int = 2) -> None:
    """Write a contact sheet: for each label `clips` rows of successive frames of 112 px, with the label at the left."""
    rows = []
    for number, label in enumerate(LABELS):
        video, _ = motion_clips(clips, columns, 112, seed + number, motions=1, only=number)
        for clip in video.permute(0, 3, 1, 4, 2).flatten(2, 3).numpy():  # [B, T, 3, H, W] -> [B, H, T * W, 3]
            title = np.full((112, 190, 3), 255, np.uint8)
            words = label.removeprefix("turning ")
            cv2.putText(title, words, (4, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
            rows.append(np.concatenate([title, clip[..., ::-1]], axis=1))
    if not cv2.imwrite(str(path), np.concatenate(rows)):
        raise OSError(f"cannot write the preview {path}: give a path that ends in .png and a folder that exists")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.motion.clips", description="Draw a sheet of synthetic clips."
    )
    parser.add_argument("--preview", type=FilePath, required=True, metavar="SHEET.png")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    preview(options.preview, options.seed)


if __name__ == "__main__":
    main()
