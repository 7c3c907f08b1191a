"""axe-core on each page of ours, light and dark, wide or narrow: nothing serious, and all within the keyboard's reach.

axe-core is Deque's, under the MPL 2.0; it comes with a package of the tests and is no part of the app.
"""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from tdm_core.ui.admin import ADMIN
from tests.ui.server import ADMIN_TOKEN
from tests.walk import TABS, open_tab

LOOKS = [(1280, 860, "light"), (390, 844, "dark")]


def findings(page):
    """Serious and critical ones, a line each: what, and where."""
    page.wait_for_timeout(400)  # colours fade in
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{each['id']} ({each['impact']}): {node['html'][:160]} | {node['failureSummary'][:200]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def focus_order(page, presses):
    """What the Tab key reaches, as short descriptions."""
    reached = []
    for _ in range(presses):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "() => { const at = document.activeElement; return at.dataset.choice ?? at.dataset.do ?? at.id }"
            )
        )
    return reached


@pytest.fixture(params=LOOKS, ids=lambda look: f"{look[0]}-{look[2]}")
def look(request):
    width, height, scheme = request.param
    return {"width": width, "height": height, "color_scheme": scheme}


def test_every_tab_as_a_visitor_first_sees_it(studio, open_page, look):
    studio.control(pairs=3, quiz_pairs=3)
    page = open_page(studio.url, **look)
    page.locator(".tdm-card[data-id=teacher][data-state=ready]").wait_for()
    page.wait_for_function(f"({TABS})().length === 10")
    names = page.evaluate(TABS)
    for name in names:
        open_tab(page, name)
        assert findings(page) == [], name


@pytest.mark.parametrize("kind", ["image", "video"])
def test_the_blind_study_from_invitation_to_its_end(studio, open_page, look, kind):
    wanted = {"identity": "invite", "consent": "You agree.", "criteria": ["quality"], "visitors_may_close": False}
    [code] = studio.control(pairs=3, kind=kind, invite=1, rules=wanted)["codes"]
    page = open_page(studio.url, **look)
    page.evaluate("() => new Promise((done) => setTimeout(done, 500))")
    open_tab(page, "Blind study")
    page.get_by_role("button", name="Start").click()
    page.get_by_label("The code that you were given").fill(code)
    assert findings(page) == [], "invitation"
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="I agree").wait_for()
    assert findings(page) == [], "consent"
    page.get_by_role("button", name="I agree").click()
    page.locator("[data-choice=left]:not([aria-disabled])").wait_for()
    assert findings(page) == [], "trial"
    page.get_by_role("button", name="Leave the study").click()
    assert findings(page) == [], "leaving"
    page.get_by_role("button", name="Leave", exact=True).click()
    page.locator(".tdm-study[data-state=withdrawn]").wait_for()
    assert findings(page) == [], "withdrawn"


def test_a_closed_study_and_its_results(studio, open_page, look):
    studio.control(pairs=3)
    page = open_page(studio.url, **look)
    open_tab(page, "Blind study")
    page.get_by_role("button", name="Start").click()
    for _ in range(3):
        page.locator("[data-choice=left]:not([aria-disabled])").wait_for()
        page.locator("[data-choice=left]").click()
        page.wait_for_timeout(300)
    page.locator(".tdm-study[data-state=finished]").wait_for()
    page.get_by_role("button", name="End the study").click()
    page.get_by_role("button", name="End it").click()
    page.locator(".tdm-results h2").wait_for()
    assert findings(page) == [], "results"
    open_tab(page, "Blind study")
    page.locator(".tdm-study[data-state=closed]").wait_for()
    assert findings(page) == [], "closed"


def test_the_quiz(studio, open_page, look):
    studio.control(quiz_pairs=3)
    page = open_page(studio.url, **look)
    page.locator(".tdm-card[data-id=teacher][data-state=ready]").wait_for()
    open_tab(page, "Quiz")
    page.locator("#tdm-quiz").get_by_role("button", name="Start").click()
    for number in (1, 2, 3):
        page.locator(".tdm-quiz-number", has_text=f"Pair {number} of 3").wait_for()
        assert findings(page) == [] or number > 1, "question"
        page.locator("[data-place=top]").click()
    page.locator(".tdm-quiz[data-state=end]").wait_for()
    assert findings(page) == [], "answers"


def test_a_pair_of_the_race_looked_at_closer(studio, open_page, look):
    page = open_page(f"{studio.url}/?tab=race", **look)
    page.get_by_role("button", name="Start the race").click()
    page.locator(".tdm-race[data-phase=done]").wait_for()
    assert findings(page) == [], "race"
    page.get_by_role("button", name="Look closer: seed 14").click()
    page.locator(".tdm-closer[open] [data-painted]").wait_for()
    assert findings(page) == [], "dialog"


def test_the_operators_page(studio, open_page, look):
    studio.control(pairs=3)
    page = open_page(f"{studio.url}{ADMIN}", **look)
    assert findings(page) == [], "before the token"
    page.get_by_label("Token").fill(ADMIN_TOKEN)
    page.get_by_role("button", name="Enter").click()
    page.locator(".tile").first.wait_for()
    page.get_by_role("button", name="Unblind").click()
    assert findings(page) == [], "overview"


def test_the_keyboard_reaches_every_control_of_a_trial(studio, open_page):
    studio.control(pairs=3)
    page = open_page(studio.url)
    open_tab(page, "Blind study")
    page.get_by_role("button", name="Start").focus()
    page.keyboard.press("Enter")
    page.locator("[data-choice=left]:not([aria-disabled])").wait_for()
    assert page.evaluate("document.querySelector('.tdm-study').contains(document.activeElement)")
    assert {"left", "tie", "both_bad", "right", "skip", "end"} <= set(focus_order(page, 24))


def test_a_planted_fault_is_found(studio, open_page):
    page = open_page(f"{studio.url}{ADMIN}")
    page.evaluate("document.querySelector('#login label').remove()")
    assert any("label" in finding for finding in findings(page))
