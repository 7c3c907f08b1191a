"""What a moving caption says, as a list of yes and no: for each kind whether, where to and how fast; which canvas."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tdm_core.scenes.grammar import CANVASES, KINDS
from tdm_core.scenes.moving.grammar import Clip, Direction, Speed

_KINDS, _CANVASES, _DIRECTIONS, _SPEEDS = (list(names) for names in (KINDS, CANVASES, Direction, Speed))
_OF_A_KIND = 1 + len(_DIRECTIONS) + len(_SPEEDS)
NUM_FACTS = len(_KINDS) * _OF_A_KIND + len(_CANVASES)


def facts(clip: Clip) -> NDArray[np.bool_]:
    """[NUM_FACTS]. Of a kind: it stands still, each direction, each speed."""
    told = np.zeros(NUM_FACTS, dtype=bool)
    by_kind = told[: len(_KINDS) * _OF_A_KIND].reshape(len(_KINDS), _OF_A_KIND)
    for mover in clip.movers:
        row, motion = by_kind[_KINDS.index(mover.kind)], mover.motion
        if motion is None:
            row[0] = True
        else:
            row[1 + _DIRECTIONS.index(motion.direction)] = True
            row[1 + len(_DIRECTIONS) + _SPEEDS.index(motion.speed)] = True
    if clip.canvas is not None:
        told[-len(_CANVASES) + _CANVASES.index(clip.canvas)] = True
    return told
