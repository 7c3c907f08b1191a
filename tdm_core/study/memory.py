"""A store in memory, for tests and simulated studies; it keeps the same contract as the one on a database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import RLock

from tdm_core.errors import DuplicateVoteError
from tdm_core.study.rules import Study
from tdm_core.study.schedule import Usage
from tdm_core.study.trials import Purpose, Rater, Trial, Vote


class MemoryRecords:
    """One study's records as plain dictionaries, in the order of their making, with the indexes that pay."""

    def __init__(self) -> None:
        self._study: Study | None = None
        self._trials: dict[str, Trial] = {}
        self._by_media: dict[str, str] = {}
        self._by_rater: dict[str, dict[str, None]] = {}  # rater -> ids of their trials
        self._votes: dict[str, Vote] = {}
        self._used: Usage = Counter()  # of real trials that are not skipped
        self._unanswered: dict[str, None] = {}  # those of them that have no vote
        self._raters: dict[str, Rater] = {}
        self._invites: set[str] = set()
        self._events: list[tuple[str, int, str]] = []
        self._undo: list[Callable[[], object]] = []

    def study(self) -> Study | None:
        return self._study

    def add_study(self, study: Study) -> None:
        self._set_study(study)

    def open_study(self, at_ms: int) -> None:
        assert self._study, "a study is created before it is opened"
        self._set_study(replace(self._study, opened_at_ms=at_ms))

    def close_study(self, at_ms: int) -> None:
        assert self._study, "a study is created before it is closed"
        self._set_study(replace(self._study, closed_at_ms=at_ms))

    def set_paused(self, at_ms: int | None) -> None:
        assert self._study, "a study is created before it is paused"
        self._set_study(replace(self._study, paused_at_ms=at_ms))

    def trial(self, trial_id: str) -> Trial | None:
        return self._trials.get(trial_id)

    def trial_of_media(self, media_token: str) -> Trial | None:
        trial_id = self._by_media.get(media_token)
        return self._trials[trial_id] if trial_id else None

    def trials_of(self, rater_id: str) -> list[Trial]:
        return [self._trials[trial_id] for trial_id in self._by_rater.get(rater_id, ())]

    def trials(self) -> list[Trial]:
        return list(self._trials.values())

    def add_trial(self, trial: Trial) -> None:
        mine = self._by_rater.setdefault(trial.rater_id, {})
        self._trials[trial.id], self._by_media[trial.media_token], mine[trial.id] = trial, trial.id, None
        self._count(trial, 1)
        self._undo.append(lambda: (self._trials.pop(trial.id), self._by_media.pop(trial.media_token)))
        self._undo.append(lambda: mine.pop(trial.id))
        self._undo.append(lambda: self._count(trial, -1))

    def mark_sent(self, trial_id: str, at_ms: int) -> None:
        self._replace(replace(self._trials[trial_id], sent_at_ms=at_ms))

    def mark_skipped(self, trial_id: str, at_ms: int) -> None:
        trial = self._trials[trial_id]
        self._replace(replace(trial, skipped_at_ms=at_ms))
        self._count(trial, -1)
        self._undo.append(lambda: self._count(trial, 1))

    def usage(self, now_ms: int) -> Usage:
        lapsed = [trial for trial in map(self._trials.__getitem__, self._unanswered) if trial.expires_at_ms <= now_ms]
        return self._used - Counter((trial.pair_id, trial.left_arm) for trial in lapsed) if lapsed else self._used

    def vote_on(self, trial_id: str) -> Vote | None:
        return self._votes.get(trial_id)

    def add_vote(self, vote: Vote) -> None:
        trial = vote.trial
        if trial.id in self._votes:
            raise DuplicateVoteError(f"Trial {trial.id} already has a vote.")
        self._votes[trial.id] = vote
        self._undo.append(lambda: self._votes.pop(trial.id))
        if trial.id in self._unanswered:
            del self._unanswered[trial.id]
            self._undo.append(lambda: self._unanswered.update({trial.id: None}))

    def votes(self, rater_id: str | None = None) -> list[Vote]:
        if rater_id is None:
            return list(self._votes.values())
        return [self._votes[trial_id] for trial_id in self._by_rater.get(rater_id, ()) if trial_id in self._votes]

    def answered_by(self, rater_id: str) -> set[str]:
        return {trial_id for trial_id in self._by_rater.get(rater_id, ()) if trial_id in self._votes}

    def vote_count(self) -> int:
        return len(self._votes)

    def rater(self, rater_id: str) -> Rater | None:
        return self._raters.get(rater_id)

    def put_rater(self, rater: Rater) -> None:
        before = self._raters.get(rater.id)
        self._raters[rater.id] = rater
        self._undo.append(
            lambda: self._raters.update({before.id: before}) if before else self._raters.pop(rater.id, None)
        )

    def withdrawn(self) -> set[str]:
        return {rater.id for rater in self._raters.values() if rater.withdrawn_at_ms is not None}

    def add_invites(self, invites: Collection[str]) -> None:
        fresh = set(invites) - self._invites
        self._invites |= fresh
        self._undo.append(lambda: self._invites.difference_update(fresh))

    def is_free_invite(self, invite: str) -> bool:
        return invite in self._invites and all(rater.invite != invite for rater in self._raters.values())

    def add_event(self, kind: str, at_ms: int, detail: str = "") -> None:
        self._events.append((kind, at_ms, detail))
        self._undo.append(self._events.pop)

    def events(self) -> list[tuple[str, int, str]]:
        return list(self._events)

    def commit(self) -> None:
        self._undo.clear()

    def roll_back(self) -> None:
        while self._undo:
            self._undo.pop()()

    def _set_study(self, study: Study) -> None:
        before, self._study = self._study, study
        self._undo.append(lambda: setattr(self, "_study", before))

    def _replace(self, trial: Trial) -> None:
        before, self._trials[trial.id] = self._trials[trial.id], trial
        self._undo.append(lambda: self._trials.update({before.id: before}))

    def _count(self, trial: Trial, by: int) -> None:
        if trial.purpose is not Purpose.REAL:
            return
        self._used[trial.pair_id, trial.left_arm] += by
        if not self._used[trial.pair_id, trial.left_arm]:
            del self._used[trial.pair_id, trial.left_arm]
        if by > 0 and trial.id not in self._votes:
            self._unanswered[trial.id] = None
        else:
            self._unanswered.pop(trial.id, None)


class MemoryStore:
    """All studies of one process; one unit of work at a time."""

    def __init__(self) -> None:
        self._studies: dict[str, MemoryRecords] = {}
        self._lock = RLock()

    @contextmanager
    def writing(self, study_id: str, *, durable: bool = True) -> Iterator[MemoryRecords]:
        with self._lock:
            records = self._records(study_id)
            try:
                yield records
            except BaseException:
                records.roll_back()
                raise
            records.commit()

    @contextmanager
    def reading(self, study_id: str) -> Iterator[MemoryRecords]:
        with self._lock:
            yield self._records(study_id)

    def _records(self, study_id: str) -> MemoryRecords:
        if study_id not in self._studies:
            self._studies[study_id] = MemoryRecords()
        return self._studies[study_id]
