"""GenEval's rules over any detector.  With transformers' Mask2Former it is ``geneval-hf``, never printed as GenEval.

Only the best ``count`` boxes of a class are judged; counting asks for more confidence and excludes one more; a colour
is the one that CLIP finds nearest in the crop with everything but the object painted grey; a relation holds if the
offset of the centres, shortened by a tenth of both sizes, points that way.

Source: djghosh13/geneval (arXiv:2310.11513), its rules and constants in our words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tdm_core.errors import EvaluationError
from tdm_core.evaluation.metrics.clip import Encoder, TransformersClip
from tdm_core.evaluation.metrics.extras import device, fetching
from tdm_core.evaluation.metrics.items import ItemMetric, Pixels
from tdm_core.evaluation.suites import Item

NAME = "geneval-hf"
REPOSITORY = "facebook/mask2former-swin-small-coco-instance"
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
TEMPLATES = ("a photo of a {color} {name}", "a photo of a {color}-colored {name}", "a photo of a {color} object")
CONFIDENCE, COUNTING_CONFIDENCE = 0.3, 0.9
MOST_BOXES = 16
POSITION_MARGIN, POSITION_LEAST = 0.1, 0.5
GREY = 0x99
RENAMED = {"computer mouse": "mouse", "computer keyboard": "keyboard", "tv remote": "remote"}
"""GenEval's names of classes -> COCO's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """A detected object: left, top, right, bottom in pixels; mask bool [H, W] or None."""

    name: str
    confidence: float
    box: tuple[float, float, float, float]
    mask: NDArray[np.bool_] | None = None


class Detector(Protocol):
    name: str

    def detect(self, pixels: Pixels) -> list[Found]: ...


ColorOf = Callable[[Pixels, Found], str]


def judge(found: Sequence[Found], clauses: Mapping[str, Any], tag: str, color_of: Callable[[Found], str]) -> list[str]:
    """Why the picture is not what the clauses ask; empty if it is."""
    least = COUNTING_CONFIDENCE if tag == "counting" else CONFIDENCE
    by_name: dict[str, list[Found]] = {}
    for each in sorted(found, key=lambda each: -each.confidence):
        kept = by_name.setdefault(each.name, [])
        if each.confidence > least and len(kept) < MOST_BOXES:
            kept.append(each)
    reasons: list[str] = []
    matched: list[Sequence[Found]] = []
    for clause in clauses.get("include", ()):
        name = RENAMED.get(clause["class"], clause["class"])
        best = by_name.get(name, [])[: clause["count"]]
        failed = _failed(clause, best, matched, color_of)
        reasons += [f"{clause['class']}: {failed}"] if failed else []
        matched.append([] if failed else best)
    for clause in clauses.get("exclude", ()):
        if len(by_name.get(RENAMED.get(clause["class"], clause["class"]), [])) >= clause["count"]:
            reasons.append(f"{clause['class']}: {clause['count']} or more")
    return reasons


def _failed(
    clause: Mapping[str, Any],
    best: Sequence[Found],
    matched: Sequence[Sequence[Found]],
    color_of: Callable[[Found], str],
) -> str:
    if len(best) < clause["count"]:
        return f"{len(best)} of {clause['count']} found"
    if "color" in clause and sum(color_of(each) == clause["color"] for each in best) < clause["count"]:
        return f"not {clause['color']}"
    if "position" in clause:
        relation, group = clause["position"]
        others = matched[group]
        if not others or not all(relation in relations(a.box, b.box) for a in best for b in others):
            return f"not {relation} the other"
    return ""


def relations(box: Sequence[float], other: Sequence[float]) -> set[str]:
    """Where ``box`` lies as seen from ``other``; empty if they lie too close to tell."""
    (a, b), sizes = zip(*(_centre_and_size(each) for each in (box, other)), strict=True)
    offset = a - b
    short = np.sign(offset) * np.maximum(np.abs(offset) - POSITION_MARGIN * (sizes[0] + sizes[1]), 0)
    if np.abs(short).max() < 1e-3:
        return set()
    x, y = short / np.linalg.norm(offset)
    named = {"left of": -x, "right of": x, "above": -y, "below": y}
    return {name for name, length in named.items() if length > POSITION_LEAST}


def _centre_and_size(box: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    corners = np.array(box, dtype=float).reshape(2, 2)
    return corners.mean(axis=0), corners[1] - corners[0]


class ClipColors:
    """The nearest of ten colour names, the mean of three sentences each."""

    def __init__(self, encoder: Encoder) -> None:
        self.name, self._encoder, self._known = encoder.name, encoder, dict[str, NDArray[np.float64]]()

    def __call__(self, pixels: Pixels, found: Found) -> str:
        left, top, right, bottom = (max(0, round(side)) for side in found.box)
        shown = pixels if found.mask is None else np.where(found.mask[..., None], pixels, np.uint8(GREY))
        crop = shown[top : max(bottom, top + 1), left : max(right, left + 1)]
        features = self._encoder.pictures([np.ascontiguousarray(crop)])[0]
        return COLORS[int(np.argmax(self._classifier(found.name) @ features))]

    def _classifier(self, name: str) -> NDArray[np.float64]:
        if name not in self._known:
            texts = [each.format(color=color, name=name) for color in COLORS for each in TEMPLATES]
            unit = _unit(self._encoder.texts(texts)).reshape(len(COLORS), len(TEMPLATES), -1)
            self._known[name] = _unit(unit.mean(axis=1))
        return self._known[name]


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


class Mask2Former:
    """Instance masks of transformers' Mask2Former, from the Hub or a folder; needs no torchvision."""

    def __init__(self, repository: str = REPOSITORY) -> None:
        from transformers import Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessorPil

        self.name = repository
        with fetching(f"{NAME}: {repository}"):
            model = Mask2FormerForUniversalSegmentation.from_pretrained(repository)
            self._processor = Mask2FormerImageProcessorPil.from_pretrained(repository)
        self._model = model.eval().to(device())

    def detect(self, pixels: Pixels) -> list[Found]:
        import torch

        inputs = self._processor(images=[Image.fromarray(pixels)], return_tensors="pt").to(device())
        with torch.inference_mode():
            output = self._model(pixel_values=inputs["pixel_values"], pixel_mask=inputs["pixel_mask"])
        rows = self._processor.post_process_instance_segmentation(
            output, threshold=CONFIDENCE, target_sizes=[pixels.shape[:2]], return_binary_maps=True
        )[0]
        names, found = self._model.config.id2label, []
        if not rows["segments_info"]:  # then there are no maps either, but one of -1 for the whole picture
            return []
        for mask, row in zip(rows["segmentation"].cpu().numpy() > 0.5, rows["segments_info"], strict=True):
            ys, xs = np.nonzero(mask)
            if len(xs):
                box = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
                found.append(Found(name=names[row["label_id"]], confidence=row["score"], box=box, mask=mask))
        return found


@dataclass(frozen=True, kw_only=True)
class GenevalScorer:
    detector: Detector
    colors: ColorOf
    notes: dict[str, str]

    def fingerprint(self) -> dict[str, str]:
        return {"detector": self.detector.name, "confidence": f"{CONFIDENCE}, {COUNTING_CONFIDENCE}"} | self.notes

    def score(self, pictures: Sequence[Pixels], items: Sequence[Item]) -> list[float]:
        return [self._passes(pixels, item) for pixels, item in zip(pictures, items, strict=True)]

    def _passes(self, pixels: Pixels, item: Item) -> float:
        try:
            clauses = json.loads(item.clauses)
        except ValueError:
            raise EvaluationError(f"{NAME}: {item.id} has no clauses; this metric fits the geneval suite.") from None
        found = self.detector.detect(pixels)
        return float(not judge(found, clauses, item.tag, lambda each: self.colors(pixels, each)))


def _load() -> GenevalScorer:
    colors = ClipColors(TransformersClip("openai/clip-vit-large-patch14"))
    return GenevalScorer(detector=Mask2Former(), colors=colors, notes={"colors": colors.name})


def metric() -> ItemMetric:
    return ItemMetric(NAME=NAME, make=_load, BY_TAG=True)
