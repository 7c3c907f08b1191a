"""The composition root as a user starts it: ``python app.py``, on a tiny random system, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 240  # for a machine that is busy with something else


class App:
    def __init__(self, data_dir: Path, presets: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url, self.data_dir, self.log = f"http://127.0.0.1:{port}", data_dir, data_dir.parent / "log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TDM_")} | {
            "TDM_DATA_DIR": str(data_dir),
            "TDM_PRESETS": str(presets),
            "TDM_THREADS": "1",
            "GRADIO_SERVER_PORT": str(port),
        }
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


@pytest.fixture
def app(tmp_path: Path, tiny_system: Path) -> Iterator[App]:
    presets = tmp_path / "presets"
    presets.mkdir()
    shutil.copy(tiny_system / "presets" / "tiny.toml", presets / "mini-sd3.toml")
    started = App(tmp_path / "data", presets)
    yield started
    started.process.kill()
    started.process.wait()


def test_the_app_serves_makes_pairs_keeps_its_files_together_and_ends_when_told(app: App) -> None:
    before = set(ROOT.iterdir())
    app.wait_for(lambda: b"Few-step studio" in app.get("/"))
    app.wait_for(lambda: app.status()["state"] == "open")
    assert app.status()["target"] == 40
    for private in ("study.sqlite3", "secret", "bank"):
        with pytest.raises(HTTPError, match="403"):
            app.get(f"/gradio_api/file={app.data_dir / private}")
    with pytest.raises(HTTPError, match="409"):
        app.get("/gradio_api/study/results")
    assert app.end() == 0
    assert "Traceback" not in app.log.read_text()
    assert {path.name for path in app.data_dir.iterdir()} >= {"study.sqlite3", "secret", "bank"}
    assert set(ROOT.iterdir()) - before == set()


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("TDM_DEVICE", "abacus", "TDM_DEVICE"),
        ("TDM_PRESETS", "/no/such", "no such folder"),
        ("TDM_DATA", "x", "unknown"),
    ],
)
def test_a_wrong_setting_is_two_lines_and_status_2(variable: str, value: str, told: str) -> None:
    run = subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, env=os.environ | {variable: value}, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert told in run.stderr
    assert len(run.stderr.strip().splitlines()) <= 2


def test_importing_the_app_loads_neither_torch_nor_gradio() -> None:
    code = "import app, sys; print(sorted({'torch', 'diffusers', 'gradio'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
