"""The study's use cases: give a rater a trial, send its pictures, take the vote, close, report.

A vote counts only if the server itself has sent the body with both sides in full and its own clock has seen the
minimum view since; nothing that a browser claims is believed. Every method is one unit of work on the store: when it
returns, what it says is committed.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tdm_core.errors import (
    DuplicateVoteError,
    EarlyVoteError,
    ExpiredTrialError,
    InvitationError,
    RequestError,
    StorageError,
    StudyClosedError,
    StudyOpenError,
    StudyPausedError,
    UnknownTrialError,
)
from tdm_core.study.analysis import StudyReport, analyse
from tdm_core.study.gallery import Gallery, choose
from tdm_core.study.oversight import Oversight, oversee
from tdm_core.study.records import Records, Store
from tdm_core.study.rules import DEMO, Study, StudyRules
from tdm_core.study.schedule import Slot, Usage, cached_plan, choose_pair
from tdm_core.study.trials import (
    SPOILED,
    Choice,
    Offer,
    Pair,
    PairSource,
    Purpose,
    Rater,
    StudyStatus,
    Trial,
    Vote,
    is_id,
    new_id,
)

COUNT_EVERY_MS = 1000


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
        rules: StudyRules = DEMO,
        study_id: str = "demo",
        rng: random.Random | None = None,
    ) -> None:
        self._store, self._pairs, self._clock, self._study_id = store, pairs, clock, study_id
        self._rng = rng or secrets.SystemRandom()
        self._paused: str | None = None
        self._counted: tuple[int, Usage] = (-COUNT_EVERY_MS, Counter())
        with store.writing(study_id) as records:
            study = records.study()
            if study is None:
                study = new_study(study_id, rules, now_ms=clock(), is_open=True)
                records.add_study(study)
        self.rules, self._secret = study.rules or rules, study.side_secret

    def rater_of(self, subject: str) -> str:
        """The rater that a person is in this study, and in no other; the person cannot be found from it."""
        return hmac.new(self._secret.encode(), f"person:{subject}".encode(), "sha256").hexdigest()[:32]

    def status(self) -> StudyStatus:
        """Where the study stands, without a word on how the votes fell."""
        pairs = self._pairs.pairs()
        with self._store.reading(self._study_id) as records:
            return self._status(records, pairs)

    def next_trial(self, rater_id: str) -> Offer | StudyStatus:
        """The rater's open trial, or a new one with sides drawn here and stored; a status if there is none.

        The status is ``draft``, ``preparing`` (more pairs will come), ``invite`` (a code is asked for), ``consent``
        (it is not given yet), ``finished`` (the rater has reached the end of their plan) or ``closed``.
        """
        now, pairs = self._clock(), self._pairs.pairs()
        with self._store.writing(self._study_id, durable=False) as records:  # a lost trial is one more to be asked for
            status = self._status(records, pairs)
            if status.state != "open":
                return status
            if obstacle := self._obstacle(records.rater(rater_id)):
                return replace(status, state=obstacle)
            trials, answered = records.trials_of(rater_id), records.answered_by(rater_id)
            by_id = {pair.id: pair for pair in pairs}
            unanswered = [trial for trial in trials if trial.id not in answered]
            live = [t for t in unanswered if not (t.expires_at_ms <= now or t.skipped_at_ms) and t.pair_id in by_id]
            trial = live[0] if live else None
            if trial is None:
                trial = self._draw(records, rater_id, pairs, trials, answered, now)
            if trial is None:
                done = _used(trials) >= len(self._plan(records, rater_id)) or len(pairs) >= self.rules.target
                return replace(status, state="finished" if done else "preparing")
            pair = by_id[trial.pair_id]
            return Offer(
                trial=trial.id,
                media=trial.media_token,
                prompt=trial.prompt,
                number=len(answered) + 1,
                total=len(self._plan(records, rater_id)) - (_used(trials) - len(answered) - len(live)),
                min_view_ms=self._least_view_ms(pair),
                width=pair.width,
                height=pair.height,
                kind=pair.kind,
                frames=pair.frames,
                fps=pair.fps,
                practice=trial.purpose is Purpose.PRACTICE,
                question=self.rules.question,
                criteria=self.rules.criteria,
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
            if records.vote_on(trial.id) or trial.skipped_at_ms or trial.expires_at_ms <= self._clock():
                raise ExpiredTrialError("The pictures of this trial are no longer served; ask for the next trial.")
        return self._pairs.packed(trial.pair_id, trial.left_arm, trial.right_arm)

    def media_sent(self, rater_id: str, token: str) -> None:
        """Note that the body has been sent in full, now; the first time counts.

        A time of sending in the future means that the clock was set back: then the present time replaces it.
        """
        now = self._clock()
        with self._store.writing(self._study_id, durable=False) as records:
            trial = self._own(rater_id, records.trial_of_media(token) if is_id(token) else None)
            if records.vote_on(trial.id):
                return  # what a vote was cast on does not change any more
            if trial.sent_at_ms is None or trial.sent_at_ms > now:
                records.mark_sent(trial.id, now)

    def cast_vote(
        self,
        rater_id: str,
        trial_id: str,
        choice: Choice,
        *,
        criteria: Mapping[str, Choice] | None = None,
        confidence: int | None = None,
    ) -> int:
        """Count the vote and return the study's number of votes; the same answers again change nothing.

        Raises:
            UnknownTrialError: if this rater has no such trial.
            RequestError: if an answer is to no question of the study, or the confidence is not 1, 2 or 3.
            DuplicateVoteError: if the trial has a vote with other answers.
            StudyClosedError, ExpiredTrialError: if it comes too late.
            StudyPausedError: if an operator holds the study up; the vote may be cast again when it goes on.
            EarlyVoteError: if both sides have not been sent in full, or not for long enough.
        """
        now, answers = self._clock(), dict(criteria or {})
        if not answers.keys() <= set(self.rules.criteria) or confidence not in (None, 1, 2, 3):
            asked = ", ".join(self.rules.criteria) or "none besides the overall one"
            raise RequestError(f"This study's further questions: {asked}; confidence is 1, 2 or 3.")
        pairs = {pair.id: pair for pair in self._pairs.pairs()}
        with self._store.writing(self._study_id) as records:
            trial = self._own(rater_id, records.trial(trial_id) if is_id(trial_id) else None)
            vote = Vote(trial=trial, choice=choice, cast_at_ms=now, criteria=answers, confidence=confidence)
            if earlier := records.vote_on(trial.id):
                if replace(vote, trial=earlier.trial, cast_at_ms=earlier.cast_at_ms) != earlier:
                    raise DuplicateVoteError("This trial already has your vote; a vote cannot be changed.")
                return records.vote_count()
            self._refuse_closed(records)
            self._refuse_paused(records)
            self._refuse_untimely(trial, now, self._least_view_ms(pairs.get(trial.pair_id)))
            if self._obstacle(records.rater(rater_id)):
                raise UnknownTrialError("You take no part in this study, so the vote was not counted.")
            records.add_vote(vote)
            return records.vote_count()

    def practice_answer(self, rater_id: str, trial_id: str) -> Choice | None:
        """What would have been right, once a practice trial has its vote; ``None`` for every other trial."""
        if not self.rules.controls.practice:
            return None
        with self._store.reading(self._study_id) as records:
            trial = self._own(rater_id, records.trial(trial_id) if is_id(trial_id) else None)
            told = trial.purpose is Purpose.PRACTICE and records.vote_on(trial.id) is not None
            return trial.right_answer if told else None

    def skip(self, rater_id: str, trial_id: str) -> None:
        """End the trial without a vote; its pair goes back to the others, not to this rater.

        Raises:
            UnknownTrialError: if this rater has no such trial.
            DuplicateVoteError: if it has a vote.
            StudyClosedError: if the study is closed.
        """
        now = self._clock()
        with self._store.writing(self._study_id) as records:
            trial = self._own(rater_id, records.trial(trial_id) if is_id(trial_id) else None)
            self._refuse_closed(records)
            if records.vote_on(trial.id):
                raise DuplicateVoteError("This trial already has your vote; it can no longer be skipped.")
            if trial.skipped_at_ms is None:
                records.mark_skipped(trial.id, now)
                self._counted = (-COUNT_EVERY_MS, Counter())

    def consent(self, rater_id: str) -> None:
        """Note that the rater agrees to the study's consent text; the first time counts."""
        self._change_rater(rater_id, lambda rater: rater.consented_at_ms is None, consented_at_ms=self._clock())

    def withdraw(self, rater_id: str) -> None:
        """Take the rater out of the study: no further trial, and no figure counts their votes any more."""
        self._change_rater(rater_id, lambda rater: rater.withdrawn_at_ms is None, withdrawn_at_ms=self._clock())

    def invite(self, count: int) -> list[str]:
        """New codes that let one rater in each; only their hashes are kept."""
        codes = [new_id() for _ in range(count)]
        with self._store.writing(self._study_id) as records:
            records.add_invites([invite_hash(code) for code in codes])
        return codes

    def redeem(self, rater_id: str, code: str) -> None:
        """Let the rater in by an invitation.

        Raises:
            InvitationError: if the code is unknown or another rater used it.
        """
        invite = invite_hash(code)
        with self._store.writing(self._study_id) as records:
            rater = records.rater(rater_id) or Rater(id=rater_id)
            if rater.invite == invite:
                return
            if rater.invite is not None or not records.is_free_invite(invite):
                raise InvitationError("This invitation is unknown, or somebody has used it.")
            records.put_rater(replace(rater, invite=invite))

    def open(self) -> StudyStatus:
        """Begin to take votes; a second call changes nothing.

        Raises:
            StudyClosedError: if the study is closed.
        """
        pairs = self._pairs.pairs()
        with self._store.writing(self._study_id) as records:
            self._refuse_closed(records)
            study = records.study()
            if study and study.opened_at_ms is None:
                records.open_study(self._clock())
            return self._status(records, pairs)

    def pause(self, reason: str) -> None:
        """Take no votes in this process until it is started again; nothing that was stored changes."""
        self._paused = reason

    def hold_up(self, reason: str) -> None:
        """Take no votes, in any process and after a restart, until `go_on`; both are noted in the study for good.

        Raises:
            StudyClosedError: if the study is closed.
        """
        self._set_paused(self._clock(), "paused", reason)

    def go_on(self, reason: str = "") -> None:
        """Take votes again."""
        self._set_paused(None, "resumed", reason)

    def oversight(
        self, *, neighbours: Collection[str] = ()
    ) -> tuple[StudyStatus, Oversight, list[tuple[str, int, str]]]:
        """Where the study stands, seen blindly, and what its operators did; ``neighbours`` as in `oversee`."""
        pairs = self._pairs.pairs()
        with self._store.reading(self._study_id) as records:
            seen = oversee(
                records.trials(),
                records.votes(),
                rules=self.rules,
                pair_ids=[pair.id for pair in pairs],
                withdrawn=records.withdrawn(),
                plan_length=len(self._plan(records, "anybody")),
                now_ms=self._clock(),
                neighbours=neighbours,
            )
            return self._status(records, pairs), seen, records.events()

    def unblind(self) -> StudyReport:
        """What the votes of a study say that may still be open; that somebody asked is noted in the study for good."""
        with self._store.writing(self._study_id) as records:
            if not self._is_closed(records):
                records.add_event("unblinded", self._clock())
            return analyse(records.votes(), rules=self.rules, withdrawn=records.withdrawn())

    def close(self, *, by_visitor: bool = False) -> StudyStatus:
        """End the study for good; a second call changes nothing.

        Raises:
            StudyOpenError: if a visitor asks and the rules leave it to the operator.
        """
        if by_visitor and not self.rules.visitors_may_close:
            raise StudyOpenError("This study is ended by whoever holds it, not from this page.")
        pairs = self._pairs.pairs()
        with self._store.writing(self._study_id) as records:
            if not self._is_closed(records):
                records.close_study(self._clock())
            return self._status(records, pairs)

    def results(self, *, by_visitor: bool = False) -> StudyReport:
        """What the votes say.

        Raises:
            StudyOpenError: while the study takes votes, or if its page does not show them.
        """
        with self._store.reading(self._study_id) as records:
            self._refuse_results(records, by_visitor=by_visitor)
            return analyse(records.votes(), rules=self.rules, withdrawn=records.withdrawn())

    def gallery(self, report: StudyReport) -> Gallery:
        """The pairs behind the results, which only a closed study has."""
        return choose(report.per_prompt, self._pairs.pairs())

    def revealed(self, pair_id: str) -> bytes:
        """Both sides of a pair in one body, the arm of interest right, once visitors may know.

        Raises:
            StudyOpenError: as `results` of a visitor.
            UnknownTrialError: if there is no such pair.
        """
        with self._store.reading(self._study_id) as records:
            self._refuse_results(records, by_visitor=True)
        if pair_id not in {pair.id for pair in self._pairs.pairs()}:
            raise UnknownTrialError("There is no such pair.")
        interest, other = self.rules.arms
        return self._pairs.packed(pair_id, other, interest)

    def _refuse_results(self, records: Records, *, by_visitor: bool) -> None:
        if not self._is_closed(records):
            raise StudyOpenError("The results stay hidden until the study is closed.")
        if by_visitor and self.rules.results == "never":
            raise StudyOpenError("The results of this study are published elsewhere.")

    def _status(self, records: Records, pairs: Sequence[Pair]) -> StudyStatus:
        study = records.study()
        state = "open" if len(pairs) >= self.rules.needed else "preparing"
        if study and study.opened_at_ms is None:
            state = "draft"
        if study and study.closed_at_ms is not None:
            state = "closed"
        elif self._paused or (study and study.paused_at_ms is not None):
            state = "paused"
        return StudyStatus(
            state=state,
            pairs=len(pairs),
            needed=self.rules.needed,
            target=self.rules.target,
            votes=records.vote_count(),
            may_close=self.rules.visitors_may_close,
            kind=pairs[0].kind if pairs else "image",
        )

    def _obstacle(self, rater: Rater | None) -> str | None:
        """What stands between this rater and a trial, as a status says it."""
        if rater and rater.withdrawn_at_ms is not None:
            return "withdrawn"
        if self.rules.identity == "invite" and (rater is None or rater.invite is None):
            return "invite"
        if self.rules.consent and (rater is None or rater.consented_at_ms is None):
            return "consent"
        return None

    def _change_rater(self, rater_id: str, is_new: Callable[[Rater], bool], **changes: int) -> None:
        with self._store.writing(self._study_id) as records:
            rater = records.rater(rater_id) or Rater(id=rater_id)
            if is_new(rater):
                records.put_rater(replace(rater, **changes))  # type: ignore[arg-type]

    def _plan(self, records: Records, rater_id: str) -> tuple[Slot, ...]:
        study = records.study()
        assert study, "the study was created with the service"
        return cached_plan(
            study.side_secret, rater_id, real_trials=self.rules.real_trials, controls=self.rules.controls
        )

    def _draw(
        self,
        records: Records,
        rater_id: str,
        pairs: Sequence[Pair],
        trials: list[Trial],
        answered: set[str],
        now: int,
    ) -> Trial | None:
        position = _used(trials)
        slots = self._plan(records, rater_id)
        if position >= len(slots):
            return None
        slot, facts = slots[position], None
        if slot.repeat_of is not None:
            original = next((trial for trial in trials if trial.position == slot.repeat_of), None)
            facts = self._repeat(original, pairs, answered) if original else None
        elif slot.purpose is not Purpose.REAL:
            facts = self._control(slot, pairs, trials)
        facts = facts or self._real(records, slot, pairs, trials, now)  # no control to be had: rather a real trial
        if facts is None:
            return None
        trial = Trial(
            id=new_id(),
            rater_id=rater_id,
            position=position,
            media_token=new_id(),
            issued_at_ms=now,
            expires_at_ms=now + self.rules.trial_life_ms,
            **facts,
        )
        records.add_trial(trial)
        return trial

    def _real(
        self, records: Records, slot: Slot, pairs: Sequence[Pair], trials: list[Trial], now: int
    ) -> dict[str, Any] | None:
        left_arm, right_arm = self.rules.arms[slot.side], self.rules.arms[1 - slot.side]
        seen = {trial.pair_id for trial in trials}
        pair = choose_pair(
            pairs,
            seen=seen,
            usage=self._usage(records, now),
            left_arm=left_arm,
            right_arm=right_arm,
            rng=self._rng,
            had=Counter(pair.category for pair in pairs if pair.id in seen),
        )
        if pair is None:
            return None
        self._counted[1][pair.id, left_arm] += 1
        return _facts(pair, left_arm, right_arm, Purpose.REAL)

    def _usage(self, records: Records, now: int) -> Usage:
        """Counted anew every second: that takes as long as there are trials, and balance can wait that long.

        Between two counts this process adds its own new trials; writers of one study take turns, so nobody interferes.
        """
        if not 0 <= now - self._counted[0] < COUNT_EVERY_MS:
            self._counted = (now, Counter(records.usage(now)))
        return self._counted[1]

    def _control(self, slot: Slot, pairs: Sequence[Pair], trials: list[Trial]) -> dict[str, Any] | None:
        seen = {trial.pair_id for trial in trials}
        usable = [pair for pair in pairs if pair.control_arm and pair.id not in seen]
        if len(usable) == 0:
            return None
        pair = self._rng.choice(usable)
        sides = (pair.control_arm, pair.control_arm if slot.purpose is Purpose.IDENTICAL else SPOILED)
        return _facts(pair, sides[slot.side], sides[1 - slot.side], slot.purpose)

    def _repeat(self, original: Trial, pairs: Sequence[Pair], answered: set[str]) -> dict[str, Any] | None:
        pair = next((pair for pair in pairs if pair.id == original.pair_id), None)
        if pair is None or original.id not in answered or original.purpose is not Purpose.REAL:
            return None
        facts = _facts(pair, original.right_arm, original.left_arm, Purpose.REPEAT)
        return facts | {"repeat_of": original.id}

    def _least_view_ms(self, pair: Pair | None) -> int:
        """From the last byte sent to the earliest vote: the rules', and a video's whole loop."""
        return max(self.rules.min_view_ms, pair.length_ms if pair else 0)

    def _refuse_untimely(self, trial: Trial, now: int, least_view_ms: int) -> None:
        if trial.skipped_at_ms is not None:
            raise ExpiredTrialError("You skipped this pair; ask for the next one.")
        if trial.expires_at_ms <= now:
            raise ExpiredTrialError("This trial was issued too long ago; its vote was not counted.")
        if trial.sent_at_ms is None:
            raise EarlyVoteError("Both sides have not been sent in full yet; wait, or reload the page.")
        if now - trial.sent_at_ms < least_view_ms:
            raise EarlyVoteError(f"Look at both sides for {least_view_ms / 1000:g} s before you vote.")

    def _is_closed(self, records: Records) -> bool:
        study = records.study()
        return study is not None and study.closed_at_ms is not None

    def _refuse_closed(self, records: Records) -> None:
        if self._is_closed(records):
            raise StudyClosedError("The study is closed and takes no more votes.")

    def _refuse_paused(self, records: Records) -> None:
        if self._paused:
            raise StorageError(self._paused)
        study = records.study()
        if study and study.paused_at_ms is not None:
            raise StudyPausedError("The study is paused; this vote was not counted. Come back a little later.")

    def _set_paused(self, at_ms: int | None, kind: str, reason: str) -> None:
        with self._store.writing(self._study_id) as records:
            self._refuse_closed(records)
            study = records.study()
            if study and (study.paused_at_ms is None) != (at_ms is None):
                records.set_paused(at_ms)
                records.add_event(kind, self._clock(), reason)

    @staticmethod
    def _own(rater_id: str, trial: Trial | None) -> Trial:
        if trial is None or trial.rater_id != rater_id:
            raise UnknownTrialError("There is no such trial for you; ask for the next one.")
        return trial


def new_study(study_id: str, rules: StudyRules, *, now_ms: int, is_open: bool = False) -> Study:
    """A study with a secret of its own for the sides."""
    return Study(
        id=study_id,
        side_secret=new_id(),
        created_at_ms=now_ms,
        opened_at_ms=now_ms if is_open else None,
        rules=rules,
    )


def _used(trials: Sequence[Trial]) -> int:
    """Places of the plan that are used up; a replayed study knows no trials but those with a vote."""
    return trials[-1].position + 1 if trials else 0


def invite_hash(code: str) -> str:
    return hashlib.sha256(code.encode("utf-8", "replace")).hexdigest()


def _facts(pair: Pair, left_arm: str, right_arm: str, purpose: Purpose) -> dict[str, Any]:
    return {
        "pair_id": pair.id,
        "prompt": pair.prompt,
        "left_arm": left_arm,
        "right_arm": right_arm,
        "purpose": purpose,
    }
