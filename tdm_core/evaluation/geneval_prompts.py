"""GenEval's 553 prompts with what each picture must show: its published procedure and seed, drawn again.

``python -m tdm_core.evaluation.geneval_prompts`` writes the file that is shipped; the licence lies beside it.

Source: djghosh13/geneval (arXiv:2310.11513, MIT), the procedure of its ``prompts/create_prompts.py`` in our words.  The
order of the draws is the benchmark: it is kept call by call, plurals such as "benchs" with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.random import Generator

from tdm_core.evaluation.metrics.geneval import COLORS
from tdm_core.evaluation.published import SHIPPED
from tdm_core.generation.media import write_whole

PATH = SHIPPED / "geneval" / "evaluation_metadata.jsonl"
SEED = 43
DRAWS = 100  # of each category but the first; equal ones are kept once
MOST = 4  # of one kind

RELATIONS = ("left of", "right of", "above", "below")
NUMBERS = {2: "two", 3: "three", 4: "four"}
CLASSES = tuple(
    """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
    parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
    handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
    surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange,
    broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv,
    laptop, computer mouse, tv remote, computer keyboard, cell phone, microwave, oven, toaster, sink, refrigerator,
    book, clock, vase, scissors, teddy bear, hair drier, toothbrush""".replace("\n   ", "").split(", ")
)
"""COCO's 80 in COCO's order, three of them by GenEval's plainer names."""

Row = dict[str, Any]
"""A line of the file: tag, include, perhaps exclude, prompt."""


def make_prompts(seed: int = SEED) -> list[Row]:
    """All rows in the file's order."""
    rng = np.random.default_rng(seed)
    rows = list(_singles(rng))
    for draw in (_two_objects, _counting, _colors, _position, _color_attr):
        rows += [draw(rng) for _ in range(DRAWS)]
    return list({json.dumps(row): row for row in rows}.values())


def text(rows: list[Row]) -> str:
    """The file's content, a JSON object a line."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def _singles(rng: Generator) -> Iterator[Row]:
    for name in _names(rng.choice(len(CLASSES), size=len(CLASSES), replace=False)):
        yield _row("single_object", _article(name), [_clause(name)])


def _two_objects(rng: Generator) -> Row:
    first, second = _names(rng.choice(len(CLASSES), size=2, replace=False))
    return _row("two_object", f"{_article(first)} and {_article(second)}", [_clause(first), _clause(second)])


def _counting(rng: Generator) -> Row:
    name = CLASSES[rng.choice(len(CLASSES))]
    count = int(rng.integers(2, MOST, endpoint=True))
    plural = f"{name}es" if name.endswith("s") else f"{name}s"
    more = [{"class": name, "count": count + 1}]
    return _row("counting", f"{NUMBERS[count]} {plural}", [{"class": name, "count": count}], exclude=more)


def _colors(rng: Generator) -> Row:
    name = CLASSES[rng.choice(len(CLASSES) - 1) + 1]  # people have no such colours
    color = COLORS[rng.choice(len(COLORS))]
    return _row("colors", f"{_article(color)} {name}", [_clause(name, color=color)])


def _position(rng: Generator) -> Row:
    which, beside = _names(rng.choice(len(CLASSES), size=2, replace=False))
    relation = RELATIONS[rng.choice(len(RELATIONS))]
    asked = f"{_article(which)} {relation} {_article(beside)}"
    return _row("position", asked, [_clause(beside), _clause(which, position=[relation, 0])])


def _color_attr(rng: Generator) -> Row:
    names = _names(rng.choice(len(CLASSES) - 1, size=2, replace=False) + 1)
    colors = [COLORS[index] for index in rng.choice(len(COLORS), size=2, replace=False)]
    asked = " and ".join(f"{_article(color)} {name}" for name, color in zip(names, colors, strict=True))
    return _row("color_attr", asked, [_clause(name, color=color) for name, color in zip(names, colors, strict=True)])


def _row(tag: str, asked: str, include: list[Row], **exclude: list[Row]) -> Row:
    return {"tag": tag, "include": include, **exclude, "prompt": f"a photo of {asked}"}


def _clause(name: str, **more: object) -> Row:
    return {"class": name, "count": 1, **more}


def _names(indices: np.ndarray) -> list[str]:
    return [CLASSES[index] for index in indices]


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


if __name__ == "__main__":
    write_whole(PATH, text(make_prompts()).encode())
