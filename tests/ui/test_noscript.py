"""The page where JavaScript is switched off: it says so, in each language, instead of staying blank."""

from __future__ import annotations

import httpx
import pytest

from tdm_core.ui import languages, texts
from tdm_core.ui.noscript import note


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_without_javascript_the_page_says_what_it_needs(studio, open_page, width, scheme):
    page = open_page(studio.url, width=width, color_scheme=scheme, java_script_enabled=False)
    told = page.locator("noscript p").all()
    spoken = [table.get(texts.NO_SCRIPT, texts.NO_SCRIPT) for table in ({}, languages.table("zh"))]
    assert [each.text_content().startswith(words) for each, words in zip(told, spoken, strict=True)] == [True, True]
    for box in [each.bounding_box() for each in told]:
        assert box["height"] > 20 and 0 <= box["x"] and box["x"] + box["width"] <= width and box["y"] >= 0
    background = page.locator("body").evaluate("(body) => getComputedStyle(body).backgroundColor")
    assert background == {"light": "rgb(250, 250, 250)", "dark": "rgb(15, 15, 18)"}[scheme]
    assert page.locator("body").evaluate("(body) => getComputedStyle(body).color") != background


def test_only_the_page_itself_has_the_note(studio):
    page = httpx.get(studio.url)
    assert note() in page.content and int(page.headers["content-length"]) == page.num_bytes_downloaded
    assert note() not in httpx.get(f"{studio.url}/gradio_api/info").content
    assert note() not in httpx.get(f"{studio.url}/no-such-page").content


def test_with_javascript_nobody_sees_it(studio, open_page):
    page = open_page(studio.url)
    page.locator("#tdm-prompt").wait_for()
    assert not page.locator("noscript").is_visible()
