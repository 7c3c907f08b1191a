"""The Distil tab: events to what is shown, and the whole of it in a browser on a fake run."""

from __future__ import annotations

import time

import pytest

from tdm_core.ui import texts
from tdm_core.ui.distil import Lesson


def reach(page, state):
    page.locator(f".tdm-distil[data-state={state}]").wait_for()


@pytest.fixture
def page(studio, open_page):
    """The tab, with nothing begun."""
    opened = open_page(studio.url)
    opened.get_by_role("tab", name="Distil").click()
    reach(opened, "idle")
    return opened


def click(page, what):
    page.locator(f"button[data-do={what}]").click()


def taken(*events):
    lesson = Lesson()
    lesson.begin()
    for event in events:
        lesson.take(event)
    return lesson.value


def test_scores_are_kept_in_the_order_of_their_iterations():
    later, first = ({"kind": "score", "step": step, "value": 0.5} for step in (20, 0))
    assert [score["step"] for score in taken(later, first)["scores"]] == [0, 20]


def test_a_newer_picture_of_a_role_takes_the_place_of_the_older():
    value = taken(*({"kind": "pictures", "role": "student", "step": step, "pictures": []} for step in (0, 5)))
    assert value["pictures"]["student"]["step"] == 5


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"kind": "failed", "message": "no memory"}, "no memory"),
        ({"kind": "full"}, texts.LIVE_FULL),
        ({"kind": "gave_way"}, texts.LIVE_GAVE_WAY),
    ],
)
def test_a_run_that_breaks_off_says_why(event, message):
    value = taken({"kind": "begin", "iterations": 3}, event)
    assert (value["state"], value["message"]) == ("failed", message)


def test_who_waits_is_told_how_many_are_before():
    assert taken({"kind": "waiting", "ahead": 1})["message"] == texts.LIVE_AHEAD_ONE
    assert "3 runs" in taken({"kind": "waiting", "ahead": 3})["message"]


def test_a_student_learns_and_is_then_chosen_in_compare_and_downloaded(page):
    click(page, "begin")
    reach(page, "ended")
    assert page.locator("[data-figure=step]").text_content() == "20 of 20"
    assert page.locator("[data-figure=forwards]").text_content() == "4,160"
    assert page.locator("[data-figure=score]").text_content() == "83 %"
    assert page.locator(".tdm-chart .tdm-dashed").count() == 2
    assert page.locator(".tdm-chart circle").count() == 4
    assert page.locator(".tdm-trio img").count() == 9
    with page.expect_download() as download:
        page.locator("[data-do=download]").click()
    assert download.value.suggested_filename == "pytorch_lora_weights.safetensors"
    assert download.value.path().read_bytes() == b"a LoRA"
    click(page, "compare")
    page.wait_for_function("new URLSearchParams(location.search).get('system')?.startsWith('mini-sd3-live-')")
    page.locator(".tdm-card[data-id=teacher][data-state=ready]").wait_for()
    assert "made live" in page.locator("#tdm-system input").input_value()


def test_a_link_to_a_student_that_is_gone_shows_the_example_and_says_so(studio, open_page):
    page = open_page(f"{studio.url}?prompt=a+cat&system=mini-sd3-live-99")
    page.locator("#tdm-note .tdm-error", has_text="mini-sd3-live-99").wait_for()


def test_a_run_can_be_paused_taken_up_and_cancelled(page, studio):
    closed = studio.control()["lessons_closed"]
    click(page, "begin")
    reach(page, "running")
    click(page, "hold")
    reach(page, "paused")
    step = page.locator("[data-figure=step]").text_content()
    page.wait_for_timeout(500)
    assert page.locator("[data-figure=step]").text_content() == step
    click(page, "proceed")
    reach(page, "running")
    click(page, "quit")
    reach(page, "stopped")
    assert page.locator("button[data-do=begin]").is_visible()
    assert studio.control()["lessons_closed"] == closed


def test_a_run_ends_with_its_page(page, studio):
    closed = studio.control()["lessons_closed"]
    click(page, "begin")
    reach(page, "running")
    click(page, "hold")
    reach(page, "paused")
    page.context.close()
    for _ in range(100):
        if studio.control()["lessons_closed"] == closed + 1:
            return
        time.sleep(0.2)
    pytest.fail("the run goes on without a page")
