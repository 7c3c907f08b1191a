"""The facts of a blind study: a pair of arms, one rater's trial of it, and the vote.

An *arm* is a system under study (here ``student`` and ``teacher``). A `Trial` knows which arm lies where and never
leaves the server; what a rater gets to see of it is an `Offer`. Times are UTC in whole milliseconds.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Choice(StrEnum):
    LEFT = "left"
    RIGHT = "right"
    TIE = "tie"
    BOTH_BAD = "both_bad"


class Pair(Protocol):
    """The study's two arms on one prompt, made beforehand from one seed."""

    @property
    def id(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


class PairSource(Protocol):
    """Where pairs come from; it may still be growing."""

    def pairs(self) -> Sequence[Pair]: ...

    def packed(self, pair_id: str, left_arm: str) -> bytes:
        """Both sides in one body, ``left_arm`` left; equally long whichever arm lies left."""
        ...


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One blind comparison by one rater. Knows which arm lies where; never leaves the server."""

    id: str
    rater_id: str
    position: int  # 0 for the rater's first trial
    pair_id: str
    prompt: str
    left_arm: str
    right_arm: str
    media_token: str
    issued_at_ms: int
    expires_at_ms: int
    sent_at_ms: int | None = None  # when the body with both sides had been sent in full

    def preferred(self, choice: Choice) -> str | None:
        """The arm the rater preferred; ``None`` for a tie or both bad."""
        return {Choice.LEFT: self.left_arm, Choice.RIGHT: self.right_arm}.get(choice)


@dataclass(frozen=True, kw_only=True)
class Vote:
    """What a rater answered to a trial."""

    trial: Trial
    choice: Choice
    cast_at_ms: int

    @property
    def preferred(self) -> str | None:
        """The arm the rater preferred; ``None`` for a tie or both bad."""
        return self.trial.preferred(self.choice)


@dataclass(frozen=True, kw_only=True)
class Study:
    """One study's life; ``side_secret`` feeds the drawing of sides and never leaves the server."""

    id: str
    side_secret: str
    created_at_ms: int
    closed_at_ms: int | None = None


@dataclass(frozen=True, kw_only=True)
class StudyRules:
    """What is fixed before the first vote."""

    arms: tuple[str, str] = ("student", "teacher")  # results are the first one's share
    needed: int = 10  # pairs, before the first trial
    target: int = 40  # pairs
    min_view_ms: int = 1500  # from the last byte sent to the earliest vote
    trial_life_ms: int = 15 * 60 * 1000  # from issue to the latest vote


@dataclass(frozen=True, kw_only=True)
class Offer:
    """All that a rater's browser learns of a trial."""

    trial: str
    media: str
    prompt: str
    number: int  # 1 for the rater's first answer
    total: int
    min_view_ms: int
    width: int  # of one side, in pixels
    height: int
    kind: str


@dataclass(frozen=True, kw_only=True)
class StudyStatus:
    """Where the study stands: ``preparing``, ``open`` or ``closed``."""

    state: str
    pairs: int
    needed: int
    target: int
    votes: int


def new_id() -> str:
    """128 random bits, so that no id can be guessed and none tells anything."""
    return secrets.token_hex(16)


def is_id(text: str) -> bool:
    """Whether ``text`` has the form of `new_id`; what has not is unknown without asking the database."""
    return re.fullmatch("[0-9a-f]{32}", text) is not None
