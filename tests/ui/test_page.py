"""The whole page in a browser, on fakes of the engine and the bank."""

from __future__ import annotations

import pytest

STATES = """() => Object.fromEntries([...document.querySelectorAll(".tdm-card")]
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


def test_more_teacher_steps_cost_more_evaluations(page):
    page.locator("#tdm-teacher-steps input[type=number]").fill("50")
    page.keyboard.press("Tab")
    page.locator("#tdm-teacher-steps", has_text="100 network evaluations").wait_for()


@pytest.mark.parametrize(("width", "height", "scheme"), [(1280, 860, "light"), (390, 844, "dark")])
def test_no_tab_is_wider_than_its_window(studio, open_page, width, height, scheme):
    page = open_page(studio.url, width=width, height=height, color_scheme=scheme)
    page.wait_for_function(ALL_READY)
    for tab in ("Compare", "Distil", "Blind study", "Results", "Benchmarks", "Quiz", "About"):
        page.evaluate(
            "(name) => [...document.querySelectorAll('[role=tab]')].find((t) => t.innerText === name)?.click()", tab
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
