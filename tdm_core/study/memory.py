"""A store in memory, for tests and simulated studies; it keeps the same contract as the one on a database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Lock

from tdm_core.errors import DuplicateVoteError
from tdm_core.study.schedule import Usage
from tdm_core.study.trials import Study, Trial, Vote


@dataclass
class MemoryRecords:
    """One study's records as plain dictionaries, in the order of their making."""

    _study: Study | None = None
    _trials: dict[str, Trial] = field(default_factory=dict)
    _votes: dict[str, Vote] = field(default_factory=dict)

    def study(self) -> Study | None:
        return self._study

    def add_study(self, study: Study) -> None:
        self._study = study

    def close_study(self, at_ms: int) -> None:
        assert self._study, "a study is created before it is closed"
        self._study = replace(self._study, closed_at_ms=at_ms)

    def trial(self, trial_id: str) -> Trial | None:
        return self._trials.get(trial_id)

    def trial_of_media(self, media_token: str) -> Trial | None:
        return next((trial for trial in self._trials.values() if trial.media_token == media_token), None)

    def trials_of(self, rater_id: str) -> list[Trial]:
        return [trial for trial in self._trials.values() if trial.rater_id == rater_id]

    def add_trial(self, trial: Trial) -> None:
        self._trials[trial.id] = trial

    def mark_sent(self, trial_id: str, at_ms: int) -> None:
        self._trials[trial_id] = replace(self._trials[trial_id], sent_at_ms=at_ms)

    def usage(self, now_ms: int) -> Usage:
        live = (t for t in self._trials.values() if t.id in self._votes or t.expires_at_ms > now_ms)
        return Counter((trial.pair_id, trial.left_arm) for trial in live)

    def vote_on(self, trial_id: str) -> Vote | None:
        return self._votes.get(trial_id)

    def add_vote(self, vote: Vote) -> None:
        if vote.trial.id in self._votes:
            raise DuplicateVoteError(f"Trial {vote.trial.id} already has a vote.")
        self._votes[vote.trial.id] = vote

    def votes(self, rater_id: str | None = None) -> list[Vote]:
        return [vote for vote in self._votes.values() if rater_id in (None, vote.trial.rater_id)]

    def vote_count(self) -> int:
        return len(self._votes)


class MemoryStore:
    """All studies of one process."""

    def __init__(self) -> None:
        self._studies: dict[str, MemoryRecords] = {}
        self._lock = Lock()

    @contextmanager
    def writing(self, study_id: str) -> Iterator[MemoryRecords]:
        with self._lock:
            old = self._studies.get(study_id, MemoryRecords())
            new = MemoryRecords(old._study, dict(old._trials), dict(old._votes))
            yield new
            self._studies[study_id] = new  # not reached after an error: nothing half-done stays

    @contextmanager
    def reading(self, study_id: str) -> Iterator[MemoryRecords]:
        yield self._studies.get(study_id, MemoryRecords())
