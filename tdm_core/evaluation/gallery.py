"""The pairs of pictures that a report shows: where the student gained most, lost most, and drew something else."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tdm_core.evaluation.manifest import Picture
from tdm_core.evaluation.metrics import Measured
from tdm_core.evaluation.runs import Run
from tdm_core.evaluation.suites import Item

SHOWN = 4
LOOKED_AT = 600
"""Pairs whose pixels are compared, spread over the run: a full-size run has thousands."""
THUMBNAIL_PX = 256


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Teacher and student from one noise, with what the metric says of each (None: it says nothing of one picture)."""

    prompt: str
    teacher: Picture
    student: Picture
    values: tuple[float, float] | None


def pairs(run: Run, measured: Mapping[str, Measured], *, lower_is_better: Iterable[str] = ()) -> dict[str, list[Pair]]:
    """What to show under "Student better", "Teacher better" and "Most different", each prompt once; {} without both."""
    if not {"teacher", "student"} <= set(run.arms):
        return {}
    name, values = next(((n, found.items) for n, found in measured.items() if found.items), (None, None))
    rows = [
        Pair(prompt=item.prompt, teacher=a, student=b, values=_values(values, item, a.number))
        for (item, a), (_, b) in zip(run.pictures("teacher"), run.pictures("student"), strict=True)
    ]
    sign = -1 if name in set(lower_is_better) else 1
    gains = {id(row): sign * (row.values[1] - row.values[0]) for row in rows if row.values}
    gained = sorted((row for row in rows if gains.get(id(row), 0) > 0), key=lambda row: -gains[id(row)])
    lost = sorted((row for row in rows if gains.get(id(row), 0) < 0), key=lambda row: gains[id(row)])
    spread = rows[:: max(1, len(rows) // LOOKED_AT)]
    apart = sorted(spread, key=lambda row: -_pixel_distance(run, row))
    chosen = {"Student better": gained, "Teacher better": lost, "Most different": apart}
    return {title: _distinct(found) for title, found in chosen.items() if found}


def _values(
    values: Mapping[str, Mapping[str, Sequence[float]]] | None, item: Item, number: int
) -> tuple[float, float] | None:
    return (values["teacher"][item.id][number], values["student"][item.id][number]) if values else None


def _pixel_distance(run: Run, pair: Pair) -> float:
    """Mean absolute difference, in 0 .. 255."""
    teacher, student = (run.pixels(picture).astype(np.float32) for picture in (pair.teacher, pair.student))
    return float(np.abs(teacher - student).mean())


def _distinct(found: Iterable[Pair]) -> list[Pair]:
    by_prompt: dict[str, Pair] = {}
    for pair in found:
        if len(by_prompt) < SHOWN:
            by_prompt.setdefault(pair.prompt, pair)
    return list(by_prompt.values())


def data_uri(run: Run, picture: Picture) -> str:
    """The file itself, a large picture as a thumbnail, so that a report needs nothing beside it."""
    content, kind = (run.folder / picture.file).read_bytes(), "video/mp4"
    if not picture.file.endswith(".mp4"):
        kind = "image/png"
        image = Image.open(io.BytesIO(content))
        if max(image.size) > THUMBNAIL_PX:
            image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
            file = io.BytesIO()
            image.save(file, format="PNG")
            content = file.getvalue()
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
