"""The moving suite: 186 captions in six categories; those that name motions mean nothing that training may see.

The captions are a file, as the still suite's are; ``python -m tdm_core.scenes.moving.suite`` writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import cache

import numpy as np
from numpy.random import Generator

from tdm_core.scenes.grammar import CANVASES, KINDS
from tdm_core.scenes.moving.grammar import Clip, Direction, Meaning, Motion, Mover, Speed, caption, meaning, parse
from tdm_core.scenes.moving.sampling import fits
from tdm_core.scenes.suite import PATH as STILL_PATH
from tdm_core.scenes.suite import SuitePrompt, read_prompts

PATH = STILL_PATH.with_name("moving_suite.txt")
HEADER = "# Moving emoji scenes (tag<TAB>prompt); made by tdm_core/scenes/moving/suite.py; Apache-2.0"
SEED = 6808


class Tag(StrEnum):
    """What a prompt mainly asks for."""

    SINGLE_MOVING = "single_moving"
    TWO_OBJECTS = "two_objects"
    DIRECTION = "direction"
    SPEED = "speed"
    STATIC = "static"
    COLORS = "colors"


HELD_OUT_TAGS = (Tag.TWO_OBJECTS, Tag.DIRECTION, Tag.SPEED)


@cache
def load_suite() -> tuple[SuitePrompt, ...]:
    """The shipped prompts, category by category."""
    return read_prompts(PATH, Tag)


@cache
def held_out() -> frozenset[Meaning]:
    """What the two-object, direction and speed prompts mean: no training clip may mean the same."""
    return frozenset(meaning(parse(item.prompt)) for item in load_suite() if item.tag in HELD_OUT_TAGS)


def make_suite(seed: int = SEED) -> tuple[SuitePrompt, ...]:
    """Draw the suite: balanced over kinds, directions, speeds and canvases, no two prompts of one category alike."""
    made = []
    for index, (tag, make) in enumerate(_MAKERS.items()):
        rng = np.random.default_rng((seed, index))
        clips = list(make(rng))
        rng.shuffle(clips)  # so that the first few are a fair sample of the category
        made += [SuitePrompt(tag=tag, prompt=caption(clip)) for clip in clips]
    return tuple(made)


def _kinds(rng: Generator) -> list[str]:
    return [str(kind) for kind in rng.permutation(tuple(KINDS))]


def _one(kind: str, motion: Motion | None, canvas: str | None = None) -> Clip:
    return Clip(movers=(Mover(kind=kind, motion=motion),), canvas=canvas)


def _single_moving(rng: Generator) -> Iterable[Clip]:
    """40: every kind twice, each direction five times, every other one on a canvas."""
    directions, canvases = tuple(Direction), tuple(CANVASES)
    for i, kind in enumerate(2 * _kinds(rng)):
        canvas = canvases[i // 2 % len(canvases)] if i % 2 else None
        yield _one(kind, Motion(direction=directions[i % len(directions)]), canvas)


def _two_objects(rng: Generator) -> Iterable[Clip]:
    """40: every kind four times; in a quarter of them one object stands still."""
    for _ in range(4):
        kinds = _kinds(rng)
        for pair, (first, second) in enumerate(zip(kinds[::2], kinds[1::2], strict=True)):
            while True:
                motions = [_motion(rng), None if pair % 4 == 0 else _motion(rng)]
                clip = Clip(movers=(Mover(kind=first, motion=motions[0]), Mover(kind=second, motion=motions[1])))
                if fits(clip):
                    break
            yield clip


def _motion(rng: Generator) -> Motion:
    speed = tuple(Speed)[rng.integers(len(Speed))]
    return Motion(direction=tuple(Direction)[rng.integers(len(Direction))], speed=speed)


def _direction(rng: Generator) -> Iterable[Clip]:
    """32: each direction four times, at the middle speed."""
    for direction in Direction:
        for kind in _kinds(rng)[:4]:
            yield _one(kind, Motion(direction=direction))


def _speed(rng: Generator) -> Iterable[Clip]:
    """30: each speed ten times."""
    for speed in Speed:
        for kind in _kinds(rng)[:10]:
            yield _one(kind, Motion(direction=tuple(Direction)[rng.integers(8)], speed=speed))


def _static(rng: Generator) -> Iterable[Clip]:
    """20: every kind, every other one on a canvas."""
    for i, kind in enumerate(_kinds(rng)):
        yield _one(kind, None, tuple(CANVASES)[i // 2 % len(CANVASES)] if i % 2 else None)


def _colors(rng: Generator) -> Iterable[Clip]:
    """24: each canvas three times, under a moving object."""
    kinds = _kinds(rng) + _kinds(rng)
    for i, kind in enumerate(kinds[:24]):
        yield _one(kind, Motion(direction=tuple(Direction)[rng.integers(8)]), tuple(CANVASES)[i % 8])


_MAKERS: dict[Tag, Callable[[Generator], Iterable[Clip]]] = {
    Tag.SINGLE_MOVING: _single_moving,
    Tag.TWO_OBJECTS: _two_objects,
    Tag.DIRECTION: _direction,
    Tag.SPEED: _speed,
    Tag.STATIC: _static,
    Tag.COLORS: _colors,
}


def suite_text() -> str:
    """The suite as its file holds it."""
    return "\n".join([HEADER, *(f"{item.tag}\t{item.prompt}" for item in make_suite())]) + "\n"


if __name__ == "__main__":
    PATH.write_text(suite_text(), encoding="utf-8")
