"""What the study needs of a store: atomic units of work on one study's records.

``with store.writing(study_id) as records`` excludes every other writer, commits on leaving the block and undoes
everything on an error; what a durable block returns may be acknowledged. ``reading`` sees one consistent state and
holds nobody up. Both raise `StorageError`, with the cure, when the database refuses.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Protocol

from tdm_core.study.rules import Study
from tdm_core.study.schedule import Usage
from tdm_core.study.trials import Rater, Trial, Vote


class Records(Protocol):
    """One study's records inside one unit of work."""

    def study(self) -> Study | None: ...

    def add_study(self, study: Study) -> None: ...

    def open_study(self, at_ms: int) -> None: ...

    def close_study(self, at_ms: int) -> None: ...

    def set_paused(self, at_ms: int | None) -> None:
        """Since when an operator holds the study up; ``None`` lets it go on."""
        ...

    def trial(self, trial_id: str) -> Trial | None: ...

    def trial_of_media(self, media_token: str) -> Trial | None: ...

    def trials_of(self, rater_id: str) -> list[Trial]:
        """In the order of their positions."""
        ...

    def trials(self) -> list[Trial]:
        """All of the study, in any order."""
        ...

    def add_trial(self, trial: Trial) -> None: ...

    def mark_sent(self, trial_id: str, at_ms: int) -> None: ...

    def mark_skipped(self, trial_id: str, at_ms: int) -> None: ...

    def usage(self, now_ms: int) -> Usage:
        """Real trials per pair and left arm that are voted on, or neither skipped nor expired."""
        ...

    def vote_on(self, trial_id: str) -> Vote | None: ...

    def add_vote(self, vote: Vote) -> None:
        """Raises `DuplicateVoteError` if the trial has a vote, whatever its choice."""
        ...

    def votes(self, rater_id: str | None = None) -> list[Vote]:
        """All votes, or one rater's, oldest first."""
        ...

    def answered_by(self, rater_id: str) -> set[str]:
        """The ids of the rater's trials that have a vote."""
        ...

    def vote_count(self) -> int: ...

    def rater(self, rater_id: str) -> Rater | None: ...

    def put_rater(self, rater: Rater) -> None:
        """Add the rater, or replace what is known of them."""
        ...

    def withdrawn(self) -> set[str]:
        """The ids of raters who have withdrawn."""
        ...

    def add_invites(self, invites: Collection[str]) -> None:
        """The hashes of codes that let one rater in each."""
        ...

    def is_free_invite(self, invite: str) -> bool:
        """Whether the study gave out this hash's code and no rater holds it."""
        ...

    def add_event(self, kind: str, at_ms: int, detail: str = "") -> None:
        """Note what an operator did; such notes are never changed."""
        ...

    def events(self) -> list[tuple[str, int, str]]:
        """(kind, time, detail), oldest first."""
        ...


class Store(Protocol):
    def writing(self, study_id: str, *, durable: bool = True) -> AbstractContextManager[Records]:
        """``durable=False``: a power cut may undo the block, though never without undoing all that came after it."""
        ...

    def reading(self, study_id: str) -> AbstractContextManager[Records]: ...
