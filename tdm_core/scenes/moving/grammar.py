"""The captions of the moving emoji world: one or two objects, and how each of them moves.

    a cat moving left                  a fox moving slowly up right on a mint canvas
    a dog standing still               a crab moving fast down and an owl standing still

Kinds and canvases are those of the still world.  Every object keeps its velocity; one that the caption gives no
motion stands still.  The words live apart from the still world's, whose trained text encoders count theirs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from math import sqrt

from tdm_core.errors import RequestError
from tdm_core.scenes.grammar import CANVASES, KINDS, article, on_canvas, split_canvas


class Direction(StrEnum):
    LEFT = "left"
    RIGHT = "right"
    UP = "up"
    DOWN = "down"
    UP_LEFT = "up left"
    UP_RIGHT = "up right"
    DOWN_LEFT = "down left"
    DOWN_RIGHT = "down right"

    @property
    def unit(self) -> tuple[float, float]:
        """The vector of length 1, x to the right and y down."""
        words = self.split()
        x, y = ("right" in words) - ("left" in words), ("down" in words) - ("up" in words)
        return (x / sqrt(2), y / sqrt(2)) if x and y else (float(x), float(y))


class Speed(StrEnum):
    SLOW = "slowly"
    MEDIUM = ""
    FAST = "fast"


@dataclass(frozen=True, kw_only=True)
class Motion:
    """A constant velocity."""

    direction: Direction
    speed: Speed = Speed.MEDIUM


@dataclass(frozen=True, kw_only=True)
class Mover:
    """One object of ``kind``; it stands still without a motion."""

    kind: str
    motion: Motion | None = None


@dataclass(frozen=True, kw_only=True)
class Clip:
    """What a caption asks for."""

    movers: tuple[Mover, ...]
    canvas: str | None = None

    @property
    def is_static(self) -> bool:
        """Whether nothing in it is asked to move."""
        return all(mover.motion is None for mover in self.movers)


def caption(clip: Clip) -> str:
    """The clip in words; ``parse`` takes it back."""
    return on_canvas(" and ".join(_phrase(mover) for mover in clip.movers), clip.canvas)


def _phrase(mover: Mover) -> str:
    motion = mover.motion
    words = ("standing still",) if motion is None else ("moving", motion.speed, motion.direction)
    return " ".join(word for word in (article(mover.kind), mover.kind, *words) if word)


_DIRECTIONS = "|".join(sorted(Direction, key=len, reverse=True))
_ADVERB = r"(?: (?P<{}>slowly|fast))?"
_MOVING = rf"moving{_ADVERB.format('before')}(?: to the)? (?P<direction>{_DIRECTIONS}){_ADVERB.format('after')}"
_MOVER = re.compile(rf"(?:an?|one) (?P<noun>\w+)(?:(?: is)? (?P<how>standing still|{_MOVING}))?")
_FUNCTION_WORDS = frozenset(
    "a an one and on canvas is to the moving standing still slowly fast left right up down".split()
)
VOCABULARY: frozenset[str] = frozenset(_FUNCTION_WORDS | KINDS.keys() | CANVASES.keys())


def parse(text: str) -> Clip:
    """The meaning of a caption.

    Raises:
        RequestError: if the caption is outside the grammar; the message says where it stopped.
    """
    rest, canvas = split_canvas(text.replace("-", " "))
    parts = rest.split(" and ")
    if len(parts) > 2:
        raise RequestError(f"{text!r}: at most two objects")
    return Clip(movers=tuple(_parse_mover(part) for part in parts), canvas=canvas)


def _parse_mover(text: str) -> Mover:
    match = _MOVER.fullmatch(text)
    if not match or match["noun"] not in KINDS or (match["before"] and match["after"]):
        raise RequestError(f"cannot read {text!r}; write for example 'a cat moving left' or 'a dog standing still'")
    if match["direction"] is None:
        return Mover(kind=match["noun"])
    speed = Speed(match["before"] or match["after"] or "")
    return Mover(kind=match["noun"], motion=Motion(direction=Direction(match["direction"]), speed=speed))


Meaning = tuple[tuple[str, str, str], ...]


def meaning(clip: Clip) -> Meaning:
    """A key that is equal for paraphrases: order of objects and canvas do not matter."""
    keys = [
        (
            mover.kind,
            mover.motion.direction.value if mover.motion else "",
            mover.motion.speed.value if mover.motion else "",
        )
        for mover in clip.movers
    ]
    return tuple(sorted(keys))
