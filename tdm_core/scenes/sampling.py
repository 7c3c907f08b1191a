"""Random scenes: what the mini teachers and students are trained on, and suggestions for the page.

The six categories of the suite carry most of the weight; the rest are mixed scenes of up to three groups. Scenes
whose meaning is held out for the suite are drawn again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection

import numpy as np
from numpy.random import Generator

from tdm_core.scenes.grammar import CANVASES, KINDS, TILES, Group, Meaning, Relation, Scene, meaning

MAX_OBJECTS = 5
_KINDS, _TILES, _CANVASES, _RELATIONS = tuple(KINDS), tuple(TILES), tuple(CANVASES), tuple(Relation)


def sample_scene(rng: Generator, held_out: Collection[Meaning] = frozenset(), *, more_relations: float = 0.0) -> Scene:
    """One scene that is not in ``held_out``; ``more_relations`` of them are scenes with a relation whatever the mix."""
    while True:
        related = more_relations > 0 and rng.random() < more_relations
        scene = _position(rng) if related else _MAKERS[bisect_right(_CUMULATIVE, rng.random())](rng)
        if meaning(scene) not in held_out:
            return scene


def _kinds(rng: Generator, n: int) -> list[str]:
    return [_KINDS[i] for i in rng.choice(len(_KINDS), size=n, replace=False)]


def _canvas(rng: Generator, share: float) -> str | None:
    return _CANVASES[rng.integers(len(_CANVASES))] if rng.random() < share else None


def _tile(rng: Generator) -> str:
    return _TILES[rng.integers(len(_TILES))]


def _single(rng: Generator) -> Scene:
    return Scene(groups=(Group(kind=_kinds(rng, 1)[0]),), canvas=_canvas(rng, 0.6))


def _counting(rng: Generator) -> Scene:
    group = Group(kind=_kinds(rng, 1)[0], count=int(rng.integers(2, 5)))
    return Scene(groups=(group,), canvas=_canvas(rng, 0.6))


def _two(rng: Generator) -> Scene:
    return Scene(groups=tuple(Group(kind=kind) for kind in _kinds(rng, 2)), canvas=_canvas(rng, 0.3))


def _color(rng: Generator) -> Scene:
    return Scene(groups=(Group(kind=_kinds(rng, 1)[0], tile=_tile(rng)),), canvas=_canvas(rng, 0.1))


def _position(rng: Generator) -> Scene:
    relation = _RELATIONS[rng.integers(len(_RELATIONS))]
    groups = tuple(Group(kind=kind) for kind in _kinds(rng, 2))
    return Scene(groups=groups, relation=relation, canvas=_canvas(rng, 0.2))


def _color_attr(rng: Generator) -> Scene:
    tiles = rng.choice(len(_TILES), size=2, replace=False)
    groups = tuple(Group(kind=kind, tile=_TILES[i]) for kind, i in zip(_kinds(rng, 2), tiles, strict=True))
    return Scene(groups=groups)


def _mixed(rng: Generator) -> Scene:
    while True:
        groups = tuple(
            Group(kind=kind, count=int(rng.integers(1, 4)), tile=_tile(rng) if rng.random() < 0.2 else None)
            for kind in _kinds(rng, int(rng.integers(2, 4)))
        )
        tiles = sum(group.tile is not None for group in groups)
        scene = Scene(groups=groups, canvas=_canvas(rng, 0.3) if len(groups) == 2 and not tiles else None)
        if 3 <= scene.num_objects <= MAX_OBJECTS and len(groups) + tiles <= 4:
            return scene


_MAKERS: tuple[Callable[[Generator], Scene], ...] = (
    _single,
    _counting,
    _two,
    _color,
    _position,
    _color_attr,
    _mixed,
)
_WEIGHTS = (0.05, 0.20, 0.10, 0.06, 0.32, 0.17, 0.10)
_CUMULATIVE = (np.cumsum(_WEIGHTS) / sum(_WEIGHTS)).tolist()  # rng.choice(p=...) draws the same, ten times slower
