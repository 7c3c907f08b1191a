"""A moving scene drawn: 9 frames of 64 x 64 pixels, glyphs of 26 px that move by parts of a pixel.

Glyphs are drawn from the large sprites by area, so that a glyph between pixels is as sharp as one on them.  Every
object stays wholly inside, and two keep so far apart that at most the corners of their boxes overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from tdm_core.scenes.grammar import CANVASES
from tdm_core.scenes.moving.grammar import Clip, Motion, Speed
from tdm_core.scenes.render import GLYPH_PX, SPRITE_PX, Sprite, blend, canvas_rows, large_glyphs

NUM_FRAMES = 9
SIZE_PX = 64
PX_PER_FRAME = {Speed.SLOW: 1.25, Speed.MEDIUM: 2.5, Speed.FAST: 4.0}
APART_PX = 24  # least distance of two centres, along x or along y
PARTS = 8  # positions are drawn to this part of a pixel
_LEAST_PX, _MOST_PX = GLYPH_PX / 2, SIZE_PX - GLYPH_PX / 2  # for the centre of a glyph

Floats = NDArray[np.float64]
Frames = NDArray[np.uint8]
"""uint8 [F, H, W, 3]."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """One object's way: its centre in the first frame and its velocity, in pixels (x to the right, y down)."""

    kind: str
    start: tuple[float, float]
    velocity: tuple[float, float]

    def at(self, frame: int) -> tuple[float, float]:
        (x, y), (dx, dy) = self.start, self.velocity
        return x + frame * dx, y + frame * dy


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A clip with every choice made that its caption leaves open."""

    courses: tuple[Course, ...]
    canvas: str


def velocity(motion: Motion | None) -> tuple[float, float]:
    """Pixels per frame."""
    if motion is None:
        return 0.0, 0.0
    (x, y), speed = motion.direction.unit, PX_PER_FRAME[motion.speed]
    return x * speed, y * speed


def layout(clip: Clip, rng: Generator) -> Layout:
    """Draw where the objects start and, where the caption leaves it open, the canvas.

    Raises:
        ValueError: if objects with these motions do not fit into one picture.
    """
    motions = tuple(mover.motion for mover in clip.movers)
    for _ in range(20):
        starts, valid = _starts(motions, 256, rng)
        if valid.any():
            break
    else:
        raise ValueError(f"no room for motions {motions} in one picture")
    chosen = starts[valid.argmax()].tolist()
    courses = tuple(
        Course(kind=mover.kind, start=(x, y), velocity=velocity(mover.motion))
        for mover, (x, y) in zip(clip.movers, chosen, strict=True)
    )
    return Layout(courses=courses, canvas=clip.canvas or tuple(CANVASES)[rng.integers(len(CANVASES))])


@cache
def room(*motions: Motion | None) -> float:
    """The share of all places inside the picture from which objects with these motions never meet."""
    return float(_starts(motions, 4096, np.random.default_rng(0))[1].mean())


def _starts(motions: tuple[Motion | None, ...], n: int, rng: Generator) -> tuple[Floats, NDArray[np.bool_]]:
    """``n`` random starts inside the picture, [n, objects, 2], and whether the objects keep apart from there."""
    per_frame = np.array([velocity(motion) for motion in motions])
    travel = per_frame * (NUM_FRAMES - 1)
    low, high = _LEAST_PX - np.minimum(travel, 0), _MOST_PX - np.maximum(travel, 0)
    starts = rng.uniform(low, high, size=(n, *travel.shape))
    if len(motions) == 1:
        return starts, np.ones(n, dtype=bool)
    frames = np.arange(NUM_FRAMES)[:, None]
    offsets = (starts[:, 1] - starts[:, 0])[:, None] + frames * (per_frame[1] - per_frame[0])
    return starts, (np.abs(offsets).max(axis=-1) >= APART_PX).all(axis=-1)


def draw(scene: Layout, num_frames: int = NUM_FRAMES) -> Frames:
    """The frames of a layout: uint8 [F, 64, 64, 3]."""
    return np.stack([_draw_frame(scene, frame) for frame in range(num_frames)])


def _draw_frame(scene: Layout, frame: int) -> NDArray[np.uint8]:
    rows = canvas_rows(scene.canvas, SIZE_PX).copy()
    for course in scene.courses:
        stamp(rows, course.kind, *course.at(frame))
    return rows.astype(np.uint8).reshape(SIZE_PX, SIZE_PX, 3)


def stamp(rows: NDArray[np.float32], kind: str, x: float, y: float) -> None:
    """Lay a glyph over the pixels, [size, size x 3], centred on (x, y) to an eighth of a pixel."""
    right, down = round(x * PARTS), round(y * PARTS)
    blend(rows, _sprite(kind, right % PARTS, down % PARTS), right // PARTS, down // PARTS)


@cache
def _sprite(kind: str, right: int, down: int) -> Sprite:
    """A glyph some parts of a pixel further right and down, 27 px wide."""
    return Sprite.of(
        np.einsum("ya,xb,abc->yxc", _coverage(down), _coverage(right), large_glyphs()[kind], optimize=True)
    )


@cache
def _coverage(parts: int) -> NDArray[np.float32]:
    """How much of each of 27 pixels each of the sprite's 128 pixels covers, [27, 128]."""
    edges = parts / PARTS + np.linspace(0, GLYPH_PX, SPRITE_PX + 1)
    pixels = np.arange(GLYPH_PX + 1)[:, None]
    return np.clip(np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels), 0, None).astype(np.float32)


def render(clip: Clip, rng: Generator) -> Frames:
    """A random true clip: uint8 [9, 64, 64, 3]."""
    return draw(layout(clip, rng))
