"""A real browser on a page of fakes: the system's Chromium, no download, and nothing but the local host is reached."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tdm_core.generation.presets import load_presets
from tdm_core.generation.sample import SampleRequest
from tdm_core.scenes import grammar
from tdm_core.study import MemoryStore, StudyRules, StudyService
from tests.needs import need
from tests.ui.fakes import FakeBank, FakeSampler

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PATIENCE_MS = 30_000  # for a machine that is busy with something else
SUGGESTIONS = ["two pandas", "a cat and a dog", "three foxes on a mint canvas"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    need(chromium, "no Chromium is installed, so nothing of the page is tested in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield launched
        launched.close()


@dataclass
class Studio:
    """A served page with the fakes behind it, which a test may change."""

    url: str = ""
    sampler: FakeSampler = field(default_factory=FakeSampler)
    bank: FakeBank = field(default_factory=FakeBank)
    service: StudyService = field(init=False)

    def __post_init__(self) -> None:
        rules = StudyRules(needed=2, target=3, min_view_ms=300)
        self.service = StudyService(store=MemoryStore(), pairs=self.bank, rules=rules)

    def sample(self, request: SampleRequest) -> Any:
        return self.sampler(request)


@contextmanager
def serve(studio: Studio) -> Iterator[Studio]:
    from tdm_core.ui.inputs import PageInputs
    from tdm_core.ui.page import build, launch_options
    from tdm_core.ui.routes import routes

    page = build(
        PageInputs(
            preset=load_presets()["mini-sd3"],
            sample=studio.sample,
            suggest=lambda: SUGGESTIONS,
            unknown_words=grammar.unknown_words,
            trained_steps=frozenset({4}),
            results=studio.service.results,
        )
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _, studio.url, _ = page.launch(
        server_port=port,
        app_kwargs={"routes": routes(studio.service, b"s" * 32)},
        prevent_thread_lock=True,
        quiet=True,
        **launch_options(),
    )
    yield studio
    page.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("pictures")))
        with serve(Studio()) as studio:
            yield studio


@pytest.fixture
def studio(served: Studio) -> Iterator[Studio]:
    """The shared page with fresh fakes for Compare."""
    served.sampler = FakeSampler()
    yield served


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens pages; at the end nothing may have gone wrong in them, and nothing may have left the machine."""
    problems: list[str] = []
    contexts = []

    def open_(url: str, *, width: int = 1280, height: int = 860, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: None if _is_local(request.url) else problems.append(request.url))
        if url:
            page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert problems == []


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "http://localhost:", "data:", "blob:", "about:"))
