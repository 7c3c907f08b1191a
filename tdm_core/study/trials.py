"""The facts of a blind study: a pair of arms, one rater's trial of it, and the vote.

An *arm* is a system under study (here ``student`` and ``teacher``). A `Trial` knows which arm lies where and never
leaves the server; what a rater gets to see of it is an `Offer`. Times are UTC in whole milliseconds.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

SPOILED = "spoiled"  # what lies opposite a good picture where the right answer is known: that picture, broken visibly


class Choice(StrEnum):
    LEFT = "left"
    RIGHT = "right"
    TIE = "tie"
    BOTH_BAD = "both_bad"

    @property
    def mirrored(self) -> Choice:
        """The same answer with the sides exchanged."""
        return {Choice.LEFT: Choice.RIGHT, Choice.RIGHT: Choice.LEFT}.get(self, self)


class Purpose(StrEnum):
    """What a trial is for. Only REAL ones say something about the arms; a rater cannot tell the others from them."""

    REAL = "real"
    PRACTICE = "practice"  # a known answer, told afterwards
    GOLD = "gold"  # a known answer, not told
    IDENTICAL = "identical"  # the same picture twice
    REPEAT = "repeat"  # an earlier real trial with its sides exchanged


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
    @property
    def frames(self) -> int: ...
    @property
    def fps(self) -> int: ...
    @property
    def length_ms(self) -> int:
        """Of one loop of a video; 0 for pictures."""
        ...

    @property
    def category(self) -> str: ...
    @property
    def control_arm(self) -> str:
        """The arm that was also packed with itself and with its spoiled copy; empty if none was."""
        ...


class PairSource(Protocol):
    """Where pairs come from; it may still be growing."""

    def pairs(self) -> Sequence[Pair]: ...

    def packed(self, pair_id: str, left_arm: str, right_arm: str) -> bytes:
        """Both sides in one body; equally long whatever lies where. A side is an arm or `SPOILED`."""
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
    skipped_at_ms: int | None = None
    purpose: Purpose = Purpose.REAL
    repeat_of: str | None = None  # the trial whose sides are exchanged here

    @property
    def right_answer(self) -> Choice | None:
        """What every attentive rater answers; ``None`` where it is a matter of taste."""
        if self.left_arm == self.right_arm:
            return Choice.TIE
        return {self.left_arm: Choice.RIGHT, self.right_arm: Choice.LEFT}.get(SPOILED)

    def preferred(self, choice: Choice) -> str | None:
        """The arm the rater preferred; ``None`` for a tie or both bad."""
        return {Choice.LEFT: self.left_arm, Choice.RIGHT: self.right_arm}.get(choice)


@dataclass(frozen=True, kw_only=True)
class Vote:
    """What a rater answered to a trial."""

    trial: Trial
    choice: Choice  # overall
    cast_at_ms: int
    criteria: Mapping[str, Choice] = field(default_factory=dict)  # the study's further questions
    confidence: int | None = None  # 1 guessed, 2 rather sure, 3 sure; ``None`` if not told

    @property
    def preferred(self) -> str | None:
        """The arm the rater preferred; ``None`` for a tie or both bad."""
        return self.trial.preferred(self.choice)


@dataclass(frozen=True, kw_only=True)
class Rater:
    """Whoever judges: a random number, and what was agreed with it."""

    id: str
    consented_at_ms: int | None = None
    invite: str | None = None  # SHA-256 of the code that let them in
    withdrawn_at_ms: int | None = None


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
    frames: int = 1
    fps: int = 1
    practice: bool = False
    question: str = ""
    criteria: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StudyStatus:
    """Where the study stands: ``draft``, ``preparing``, ``open``, ``paused`` or ``closed``."""

    state: str
    pairs: int
    needed: int
    target: int
    votes: int
    may_close: bool = False  # from the page
    kind: str = "image"  # of what is shown


def new_id() -> str:
    """128 random bits, so that no id can be guessed and none tells anything."""
    return secrets.token_hex(16)


def is_id(text: str) -> bool:
    """Whether ``text`` has the form of `new_id`; what has not is unknown without asking the database."""
    return re.fullmatch("[0-9a-f]{32}", text) is not None
