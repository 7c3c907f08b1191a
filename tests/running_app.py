"""``python app.py`` in a process of its own, as a user starts it."""

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
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
import pytest

from tdm_core.generation.bank import build_bank
from tdm_core.generation.sample import Sample, SampleRequest
from tdm_core.wiring import DEMO_PRESET

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 240  # for a machine that is busy with something else
PROMPT = "a walrus and a lighthouse"


@contextmanager
def interruptible() -> Iterator[None]:
    """A process that is begun here heeds Ctrl-C even if the tests run as a shell's background job, which does not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class App:
    """Its own folder, port and log; ``variables`` are further ones of its environment."""

    def __init__(self, data_dir: Path, presets: Path | None = None, **variables: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url, self.data_dir, self.log = f"http://127.0.0.1:{port}", data_dir, data_dir.parent / f"log-{port}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TDM_")} | {
            "TDM_DATA_DIR": str(data_dir),
            "TDM_THREADS": "1",
            "GRADIO_SERVER_PORT": str(port),
        }
        environment |= ({"TDM_PRESETS": str(presets)} if presets else {}) | variables
        with self.log.open("wb") as log, interruptible():
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

    def end(self, *signals: signal.Signals) -> int:
        """Send these, one right after the other, or else SIGTERM; the exit status."""
        for each in signals or (signal.SIGTERM,):
            self.process.send_signal(each)
        return self.process.wait(PATIENCE_SECONDS)


class Rater:
    """Somebody who votes over HTTP and keeps the cookie, whichever app they ask; ``headers`` go with every request."""

    def __init__(self, **headers: str) -> None:
        self.cookie, self._headers = "", headers

    def post(self, app: App, path: str, **body: str) -> dict[str, Any]:
        answer = self._ask(app, path, json.dumps(body).encode())
        if given := answer.headers["Set-Cookie"]:
            self.cookie = given.partition(";")[0]
        return dict(json.loads(answer.read()))

    def get(self, app: App, path: str) -> bytes:
        return bytes(self._ask(app, path).read())

    def look(self, app: App) -> dict[str, Any]:
        """The next trial, its pictures fetched and the minimum view over."""
        trial = self.post(app, "next")
        assert trial["state"] == "trial", trial
        assert self.get(app, f"media/{trial['media']}")
        time.sleep(trial["min_view_ms"] / 1000)
        return trial

    def vote(self, app: App, trial: str, choice: str) -> dict[str, Any]:
        """Cast it; look once more if the server has not noted yet that everything was sent, or died before it did."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self.post(app, "vote", trial=trial, choice=choice)
            except HTTPError as refused:
                with refused:
                    told = json.loads(refused.read())
                assert told["code"] == "early" and time.monotonic() < deadline, told
            assert self.look(app)["trial"] == trial

    def _ask(self, app: App, path: str, body: bytes | None = None) -> Any:
        headers = self._headers | ({"Cookie": self.cookie} if self.cookie else {})
        return urlopen(Request(f"{app.url}/gradio_api/study/{path}", body, headers), timeout=PATIENCE_SECONDS)


def only_tiny(system: Path, folder: Path) -> Path:
    """A folder of presets whose demo is the tiny system."""
    folder.mkdir()
    shutil.copy(system / "presets" / "tiny.toml", folder / f"{DEMO_PRESET}.toml")
    return folder


def with_bank(data_dir: Path, pairs: int = 40) -> None:
    """A folder of data whose demo has all its pairs: noise, so that no model is asked for them."""

    def noise(request: SampleRequest) -> Iterator[Sample]:
        media = np.random.default_rng(request.seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        numbers = {"steps": 4, "nfe": 4, "guidance_scale": 1.0, "seconds": 0.1, "denoiser_seconds": 0.1}
        yield Sample(media=media, kind="image", scheduler="Fake", noise_sha256=str(request.seed), **numbers)

    for _ in build_bank(data_dir / "bank", preset=DEMO_PRESET, prompts=[PROMPT], sample=noise, pairs=pairs):
        pass
