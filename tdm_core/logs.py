"""What the app tells its operator on stderr: lines for people, or JSON for a machine that collects them.

A record says what happened and how long it took; of a study never an arm, and of a visitor nothing at all.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from tdm_core.settings import Logs

CHATTY = ("httpx", "alembic")  # Gradio's own start-up requests to itself; every migration of the database
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One object a line: ``time``, ``level``, ``logger``, ``message``, whatever ``extra`` was given, ``error``."""

    def format(self, record: logging.LogRecord) -> str:
        row = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _USUAL},
        }
        if record.exc_info:
            row["error"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False, default=str)


def start_logging(logs: Logs) -> None:
    """To stderr, from now on."""
    handler = logging.StreamHandler()
    people = logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S")
    handler.setFormatter(JsonLines() if logs == "json" else people)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
