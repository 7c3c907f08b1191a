"""Random moving scenes: what the moving mini's teacher and student are trained on."""

from __future__ import annotations

from collections.abc import Collection

from numpy.random import Generator

from tdm_core.scenes.grammar import CANVASES, KINDS
from tdm_core.scenes.moving.grammar import Clip, Direction, Meaning, Motion, Mover, Speed, meaning
from tdm_core.scenes.moving.render import room

LEAST_ROOM = 0.01  # rarer fits are neither trained nor asked
_KINDS, _CANVASES, _DIRECTIONS, _SPEEDS = tuple(KINDS), tuple(CANVASES), tuple(Direction), tuple(Speed)


def fits(clip: Clip) -> bool:
    """Whether the objects of a clip have room beside each other."""
    return room(*(mover.motion for mover in clip.movers)) >= LEAST_ROOM


def sample_clip(rng: Generator, held_out: Collection[Meaning] = frozenset()) -> Clip:
    """One clip that is not in ``held_out``: one or two different kinds, a fifth of them standing still."""
    while True:
        kinds = rng.choice(len(_KINDS), size=int(rng.integers(1, 3)), replace=False)
        movers = tuple(Mover(kind=_KINDS[kind], motion=_motion(rng)) for kind in kinds)
        canvas = _CANVASES[rng.integers(len(_CANVASES))] if rng.random() < 0.5 else None
        clip = Clip(movers=movers, canvas=canvas)
        if fits(clip) and meaning(clip) not in held_out:
            return clip


def _motion(rng: Generator) -> Motion | None:
    if rng.random() < 0.2:
        return None
    direction, speed = _DIRECTIONS[rng.integers(len(_DIRECTIONS))], _SPEEDS[rng.integers(len(_SPEEDS))]
    return Motion(direction=direction, speed=speed)
