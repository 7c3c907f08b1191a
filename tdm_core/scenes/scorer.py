"""Whether a picture is what its caption asked for, judged from pixels by the rules of GenEval's six categories.

As in GenEval, objects that the caption does not name are allowed, only the surest objects of a kind are judged,
counting uses a stricter threshold, and the overall score is the plain mean of the six categories' shares.

Source of the rules: djghosh13/geneval (MIT), re-stated for a world whose objects are known exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from tdm_core.scenes.detect import THRESHOLDS, Detection, Thresholds, detect
from tdm_core.scenes.grammar import Group, Relation, Scene, parse
from tdm_core.scenes.render import GLYPH_PX, Pixels
from tdm_core.scenes.suite import Tag


class Reason(StrEnum):
    """Why a picture fails."""

    MISSING = "missing"
    FAINT = "low confidence"
    EXTRA = "extra"
    WRONG_COLOR = "wrong colour"
    WRONG_RELATION = "wrong relation"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``reasons`` is empty exactly where the picture passed."""

    reasons: tuple[Reason, ...]
    detections: tuple[Detection, ...]

    @property
    def passed(self) -> bool:
        return not self.reasons


def score(
    pixels: Pixels, scene: Scene | str, tag: Tag | str | None = None, thresholds: Thresholds = THRESHOLDS
) -> Verdict:
    """Judge a picture, uint8 [H, W, 3]; without a tag the whole scene must be right and nothing else be there.

    Raises:
        RequestError: if a caption is outside the grammar.
    """
    scene = parse(scene) if isinstance(scene, str) else scene
    return judge(detect(pixels, thresholds), scene, tag, thresholds)


def score_batch(pixels: Iterable[Pixels], scenes: Iterable[Scene | str], tags: Iterable[Tag | str]) -> list[Verdict]:
    """Judge pictures [N, H, W, 3] one by one."""
    return [score(picture, scene, tag) for picture, scene, tag in zip(pixels, scenes, tags, strict=True)]


def per_tag(tags: Sequence[Tag | str], verdicts: Sequence[Verdict]) -> dict[str, float]:
    """The share of pictures that passed, in each category that occurs."""
    passed = {tag: [v.passed for t, v in zip(tags, verdicts, strict=True) if t == tag] for tag in Tag}
    return {tag.value: float(np.mean(values)) for tag, values in passed.items() if values}


def overall(tags: Sequence[Tag | str], verdicts: Sequence[Verdict]) -> float:
    """GenEval's overall score: the mean of the categories, not of the pictures."""
    return float(np.mean(list(per_tag(tags, verdicts).values())))


def judge(
    detections: Sequence[Detection], scene: Scene, tag: Tag | str | None, thresholds: Thresholds = THRESHOLDS
) -> Verdict:
    """Apply the category's rules to what was detected; a caption's groups are the clauses that must all hold."""
    exact = tag is None or tag == Tag.COUNTING
    threshold = thresholds.counted if exact else thresholds.found
    seen = [item for item in detections if item.confidence >= threshold]
    best = [sorted(_of(group, seen), key=lambda item: -item.confidence)[: group.count] for group in scene.groups]
    reasons = []
    for group, items in zip(scene.groups, best, strict=True):
        if len(items) < group.count:
            faint = len(_of(group, detections)) >= group.count
            reasons.append(Reason.FAINT if faint else Reason.MISSING)
        if exact and len(_of(group, seen)) > group.count:
            reasons.append(Reason.EXTRA)
        if group.tile is not None and any(item.tile != group.tile for item in items):
            reasons.append(Reason.WRONG_COLOR)
    if tag is None and {item.kind for item in seen} - {group.kind for group in scene.groups}:
        reasons.append(Reason.EXTRA)
    if scene.relation is not None and all(best) and not holds(scene.relation, best[0][0], best[1][0], thresholds):
        reasons.append(Reason.WRONG_RELATION)
    return Verdict(reasons=tuple(dict.fromkeys(reasons)), detections=tuple(detections))


def _of(group: Group, detections: Sequence[Detection]) -> list[Detection]:
    return [item for item in detections if item.kind == group.kind]


def holds(relation: Relation, first: Detection, second: Detection, thresholds: Thresholds = THRESHOLDS) -> bool:
    """GenEval's rule: take a share of the boxes' sizes off the centres' offset; most of it must lie that way."""
    dx, dy = first.x - second.x, first.y - second.y
    margin = thresholds.relation_margin * 2 * GLYPH_PX
    along = {Relation.LEFT_OF: -dx, Relation.RIGHT_OF: dx, Relation.ABOVE: -dy, Relation.BELOW: dy}[relation]
    return along - margin > thresholds.relation_share * math.hypot(dx, dy)
