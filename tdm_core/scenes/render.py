"""A scene drawn: 96 x 96 pixels, antialiased emoji on a 3 x 3 lattice with a small jitter.

A cell is 32 px, a glyph 26 px, its tile (where the caption asks for one) a rounded square of 30 px.  The cells fall
on the token grid of the mini models (16 px a token), which makes the world learnable in minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tdm_core.scenes.grammar import CANVASES, KINDS, TILES, Relation, Scene

CELLS = 3
CELL_PX = 32
SIZE_PX = CELLS * CELL_PX
GLYPH_PX = 26
TILE_PX = 30
TILE_RADIUS_PX = 9
JITTER_PX = 2

SHEET = Path(__file__).parents[2] / "assets" / "scenes" / "sprites.png"
SHEET_COLUMNS = 5
SPRITE_PX = 128

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Placed:
    """One object with the pixel of its centre (x to the right, y down)."""

    kind: str
    tile: str | None
    x: int
    y: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A scene with every choice made that its caption leaves open."""

    objects: tuple[Placed, ...]
    canvas: str


def layout(scene: Scene, rng: Generator) -> Layout:
    """Draw the cells, the jitter and, where the caption leaves it open, the canvas.

    Raises:
        ValueError: if the scene has more objects than the lattice has cells.
    """
    if scene.num_objects > CELLS**2:
        raise ValueError(f"{scene.num_objects} objects do not fit on {CELLS**2} cells")
    cells = _related_cells(scene.relation, rng) if scene.relation else rng.permutation(CELLS**2).tolist()
    names = [(group.kind, group.tile) for group in scene.groups for _ in range(group.count)]
    placed = []
    for (kind, tile), cell in zip(names, cells, strict=False):
        row, column = divmod(cell, CELLS)
        dx, dy = _jitter(rng), _jitter(rng)
        centre = CELL_PX // 2
        placed.append(Placed(kind=kind, tile=tile, x=column * CELL_PX + centre + dx, y=row * CELL_PX + centre + dy))
    canvas = scene.canvas or tuple(CANVASES)[rng.integers(len(CANVASES))]
    return Layout(objects=tuple(placed), canvas=canvas)


def _jitter(rng: Generator) -> int:
    return int(rng.integers(-JITTER_PX, JITTER_PX + 1))


def _related_cells(relation: Relation, rng: Generator) -> list[int]:
    choices = _CELLS_IN_RELATION[relation]
    return list(choices[rng.integers(len(choices))])


def _holds(relation: Relation, first: int, second: int) -> bool:
    """Whether the relation is plain to see: the offset along it is longer than the offset across."""
    (y1, x1), (y2, x2) = divmod(first, CELLS), divmod(second, CELLS)
    along, across = {
        Relation.LEFT_OF: (x2 - x1, y2 - y1),
        Relation.RIGHT_OF: (x1 - x2, y2 - y1),
        Relation.ABOVE: (y2 - y1, x2 - x1),
        Relation.BELOW: (y1 - y2, x2 - x1),
    }[relation]
    return along > abs(across)


_CELLS_IN_RELATION = {
    relation: [(a, b) for a in range(CELLS**2) for b in range(CELLS**2) if _holds(relation, a, b)]
    for relation in Relation
}


@cache
def large_glyphs() -> dict[str, NDArray[np.float32]]:
    """The glyph of every kind as the sheet has it: [128, 128, 4] in 0..1, colour premultiplied by alpha."""
    sheet = np.asarray(Image.open(SHEET).convert("RGBA"), dtype=np.float32) / np.float32(255)
    sheet[..., :3] *= sheet[..., 3:]  # premultiplied, or a resize would bleed the colour of clear pixels
    places = {kind: divmod(index, SHEET_COLUMNS) for index, kind in enumerate(KINDS)}
    return {
        kind: sheet[row * SPRITE_PX :, column * SPRITE_PX :][:SPRITE_PX, :SPRITE_PX]
        for kind, (row, column) in places.items()
    }


@cache
def glyphs() -> dict[str, NDArray[np.float32]]:
    """The glyph of every kind at the world's size: [26, 26, 4] in 0..1, colour premultiplied by alpha."""
    sprites: dict[str, NDArray[np.float32]] = {}
    for kind, large in large_glyphs().items():
        planes = [Image.fromarray(large[..., c]).resize((GLYPH_PX, GLYPH_PX), Image.Resampling.BOX) for c in range(4)]
        sprites[kind] = np.stack([np.array(plane, np.float32) for plane in planes], axis=-1).clip(0, 1)
    return sprites


@cache
def rounded_square(side_px: int) -> NDArray[np.float32]:
    """Alpha of a square with a tile's corners, cut to ``side_px``: [side, side] in 0..1, antialiased."""
    scale, inset = 8, (TILE_PX - side_px) / 2
    mask = Image.new("L", (side_px * scale, side_px * scale))
    corners = (0, 0, *(2 * [side_px * scale - 1]))
    ImageDraw.Draw(mask).rounded_rectangle(corners, (TILE_RADIUS_PX - inset) * scale, fill=255)
    small = np.array(mask.resize((side_px, side_px), Image.Resampling.BOX), dtype=np.float32)
    return small / np.float32(255)


def tile_mask() -> NDArray[np.float32]:
    """Alpha of the tile: [30, 30] in 0..1, antialiased."""
    return rounded_square(TILE_PX)


@dataclass(frozen=True)
class Sprite:
    """What it lets through and what it lays over, each [side, side x 3]: rows of one length blend several times faster.

    ``ink`` is in 0..255 and carries its share of the 0.5 that rounds the picture at the end.
    """

    clear: NDArray[np.float32]
    ink: NDArray[np.float32]

    @classmethod
    def of(cls, rgba: NDArray[np.float32]) -> Sprite:
        side, alpha = len(rgba), rgba[..., 3:]
        ink = rgba[..., :3] * np.float32(255) + alpha * np.float32(0.5)
        return cls(np.repeat(1 - alpha, 3, axis=-1).reshape(side, -1), ink.reshape(side, -1))


@cache
def _sprites() -> dict[str, Sprite]:
    """By name, kinds and tile colours alike."""
    alpha = tile_mask()[..., None]
    tiles = {
        name: np.concatenate([alpha * np.array(rgb, np.float32) / 255, alpha], axis=-1) for name, rgb in TILES.items()
    }
    return {name: Sprite.of(rgba) for name, rgba in (tiles | glyphs()).items()}


@cache
def canvas_rows(name: str, size_px: int) -> NDArray[np.float32]:
    """A canvas to blend on: [size, size x 3] in 0..255, plus the 0.5 that rounds the picture at the end."""
    return np.tile(np.array(CANVASES[name], np.float32) + np.float32(0.5), (size_px, size_px))


def draw(scene: Layout, size_px: int = SIZE_PX) -> Pixels:
    """The picture of a layout: uint8 [size, size, 3]."""
    rows = canvas_rows(scene.canvas, size_px).copy()
    for item in scene.objects:  # all tiles first: a jittered tile must not cover a neighbour's glyph
        if item.tile is not None:
            blend(rows, _sprites()[item.tile], item.x, item.y)
    for item in scene.objects:
        blend(rows, _sprites()[item.kind], item.x, item.y)
    return rows.astype(np.uint8).reshape(size_px, size_px, 3)


def blend(rows: NDArray[np.float32], sprite: Sprite, x: int, y: int) -> None:
    """Lay a sprite over the pixels, [size, size x 3], centred on (x, y), clipped at the border."""
    side, limit = len(sprite.ink), len(rows)
    left, top = x - side // 2, y - side // 2
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, limit), min(top + side, limit)
    part = slice(y0 - top, y1 - top), slice(3 * (x0 - left), 3 * (x1 - left))
    region = rows[y0:y1, 3 * x0 : 3 * x1]
    region *= sprite.clear[part]
    region += sprite.ink[part]


def render(scene: Scene, rng: Generator) -> Pixels:
    """A random picture of the scene: uint8 [96, 96, 3]."""
    return draw(layout(scene, rng))
