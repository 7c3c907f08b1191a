"""Files that are either whole or not there, and that nobody but their owner may read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_once(path: Path, content: bytes) -> bool:
    """Write a new file and bring it to the disk; False, and nothing done, if there is one of that name."""
    draft = _draft(path, content)
    try:
        os.link(draft, path)  # unlike a rename, this never replaces what another process wrote
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    _folder_to_disk(path.parent)
    return True


def replace_whole(path: Path, content: bytes) -> None:
    """Write the file, in place of what may be there, and bring it to the disk."""
    _draft(path, content).replace(path)
    _folder_to_disk(path.parent)


def _draft(path: Path, content: bytes) -> Path:
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return draft


def _folder_to_disk(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
