"""The blind study's facts and rules, pure: trials, schedule, votes and what follows from them."""

from tdm_core.study.analysis import StudyReport, analyse
from tdm_core.study.memory import MemoryStore
from tdm_core.study.records import Records, Store
from tdm_core.study.service import StudyService
from tdm_core.study.trials import Choice, Offer, PairSource, StudyRules, StudyStatus, Trial, Vote

__all__ = [
    "Choice",
    "MemoryStore",
    "Offer",
    "PairSource",
    "Records",
    "Store",
    "StudyReport",
    "StudyRules",
    "StudyService",
    "StudyStatus",
    "Trial",
    "Vote",
    "analyse",
]
