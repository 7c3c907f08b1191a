"""The two worlds that minis are made for, still scenes and moving ones: words, training data, questions, score.

Whatever is drawn depends on the seed alone, and nothing that a suite holds out is ever drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tdm_core.scenes import facts as still_facts
from tdm_core.scenes import grammar, scorer, suite
from tdm_core.scenes.grammar import CANVASES, KINDS, TILES
from tdm_core.scenes.moving import facts as moving_facts
from tdm_core.scenes.moving import grammar as moving_grammar
from tdm_core.scenes.moving import mini_vbench
from tdm_core.scenes.moving import render as moving_render
from tdm_core.scenes.moving import suite as moving_suite
from tdm_core.scenes.moving.sampling import sample_clip
from tdm_core.scenes.render import CELL_PX, CELLS, JITTER_PX, Layout, Placed, draw, render
from tdm_core.scenes.sampling import sample_scene
from tdm_core.scenes.suite import SuitePrompt

Pixels = np.ndarray
"""uint8 [H, W, 3], or [F, H, W, 3] of a clip."""


@dataclass(frozen=True, kw_only=True)
class World:
    """What a mini is made for."""

    what: str  # it draws, in words
    samples: str  # what one of them is called, in the plural
    task: str  # in the Hub's words
    measure: str  # what ``score`` gives, in words
    vocabulary: Collection[str]
    scenes: Callable[[int, int], tuple[Tensor, list[str]]]
    """Of the training distribution (seed, n): float [n, 3, ...] in [-1, 1], and captions."""
    stills: Callable[[int, int], tuple[Tensor, list[str]]] | None = None
    """Of clips: first frames alone, [n, 3, 1, H, W], with the captions of the whole."""
    crowded: Callable[[int, int], Tensor]
    """The same for the autoencoder, crowded with objects: more to learn from per convolution."""
    captions: Callable[[int, int], list[str]]
    """Of the training distribution (seed, n), without pictures."""
    facts: Callable[[int, int], tuple[list[str], Tensor]]
    """Captions of the training distribution (seed, n) and what they say, bool [n, F]."""
    questions: Callable[[], tuple[SuitePrompt, ...]]
    score: Callable[[Sequence[Pixels], Sequence[SuitePrompt]], dict[str, float]]
    """``overall`` and each category's score of one picture or clip a question."""


def to_tensor(pictures: Sequence[Pixels]) -> Tensor:
    """uint8 pictures or clips to float [N, 3, H, W] or [N, 3, F, H, W] in [-1, 1], as autoencoders take them."""
    return torch.from_numpy(np.stack(pictures)).movedim(-1, 1).float() / 127.5 - 1


def _still_scenes(seed: int, n: int) -> tuple[Tensor, list[str]]:
    rng = np.random.default_rng((1, seed))
    scenes = [sample_scene(rng, suite.held_out()) for _ in range(n)]
    return to_tensor([render(scene, rng) for scene in scenes]), [grammar.caption(scene) for scene in scenes]


def _still_captions(seed: int, n: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [grammar.caption(sample_scene(rng, suite.held_out())) for _ in range(n)]


def _still_facts(seed: int, n: int) -> tuple[list[str], Tensor]:
    """Relations among them in plenty."""
    rng = np.random.default_rng((3, seed))
    scenes = [sample_scene(rng, suite.held_out(), more_relations=0.4) for _ in range(n)]
    told = np.stack([still_facts.facts(scene) for scene in scenes])
    return [grammar.caption(scene) for scene in scenes], torch.from_numpy(told)


def _still_crowded(seed: int, n: int) -> Tensor:
    rng = np.random.default_rng((2, seed))
    return to_tensor([draw(_crowded_layout(rng)) for _ in range(n)])


def _crowded_layout(rng: np.random.Generator) -> Layout:
    kinds, tiles, canvases = tuple(KINDS), tuple(TILES), tuple(CANVASES)
    share = rng.choice([0.3, 1.0])
    objects = []
    for row, column in np.ndindex(CELLS, CELLS):
        if rng.random() < share:
            dx, dy = rng.integers(-JITTER_PX, JITTER_PX + 1, size=2) + CELL_PX // 2
            tile = tiles[rng.integers(len(tiles))] if rng.random() < 0.4 else None
            kind = kinds[rng.integers(len(kinds))]
            objects.append(Placed(kind=kind, tile=tile, x=column * CELL_PX + int(dx), y=row * CELL_PX + int(dy)))
    return Layout(objects=tuple(objects), canvas=canvases[rng.integers(len(canvases))])


def _still_score(pictures: Sequence[Pixels], questions: Sequence[SuitePrompt]) -> dict[str, float]:
    tags, prompts = [item.tag for item in questions], [item.prompt for item in questions]
    verdicts = scorer.score_batch(pictures, prompts, tags)
    return {"overall": scorer.overall(tags, verdicts), **scorer.per_tag(tags, verdicts)}


def _moving_scenes(seed: int, n: int) -> tuple[Tensor, list[str]]:
    rng = np.random.default_rng((4, seed))
    clips = [sample_clip(rng, moving_suite.held_out()) for _ in range(n)]
    frames = [moving_render.render(clip, rng) for clip in clips]
    return to_tensor(frames), [moving_grammar.caption(clip) for clip in clips]


def _moving_stills(seed: int, n: int) -> tuple[Tensor, list[str]]:
    rng = np.random.default_rng((8, seed))
    clips = [sample_clip(rng, moving_suite.held_out()) for _ in range(n)]
    frames = [moving_render.draw(moving_render.layout(clip, rng), num_frames=1) for clip in clips]
    return to_tensor(frames), [moving_grammar.caption(clip) for clip in clips]


def _moving_facts(seed: int, n: int) -> tuple[list[str], Tensor]:
    rng = np.random.default_rng((5, seed))
    clips = [sample_clip(rng, moving_suite.held_out()) for _ in range(n)]
    told = np.stack([moving_facts.facts(clip) for clip in clips])
    return [moving_grammar.caption(clip) for clip in clips], torch.from_numpy(told)


def _moving_captions(seed: int, n: int) -> list[str]:
    rng = np.random.default_rng((7, seed))
    return [moving_grammar.caption(sample_clip(rng, moving_suite.held_out())) for _ in range(n)]


def _moving_crowded(seed: int, n: int) -> Tensor:
    """Three objects, each on a way of its own: they may meet, which captions never ask for."""
    rng = np.random.default_rng((6, seed))
    clips = []
    for _ in range(n):
        lone = [moving_render.layout(sample_clip(rng), rng) for _ in range(3)]
        courses = tuple(layout.courses[0] for layout in lone)
        clips.append(moving_render.draw(moving_render.Layout(courses=courses, canvas=lone[0].canvas)))
    return to_tensor(clips)


def _moving_score(clips: Sequence[Pixels], questions: Sequence[SuitePrompt]) -> dict[str, float]:
    columns = [mini_vbench.measure(frames, item.prompt) for frames, item in zip(clips, questions, strict=True)]
    found = {"overall": mini_vbench.total(mini_vbench.raw(columns))}
    for tag in dict.fromkeys(item.tag for item in questions):
        of_tag = [row for row, item in zip(columns, questions, strict=True) if item.tag is tag]
        found[tag.value] = mini_vbench.total(mini_vbench.raw(of_tag))
    return found


STILL = World(
    what="*emoji scenes* of 96 x 96 pixels",
    samples="pictures",
    task="text-to-image",
    measure="Overall scene score",
    vocabulary=grammar.VOCABULARY,
    scenes=_still_scenes,
    captions=_still_captions,
    crowded=_still_crowded,
    facts=_still_facts,
    questions=suite.load_suite,
    score=_still_score,
)
MOVING = World(
    what="moving *emoji scenes*, 9 frames of 64 x 64 pixels",
    samples="clips",
    task="text-to-video",
    measure="Total of mini-VBench",
    vocabulary=moving_grammar.VOCABULARY,
    scenes=_moving_scenes,
    stills=_moving_stills,
    captions=_moving_captions,
    crowded=_moving_crowded,
    facts=_moving_facts,
    questions=moving_suite.load_suite,
    score=_moving_score,
)
OF_FAMILY = {"sd3": STILL, "sd15": STILL, "sdxl": STILL, "pixart": STILL, "cogvideox": MOVING}
