"""What the served page says about a trial besides the study's own routes: nothing at all.

With two arms, one leak unblinds everything. The page is read as a curious visitor reads it, before and while a trial
is open: its configuration, its API, its own HTML, what the browser keeps. A planted leak must be found.
"""

from __future__ import annotations

import json
import re
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

PATIENCE_SECONDS = 120
OPEN_PATHS = ("/", "/config", "/gradio_api/info", "/gradio_api/openapi.json", "/theme.css")
CLOSED_PATHS = ("/gradio_api/monitoring", "/gradio_api/monitoring/summary", "/monitoring", "/gradio_api/run_history")
CHANGES_ANYHOW = re.compile(r'"(session_hash|app_id|page_load_id|username|root|time)": ?("[^"]*"|[\d.]+|null)')


def read(studio, path):
    with urlopen(Request(studio.url + path), timeout=PATIENCE_SECONDS) as answer:
        return answer.read().decode()


def steady(text):
    """The text without what differs between any two requests."""
    return CHANGES_ANYHOW.sub("", text)


def secrets_of(studio):
    """What would unblind the open trial: ids of pairs, media tokens, sides."""
    told = studio.control()["trials"]
    assert told
    return {value for trial in told for value in (trial["pair_id"], trial["media_token"], trial["id"], trial["prompt"])}


def leaks(text, secrets):
    return {secret for secret in secrets if secret in text}


@pytest.fixture(params=["image", "video"])
def trial_page(request, studio, open_page):
    """A page with an open trial, and what the paths said before there was one."""
    studio.control(pairs=3, kind=request.param)
    before = {path: steady(read(studio, path)) for path in OPEN_PATHS}
    page = open_page(studio.url)
    page.get_by_role("tab", name="Blind study").click()
    title = page.title()
    page.get_by_role("button", name="Start").click()
    page.locator("[data-choice=left]:not([aria-disabled])").wait_for()
    return page, before, title


def test_nothing_of_a_trial_shows_outside_its_own_routes(studio, trial_page):
    page, before, title = trial_page
    secrets = secrets_of(studio)
    for path in OPEN_PATHS:
        now = read(studio, path)
        assert leaks(now, secrets) == set(), path
        assert steady(now) == before[path], path
    for path in CLOSED_PATHS:
        try:
            told = read(studio, path)
        except HTTPError as refusal:
            assert refusal.code in (401, 403, 404)
        else:  # the page itself, for any address that it does not know
            assert leaks(told, secrets) == set()
            assert "latency" not in told.lower()

    # What the browser holds: the section knows its prompt, and nothing says which side is whose.
    section = page.locator(".tdm-study").inner_html().lower()
    shown = page.locator("[data-for=trial]").inner_html().lower()
    assert not {word for word in ("student", "teacher", "spoiled", "seed", "guidance") if word in shown}
    assert leaks(section, {secret for secret in secrets if not secret.startswith("prompt")}) == set()
    assert page.title() == title
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])")
    assert leaks(kept, secrets) == set()
    assert "tdm_rater" not in kept  # the cookie is out of the page's reach
    names = page.evaluate("JSON.stringify(performance.getEntriesByType('resource').map((each) => each.name))")
    assert {name.rsplit("/", 1)[0] for name in json.loads(names) if "media/" in name} == {
        f"{studio.url}/gradio_api/study/media"
    }
    assert not re.search(r"student|teacher|pair-|\.png|\.mp4", " ".join(n for n in json.loads(names) if "/study/" in n))


def test_a_planted_leak_is_found(studio, trial_page):
    page, before, _ = trial_page
    secrets = secrets_of(studio)
    pair = next(secret for secret in secrets if secret.startswith("pair-"))
    page.evaluate("(pair) => localStorage.setItem('last', pair)", pair)
    kept = page.evaluate("JSON.stringify({...localStorage})")
    assert leaks(kept, secrets) == {pair}
    assert steady(before["/config"].replace('"components"', f'"left": "{pair}", "components"', 1)) != before["/config"]
