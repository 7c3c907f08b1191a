"""``python app.py`` in a process of its own, as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 240  # for a machine that is busy with something else


class App:
    def __init__(self, data_dir: Path, presets: Path | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url, self.data_dir, self.log = f"http://127.0.0.1:{port}", data_dir, data_dir.parent / "log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TDM_")} | {
            "TDM_DATA_DIR": str(data_dir),
            "TDM_THREADS": "1",
            "GRADIO_SERVER_PORT": str(port),
        }
        environment |= {"TDM_PRESETS": str(presets)} if presets else {}
        with self.log.open("wb") as log:
            command = [sys.executable, "app.py"]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def get(self, path: str) -> bytes:
        with urlopen(self.url + path, timeout=PATIENCE_SECONDS) as answer:
            return bytes(answer.read())

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.get("/gradio_api/study/status")))

    def wait_for(self, reached: Any) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if reached():
                    return
            except URLError:
                pass
            time.sleep(0.3)
        pytest.fail(f"the app did not get there:\n{self.log.read_text()}")

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)
