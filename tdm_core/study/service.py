"""The study's use cases: give a rater a trial, send its pictures, take the vote, close, report.

A vote counts only if the server itself has sent the body with both sides in full and its own clock has seen the
minimum view since; nothing that a browser claims is believed. Every method is one unit of work on the store: when it
returns, what it says is committed.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from tdm_core.errors import (
    DuplicateVoteError,
    EarlyVoteError,
    ExpiredTrialError,
    StudyClosedError,
    StudyOpenError,
    UnknownTrialError,
)
from tdm_core.study.analysis import StudyReport, analyse
from tdm_core.study.records import Records, Store
from tdm_core.study.schedule import choose_pair, side_at
from tdm_core.study.trials import (
    Choice,
    Offer,
    Pair,
    PairSource,
    Study,
    StudyRules,
    StudyStatus,
    Trial,
    Vote,
    is_id,
    new_id,
)

RULES = StudyRules()


def utc_now_ms() -> int:
    return time.time_ns() // 1_000_000


class StudyService:
    """One study over a store and a source of pairs. Safe to call from many threads and processes."""

    def __init__(
        self,
        *,
        store: Store,
        pairs: PairSource,
        clock: Callable[[], int] = utc_now_ms,
        rules: StudyRules = RULES,
        study_id: str = "demo",
        rng: random.Random | None = None,
    ) -> None:
        self._store, self._pairs, self._clock, self.rules, self._study_id = store, pairs, clock, rules, study_id
        self._rng = rng or secrets.SystemRandom()
        with store.writing(study_id) as records:
            if records.study() is None:
                records.add_study(Study(id=study_id, side_secret=new_id(), created_at_ms=clock()))

    def status(self) -> StudyStatus:
        """Where the study stands, without a word on how the votes fell."""
        pairs = self._pairs.pairs()
        with self._store.reading(self._study_id) as records:
            return self._status(records, pairs)

    def next_trial(self, rater_id: str) -> Offer | StudyStatus:
        """The rater's open trial, or a new one with sides drawn here and stored; a status if there is none.

        The status is ``preparing`` (more pairs will come), ``finished`` (the rater has seen all) or ``closed``.
        """
        now, pairs = self._clock(), self._pairs.pairs()
        with self._store.writing(self._study_id) as records:
            status = self._status(records, pairs)
            if status.state != "open":
                return status
            trials = records.trials_of(rater_id)
            answered = {vote.trial.id for vote in records.votes(rater_id)}
            by_id = {pair.id: pair for pair in pairs}
            unanswered = [trial for trial in trials if trial.id not in answered]
            live = [t for t in unanswered if t.expires_at_ms > now and t.pair_id in by_id]
            trial = live[0] if live else self._draw(records, rater_id, pairs, trials, now)
            if trial is None:
                return replace(status, state="finished" if len(pairs) >= self.rules.target else "preparing")
            pair, lapsed = by_id[trial.pair_id], len(unanswered) - len(live)
            return Offer(
                trial=trial.id,
                media=trial.media_token,
                prompt=trial.prompt,
                number=len(answered) + 1,
                total=max(len(pairs), self.rules.target) - lapsed,
                min_view_ms=self.rules.min_view_ms,
                width=pair.width,
                height=pair.height,
                kind=pair.kind,
            )

    def media(self, rater_id: str, token: str) -> bytes:
        """The body with both sides of the rater's open trial.

        Raises:
            UnknownTrialError: if the token is not of a trial of this rater.
            ExpiredTrialError: if the trial is voted on or too old.
            StudyClosedError: if the study is closed.
        """
        with self._store.reading(self._study_id) as records:
            trial = self._own(rater_id, records.trial_of_media(token) if is_id(token) else None)
            self._refuse_closed(records)
            if records.vote_on(trial.id) or trial.expires_at_ms <= self._clock():
                raise ExpiredTrialError("The pictures of this trial are no longer served; ask for the next trial.")
        return self._pairs.packed(trial.pair_id, trial.left_arm)

    def media_sent(self, rater_id: str, token: str) -> None:
        """Note that the body has been sent in full, now; the first time counts.

        A time of sending in the future means that the clock was set back: then the present time replaces it.
        """
        now = self._clock()
        with self._store.writing(self._study_id) as records:
            trial = self._own(rater_id, records.trial_of_media(token) if is_id(token) else None)
            if trial.sent_at_ms is None or trial.sent_at_ms > now:
                records.mark_sent(trial.id, now)

    def cast_vote(self, rater_id: str, trial_id: str, choice: Choice) -> int:
        """Count the vote and return the study's number of votes; the same choice again changes nothing.

        Raises:
            UnknownTrialError: if this rater has no such trial.
            DuplicateVoteError: if the trial has a vote with another choice.
            StudyClosedError, ExpiredTrialError: if it comes too late.
            EarlyVoteError: if both sides have not been sent in full, or not for long enough.
        """
        now = self._clock()
        with self._store.writing(self._study_id) as records:
            trial = self._own(rater_id, records.trial(trial_id) if is_id(trial_id) else None)
            if earlier := records.vote_on(trial.id):
                if earlier.choice is not choice:
                    raise DuplicateVoteError("This trial already has your vote; a vote cannot be changed.")
                return records.vote_count()
            self._refuse_closed(records)
            self._refuse_untimely(trial, now)
            records.add_vote(Vote(trial=trial, choice=choice, cast_at_ms=now))
            return records.vote_count()

    def close(self) -> StudyStatus:
        """End the study for good; a second call changes nothing."""
        pairs = self._pairs.pairs()
        with self._store.writing(self._study_id) as records:
            if not self._is_closed(records):
                records.close_study(self._clock())
            return self._status(records, pairs)

    def results(self) -> StudyReport:
        """What the votes say.

        Raises:
            StudyOpenError: while the study takes votes.
        """
        with self._store.reading(self._study_id) as records:
            if not self._is_closed(records):
                raise StudyOpenError("The results stay hidden until the study is closed.")
            return analyse(records.votes(), arms=self.rules.arms)

    def _status(self, records: Records, pairs: Sequence[Pair]) -> StudyStatus:
        state = "closed" if self._is_closed(records) else "open" if len(pairs) >= self.rules.needed else "preparing"
        return StudyStatus(
            state=state,
            pairs=len(pairs),
            needed=self.rules.needed,
            target=self.rules.target,
            votes=records.vote_count(),
        )

    def _draw(
        self, records: Records, rater_id: str, pairs: Sequence[Pair], trials: list[Trial], now: int
    ) -> Trial | None:
        study = records.study()
        assert study, "the study was created with the service"
        side = side_at(study.side_secret, rater_id, len(trials))
        left_arm, right_arm = self.rules.arms[side], self.rules.arms[1 - side]
        pair = choose_pair(
            pairs,
            seen={trial.pair_id for trial in trials},
            usage=records.usage(now),
            left_arm=left_arm,
            right_arm=right_arm,
            rng=self._rng,
        )
        if pair is None:
            return None
        trial = Trial(
            id=new_id(),
            rater_id=rater_id,
            position=len(trials),
            pair_id=pair.id,
            prompt=pair.prompt,
            left_arm=left_arm,
            right_arm=right_arm,
            media_token=new_id(),
            issued_at_ms=now,
            expires_at_ms=now + self.rules.trial_life_ms,
        )
        records.add_trial(trial)
        return trial

    def _refuse_untimely(self, trial: Trial, now: int) -> None:
        if trial.expires_at_ms <= now:
            raise ExpiredTrialError("This trial was issued too long ago; its vote was not counted.")
        if trial.sent_at_ms is None:
            raise EarlyVoteError("Both pictures have not been sent in full yet; wait, or reload the page.")
        if now - trial.sent_at_ms < self.rules.min_view_ms:
            raise EarlyVoteError(f"Look at both pictures for {self.rules.min_view_ms / 1000:g} s before you vote.")

    def _is_closed(self, records: Records) -> bool:
        study = records.study()
        return study is not None and study.closed_at_ms is not None

    def _refuse_closed(self, records: Records) -> None:
        if self._is_closed(records):
            raise StudyClosedError("The study is closed and takes no more votes.")

    @staticmethod
    def _own(rater_id: str, trial: Trial | None) -> Trial:
        if trial is None or trial.rater_id != rater_id:
            raise UnknownTrialError("There is no such trial for you; ask for the next one.")
        return trial
