"""Two hundred visitors at once: those whom the page cannot serve soon are told so, with an estimate, and nobody waits
for ever; whoever leaves gives the place back."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tdm_core.generation.visitors import STUDENTS_AT_ONCE, TEACHERS_AT_ONCE
from tdm_core.ui.page import THREADS
from tests.ui.conftest import PATIENCE_SECONDS

CROWD = 200
BUSY = re.compile(r"Busy: \d+ others wait for the same\. Try again in (a few minutes|about \d+ s)\.")


def told(url: str, number: int) -> str:
    """What one of the crowd gets: ``complete``, or the error's text."""
    address = f"{url}/gradio_api/call/compare"
    asked = {"data": ["a slow cat", number, 4, 28, "mini-sd3"]}
    call = httpx.post(address, json=asked, timeout=PATIENCE_SECONDS).raise_for_status().json()["event_id"]
    lines = httpx.get(f"{address}/{call}", timeout=PATIENCE_SECONDS).text.splitlines()
    *_, event, data = [line for line in lines if line]
    return "complete" if event == "event: complete" else json.loads(data.removeprefix("data: "))["error"]


def test_of_two_hundred_requests_those_that_would_wait_too_long_are_told_for_how_long(studio):
    with ThreadPoolExecutor(CROWD) as crowd:
        answers = list(crowd.map(lambda number: told(studio.url, number), range(CROWD)))
    served, refused = answers.count("complete"), [answer for answer in answers if BUSY.fullmatch(answer)]
    assert served + len(refused) == CROWD
    assert 0 < served <= STUDENTS_AT_ONCE
    assert told(studio.url, 0) == "complete"  # the crowd has left nothing behind


def test_a_thread_is_left_to_tell_that_the_page_is_busy():
    assert STUDENTS_AT_ONCE + TEACHERS_AT_ONCE < THREADS


@pytest.fixture
def page(studio, open_page):
    opened = open_page(studio.url)
    opened.locator(".tdm-card[data-id=teacher][data-state=ready]").wait_for()
    return opened


def test_a_visitor_who_closes_the_page_midway_frees_the_place(studio, page):
    before = studio.control()["closed"]
    page.get_by_label("Prompt").fill("a slow fox")
    page.get_by_role("button", name="Generate", exact=True).click()
    page.locator(".tdm-card[data-id=teacher][data-state=running]").wait_for()
    page.context.close()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while studio.control()["closed"] == before:
        assert time.monotonic() < deadline, "the run goes on for nobody"
        time.sleep(0.1)
