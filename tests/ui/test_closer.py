"""Looking closer: one viewer in a dialog for the race, the quiz, the live run and the reports' pairs."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from tdm_core.generation.media import encode_png
from tdm_core.ui import viewer

DIALOG = ".tdm-closer[open]"
LABELS = "[...document.querySelectorAll('.tdm-closer[open] .tdm-card')].filter((c) => c.checkVisibility())"


def labels(page):
    return page.evaluate(f"{LABELS}.map((card) => card.querySelector('.tdm-name').textContent)")


def mode(page):
    return page.locator(f"{DIALOG} .tdm-viewer:not([hidden])").get_attribute("data-mode")


def opened(page):
    page.locator(f"{DIALOG} .tdm-viewer:not([hidden])[data-painted]").wait_for()
    return page.locator(DIALOG)


@pytest.fixture
def race(studio, open_page):
    page = open_page(f"{studio.url}/?tab=race")
    page.get_by_role("button", name="Start the race").click()
    page.locator(".tdm-race[data-phase=done]").wait_for()
    return page


def test_a_tile_of_the_race_is_shown_large_beside_the_teacher_s(race):
    address = race.evaluate("location.href")
    race.get_by_role("button", name="Look closer: seed 14").click()
    dialog = opened(race)
    assert labels(race) == ["Teacher", "Student"]
    assert dialog.locator(".tdm-card .tdm-note").all_text_contents() == ["seed 12", "seed 14"]
    assert dialog.locator("header .tdm-prompt").text_content() == race.locator(".tdm-race .tdm-prompt").text_content()
    for key, reached in (("2", "slider"), ("3", "blink"), ("4", "diff"), ("1", "side")):
        race.keyboard.press(key)
        assert mode(race) == reached
    assert race.evaluate("location.href") == address  # the address is the Compare tab's


def test_escape_closes_a_menu_first_and_then_the_dialog_and_gives_the_focus_back(race):
    tile = race.get_by_role("button", name="Look closer: seed 13")
    tile.focus()
    race.keyboard.press("Enter")
    dialog = opened(race)
    race.keyboard.press("d")
    dialog.locator(".tdm-menu[open]").wait_for()
    race.keyboard.press("Escape")
    dialog.locator(".tdm-menu:not([open])").wait_for()
    race.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert race.evaluate("document.activeElement.ariaLabel") == "Look closer: seed 13"


def test_a_click_beside_the_dialog_closes_it_and_the_next_pair_begins_unzoomed(race):
    race.get_by_role("button", name="Look closer: seed 13").click()
    opened(race)
    race.keyboard.press("+")
    assert race.locator(f"{DIALOG} .tdm-zoom").text_content() == "150 %"
    race.mouse.click(4, 400)
    race.locator(DIALOG).wait_for(state="detached")
    race.get_by_role("button", name="Look closer: teacher").click()
    opened(race)
    assert labels(race) == ["Teacher"]
    assert race.locator(f"{DIALOG} .tdm-zoom").text_content() == "Fit"


def test_what_the_dialog_shows_are_the_pixels_of_the_tile(race):
    race.get_by_role("button", name="Look closer: seed 13").click()
    opened(race)
    same = race.evaluate(
        """async () => {
          const image = document.querySelector('.tdm-tiles [aria-label$="seed 13"] img');
          const bits = (source, width, height) => {
            const brush = new OffscreenCanvas(width, height).getContext("2d");
            brush.drawImage(source, 0, 0);
            return brush.getImageData(0, 0, width, height).data.join();
          };
          const canvas = document.querySelector(".tdm-closer [data-id=student] canvas");
          return bits(image, canvas.width, canvas.height) === bits(canvas, canvas.width, canvas.height);
        }"""
    )
    assert same


def test_a_question_of_the_quiz_is_looked_at_blind_and_its_answer_with_names(studio, open_page):
    page = open_page(f"{studio.url}/?tab=quiz")
    page.locator("#tdm-quiz").get_by_role("button", name="Start").click()
    page.get_by_role("button", name="Look closer").click()
    dialog = opened(page)
    assert labels(page) == []
    told = dialog.inner_html().lower()
    assert "student" not in told.replace("tdm-", "") and "seed" not in told
    for key in ("ArrowDown", "4", "x"):  # no vote, no difference, no swap
        page.keyboard.press(key)
    assert mode(page) == "side"
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    for number in (1, 2, 3):
        page.locator(".tdm-quiz-number", has_text=f"Pair {number} of 3").wait_for()
        page.locator("[data-place=top]").click()
    page.locator(".tdm-quiz[data-state=end]").wait_for()
    page.locator(".tdm-quiz-answers .tdm-look").nth(1).click()
    opened(page)
    assert sorted(labels(page)) == ["Student", "Teacher"]


def test_pictures_of_a_live_run_are_looked_at_as_they_are_now(studio, open_page):
    page = open_page(f"{studio.url}/?tab=distil")
    page.locator("button[data-do=begin]").click()
    page.locator(".tdm-distil[data-state=ended]").wait_for()
    page.locator(".tdm-scene .tdm-look").first.click()
    opened(page)
    assert labels(page) == ["Teacher · 56", "Teacher · 4", "Student · 4"]


def test_a_pair_of_a_report_is_shown_with_what_was_judged(studio, open_page):
    page = open_page(studio.url)
    page.locator("#tdm-closer dialog").wait_for(state="attached")
    picture = base64.b64encode(encode_png(np.zeros((8, 8, 3), dtype=np.uint8))).decode()
    page.evaluate(
        """([script, picture]) => {
          const element = document.body.appendChild(document.createElement("div")), heard = [];
          const side = (role, words) => `<figure data-role="${role}"><img src="data:image/png;base64,${picture}">
            <figcaption>${words}</figcaption></figure>`;
          const sides = side("teacher", "Teacher · right") + side("student", "Student · wrong");
          element.innerHTML = `<div class="tdm-pairs"><section><div>${sides}</div><p>two pears</p></section></div>`;
          new Function("element", "watch", script)(element, (name, draw) => heard.push(draw));
          heard.forEach((draw) => draw());
        }""",
        [viewer.script("look.js") + (viewer.HERE.parent / "benchmarks.js").read_text(), picture],
    )
    page.get_by_role("button", name="Look closer: two pears").click()
    opened(page)
    assert labels(page) == ["Teacher · right", "Student · wrong"]
