"""What a metric has found in a run's files, kept beside them: judging is slow, and a new arm costs its own alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tdm_core.evaluation.manifest import Picture
from tdm_core.generation.media import write_whole


def kept(
    path: Path, rules: object, pictures: Mapping[str, Picture], judge: Callable[[str, Picture], Any]
) -> dict[str, Any]:
    """What ``judge`` says of each picture, as plain JSON by its key; asked only for keys that the file does not have.

    ``rules`` is whatever the answers depend on besides: the file is made again when it changes or is damaged.
    """
    edition = hashlib.sha256(str(rules).encode()).hexdigest()[:16]
    rows = _read(path, edition)
    todo = {key: picture for key, picture in pictures.items() if key not in rows}
    rows |= {key: judge(key, picture) for key, picture in todo.items()}
    if todo:
        write_whole(path, json.dumps({"edition": edition, "pictures": rows}).encode())
    return rows


def _read(path: Path, edition: str) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # it is only a cache
        return {}
    return dict(known["pictures"]) if known.get("edition") == edition else {}
