"""A visitor on every page of the real app, with the minis that ship: on a phone's screen, then on a desk's."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

from tdm_core.generation.media import decode_mp4, decode_png
from tests.running_app import PATIENCE_SECONDS, App
from tests.walk import SIZES, WATCH_CLIPS, walk


def test_a_visitor_walks_every_page_at_both_sizes(tmp_path: Path, open_page: Any) -> None:
    app = App(tmp_path / "data")
    try:
        app.wait_for(lambda: app.status()["state"] == "open")
        for size, (width, height) in SIZES.items():
            page = open_page(app.url, width=width, height=height)
            page.set_default_timeout(PATIENCE_SECONDS * 1000)
            seen: list[str] = []
            walk(page, size, seen.append)
            assert len(set(seen)) == 11 + (size == "desk")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            if size == "desk":
                both_clips_show_the_frame_that_is_told(app, page)
            page.close()
    finally:
        assert app.end() == 0
    assert "Traceback" not in app.log.read_text()


def both_clips_show_the_frame_that_is_told(app: App, page: Any) -> None:
    """At every moment while they play; and each frame is that of the file behind the side."""
    watched = page.evaluate(WATCH_CLIPS)
    told = {frame for frame, *_ in watched["seen"]}
    assert all(frame == teacher == student for frame, teacher, student in watched["seen"]), watched["seen"]
    for side, shown in zip(("teacher", "student"), watched["frames"], strict=True):
        address = page.locator(f"#tdm-compare .tdm-sheet a[download='{side}.mp4']").get_attribute("href")
        clip = decode_mp4(app.get(address.removeprefix(app.url))).astype(float)
        pictures = [decode_png(base64.b64decode(picture.partition(",")[2])) for picture in shown]
        distances = [np.abs(clip - picture).mean(axis=(1, 2, 3)) for picture in pictures]
        assert [int(each.argmin()) for each in distances] == list(range(len(clip))), side
        assert len(told) > len(clip) / 2  # it does play, however busy the machine
