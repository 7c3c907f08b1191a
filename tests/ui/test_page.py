"""The whole page in a browser, on fakes of the engine and the bank."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.ui.server import MINI, SUGGESTIONS
from tests.walk import open_tab

EXAMPLE = next(example for example in MINI.examples if example.prompt in SUGGESTIONS)
TABS = ("Compare", "Race", "Steps", "Distil", "Blind study", "Results", "Benchmarks", "Systems", "Quiz", "About")
STATES = """() => Object.fromEntries([...document.querySelectorAll("#tdm-compare .tdm-card")]
  .map((card) => [card.dataset.id, card.dataset.state]))"""
ALL_READY = f"() => {{ const s = Object.values(({STATES})()); return s.length === 3 && s.every((x) => x === 'ready') }}"


def reach(page, role, state):
    page.locator(f".tdm-card[data-id={role}][data-state={state}]").wait_for()


def generate(page, prompt):
    page.locator("#tdm-prompt textarea").fill(prompt)
    page.get_by_role("button", name="Generate").click()


@pytest.fixture
def page(studio, open_page):
    """The page with its example shown."""
    opened = open_page(studio.url)
    opened.wait_for_function(ALL_READY)
    return opened


def test_an_example_is_on_the_screen_without_a_click(page):
    assert page.locator(".tdm-card[data-id=student] .tdm-badge").text_content() == "14.0× faster"
    assert page.locator(".tdm-card[data-id=student] .tdm-clock").text_content() == "0.12 s"
    assert "?" not in page.url
    assert page.title() == "Few-step studio"


def test_the_student_is_on_the_screen_while_the_teacher_runs_and_when_it_fails(page):
    generate(page, "a broken dog at a steady pace")
    reach(page, "student", "ready")
    reach(page, "teacher", "running")
    assert page.evaluate(STATES)["student"] == "ready"
    reach(page, "teacher", "failed")
    assert page.locator(".tdm-layer[data-id=teacher] .tdm-message").text_content() == "the teacher is broken"
    assert page.evaluate(STATES)["student"] == "ready"


def test_another_student_can_stand_beside_and_a_link_brings_it_back(page):
    page.get_by_role("button", name="More settings").click()
    page.locator("#tdm-beside input").click()
    page.get_by_role("option", name="A rival’s student").click()
    generate(page, "two pandas")
    page.wait_for_function(f"Object.keys(({STATES})()).length === 4")
    for side in ("student", "beside", "teacher_few", "teacher"):
        reach(page, side, "ready")
    page.wait_for_function("new URLSearchParams(location.search).get('beside') === 'rival'")
    page.reload()
    reach(page, "beside", "ready")
    assert page.locator(".tdm-card[data-id=beside] .tdm-name").text_content() == "A rival’s student"
    page.locator("#tdm-system input").click()
    page.get_by_role("option", name="Clips").click()
    page.wait_for_function(f"Object.keys(({STATES})()).length === 3")


def test_a_stream_of_updates_keeps_mount_zoom_and_opacity(page):
    page.evaluate("document.querySelector('.tdm-viewer').dataset.mark = 'the same element'")
    page.locator(".tdm-stage").first.focus()
    page.keyboard.press("+")
    generate(page, "a steady panda")
    page.wait_for_function("new URLSearchParams(location.search).get('prompt') === 'a steady panda'")
    page.wait_for_function(ALL_READY)
    assert page.locator(".tdm-viewer").first.get_attribute("data-mark") == "the same element"
    assert page.locator(".tdm-zoom").first.text_content() == "150 %"
    assert page.evaluate("getComputedStyle(document.querySelector('#tdm-compare')).opacity") == "1"


def test_a_slow_teacher_can_be_stopped(studio, page):
    closed = studio.control()["closed"]
    generate(page, "a slow fox")
    reach(page, "student", "ready")
    reach(page, "teacher", "running")
    page.locator(".tdm-layer[data-id=teacher] .tdm-stop").click()
    reach(page, "teacher", "failed")
    assert page.evaluate(STATES)["student"] == "ready"
    assert studio.control()["closed"] == closed + 1


def test_a_hostile_prompt_is_text(page):
    prompt = "fox ${document.title='run'} {{value}} \\u ` <img src=x onerror=document.title='run'> مرحبا"
    generate(page, prompt)
    page.wait_for_function("(text) => new URLSearchParams(location.search).get('prompt') === text", arg=prompt)
    page.wait_for_function(ALL_READY)
    assert page.title() == "Few-step studio"
    assert page.locator(".tdm-canvas").first.get_attribute("aria-label") == f"Teacher: {prompt}"
    assert "never taught" in page.locator("#tdm-note").text_content()


def test_a_wrong_prompt_is_told_beside_the_field_and_keeps_the_pictures(page):
    for prompt, message in (("  ", "empty"), ("x" * 3000, "at most 2000")):
        generate(page, prompt)
        page.locator("#tdm-note .tdm-error", has_text=message).wait_for()
    assert set(page.evaluate(STATES).values()) == {"ready"}


def test_a_link_reproduces_the_view(page, open_page):
    page.locator("#tdm-student-steps label", has_text="2").click()
    generate(page, "two owls")
    page.wait_for_function("location.search.includes('two+owls')")
    page.wait_for_function(ALL_READY)
    page.locator(".tdm-stage").first.focus()
    page.keyboard.press("2")
    page.keyboard.press("Shift+ArrowRight")
    page.wait_for_function("location.hash.includes('v=slider') && location.hash.includes('w=0.60')")
    again = open_page(page.url)
    again.wait_for_function(ALL_READY)
    assert again.locator("#tdm-prompt textarea").input_value() == "two owls"
    assert (
        again.locator(".tdm-card[data-id=student] .tdm-note")
        .text_content()
        .startswith("2 steps · 2 evaluations · untrained")
    )
    assert again.locator(".tdm-viewer").first.get_attribute("data-mode") == "slider"
    assert again.locator(".tdm-handle").first.get_attribute("aria-valuenow") == "60"


def test_suggestions_and_dice_run_at_once(studio, page):
    page.get_by_role("button", name="two pandas").click()
    page.wait_for_function("location.search.includes('two+pandas')")
    page.wait_for_function(ALL_READY)
    page.locator("#tdm-dice").click()
    seed = page.locator("#tdm-seed input").input_value()
    page.wait_for_function("(seed) => location.search.includes(`seed=${seed}&`)", arg=seed)
    page.wait_for_function(ALL_READY)
    assert studio.control()["seeds"][-3:] == [int(seed)] * 3


def test_an_example_of_the_system_brings_its_own_seed(studio, page):
    page.locator("#tdm-seed input").fill("77")
    page.get_by_role("button", name="a cat and a dog").click()
    page.wait_for_function("location.search.includes('a+cat+and+a+dog') && location.search.includes('seed=77')")
    page.wait_for_function(ALL_READY)
    page.get_by_role("button", name=EXAMPLE.prompt, exact=True).click()
    page.wait_for_function("(seed) => location.search.includes(`seed=${seed}&`)", arg=str(EXAMPLE.seed))
    assert page.locator("#tdm-seed input").input_value() == str(EXAMPLE.seed)
    page.wait_for_function(ALL_READY)


def test_more_teacher_steps_cost_more_evaluations(page):
    page.locator("#tdm-teacher-steps input[type=number]").fill("50")
    page.keyboard.press("Tab")
    page.locator("#tdm-teacher-steps", has_text="100 evaluations").wait_for()


def test_another_system_brings_its_own_example_and_clips_play_together(page):
    page.locator("#tdm-system input").click()
    page.get_by_role("option", name="Clips · video").click()
    page.wait_for_function("location.search.includes('system=clips')")
    page.wait_for_function(ALL_READY)
    assert page.locator("#tdm-prompt textarea").input_value() == "a cat moving left"
    page.wait_for_function("document.querySelector('#tdm-compare .tdm-viewer').dataset.playing === 'true'")
    assert page.locator("#tdm-compare .tdm-frame").text_content().endswith("/ 9")
    page.locator("#tdm-compare .tdm-stage").focus()
    page.keyboard.press("d")
    names = [link.get_attribute("download") for link in page.locator("#tdm-compare .tdm-sheet a").all()]
    assert names == ["teacher.mp4", "teacher_few.mp4", "student.mp4", "pair.mp4", "settings.json"]


def test_a_system_that_cannot_run_here_says_why(page):
    page.locator("#tdm-system input").click()
    page.get_by_role("option", name="Somewhere else · not here yet").click()
    page.locator("#tdm-note .tdm-error", has_text="needs 80 GB on the GPU").wait_for()
    assert set(page.evaluate(STATES).values()) == {"ready"}


def test_surprise_runs_at_once_and_a_known_word_joins_the_prompt(page):
    page.get_by_role("button", name="Surprise me").click()
    page.wait_for_function("location.search.includes('prompt=')")
    page.wait_for_function(ALL_READY)
    assert page.locator("#tdm-prompt textarea").input_value() in (
        "two pandas",
        "a cat and a dog",
        "three foxes on a mint canvas",
    )
    page.locator("#tdm-prompt textarea").fill("one")
    page.locator(".tdm-words summary").click()
    page.locator(".tdm-words").get_by_role("button", name="dog").click()
    page.wait_for_function("document.querySelector('#tdm-prompt textarea').value === 'one dog'")


def test_guidance_and_strength_are_asked_for_and_kept_in_the_link(studio, page, open_page):
    page.locator("#tdm-fine > button").click()
    told = page.locator("#tdm-teacher-steps", has_text="28 evaluations")
    deadline = time.monotonic() + 60
    while not told.is_visible() and time.monotonic() < deadline:
        page.locator("#tdm-guidance input[type=number]").fill("1")  # lost, once in many runs, as the fields unfold
        page.wait_for_timeout(3000)
    assert told.is_visible()
    page.locator("#tdm-strength input[type=number]").fill("0.5")
    generate(page, "two owls")
    page.wait_for_function("location.search.includes('guidance=1') && location.search.includes('strength=0.5')")
    page.wait_for_function(ALL_READY)
    again = open_page(page.url)
    again.wait_for_function(ALL_READY)
    again.locator("#tdm-fine > button").click()
    assert again.locator("#tdm-strength input[type=number]").input_value() == "0.5"


def test_this_browser_s_pairs_come_back_without_a_run_at_the_same_zoom(studio, page):
    for prompt in ("two owls", "a fox"):
        generate(page, prompt)
        page.wait_for_function("(text) => new URLSearchParams(location.search).get('prompt') === text", arg=prompt)
        page.wait_for_function(ALL_READY)
    page.locator(".tdm-strip button", has_text="a fox").wait_for()
    page.locator("#tdm-compare .tdm-stage").focus()
    page.keyboard.press("+")
    before = studio.control()["seeds"]
    page.locator(".tdm-strip button", has_text="two owls").click()
    page.wait_for_function("new URLSearchParams(location.search).get('prompt') === 'two owls'")
    page.wait_for_function("document.querySelector('#tdm-prompt textarea').value === 'two owls'")
    assert page.locator("#tdm-compare .tdm-zoom").text_content() == "150 %"
    assert studio.control()["seeds"] == before
    later = page.context.new_page()
    later.goto(studio.url)
    later.locator(".tdm-strip button").nth(1).wait_for()
    later.get_by_role("button", name="Forget them").click()
    assert not later.locator(".tdm-history").is_visible()


def test_a_pair_whose_pictures_were_deleted_is_drawn_again_with_its_own_settings(studio, browser):
    page = browser.new_page()  # not by `open_page`, to which a missing file is a finding
    page.goto(f"{studio.url}/?prompt=two+owls&seed=4&student=2")
    page.locator(".tdm-strip button", has_text="two owls").wait_for()
    [kept] = page.evaluate("JSON.parse(localStorage.getItem('tdm-pairs')).map((pair) => pair.value.items)")
    for item in kept:
        Path(item["src"]["path"]).unlink()  # as Gradio does after a day
    page.goto(studio.url)
    page.wait_for_function(ALL_READY)
    page.locator(".tdm-strip button", has_text="two owls").click()
    page.get_by_text("no longer kept").first.wait_for()
    page.locator("#tdm-prompt textarea").fill("something else")
    page.get_by_role("button", name="Draw it again").first.click()
    page.get_by_text("no longer kept").first.wait_for(state="hidden")
    page.wait_for_function(ALL_READY)
    assert page.locator("#tdm-prompt textarea").input_value() == "two owls"
    assert studio.control()["seeds"][-3:] == [4] * 3
    assert page.locator(".tdm-card[data-id=student] .tdm-note").text_content().startswith("2 steps")
    assert page.locator(".tdm-strip button", has_text="two owls").count() == 1
    page.close()


def test_a_server_that_is_gone_is_told_and_the_pictures_stay(studio, browser):
    page = browser.new_page()  # not by `open_page`, to which errors of the network are findings
    page.goto(studio.url)
    page.wait_for_function(ALL_READY)
    generate(page, "a slow fox")
    reach(page, "student", "ready")
    reach(page, "teacher", "running")
    page.context.set_offline(True)
    page.locator(".tdm-offline").wait_for()
    reach(page, "teacher", "failed")
    assert page.evaluate(STATES)["student"] == "ready"
    page.context.set_offline(False)
    page.locator(".tdm-offline").wait_for(state="hidden")
    page.close()


def test_the_race_fills_a_grid_and_shows_three_ratios(page):
    page.get_by_role("tab", name="Race").click()
    page.get_by_role("button", name="Start the race").click()
    page.locator(".tdm-race[data-phase=done]").wait_for()
    assert page.locator(".tdm-tiles figure").count() == 14
    assert page.locator(".tdm-outcome h3").text_content() == "14 pictures in the time of one"
    assert [ratio.text_content() for ratio in page.locator(".tdm-outcome dd").all()] == ["14.0×"] * 3
    page.get_by_role("button", name="as recorded").click()
    page.wait_for_function(
        "[...document.querySelectorAll('.tdm-tiles figure')].some((f) => f.style.visibility === 'hidden')"
    )
    page.wait_for_function(
        "[...document.querySelectorAll('.tdm-tiles figure')].every((f) => f.style.visibility === '')"
    )


def test_a_race_can_be_stopped_and_frees_the_device(studio, page):
    generate(page, "a slow fox")
    reach(page, "teacher", "running")
    page.locator(".tdm-layer[data-id=teacher] .tdm-stop").click()
    reach(page, "teacher", "failed")
    closed = studio.control()["closed"]
    page.get_by_role("tab", name="Race").click()
    page.get_by_role("button", name="Start the race").click()
    page.locator("[data-lane=teacher] .tdm-lanecount", has_text="step").wait_for()
    page.locator(".tdm-race").get_by_role("button", name="Stop").click()
    page.locator(".tdm-race").get_by_role("button", name="Start the race").wait_for()
    deadline = time.monotonic() + 20
    while studio.control()["closed"] == closed and time.monotonic() < deadline:
        time.sleep(0.1)
    assert studio.control()["closed"] == closed + 1


def test_the_steps_are_frames_of_the_viewer_and_columns_of_a_film(page):
    page.get_by_role("tab", name="Steps").click()
    page.get_by_role("button", name="Look inside the steps").click()
    page.locator(".tdm-column").nth(4).wait_for()
    assert page.locator(".tdm-column").count() == 5
    page.locator(".tdm-column").nth(2).click()
    page.locator("#tdm-steps .tdm-frame", has_text="noise 0.50").wait_for()
    assert "f=2" not in page.url  # the address belongs to Compare


def test_a_system_is_chosen_from_its_card(page):
    page.get_by_role("tab", name="Systems").click()
    page.locator(".tdm-system", has_text="Somewhere else").get_by_text("needs 80 GB").wait_for()
    page.locator(".tdm-system", has_text="Clips").get_by_role("button", name="Compare with it").click()
    page.wait_for_function("location.search.includes('system=clips')")
    page.wait_for_function(ALL_READY)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768, 390])
def test_axe_finds_nothing_in_our_components(studio, open_page, scheme, width):
    page = open_page(f"{studio.url}?system=clips", width=width, height=860, color_scheme=scheme)
    page.wait_for_function(ALL_READY)
    page.locator("#tdm-compare .tdm-stage").focus()
    page.keyboard.press("l")
    found = {}
    for tab, ready in (
        ("Compare", ".tdm-viewer"),
        ("Race", ".tdm-race"),
        ("Steps", ".tdm-steps"),
        ("Systems", ".tdm-system"),
    ):
        open_tab(page, tab)
        page.locator(ready).first.wait_for()
        answer = Axe().run(page, context="#tdm-tabs", options={"resultTypes": ["violations"]}).response
        serious = [each for each in answer["violations"] if each["impact"] in ("serious", "critical")]
        found[tab] = [(each["id"], node["html"][:120]) for each in serious for node in each["nodes"]]
    assert {tab: nodes for tab, nodes in found.items() if nodes} == {}


@pytest.mark.parametrize(("width", "height", "scheme"), [(1280, 860, "light"), (390, 844, "dark")])
def test_no_tab_is_wider_than_its_window(studio, open_page, width, height, scheme):
    page = open_page(studio.url, width=width, height=height, color_scheme=scheme)
    page.wait_for_function(ALL_READY)
    for tab in TABS:
        open_tab(page, tab)
        page.wait_for_timeout(300)  # what it holds has come
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab


def test_a_link_opens_its_tab_on_what_it_asks_for(studio, open_page):
    page = open_page(f"{studio.url}/?tab=race&prompt=two+owls&seed=5", width=390)
    page.locator("#tdm-race").wait_for()
    assert not page.locator("#tdm-compare").is_visible()
    page.locator("#tdm-race button", has_text="Start").click()
    page.locator("#tdm-race", has_text="two owls").wait_for()
    assert "tab=race" in page.url


def test_the_address_follows_the_open_tab(studio, open_page):
    page = open_page(f"{studio.url}/?tab=no-such-tab")
    page.wait_for_function(ALL_READY)
    page.get_by_role("tab", name="About").click()
    page.wait_for_function("new URLSearchParams(location.search).get('tab') === 'about'")
    page.reload()
    page.get_by_role("tab", name="About", selected=True).wait_for()
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_function("!new URLSearchParams(location.search).has('tab')")
