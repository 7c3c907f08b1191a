"""A real browser on a page of fakes: the system's Chromium, no download, and nothing but the local host is reached."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from tests.needs import need

ROOT = Path(__file__).parents[2]
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PATIENCE_SECONDS = 60  # for a machine that is busy with something else


class Studio:
    """The served page, and what stands behind it: see ``server.py``."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def control(self, path: str = "", **wanted: Any) -> dict[str, Any]:
        """Begin the study anew if anything is ``wanted``; what has happened so far."""
        request = Request(f"{self.url}/gradio_api/test{path}", json.dumps(wanted).encode(), method="POST")
        with urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return json.loads(answer.read())

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                return self.control() and None
            except URLError:
                time.sleep(0.2)
        pytest.fail("the page of fakes did not come up")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def fakes_page(pictures: Path, **environment: str) -> Iterator[Studio]:
    """The page of fakes in a process of its own; its log and its files lie in ``pictures``."""
    given = os.environ | {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(pictures)} | environment
    served = Studio(port := free_port())
    command = [sys.executable, "-W", "ignore", "-m", "tests.ui.server", str(port)]
    with (pictures / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=given, stdout=log, stderr=log)
        try:
            served.wait(process)
            yield served
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with fakes_page(tmp_path_factory.mktemp("pictures")) as studio:
        yield studio


@pytest.fixture(scope="module")
def studio(served: Studio) -> Studio:
    """Each file begins with an open study and a full quiz, whatever the file before left paused or by invitation."""
    served.control(pairs=3)
    served.control(quiz_pairs=3)
    return served


@pytest.fixture(scope="module")  # while it lives, its event loop runs, and no test can run one of its own
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    need(chromium, "no Chromium is installed, so nothing of the page is tested in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens pages; at the end nothing may have gone wrong in them, and nothing may have left the machine."""
    problems: list[str] = []
    contexts = []

    def open_(url: str, *, width: int = 1280, height: int = 860, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        page.on("console", lambda message: problems.append(message.text) if _is_problem(message) else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: None if _is_local(request.url) else problems.append(request.url))
        if url:
            page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert problems == []


def _is_problem(message: Any) -> bool:
    refused = ("409 (Conflict)", "429 (Too Many Requests)")  # so our routes refuse, on purpose
    return message.type == "error" and not any(status in message.text for status in refused)


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "http://localhost:", "data:", "blob:", "about:"))


class Seconds:
    """A clock in seconds that stands until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()
