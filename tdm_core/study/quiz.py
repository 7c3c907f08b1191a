"""The quiz: a few pairs, one picture above the other, one click each; where the student lay is told at the end.

For fun, not for science: nothing is stored, and its pairs are none of the blind study's, so that nobody learns from
the answers which pictures of the study are whose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from tdm_core.errors import ConfigError, RequestError, UnknownTrialError
from tdm_core.study.trials import Pair, PairSource
from tdm_core.toml_config import from_toml

Place = Literal["top", "bottom"]


@dataclass(frozen=True, kw_only=True)
class QuizRules:
    """A quiz's TOML file."""

    preset: str
    prompts: tuple[str, ...]  # one pair each, in this order
    question: str = "Which one do you think is better?"

    def __post_init__(self) -> None:
        if not 1 <= len(self.prompts) <= 20 or len(set(self.prompts)) != len(self.prompts):
            raise ValueError(f"prompts: 1 to 20, all different, got {len(self.prompts)}")


@dataclass(frozen=True, kw_only=True)
class Graded:
    """One question's answer."""

    prompt: str
    student: Place
    chosen: Place


class Quiz:
    """The questions over a source of pairs, which may still be growing."""

    def __init__(self, rules: QuizRules, pairs: PairSource, *, arms: tuple[str, str] = ("student", "teacher")) -> None:
        self.rules, self._source, self._arms = rules, pairs, arms

    def status(self) -> dict[str, Any]:
        """What the page needs; nothing on where the student lies."""
        rules = self.rules
        return {"pairs": len(self._pairs()), "total": len(rules.prompts)} | {
            "question": rules.question,
            "prompts": rules.prompts,
        }

    def media(self, number: int) -> bytes:
        """Both sides of question ``number``, from 1, as one body: its left half lies on top.

        Raises:
            UnknownTrialError: if there is no such question yet.
        """
        pairs = self._pairs()
        if not 1 <= number <= len(pairs):
            raise UnknownTrialError("There is no such question yet.")
        pair = pairs[number - 1]
        top = 0 if _student_place(pair) == "top" else 1
        return self._source.packed(pair.id, self._arms[top], self._arms[1 - top])

    def grade(self, choices: Sequence[object]) -> list[Graded]:
        """Where the student lay in each question, once all are answered.

        Raises:
            RequestError: if there are more or fewer answers than questions, or one is neither top nor bottom.
        """
        pairs = self._pairs()
        if len(choices) != len(self.rules.prompts) or len(pairs) < len(choices) or not set(choices) <= PLACES:
            raise RequestError(f"The quiz takes {len(self.rules.prompts)} answers, each of them top or bottom.")
        return [
            Graded(prompt=pair.prompt, student=_student_place(pair), chosen=choice)  # type: ignore[arg-type]
            for pair, choice in zip(pairs, choices, strict=True)
        ]

    def _pairs(self) -> list[Pair]:
        """Those that exist, one for each prompt, in the order of the questions and without a gap."""
        made = {pair.prompt: pair for pair in self._source.pairs()}
        found: list[Pair] = []
        for prompt in self.rules.prompts:
            if prompt not in made:
                break
            found.append(made[prompt])
        return found


PLACES = frozenset(get_args(Place))


def read_quiz(folder: Path, preset: str) -> QuizRules | None:
    """The quiz of ``folder`` on this preset, if there is one.

    Raises:
        ConfigError: if a file there cannot be used.
    """
    found = [rules for path in sorted(folder.glob("*.toml")) if (rules := from_toml(QuizRules, path)).preset == preset]
    if len(found) > 1:
        raise ConfigError(f"{folder}: {len(found)} quizzes on {preset}; keep one")
    return found[0] if found else None


def _student_place(pair: Pair) -> Place:
    """Follows from the pair's secret id, so that nothing has to be stored and a reload shows the same."""
    return "bottom" if hashlib.sha256(pair.id.encode()).digest()[0] % 2 else "top"
