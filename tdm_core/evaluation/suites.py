"""Suites: which prompts a system is asked, and the seed of each picture.

A seed depends on the prompt and the picture's number alone, so that every arm starts from the same noise, and a longer
run contains a shorter one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tdm_core.errors import ConfigError
from tdm_core.scenes import suite as scenes_suite
from tdm_core.scenes.moving import suite as moving_suite


@dataclass(frozen=True, kw_only=True)
class Item:
    """One prompt of a suite; the id is part of file names."""

    id: str
    prompt: str
    tag: str

    def seed(self, number: int) -> int:
        """The seed of this prompt's picture ``number``, in 0 .. 2^32 - 1."""
        return int.from_bytes(hashlib.sha256(f"{self.prompt}\0{number}".encode()).digest()[:4], "big")


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Prompts in the order in which a limited run takes them; ``sha256`` names the whole suite."""

    name: str
    items: tuple[Item, ...]
    sha256: str

    def limited(self, limit: int | None) -> tuple[Item, ...]:
        """The first ``limit`` items; all if None."""
        return self.items[:limit]


def load_suite(name: str) -> Suite:
    """A suite by its name.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in _SUITES:
        raise ConfigError(f"--suite {name}: no such suite; there are: {', '.join(_SUITES)}")
    items = _SUITES[name]()
    content = "\n".join(f"{item.id}\t{item.tag}\t{item.prompt}" for item in items)
    return Suite(name=name, items=items, sha256=hashlib.sha256(content.encode()).hexdigest())


def _in_turn(prompts: Sequence[scenes_suite.SuitePrompt]) -> tuple[Item, ...]:
    """Numbered as the file has them, in the order in which a limited run takes them."""
    ids = {(item.tag, item.prompt): f"{item.tag}-{number:03d}" for number, item in enumerate(prompts)}
    in_turn = scenes_suite.limited(prompts, None)
    return tuple(Item(id=ids[item.tag, item.prompt], prompt=item.prompt, tag=item.tag.value) for item in in_turn)


_SUITES: dict[str, Callable[[], tuple[Item, ...]]] = {
    "scenes": lambda: _in_turn(scenes_suite.load_suite()),
    "moving": lambda: _in_turn(moving_suite.load_suite()),
}
