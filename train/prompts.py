"""Writes the training prompts that ship: ``python -m train.prompts`` makes assets/prompts/training.txt.

Distillation needs no pictures, only prompts as people write them.  The published list (JourneyDB) may not be passed on;
this one is put together from words of this project's own: patterns, whose ``{names}`` stand for one of several phrases.
The same file comes out everywhere.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

from train.prompt_words import PATTERNS

FILE = Path(__file__).parents[1] / "assets" / "prompts" / "training.txt"
SEED = 0
HEADER = """\
# Training prompts, one a line: photographs, art, arrangements and lettering, motion.
# Source: put together by train/prompts.py from words of this project's own.
# Licence: CC0 1.0, https://creativecommons.org/publicdomain/zero/1.0/
"""

COUNTS = {"photograph": 900, "art": 600, "arrangement": 400, "motion": 500}
"""How many prompts each kind has."""


def prompts() -> list[str]:
    """All prompts, each once, kinds mixed."""
    rng = random.Random(SEED)
    made: dict[str, None] = {}
    for kind, count in COUNTS.items():
        first = len(made)
        while len(made) < first + count:
            # In turn, so that patterns with many words do not crowd out the others.
            pattern = PATTERNS[kind][len(made) % len(PATTERNS[kind])]
            made.setdefault(_filled(pattern, rng))
    return sorted(made, key=lambda _: rng.random())


def text() -> str:
    """The file."""
    return HEADER + "".join(f"{prompt}\n" for prompt in prompts())


def _filled(pattern: str, rng: random.Random) -> str:
    """Every name in its turn replaced; a phrase is not said twice in one prompt."""
    while match := re.search(r"\{(\w+)\}", pattern):
        before, after = pattern[: match.start()], pattern[match.end() :]
        phrases = [phrase for phrase in PATTERNS[match[1]] if phrase not in before + after]
        # Of Python's generators `random` alone promises the same numbers in every version.
        pattern = before + phrases[int(rng.random() * len(phrases))] + after
    return pattern


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(f"wrote {FILE.name}: {sum(COUNTS.values()):,} prompts")
