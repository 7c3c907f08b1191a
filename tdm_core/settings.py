"""Environment variables: this file is their one home; the README's table is compared with it by a test.

Each field of `Settings` is read from ``TDM_`` plus its name in capitals; an empty value means unset.
A ``TDM_`` variable that nothing reads is refused, since a misspelt folder would silently lose votes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from tdm_core.errors import ConfigError

PREFIX = "TDM_"
READ_ELSEWHERE = {"TDM_REQUIRE_ALL"}  # read by the tests alone


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a user may change without touching code."""

    data_dir: Path = Path("data")
    """Holds the database, the study's media and logs; nothing is written anywhere else."""

    presets: Path | None = None
    """A folder of further preset files, read after ``assets/presets``."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the process's environment.

        Raises:
            ConfigError: if a ``TDM_`` variable is unknown; the message lists the known ones.
        """
        known = {PREFIX + field.name.upper(): field.name for field in fields(cls)}
        for name in environ:
            if name.startswith(PREFIX) and name not in known and name not in READ_ELSEWHERE:
                raise ConfigError(f"environment: unknown variable {name}; known here: {', '.join(known)}")
        return cls(**{field: Path(environ[name]).expanduser() for name, field in known.items() if environ.get(name)})
