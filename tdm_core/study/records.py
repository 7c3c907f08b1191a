"""What the study needs of a store: atomic units of work on one study's records.

``with store.writing(study_id) as records`` excludes every other writer, commits on leaving the block and undoes
everything on an error; what the block returns may be acknowledged. ``reading`` sees one consistent state and holds
nobody up. Both raise `StorageError`, with the cure, when the database refuses.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from tdm_core.study.schedule import Usage
from tdm_core.study.trials import Study, Trial, Vote


class Records(Protocol):
    """One study's records inside one unit of work."""

    def study(self) -> Study | None: ...

    def add_study(self, study: Study) -> None: ...

    def close_study(self, at_ms: int) -> None: ...

    def trial(self, trial_id: str) -> Trial | None: ...

    def trial_of_media(self, media_token: str) -> Trial | None: ...

    def trials_of(self, rater_id: str) -> list[Trial]:
        """In the order of their positions."""
        ...

    def add_trial(self, trial: Trial) -> None: ...

    def mark_sent(self, trial_id: str, at_ms: int) -> None: ...

    def usage(self, now_ms: int) -> Usage:
        """Trials per pair and left arm, voted on or not yet expired."""
        ...

    def vote_on(self, trial_id: str) -> Vote | None: ...

    def add_vote(self, vote: Vote) -> None:
        """Raises `DuplicateVoteError` if the trial has a vote, whatever its choice."""
        ...

    def votes(self, rater_id: str | None = None) -> list[Vote]:
        """All votes, or one rater's, oldest first."""
        ...

    def vote_count(self) -> int: ...


class Store(Protocol):
    def writing(self, study_id: str) -> AbstractContextManager[Records]: ...

    def reading(self, study_id: str) -> AbstractContextManager[Records]: ...
