"""Suites: which prompts a system is asked, and the seed of each picture.

A seed depends on the prompt and the picture's number alone, so that every arm starts from the same noise, and a longer
run contains a shorter one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path

from tdm_core.errors import ConfigError, EvaluationError, RequestError
from tdm_core.evaluation.published import SOURCES, Question, questions, where
from tdm_core.generation.media import write_whole
from tdm_core.generation.sample import MediaKind, check_prompt
from tdm_core.scenes import suite as scenes_suite
from tdm_core.scenes.moving import suite as moving_suite

KEPT = "suite.json"
DOWNLOADS = Path("data/suites")
OWN: dict[MediaKind, str] = {"image": "scenes", "video": "moving"}
"""Which of our suites a system is asked that makes such media."""
NOUNS: dict[MediaKind, str] = {"image": "pictures", "video": "clips"}
LICENCE = "Apache-2.0"
SOURCE_OF = {"scenes": "made by tdm_core/scenes/suite.py", "moving": "made by tdm_core/scenes/moving/suite.py"}


@dataclass(frozen=True, kw_only=True)
class Item:
    """One prompt of a suite; the id is part of file names."""

    id: str
    prompt: str
    tag: str
    eval_prompt: str = ""
    """What the picture is scored against; empty: the prompt."""
    clauses: str = ""
    """What the suite itself says of the prompt, as its JSON."""

    @property
    def asked(self) -> str:
        return self.eval_prompt or self.prompt

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


def load_suite(name: str, downloads: Path = DOWNLOADS) -> Suite:
    """A suite by its name, or a file's prompts; ``downloads`` holds what may not be shipped.

    Raises:
        ConfigError: if there is none of that name, or it can be neither found nor fetched.
    """
    if name in _SUITES:
        return _suite(name, _SUITES[name]())
    if name in SOURCES:
        return _suite(name, _items(questions(name, downloads)))
    path = Path(name)
    if path.is_file():
        return _suite(f"file:{path.stem}", _items(_file_questions(path)))
    known = ", ".join([*_SUITES, *SOURCES])
    raise ConfigError(f"--suite {name}: no such suite, nor a file of prompts; there are: {known}")


def media_of(suite: str) -> MediaKind | None:
    """What a suite's prompts ask for; None: a file's prompts may ask for either."""
    if suite in SOURCES:
        return SOURCES[suite].media
    return next((media for media, name in OWN.items() if name == suite), None)


def suite_list(downloads: Path = DOWNLOADS) -> list[str]:
    """A line for each suite: name, prompts, licence, whether it is here, what it is."""
    lines = [
        f"{name:<13} {len(make()):>6} prompts, {LICENCE}; shipped; this project's own, {SOURCE_OF[name]}"
        for name, make in _SUITES.items()
    ]
    for name, source in SOURCES.items():
        fetched = all((where(name, downloads) / file).exists() for file in source.files)
        here = "shipped" if source.shipped else "downloaded" if fetched else "downloaded when used"
        lines.append(f"{name:<13} {source.prompts:>6} prompts, {source.licence}; {here}; {source.note}")
    return [*lines, "FILE          one prompt a line, or tag<TAB>prompt; # starts a comment"]


def keep_suite(folder: Path, suite: Suite) -> None:
    """Leave a suite that is not shipped beside its pictures, so that they can be scored anywhere, for ever."""
    if suite.name not in _SUITES:
        content = {"name": suite.name, "items": [asdict(item) for item in suite.items]}
        write_whole(folder / KEPT, (json.dumps(content, ensure_ascii=False) + "\n").encode())


def suite_of_run(folder: Path, name: str) -> Suite:
    """The suite that a run was made for.

    Raises:
        EvaluationError: if the run should hold its prompts and does not.
    """
    if name in _SUITES:
        return load_suite(name)
    try:
        content = json.loads((folder / KEPT).read_text(encoding="utf-8"))
        return _suite(content["name"], tuple(Item(**item) for item in content["items"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise EvaluationError(f"{folder / KEPT}: missing or damaged.\nGenerate the run again.") from None


def _suite(name: str, items: tuple[Item, ...]) -> Suite:
    content = "\n".join(
        "\t".join([item.id, item.tag, item.prompt, *filter(None, (item.eval_prompt, item.clauses))]) for item in items
    )
    return Suite(name=name, items=items, sha256=hashlib.sha256(content.encode()).hexdigest())


def _items(asked: Iterable[Question]) -> tuple[Item, ...]:
    """Numbered in the source's order; the categories take turns, so that a limited run holds some of each."""
    by_tag: dict[str, list[Item]] = {}
    for number, question in enumerate(asked):
        item = Item(id=f"{re.sub(r'[^a-z0-9_-]+', '_', question.tag.lower())}-{number:05d}", **asdict(question))
        by_tag.setdefault(question.tag, []).append(item)
    return tuple(item for row in zip_longest(*by_tag.values()) for item in row if item is not None)


def _file_questions(path: Path) -> list[Question]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ConfigError(f"--suite {path}: no UTF-8 text; it takes one prompt a line") from None
    found = []
    for number, line in enumerate(lines, start=1):
        tag, _, prompt = line.strip().rpartition("\t")
        if not prompt or line.startswith("#"):
            continue
        try:
            check_prompt(prompt)
        except RequestError as error:
            raise ConfigError(f"--suite {path}, line {number}: {error}") from None
        found.append(Question(prompt=prompt, tag=tag or "prompt"))
    if not found:
        raise ConfigError(f"--suite {path}: no prompts in it; it takes one a line")
    return found


def _in_turn(prompts: Sequence[scenes_suite.SuitePrompt]) -> tuple[Item, ...]:
    """Numbered as the file has them, in the order in which a limited run takes them."""
    ids = {(item.tag, item.prompt): f"{item.tag}-{number:03d}" for number, item in enumerate(prompts)}
    in_turn = scenes_suite.limited(prompts, None)
    return tuple(Item(id=ids[item.tag, item.prompt], prompt=item.prompt, tag=item.tag.value) for item in in_turn)


_SUITES: dict[str, Callable[[], tuple[Item, ...]]] = {
    "scenes": lambda: _in_turn(scenes_suite.load_suite()),
    "moving": lambda: _in_turn(moving_suite.load_suite()),
}
