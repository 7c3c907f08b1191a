"""Is the text in the picture the text that was asked for?  Flow-GRPO's soft score, with any OCR engine.

Score: ``1 - min(distance, length) / length`` with the edit distance between what was read and the quoted target, both
without spaces and in lower case; 1 if the target is part of what was read.  Another engine, another number: the default
reads with PP-OCRv4 from a package, offline; papers used PaddleOCR 2.9.

Source: Flow-GRPO (yifan123/flow_grpo), its rule in our words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tdm_core.errors import EvaluationError
from tdm_core.evaluation.metrics.extras import need
from tdm_core.evaluation.metrics.items import ItemMetric, Pixels
from tdm_core.evaluation.suites import Item

NAME = "ocr"


class OcrEngine(Protocol):
    name: str

    def read(self, pixels: Pixels) -> str: ...


class RapidOcr:
    name = "rapidocr, PP-OCRv4"

    def __init__(self) -> None:
        self._engine: Any = need("rapidocr_onnxruntime", NAME, "ocr").RapidOCR()

    def read(self, pixels: Pixels) -> str:
        found, _ = self._engine(pixels[:, :, ::-1])  # it takes OpenCV's order of colours
        return "".join(text for _, text, _ in found or ())


def target(prompt: str) -> str:
    """The quoted string of a prompt.

    Raises:
        EvaluationError: if there is none: this metric fits another suite.
    """
    found = re.search(r'"([^"]+)"|“([^”]+)”', prompt)
    if not found:
        raise EvaluationError(f"{NAME}: no text in quotation marks in {prompt[:80]!r}; this metric fits the ocr suite.")
    return next(text for text in found.groups() if text)


def text_score(read: str, asked: str) -> float:
    """In [0, 1]; 1 if ``asked`` is in ``read``."""
    read, asked = ("".join(text.split()).lower() for text in (read, asked))
    if asked in read:
        return 1.0
    return 1 - min(edit_distance(read, asked), len(asked)) / len(asked)


def edit_distance(first: str, second: str) -> int:
    """Levenshtein: insertions, deletions and replacements."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        before, row[0] = row[0], i
        for j, b in enumerate(second, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


@dataclass(frozen=True)
class OcrScorer:
    engine: OcrEngine

    def fingerprint(self) -> dict[str, str]:
        return {"engine": self.engine.name, "scale": "0-1"}

    def score(self, pictures: Sequence[Pixels], items: Sequence[Item]) -> list[float]:
        return [text_score(self.engine.read(p), target(i.asked)) for p, i in zip(pictures, items, strict=True)]


def metric() -> ItemMetric:
    return ItemMetric(NAME=NAME, make=lambda: OcrScorer(RapidOcr()))
