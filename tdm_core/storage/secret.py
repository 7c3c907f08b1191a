"""The machine's secret: it signs the raters' cookies, and stays in a file that only its owner may read.

``TDM_SECRET`` stands in for it where several processes have data folders of their own, or the disk does not last.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from tdm_core.errors import StorageError
from tdm_core.storage.files import write_once

SIZE = 32


def machine_secret(data_dir: Path) -> bytes:
    """The 32 bytes in ``data_dir/secret``, drawn at the first call; two processes that start at once agree.

    Raises:
        StorageError: if the file cannot be made or read, or does not hold a secret.
    """
    path = data_dir / "secret"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_once(path, secrets.token_bytes(SIZE))
        secret = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}; make it readable and its folder writable") from error
    if len(secret) != SIZE:
        raise StorageError(f"{path}: {len(secret)} bytes instead of {SIZE}; delete it (raters will count as new ones)")
    return secret
