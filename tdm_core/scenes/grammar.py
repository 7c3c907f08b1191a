"""The captions of the emoji world: what can be said, and what it means.

A caption names one to three groups of objects, each a count of one kind, perhaps on a coloured tile; two lone
objects may stand in a relation; the whole may lie on a coloured canvas:

    a cat                             three foxes on a mint canvas
    a cat on red and a dog on blue    two owls, a lemon and a rocket
    a cat left of a dog               a robot above a frog on a sky canvas
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum

from numpy.random import Generator

from tdm_core.errors import RequestError

KINDS: dict[str, str] = {  # singular -> plural
    "cat": "cats",
    "dog": "dogs",
    "fox": "foxes",
    "panda": "pandas",
    "frog": "frogs",
    "owl": "owls",
    "penguin": "penguins",
    "octopus": "octopuses",
    "crab": "crabs",
    "apple": "apples",
    "lemon": "lemons",
    "donut": "donuts",
    "pizza": "pizzas",
    "mushroom": "mushrooms",
    "sunflower": "sunflowers",
    "cactus": "cactuses",
    "house": "houses",
    "rocket": "rockets",
    "ball": "balls",
    "robot": "robots",
}
COUNTS: tuple[str, ...] = ("one", "two", "three", "four")
TILES: dict[str, tuple[int, int, int]] = {
    "red": (229, 57, 70),
    "orange": (247, 140, 42),
    "yellow": (250, 210, 60),
    "green": (64, 168, 90),
    "teal": (32, 164, 170),
    "blue": (58, 106, 220),
    "purple": (132, 80, 190),
    "pink": (240, 120, 175),
}
CANVASES: dict[str, tuple[int, int, int]] = {
    "cream": (250, 243, 224),
    "mint": (209, 237, 218),
    "sky": (206, 229, 248),
    "peach": (252, 219, 200),
    "lilac": (226, 216, 245),
    "sand": (226, 208, 178),
    "stone": (205, 209, 214),
    "navy": (44, 56, 92),
}


class Relation(StrEnum):
    LEFT_OF = "left of"
    RIGHT_OF = "right of"
    ABOVE = "above"
    BELOW = "below"

    @property
    def inverse(self) -> Relation:
        """The relation seen from the other object."""
        return _INVERSE[self]


_INVERSE = {
    Relation.LEFT_OF: Relation.RIGHT_OF,
    Relation.RIGHT_OF: Relation.LEFT_OF,
    Relation.ABOVE: Relation.BELOW,
    Relation.BELOW: Relation.ABOVE,
}


@dataclass(frozen=True, kw_only=True)
class Group:
    """``count`` objects of one ``kind``, each on a tile of the colour ``tile`` (None: no tile)."""

    kind: str
    count: int = 1
    tile: str | None = None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a caption asks for. ``relation`` holds between the first and the second of two lone objects."""

    groups: tuple[Group, ...]
    relation: Relation | None = None
    canvas: str | None = None

    @property
    def num_objects(self) -> int:
        return sum(group.count for group in self.groups)


def caption(scene: Scene) -> str:
    """The scene in words; ``parse`` takes it back."""
    phrases = [_phrase(group) for group in scene.groups]
    if scene.relation is not None:
        text = f"{phrases[0]} {scene.relation} {phrases[1]}"
    elif len(phrases) == 3:
        text = f"{phrases[0]}, {phrases[1]} and {phrases[2]}"
    else:
        text = " and ".join(phrases)
    return on_canvas(text, scene.canvas)


def _phrase(group: Group) -> str:
    if group.count == 1:
        words = f"{article(group.kind)} {group.kind}"
    else:
        words = f"{COUNTS[group.count - 1]} {KINDS[group.kind]}"
    return words if group.tile is None else f"{words} on {group.tile}"


def article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


def on_canvas(text: str, canvas: str | None) -> str:
    """The words for a canvas behind the words for what lies on it; ``split_canvas`` takes them apart again."""
    return text if canvas is None else f"{text} on {article(canvas)} {canvas} canvas"


_SINGULAR = {plural: kind for kind, plural in KINDS.items()} | {kind: kind for kind in KINDS}
_NUMBER = {word: i + 1 for i, word in enumerate(COUNTS)} | {"a": 1, "an": 1, "1": 1, "2": 2, "3": 3, "4": 4}
_CANVAS = re.compile(r"\s*,?\s*on an? (?P<canvas>\w+) canvas$")
_RELATION = re.compile(r"\s(?:to the |is )?(?P<relation>left of|right of|above|below)\s")
_GROUP = re.compile(r"(?P<number>\w+) (?P<noun>\w+)(?: on (?:an? )?(?P<tile>\w+)(?: tile)?)?")
_FUNCTION_WORDS = frozenset("a an on and canvas tile to the is left right of above below".split())
VOCABULARY: frozenset[str] = frozenset(
    _FUNCTION_WORDS | _SINGULAR.keys() | set(COUNTS) | TILES.keys() | CANVASES.keys() | {"1", "2", "3", "4"}
)


def words(text: str) -> list[str]:
    """The lower-case words of a text, without punctuation."""
    return re.findall(r"[^\W_]+", text.lower())


def unknown_words(text: str, vocabulary: Collection[str] = VOCABULARY) -> list[str]:
    """Words of a caption that the emoji world has no meaning for, in order, each once."""
    return list(dict.fromkeys(word for word in words(text) if word not in vocabulary))


def split_canvas(text: str) -> tuple[str, str | None]:
    """A caption in lower case with single spaces and no full stop: what comes before the canvas, and the canvas.

    Raises:
        RequestError: if there is no such canvas.
    """
    rest = " ".join(text.lower().strip().rstrip(".").split())
    match = _CANVAS.search(rest)
    if not match:
        return rest, None
    if match["canvas"] not in CANVASES:
        raise RequestError(f"no canvas {match['canvas']!r}; there are {', '.join(CANVASES)}")
    return rest[: match.start()], match["canvas"]


def parse(text: str) -> Scene:
    """The meaning of a caption.

    Raises:
        RequestError: if the caption is outside the grammar; the message says where it stopped.
    """
    rest, canvas = split_canvas(text)
    relation = None
    if match := _RELATION.search(rest):
        relation = Relation(match["relation"])
        parts = [rest[: match.start()], rest[match.end() :]]
    else:
        parts = [part for part in re.split(r",\s*(?:and )?|\sand\s", rest)]
    groups = tuple(_parse_group(part) for part in parts)
    if len(groups) > 3 or (relation and any(group.count > 1 for group in groups)):
        raise RequestError(f"{text!r}: at most three groups, and relations hold between single objects")
    return Scene(groups=groups, relation=relation, canvas=canvas)


def _parse_group(text: str) -> Group:
    match = _GROUP.fullmatch(text.strip())
    if not match or match["number"] not in _NUMBER or match["noun"] not in _SINGULAR:
        raise RequestError(f"cannot read {text.strip()!r}; write for example 'a cat', 'three foxes' or 'a dog on blue'")
    if match["tile"] is not None and match["tile"] not in TILES:
        raise RequestError(f"no tile colour {match['tile']!r}; there are {', '.join(TILES)}")
    return Group(kind=_SINGULAR[match["noun"]], count=_NUMBER[match["number"]], tile=match["tile"])


Meaning = tuple[str, tuple[tuple[str, int, str], ...]]


def meaning(scene: Scene) -> Meaning:
    """A key that is equal for paraphrases: order of groups, inverse relation and canvas do not matter."""
    groups = tuple((group.kind, group.count, group.tile or "") for group in scene.groups)
    if scene.relation is None:
        return "", tuple(sorted(groups))
    if scene.relation in (Relation.RIGHT_OF, Relation.BELOW):
        return scene.relation.inverse.value, groups[::-1]
    return scene.relation.value, groups


def paraphrase(scene: Scene, rng: Generator) -> Scene:
    """The same scene told another way: groups in another order, the relation from the other side."""
    if len(scene.groups) == 2 and rng.random() < 0.5:
        relation = scene.relation.inverse if scene.relation else None
        return replace(scene, groups=scene.groups[::-1], relation=relation)
    return scene
