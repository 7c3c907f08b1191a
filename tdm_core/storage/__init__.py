"""Where acknowledged votes live: the study's store on a database."""

from tdm_core.storage.secret import machine_secret
from tdm_core.storage.store import SqlStore, open_store

__all__ = ["SqlStore", "machine_secret", "open_store"]
