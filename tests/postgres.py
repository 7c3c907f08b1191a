"""A real PostgreSQL, where one is installed: a server of its own on a socket in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path
from uuid import uuid4

import pytest

PATIENCE_SECONDS = 60


def programs() -> Path | None:
    """The folder of initdb and postgres."""
    found = shutil.which("initdb") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=None)
    return Path(found).resolve().parent if found else None


class PostgreSQL:
    """A server that can be stopped and started again; it refuses to run as root, so root's tests lend it an account."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self._folder, self._bin = folder, bin_folder
        self._as = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(folder, account.pw_uid, account.pw_gid)
            self._as = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        self._data = folder / "data"
        options = ["-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C", "-N"]
        self._run([self._bin / "initdb", "-D", self._data, *options])
        self.start()

    def start(self) -> None:
        options = ["-k", self._folder, "-c", "listen_addresses=", "-c", "max_connections=80", "-F"]
        command = [self._bin / "postgres", "-D", self._data, *options]
        log = (self._folder / "log").open("ab")
        self._server = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log, **self._as)
        log.close()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._answers():
            if time.monotonic() > deadline or self._server.poll() is not None:
                pytest.fail(f"PostgreSQL did not start: {(self._folder / 'log').read_text()[-500:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """At once: whoever is connected is thrown out."""
        self._server.send_signal(signal.SIGINT)
        self._server.wait(PATIENCE_SECONDS)

    def database(self) -> str:
        """The URL of a fresh database."""
        name = f"study_{uuid4().hex[:12]}"
        self._run([self._bin / "createdb", "-h", self._folder, "-U", "postgres", name])
        return f"postgresql://postgres@/{name}?host={self._folder}"

    def _answers(self) -> bool:
        asked = [self._bin / "pg_isready", "-h", self._folder, "-q"]
        return subprocess.run(asked, cwd=self._folder, check=False).returncode == 0

    def _run(self, command: list[object]) -> None:
        subprocess.run(list(map(str, command)), cwd=self._folder, check=True, capture_output=True, **self._as)
