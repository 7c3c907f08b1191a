"""mini-VBench: how well a clip moves, holds together and shows what its caption asks for, judged from pixels only.

A miniature of VBench's dimensions (arXiv:2311.17982), with T2V-CompBench's motion binding (arXiv:2407.14505), for a
world in which every glyph is known; its figures compare with nobody else's.  Quality:

======================= ===========================================================================================
motion_direction        share of objects asked to move whose net displacement is within 45 degrees and 10 % or more
                        of the width; the canvas is plain, so the background's own displacement is zero
dynamic_degree          clips asked to move that do, and static ones that stay: the mean of both shares
temporal_flicker        255 less the mean difference of successive frames; where motion is asked, along the straight
                        line nearest to the track inside the glyph, and outside of all glyphs, equally weighted
subject_consistency     (cosine to the previous frame + cosine to the first) / 2, of the glyph's pixels at its track
background_consistency  the same of the pixels outside of all glyphs
motion_smoothness       one less the track's second differences over its steps; one less the error of every second
                        frame against the blend of its neighbours at their track; equally weighted
imaging_quality         strength of the edges around the glyph over that in a true render, or its inverse if less:
                        a proxy of sharpness, nothing like MUSIQ
======================= ===========================================================================================

Semantics, by the still scorer on the middle frame: ``object``, ``two_objects``, and ``color`` of the canvas.

Each is scaled by a measured floor (a clip of noise; for motion a true clip's first frame, frozen) and ceiling (true
clips), and the total is ``(4 quality + semantics) / 5`` with the dynamic degree at half weight.  Where an object is
not found it has no quality: lost frames count as 0.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tdm_core.scenes.detect import canvas_color, detect
from tdm_core.scenes.grammar import Group, Scene
from tdm_core.scenes.moving.grammar import Clip, Motion, parse
from tdm_core.scenes.moving.render import NUM_FRAMES, Frames, render, stamp, velocity
from tdm_core.scenes.moving.tracking import Track, track
from tdm_core.scenes.render import GLYPH_PX, glyphs
from tdm_core.scenes.scorer import judge
from tdm_core.scenes.suite import Tag

Floats = NDArray[np.float64]

LEAST_MOTION = 0.1  # of the width
LEAST_COSINE = np.cos(np.pi / 4)
SOFTNESS_PX = 1.0  # before pixels are compared along a track
_BOX_PX = GLYPH_PX // 2 + 2

QUALITY = {
    "motion_direction": 1.0,
    "dynamic_degree": 0.5,
    "temporal_flicker": 1.0,
    "subject_consistency": 1.0,
    "background_consistency": 1.0,
    "motion_smoothness": 1.0,
    "imaging_quality": 1.0,
}
"""Dimension -> weight."""
SEMANTICS = ("object", "two_objects", "color")
DIMENSIONS = (*QUALITY, *SEMANTICS)
ANCHORS: dict[str, tuple[float, float]] = {
    "motion_direction": (0.0000, 1.0000),
    "dynamic_degree": (0.5000, 1.0000),
    "temporal_flicker": (0.8790, 0.9985),
    "subject_consistency": (0.0000, 0.9991),
    "background_consistency": (0.0068, 1.0000),
    "motion_smoothness": (0.0000, 0.9811),
    "imaging_quality": (0.0000, 0.9985),
    "object": (0.0000, 1.0000),
    "two_objects": (0.0000, 1.0000),
    "color": (0.0000, 1.0000),
}
"""Dimension -> floor and ceiling, as ``measure_anchors`` measured them over the whole suite."""

Columns = dict[str, float]
"""What one clip contributes: dimensions, ``moves`` or ``stays``, and ``cosine`` and ``speed_ratio`` besides."""


def measure(frames: Frames, clip: Clip | str) -> Columns:
    """Judge one clip, uint8 [F, H, W, 3]; what its caption does not ask about is left out.

    Raises:
        RequestError: if a caption is outside the grammar.
    """
    clip = parse(clip) if isinstance(clip, str) else clip
    tracks = track(frames, [mover.kind for mover in clip.movers])
    asked = [(found, mover.motion) for found, mover in zip(tracks, clip.movers, strict=True)]
    soft = ndimage.gaussian_filter(frames.astype(np.float64) / 255, (0, SOFTNESS_PX, SOFTNESS_PX, 0), mode="nearest")
    free = _free(frames, tracks)
    flicker = _raw_flicker(frames) if clip.is_static else _compensated_flicker(soft, tracks, free)
    columns = {
        "temporal_flicker": flicker,
        "subject_consistency": float(np.mean([_subject_consistency(soft, found) for found in tracks])),
        "background_consistency": _background_consistency(soft, free),
        "motion_smoothness": float(np.mean([_smoothness(soft, found) for found in tracks])),
        "imaging_quality": float(np.mean([_sharpness(frames, free, found) for found in tracks])),
    }
    return columns | _motion(asked, frames.shape[2]) | _semantics(frames[len(frames) // 2], clip)


def _motion(asked: Sequence[tuple[Track, Motion | None]], width: int) -> Columns:
    """Direction, speed, and whether everything moves or stays as asked."""
    columns: dict[str, list[float]] = defaultdict(list)
    obeys = []
    for found, motion in asked:
        step, least = found.displacement, LEAST_MOTION * width
        length = 0.0 if step is None else float(np.linalg.norm(step))
        if motion is None:
            obeys.append(step is not None and _wanders(found) < least)
            continue
        wanted = np.array(velocity(motion)) * (len(found.points) - 1)
        cosine = 0.0 if step is None or not length else float(step @ wanted / length / np.linalg.norm(wanted))
        columns["motion_direction"].append(float(cosine >= LEAST_COSINE and length >= least))
        columns["cosine"].append(cosine)
        columns["speed_ratio"].append(length / float(np.linalg.norm(wanted)))
        obeys.append(step is not None and _wanders(found) >= least)
    means = {name: float(np.mean(values)) for name, values in columns.items()}
    return means | {"moves" if columns else "stays": float(all(obeys))}


def _wanders(found: Track) -> float:
    """The furthest from its first place, in pixels."""
    return float(np.linalg.norm(found.points - found.points[0], axis=-1).max())


def _raw_flicker(frames: Frames) -> float:
    return 1 - float(np.abs(np.diff(frames.astype(np.float64), axis=0)).mean()) / 255


def _compensated_flicker(soft: Floats, tracks: Sequence[Track], free: NDArray[np.bool_]) -> float:
    """Along the tracks' straight lines: along the tracks themselves, frames in any order would do as well."""
    if not all(found.found.any() for found in tracks):
        return 1 - float(np.abs(np.diff(soft, axis=0)).mean())
    inside = []
    for found in tracks:
        mask = _mask(found.kind)
        inside.append(np.abs(np.diff(_patches(soft, found.line), axis=0))[:, mask].mean())
    outside = [np.abs(b - a)[p & q].mean() for (a, b), (p, q) in zip(pairwise(soft), pairwise(free), strict=True)]
    return 1 - float(np.mean(inside) + np.mean(outside)) / 2


def _subject_consistency(soft: Floats, found: Track) -> float:
    colors = _patches(soft, found.points)[:, _mask(found.kind)]
    features = (colors - colors.mean(axis=1, keepdims=True)).reshape(len(soft), -1)
    features[~found.found] = 0
    return _consistency([(features[t], features[0], features[t - 1]) for t in range(1, len(features))])


def _background_consistency(soft: Floats, free: NDArray[np.bool_]) -> float:
    features = 2 * soft - 1
    scores = []
    for t in range(1, len(soft)):
        cosines = []
        for s in (0, t - 1):
            both = free[t] & free[s]
            cosines.append(_cosine(features[t][both].ravel(), features[s][both].ravel()))
        scores.append(max(0.0, sum(cosines) / 2))
    return float(np.mean(scores))


def _consistency(frames: Iterable[tuple[Floats, Floats, Floats]]) -> float:
    """VBench's rule: the mean of the cosines to the first and to the previous frame, clipped at 0."""
    return float(np.mean([max(0.0, (_cosine(now, first) + _cosine(now, last)) / 2) for now, first, last in frames]))


def _cosine(a: Floats, b: Floats) -> float:
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm > 1e-9 else 0.0


def _smoothness(soft: Floats, found: Track) -> float:
    if not found.found.any() or len(soft) < 3:
        return 0.0
    points = found.points
    bend = np.linalg.norm(np.diff(points, n=2, axis=0), axis=-1).mean()
    step = np.linalg.norm(np.diff(points, axis=0), axis=-1).mean()
    steady = max(0.0, 1 - bend / max(step, 1.0))  # a pixel at least: what stands still has no steps
    middle = np.arange(1, len(soft) - 1, 2)
    patches, mask = _patches(soft, points), _mask(found.kind)
    between = _patches(soft[middle], (points[middle - 1] + points[middle + 1]) / 2)
    error = np.abs(between - (patches[middle - 1] + patches[middle + 1]) / 2)[:, mask].mean()
    return float(found.found.mean() * (steady + 1 - error) / 2)


def _sharpness(frames: Frames, free: NDArray[np.bool_], found: Track) -> float:
    """Mean over the frames of the ratio of edge strengths, upside down where it is above 1: noise is not sharpness."""
    scores = []
    for frame, open_pixels, (x, y), seen in zip(frames, free, found.points, found.found, strict=True):
        if not seen:
            scores.append(0.0)
            continue
        canvas = np.median(frame[open_pixels] if open_pixels.any() else frame.reshape(-1, 3), axis=0)
        rows = np.tile(canvas.astype(np.float32) + np.float32(0.5), frame.shape[:2])
        stamp(rows, found.kind, x, y)
        true = rows.astype(np.uint8).reshape(frame.shape)
        box = _box(x, y, GLYPH_PX // 2)
        mine, best = _edges(frame[box]), _edges(true[box])
        scores.append(min(mine, best) / max(mine, best, 1e-9))
    return float(np.mean(scores))


def _edges(pixels: NDArray[np.uint8]) -> float:
    values = pixels.astype(np.float64)
    return float(np.square(np.diff(values, axis=0)).sum() + np.square(np.diff(values, axis=1)).sum()) ** 0.5


def _semantics(frame: NDArray[np.uint8], clip: Clip) -> Columns:
    detections = detect(frame)
    counts = Counter(mover.kind for mover in clip.movers)
    scene = Scene(groups=tuple(Group(kind=kind, count=count) for kind, count in counts.items()))
    single = len(clip.movers) == 1
    passed = judge(detections, scene, Tag.SINGLE_OBJECT if single else Tag.TWO_OBJECT).passed
    columns = {"object" if single else "two_objects": float(passed)}
    if clip.canvas is not None:
        columns["color"] = float(canvas_color(frame, detections) == clip.canvas)
    return columns


def _mask(kind: str) -> NDArray[np.bool_]:
    """The glyph's own pixels, [26, 26]."""
    return glyphs()[kind][..., 3] > 0.5


def _patches(frames: Floats, points: Floats) -> Floats:
    """The glyph's box around a point of each frame, between pixels: [F, H, W, 3], [F, 2] -> [F, 26, 26, 3]."""
    offsets = np.arange(GLYPH_PX) - GLYPH_PX // 2
    patches = []
    for frame, (x, y) in zip(frames, points, strict=True):
        grid = np.meshgrid(y + offsets, x + offsets, indexing="ij")
        channels = [ndimage.map_coordinates(frame[..., c], grid, order=1, mode="nearest") for c in range(3)]
        patches.append(np.stack(channels, axis=-1))
    return np.stack(patches)


def _box(x: float, y: float, half: int) -> tuple[slice, slice]:
    left, top = round(x), round(y)
    return slice(max(top - half, 0), max(top + half, 0)), slice(max(left - half, 0), max(left + half, 0))


def _free(frames: Frames, tracks: Sequence[Track]) -> NDArray[np.bool_]:
    """The pixels of every frame that are outside of all glyphs, [F, H, W]."""
    free = np.ones(frames.shape[:3], dtype=bool)
    for found in tracks:
        for open_pixels, (x, y), seen in zip(free, found.points, found.found, strict=True):
            if seen:
                open_pixels[_box(x, y, _BOX_PX)] = False
    return free


def raw(columns: Sequence[Columns]) -> dict[str, float]:
    """The dimensions of a set of clips, unscaled; one that no clip asks about is left out."""
    means = {
        name: float(np.mean([row[name] for row in columns if name in row])) for name in {k for c in columns for k in c}
    }
    return raw_from_means(means)


def raw_from_means(means: Mapping[str, float]) -> dict[str, float]:
    """The same from the mean of each column; the dynamic degree is that of what should move and what should stay."""
    dynamic = [means[name] for name in ("moves", "stays") if name in means]
    found = dict(means) | ({"dynamic_degree": float(np.mean(dynamic))} if dynamic else {})
    return {name: found[name] for name in DIMENSIONS if name in found}


def scale(found: Mapping[str, float]) -> dict[str, float]:
    """Every dimension between its measured floor, 0, and its ceiling, 1."""
    return {
        name: float(np.clip((v - ANCHORS[name][0]) / (ANCHORS[name][1] - ANCHORS[name][0]), 0, 1))
        for name, v in found.items()
    }


def total(found: Mapping[str, float]) -> float:
    """The one number of a set of clips, from its unscaled dimensions; without one side, the other alone."""
    scaled = scale(found)
    quality = [(scaled[name], weight) for name, weight in QUALITY.items() if name in scaled]
    semantics = [scaled[name] for name in SEMANTICS if name in scaled]
    sides = [(4.0, np.average([v for v, _ in quality], weights=[w for _, w in quality]))] if quality else []
    sides += [(1.0, np.mean(semantics))] if semantics else []
    return float(sum(w * v for w, v in sides) / sum(w for w, _ in sides))


def noise_clip(rng: np.random.Generator, size_px: int) -> Frames:
    """Independent noise in every pixel of every frame."""
    return rng.integers(0, 256, (NUM_FRAMES, size_px, size_px, 3), dtype=np.uint8)


def freeze(frames: Frames) -> Frames:
    """The first frame all along."""
    return np.repeat(frames[:1], len(frames), axis=0)


def measure_anchors(prompts: Sequence[str], seed: int = 0) -> dict[str, tuple[float, float]]:
    """Floor and ceiling of every dimension over these prompts: noise or a frozen first frame, and true clips."""
    rng = np.random.default_rng(seed)
    clips = [render(parse(prompt), rng) for prompt in prompts]
    made = {
        "true": clips,
        "frozen": [freeze(frames) for frames in clips],
        "noise": [noise_clip(rng, frames.shape[1]) for frames in clips],
    }
    found = {
        name: raw([measure(frames, prompt) for frames, prompt in zip(some, prompts, strict=True)])
        for name, some in made.items()
    }
    moving = ("motion_direction", "dynamic_degree")
    return {name: (found["frozen" if name in moving else "noise"][name], found["true"][name]) for name in DIMENSIONS}
