"""The blind study's facts and rules, pure: trials, schedule, votes and what follows from them."""

from tdm_core.study.analysis import StudyReport, analyse
from tdm_core.study.memory import MemoryStore
from tdm_core.study.records import Records, Store
from tdm_core.study.rules import CleanRules, Controls, Study, StudyRules
from tdm_core.study.service import StudyService, new_study
from tdm_core.study.trials import Choice, Offer, PairSource, Purpose, Rater, StudyStatus, Trial, Vote

__all__ = [
    "Choice",
    "CleanRules",
    "Controls",
    "MemoryStore",
    "Offer",
    "PairSource",
    "Purpose",
    "Rater",
    "Records",
    "Store",
    "Study",
    "StudyReport",
    "StudyRules",
    "StudyService",
    "StudyStatus",
    "Trial",
    "Vote",
    "analyse",
    "new_study",
]
