"""Where acknowledged votes live: the study's store on a database."""

from tdm_core.storage.backup import backup, restore
from tdm_core.storage.secret import machine_secret
from tdm_core.storage.segments import Rounds, SegmentWriter, replay, segment_problems, write_segments
from tdm_core.storage.store import SqlStore, open_store

__all__ = [
    "Rounds",
    "SegmentWriter",
    "SqlStore",
    "backup",
    "machine_secret",
    "open_store",
    "replay",
    "restore",
    "segment_problems",
    "write_segments",
]
