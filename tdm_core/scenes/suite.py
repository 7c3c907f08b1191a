"""The scenes suite: 555 captions in GenEval's six categories, most of whose meanings no training run may see.

The captions are a file, so that a score names the same questions for ever; ``make_suite`` says how they were drawn, and
a test holds the file to it.  ``python -m tdm_core.scenes.suite`` writes the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from numpy.random import Generator

from tdm_core.scenes.grammar import CANVASES, KINDS, TILES, Group, Meaning, Relation, Scene, caption, meaning, parse

PATH = Path(__file__).parents[2] / "assets" / "prompts" / "scenes_suite.txt"
HEADER = "# Emoji scenes, GenEval's six categories (tag<TAB>prompt); made by tdm_core/scenes/suite.py; Apache-2.0"
SEED = 2503


class Tag(StrEnum):
    """GenEval's categories, by GenEval's names."""

    SINGLE_OBJECT = "single_object"
    TWO_OBJECT = "two_object"
    COUNTING = "counting"
    COLORS = "colors"
    POSITION = "position"
    COLOR_ATTR = "color_attr"


HELD_OUT_TAGS = (Tag.TWO_OBJECT, Tag.POSITION, Tag.COLOR_ATTR)


@dataclass(frozen=True, kw_only=True)
class SuitePrompt:
    """One question of the suite."""

    tag: StrEnum
    prompt: str


@cache
def load_suite() -> tuple[SuitePrompt, ...]:
    """The shipped prompts, category by category."""
    return read_prompts(PATH, Tag)


def read_prompts(path: Path, tags: type[StrEnum]) -> tuple[SuitePrompt, ...]:
    """The prompts of a suite's file, lines ``tag<TAB>prompt``."""
    lines = path.read_text(encoding="utf-8").splitlines()
    fields = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return tuple(SuitePrompt(tag=tags(tag), prompt=prompt) for tag, prompt in fields)


@cache
def held_out() -> frozenset[Meaning]:
    """What the two-object, position and colour-binding prompts mean: no training scene may mean the same."""
    return frozenset(meaning(parse(item.prompt)) for item in load_suite() if item.tag in HELD_OUT_TAGS)


def limited(prompts: Sequence[SuitePrompt], limit: int | None) -> tuple[SuitePrompt, ...]:
    """The first ``limit`` prompts, taken in turn from the categories; a longer selection contains a shorter one."""
    by_tag = [[item for item in prompts if item.tag is tag] for tag in dict.fromkeys(item.tag for item in prompts)]
    in_turn = [item for item in chain.from_iterable(zip_longest(*by_tag)) if item is not None]
    return tuple(in_turn[:limit])


def make_suite(seed: int = SEED) -> tuple[SuitePrompt, ...]:
    """Draw the suite: balanced over kinds, counts and relations, without two prompts of one meaning in a category."""
    made = []
    for index, (tag, make) in enumerate(_MAKERS.items()):
        rng = np.random.default_rng((seed, index))
        scenes = list(make(rng))
        rng.shuffle(scenes)  # so that the first few of a category are a fair sample of it
        made += [SuitePrompt(tag=tag, prompt=caption(scene)) for scene in scenes]
    return tuple(made)


def _kinds(rng: Generator) -> list[str]:
    return [str(kind) for kind in rng.permutation(tuple(KINDS))]


def _canvases(rng: Generator) -> list[str | None]:
    """Four different ones of the eight canvases and no canvas named."""
    choices = (None, *CANVASES)
    return [choices[i] for i in rng.permutation(len(choices))[:4]]


def _single(rng: Generator) -> Iterable[Scene]:
    """80: every kind on four canvases."""
    for kind in KINDS:
        for canvas in _canvases(rng):
            yield Scene(groups=(Group(kind=kind),), canvas=canvas)


def _two(rng: Generator) -> Iterable[Scene]:
    """100 of the 190 pairs: every kind stands in ten of them (its five neighbours each way round a circle)."""
    circle = _kinds(rng)
    for step in range(1, 6):
        for i, first in enumerate(circle):
            pair = rng.permutation([first, circle[(i + step) % len(circle)]])
            yield Scene(groups=tuple(Group(kind=str(kind)) for kind in pair))


def _counting(rng: Generator) -> Iterable[Scene]:
    """80: every kind four times, counts 2 to 4 in turn, canvases without repetition."""
    for i, kind in enumerate(_kinds(rng)):
        for j, canvas in enumerate(_canvases(rng)):
            yield Scene(groups=(Group(kind=kind, count=2 + (i + j) % 3),), canvas=canvas)


def _colors(rng: Generator) -> Iterable[Scene]:
    """95 of the 160 bindings of a kind to a tile."""
    pairs = [(kind, tile) for kind in KINDS for tile in TILES]
    for index in rng.permutation(len(pairs))[:95]:
        kind, tile = pairs[index]
        yield Scene(groups=(Group(kind=kind, tile=tile),))


def _position(rng: Generator) -> Iterable[Scene]:
    """100: each relation 25 times, no two of one meaning."""
    seen: set[Meaning] = set()
    for i in range(100):
        while True:
            groups = tuple(Group(kind=kind) for kind in _kinds(rng)[:2])
            scene = Scene(groups=groups, relation=tuple(Relation)[i % 4])
            if meaning(scene) not in seen:
                break
        seen.add(meaning(scene))
        yield scene


def _color_attr(rng: Generator) -> Iterable[Scene]:
    """100 pairs of different kinds on different tiles, no two of one meaning."""
    seen: set[Meaning] = set()
    while len(seen) < 100:
        tiles = rng.permutation(tuple(TILES))[:2]
        scene = Scene(groups=tuple(Group(kind=k, tile=str(t)) for k, t in zip(_kinds(rng)[:2], tiles, strict=True)))
        if meaning(scene) not in seen:
            seen.add(meaning(scene))
            yield scene


_MAKERS: dict[Tag, Callable[[Generator], Iterable[Scene]]] = {
    Tag.SINGLE_OBJECT: _single,
    Tag.TWO_OBJECT: _two,
    Tag.COUNTING: _counting,
    Tag.COLORS: _colors,
    Tag.POSITION: _position,
    Tag.COLOR_ATTR: _color_attr,
}


def suite_text() -> str:
    """The suite as its file holds it."""
    return "\n".join([HEADER, *(f"{item.tag}\t{item.prompt}" for item in make_suite())]) + "\n"


if __name__ == "__main__":
    PATH.write_text(suite_text(), encoding="utf-8")
