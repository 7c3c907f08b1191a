"""A visitor on every page of the real app, with the minis that ship: on a phone's screen, then on a desk's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.running_app import PATIENCE_SECONDS, App
from tests.walk import SIZES, walk


def test_a_visitor_walks_every_page_at_both_sizes(tmp_path: Path, open_page: Any) -> None:
    app = App(tmp_path / "data")
    try:
        app.wait_for(lambda: app.status()["state"] == "open")
        for size, (width, height) in SIZES.items():
            page = open_page(app.url, width=width, height=height)
            page.set_default_timeout(PATIENCE_SECONDS * 1000)
            seen: list[str] = []
            walk(page, size, seen.append)
            assert len(set(seen)) == 11 and page.evaluate("document.documentElement.scrollWidth") <= width
            page.close()
    finally:
        assert app.end() == 0
    assert "Traceback" not in app.log.read_text()
