"""Where an object is in every frame of a clip: the still world's template matching, refined to parts of a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tdm_core.scenes.detect import THRESHOLDS
from tdm_core.scenes.grammar import KINDS
from tdm_core.scenes.matching import Floats, Place, place_of, residuals
from tdm_core.scenes.moving.render import Frames

_KINDS = tuple(KINDS)


@dataclass(frozen=True, kw_only=True)
class Track:
    """One kind's way through a clip.

    Attributes:
        points: its centre in each frame, [F, 2] in pixels (x to the right, y down); straight on where it is lost.
        found: the frames in which it is to be seen, [F].
    """

    kind: str
    points: NDArray[np.float64]
    found: NDArray[np.bool_]

    @property
    def displacement(self) -> NDArray[np.float64] | None:
        """From the first frame to the last, [2]; None if it is lost in either."""
        return self.points[-1] - self.points[0] if self.found[[0, -1]].all() else None

    @property
    def line(self) -> NDArray[np.float64]:
        """The steady motion nearest to the track, by least squares over the frames in which it is seen, [F, 2]."""
        frames = np.arange(len(self.points))
        if self.found.sum() < 2:
            return self.points
        slope, start = np.polyfit(frames[self.found], self.points[self.found], 1)
        return start + frames[:, None] * slope


def track(frames: Frames, kinds: Sequence[str]) -> list[Track]:
    """Follow the best match of each kind through the frames, uint8 [F, H, W, 3], 48 px or more each way."""
    places = [
        [_place(*maps, kind) for kind in kinds] for maps in (residuals(f, THRESHOLDS.softness_px) for f in frames)
    ]
    return [_track(kind, [row[i] for row in places]) for i, kind in enumerate(kinds)]


def _track(kind: str, places: Sequence[tuple[Place, float, float]]) -> Track:
    found = np.array([place.confidence >= THRESHOLDS.found for place, _, _ in places])
    points = np.array([(x, y) for _, x, y in places])
    if found.any():
        frames = np.arange(len(points))
        for axis in (0, 1):
            points[:, axis] = np.interp(frames, frames[found], points[found, axis])
    return Track(kind=kind, points=points, found=found)


def _place(with_glyph: Floats, flat: Floats, kind: str) -> tuple[Place, float, float]:
    """The best place of a kind in one frame, and its centre to parts of a pixel."""
    error = with_glyph[_KINDS.index(kind)]
    y, x = divmod(int((error / flat).argmin()), error.shape[1])
    place = place_of(kind, with_glyph, flat, y, x)
    return place, place.x + _vertex(error[y], x), place.y + _vertex(error[:, x], y)


def _vertex(errors: Floats, index: int) -> float:
    """How far from the index the parabola through it and its neighbours has its least value, within half a pixel."""
    if not 0 < index < len(errors) - 1:
        return 0.0
    before, here, after = errors[index - 1 : index + 2].astype(np.float64)
    bend = before - 2 * here + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend > 0 else 0.0
