"""What is to be seen in a picture, from pixels only: glyphs (``matching.py``), the tile under each, the canvas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tdm_core.scenes.colors import color_name, to_lab
from tdm_core.scenes.grammar import CANVASES, TILES
from tdm_core.scenes.matching import Place, around, best_places
from tdm_core.scenes.render import GLYPH_PX, TILE_PX, Pixels, glyphs, tile_mask


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Every number that the scorer's strictness depends on; how they were chosen: ``docs/log.md``."""

    noticed: float = 0.3  # a fainter glyph is not even reported
    found: float = 0.5  # GenEval's looser threshold, for everything but counting
    counted: float = 0.6  # GenEval's stricter threshold: an object that counts
    softness_px: float = 1.0  # standard deviation of the blur before the comparison
    apart_px: int = 14  # two objects are further apart than this; in a true picture it is 28 at least
    tile_reject: float = 15.0  # Lab; 50/50 mixes of a tile and a canvas are 15 and more from every tile
    canvas_reject: float = 9.0  # Lab; the nearest canvases are 9.6 apart
    relation_margin: float = 0.1  # GenEval: share of the boxes' sizes taken off the offset of their centres
    relation_share: float = 0.5  # GenEval: of the offset's length that must lie along the relation


THRESHOLDS = Thresholds()


@dataclass(frozen=True, kw_only=True)
class Detection:
    """A glyph with its centre (pixels; x to the right, y down) and the tile that it stands on, if any."""

    kind: str
    x: int
    y: int
    confidence: float
    tile: str | None


def detect(pixels: Pixels, thresholds: Thresholds = THRESHOLDS) -> list[Detection]:
    """The glyphs of a picture, the surest first; down to ``thresholds.noticed``, so callers apply their own.

    Args:
        pixels: uint8 [H, W, 3], 48 px or more each way; glyphs at the world's own size, wholly inside.
    """
    places = best_places(
        pixels, softness_px=thresholds.softness_px, apart_px=thresholds.apart_px, least=thresholds.noticed
    )
    canvas = _canvas_rgb(pixels, places)
    found = [
        Detection(
            kind=place.kind,
            x=place.x,
            y=place.y,
            confidence=place.confidence,
            tile=_tile_color(pixels, place, canvas, thresholds.tile_reject),
        )
        for place in places
    ]
    return sorted(found, key=lambda detection: -detection.confidence)


def canvas_color(pixels: Pixels, detections: Sequence[Detection], thresholds: Thresholds = THRESHOLDS) -> str | None:
    """The canvas that shows between the objects; None if it is not one of the eight."""
    return color_name(_canvas_rgb(pixels, detections), CANVASES, thresholds.canvas_reject)


_RING_PIXELS = 32


@cache
def _ring(kind: str) -> NDArray[np.bool_]:
    """Where a tile shows: 2 px or more from glyph and rim, or the 32 px that are furthest from both, [30, 30]."""
    alpha = np.pad(glyphs()[kind][..., 3], (TILE_PX - GLYPH_PX) // 2)
    inside = np.pad(tile_mask() > 0.99, 1)  # the picture goes on where the tile's array ends
    depth = np.minimum(ndimage.distance_transform_edt(alpha < 0.02), ndimage.distance_transform_edt(inside)[1:-1, 1:-1])
    return depth >= min(2.0, np.sort(depth, axis=None)[-_RING_PIXELS])


def _tile_color(pixels: Pixels, place: Place, canvas: NDArray[np.float64], reject_distance: float) -> str | None:
    """The tile under a glyph; None where its ring looks like the canvas, or like none of the eight."""
    half = TILE_PX // 2
    rows = np.arange(place.y - half, place.y + half).clip(0, pixels.shape[0] - 1)
    columns = np.arange(place.x - half, place.x + half).clip(0, pixels.shape[1] - 1)
    ring = np.median(pixels[np.ix_(rows, columns)][_ring(place.kind)], axis=0)
    if np.linalg.norm(to_lab(ring) - to_lab(canvas)) < reject_distance:
        return None
    return color_name(ring, TILES, reject_distance)


def _canvas_rgb(pixels: Pixels, objects: Sequence[Place | Detection]) -> NDArray[np.float64]:
    """The median colour outside all tiles: [3] in 0..255."""
    free = np.ones(pixels.shape[:2], dtype=bool)
    for item in objects:
        around(free, item.y, item.x, TILE_PX // 2 + 2)[:] = False
    return np.median(pixels[free] if free.any() else pixels.reshape(-1, 3), axis=0)
