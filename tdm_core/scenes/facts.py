"""What a caption says, as a list of yes and no: for each kind how many, on which tile, on which side; which canvas."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tdm_core.scenes.grammar import CANVASES, KINDS, TILES, Relation, Scene

MOST = 5
_KINDS, _TILES, _CANVASES, _RELATIONS = (list(names) for names in (KINDS, TILES, CANVASES, Relation))
_OF_A_KIND = MOST + len(_TILES) + len(_RELATIONS)
NUM_FACTS = len(_KINDS) * _OF_A_KIND + len(_CANVASES)


def facts(scene: Scene) -> NDArray[np.bool_]:
    """[NUM_FACTS]. Of two objects in a relation each has its side: in "a cat left of a dog" the dog lies right."""
    told = np.zeros(NUM_FACTS, dtype=bool)
    by_kind = told[: len(_KINDS) * _OF_A_KIND].reshape(len(_KINDS), _OF_A_KIND)
    for place, group in enumerate(scene.groups):
        row = by_kind[_KINDS.index(group.kind)]
        row[group.count - 1] = True
        if group.tile is not None:
            row[MOST + _TILES.index(group.tile)] = True
        if scene.relation is not None:
            side = scene.relation if place == 0 else scene.relation.inverse
            row[MOST + len(_TILES) + _RELATIONS.index(side)] = True
    if scene.canvas is not None:
        told[-len(_CANVASES) + _CANVASES.index(scene.canvas)] = True
    return told
