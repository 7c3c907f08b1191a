"""What is fixed before a study's first vote, and the study that keeps to it.

The rules are written into the study and never change; their hash, published beforehand, shows that they did not.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, Literal

from tdm_core.toml_config import from_mapping

REPEAT_GAP = 8  # trials from an original to its repeat, so that it is not remembered
FEWEST_GOLDS = 2


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Trials that say nothing about the arms but something about the raters."""

    practice: int = 2  # trials first, whose answer is told
    gold_share: float = 0.1  # of the real trials; at least two, unless 0
    repeat_share: float = 0.05  # of the real trials; at least one, unless 0
    identical_every: int = 20  # real trials per identical pair; 0 for none

    def __post_init__(self) -> None:
        if not (0 <= self.practice <= 10 and 0 <= self.gold_share <= 0.5 and 0 <= self.repeat_share <= 0.5):
            raise ValueError("controls: practice is 0 to 10, gold_share and repeat_share are 0 to 0.5")
        if self.identical_every < 0:
            raise ValueError("controls: identical_every is 0 or more")

    def golds(self, real_trials: int) -> int:
        return max(FEWEST_GOLDS, round(self.gold_share * real_trials)) if self.gold_share else 0

    def identical(self, real_trials: int) -> int:
        return real_trials // self.identical_every if self.identical_every else 0

    def repeats(self, real_trials: int) -> int:
        """None in a plan too short to keep an original and its repeat apart."""
        if not self.repeat_share or real_trials <= REPEAT_GAP:
            return 0
        return min(max(1, round(self.repeat_share * real_trials)), real_trials - REPEAT_GAP)

    def pairs(self, real_trials: int) -> int:
        """How many pairs a rater sees who gets this many real trials."""
        return real_trials + self.practice + self.golds(real_trials) + self.identical(real_trials)


NO_CONTROLS = Controls(practice=0, gold_share=0, repeat_share=0, identical_every=0)


@dataclass(frozen=True, kw_only=True)
class CleanRules:
    """Whose votes the clean estimate leaves out. None of these rules looks at which arm won."""

    most_gold_failures: float = 1 / 3  # share of the gold trials answered wrongly
    fewest_golds: int = 3  # below that, gold trials exclude nobody
    fastest_median_seconds: float = 1.5
    one_side_share: float = 0.95  # of the decisive votes
    fewest_decisive: int = 15  # below that, one-sidedness excludes nobody
    fewest_real_votes: int = 5


@dataclass(frozen=True, kw_only=True)
class StudyRules:
    """A study's whole design, as its TOML file gives it."""

    title: str = "Teacher or student?"
    question: str = "Which picture fits these words better?"
    criteria: tuple[str, ...] = ()  # further questions to each pair, besides the overall one
    preset: str = "mini-sd3"
    prompts: dict[str, tuple[str, ...]] = field(default_factory=dict)  # category -> its prompts
    arms: tuple[str, str] = ("student", "teacher")  # results are the first one's share
    needed: int = 10  # pairs, before the first trial
    target: int = 40  # pairs
    trials_per_rater: int | None = None  # real ones; unset: as many as the target allows
    controls: Controls = Controls()
    min_view_ms: int = 1500  # from the last byte sent to the earliest vote
    trial_life_ms: int = 15 * 60 * 1000  # from issue to the latest vote
    identity: Literal["open", "invite", "hf"] = "open"  # hf: a Hugging Face login, on a Space
    account_days: int = 0  # with hf: how old an account must be; 30 keeps out those made for the occasion
    consent: str = ""  # what a rater agrees to before the first trial; empty: nothing is asked
    results: Literal["after_close", "never"] = "after_close"  # when the page shows them
    visitors_may_close: bool = False  # otherwise the operator alone ends the study
    margin: float = 0.05  # below one half, still "not worse"
    confidence: float = 0.95
    target_raters: int = 30
    clean: CleanRules = CleanRules()

    def __post_init__(self) -> None:
        if len(set(self.arms)) != 2 or not all(self.arms):
            raise ValueError(f"arms: name two different systems, got {list(self.arms)}")
        if not 1 <= self.needed <= self.target:
            raise ValueError(f"needed: 1 to target ({self.target}), got {self.needed}")
        if self.real_trials < 1 or self.controls.pairs(self.real_trials) > self.target:
            raise ValueError(
                f"trials_per_rater: a rater would see more pairs than the target's {self.target}, controls and "
                "practice among them; raise target, or lower trials_per_rater or the controls"
            )
        if not 0 < self.margin < 0.5 or not 0.5 < self.confidence < 1:
            raise ValueError(f"margin lies in (0, 0.5), confidence in (0.5, 1); got {self.margin}, {self.confidence}")
        if self.min_view_ms < 0 or self.trial_life_ms <= self.min_view_ms:
            raise ValueError("trial_life_ms: longer than min_view_ms, and neither below 0")
        if len(set(self.criteria) | {"overall"}) != len(self.criteria) + 1:
            raise ValueError("criteria: each once, and not 'overall', which is always asked")
        if self.account_days < 0 or (self.account_days and self.identity != "hf"):
            raise ValueError('account_days: 0 or more, and only with identity = "hf"')
        if self.target_raters < 1:
            raise ValueError(f"target_raters: 1 or more, got {self.target_raters}")

    @property
    def real_trials(self) -> int:
        """Per rater; as many as the target allows, if the rules do not say."""
        if self.trials_per_rater is not None:
            return self.trials_per_rater
        fitting = (count for count in range(self.target, 0, -1) if self.controls.pairs(count) <= self.target)
        return next(fitting, 0)

    def to_json(self) -> str:
        """One line, equal for equal rules."""
        values = asdict(self)
        if not self.account_days:
            del values["account_days"]  # it came later, and the hashes of studies before it stand
        return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    @lru_cache(maxsize=64)  # every request reads its study, whose rules never change
    def from_json(cls, text: str, *, where: str = "the study's rules") -> StudyRules:
        values: dict[str, Any] = json.loads(text)
        return from_mapping(cls, values, where=where)

    @property
    def sha256(self) -> str:
        """The pre-registration: publish it before the first vote."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


DEMO = StudyRules(controls=NO_CONTROLS, visitors_may_close=True)  # what a page of one visitor holds by itself


@dataclass(frozen=True, kw_only=True)
class Study:
    """One study's life; ``side_secret`` feeds the drawing of sides and never leaves the server."""

    id: str
    side_secret: str
    created_at_ms: int
    opened_at_ms: int | None = None
    closed_at_ms: int | None = None
    paused_at_ms: int | None = None  # by an operator, who may let it go on
    rules: StudyRules | None = None  # the caller's, where a study was made without
