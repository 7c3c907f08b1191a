"""The blind tab in a browser, over the real routes and the real study."""

from __future__ import annotations

import pytest

from tdm_core.ui.plots import percent
from tests.ui.viewer_page import PAINTED as PAINTED_NUMBERS

PAINTED = """() => [...document.querySelectorAll("#tdm-study .tdm-canvas")]
  .map((c) => c.getContext("2d").getImageData(61, 61, 1, 1).data.join())"""


def start(page):
    page.get_by_role("tab", name="Blind study").click()
    page.get_by_role("button", name="Start").click()
    page.locator(".tdm-study[data-state=trial]").wait_for()


def unlocked(page):
    page.locator("[data-choice=left]:not([aria-disabled])").wait_for()


def number(page, text):
    page.locator(".tdm-number", has_text=text).wait_for()


@pytest.fixture
def fresh(studio):
    """A study with three pairs and without votes."""
    studio.control(pairs=3)
    return studio


def test_a_visitor_votes_through_the_study_and_reads_the_result(fresh, open_page):
    page = open_page(fresh.url)
    bodies = []
    page.on("response", lambda response: bodies.append(response) if "/study/" in response.url else None)
    start(page)
    number(page, "Pair 1 of 3")
    assert len(set(page.evaluate(PAINTED))) == 2  # both sides are there, and differ
    unlocked(page)
    page.keyboard.press("ArrowLeft")
    number(page, "Pair 2 of 3")
    assert page.evaluate("document.querySelector('.tdm-study').contains(document.activeElement)")
    unlocked(page)
    page.keyboard.press("n")
    number(page, "Pair 3 of 3")
    unlocked(page)
    page.get_by_role("button", name="About the same").click()
    page.locator(".tdm-study[data-state=finished]").wait_for()
    assert fresh.control()["status"]["votes"] == 3

    told = " ".join(response.text() for response in bodies if "media" not in response.url).lower()
    told += page.locator("#tdm-study").inner_html().lower()
    for secret in ("teacher", "seed", "guidance", "pair-"):
        assert secret not in told, secret

    page.get_by_role("button", name="End the study").click()
    page.get_by_role("button", name="End it").click()
    page.locator(".tdm-results h2").wait_for()
    assert "single rater" in page.locator(".tdm-results").text_content()
    pairs = page.locator(".tdm-judged section")
    assert set(pairs.locator("small").all_text_contents()) <= {
        f"student {percent(share)}, one vote"
        for share in (0.0, 1.0)  # a tie of one vote is no disagreement
    }
    page.wait_for_function("[...document.querySelectorAll('.tdm-judged img')].every((img) => img.naturalWidth > 0)")
    page.get_by_role("tab", name="Blind study").click()
    page.locator(".tdm-study[data-state=closed]").wait_for()


def test_a_rater_told_to_wait_need_not_press_anything(fresh, open_page):
    page = open_page(fresh.url)
    refused = []

    def busy_once(route):
        if refused:
            return route.continue_()
        refused.append(route.request.url)
        told = {"error": "You have been given many pairs in a short time: go on in 2 s.", "code": "slow_down"}
        return route.fulfill(status=429, json=told, headers={"Retry-After": "2"})

    page.route("**/study/next", busy_once)
    page.get_by_role("tab", name="Blind study").click()
    page.get_by_role("button", name="Start").click()
    page.locator(".tdm-study[data-state=waiting]", has_text="The next pair comes by itself. 1 s").wait_for()
    number(page, "Pair 1 of 3")
    assert len(refused) == 1


def test_a_study_of_somebody_else_from_invitation_to_withdrawal(fresh, open_page):
    codes = fresh.control(
        pairs=12,
        invite=1,
        rules={
            "visitors_may_close": False,
            "identity": "invite",
            "consent": "We keep <b>your</b> answers.",
            "criteria": ["quality"],
            "question": "Which one would you hang on a wall?",
            "target": 12,
            "controls": {},
        },
    )["codes"]
    page = open_page(fresh.url)
    page.get_by_role("tab", name="Blind study").click()
    page.get_by_role("button", name="Start").click()
    page.get_by_label("The code that you were given").fill("wrong")
    page.get_by_role("button", name="Go on").click()
    page.get_by_text("This invitation is unknown").wait_for()
    page.get_by_label("The code that you were given").fill(codes[0])
    page.get_by_role("button", name="Go on").click()
    page.get_by_text("We keep <b>your</b> answers.").wait_for()
    page.get_by_role("button", name="I agree").click()
    number(page, "Practice pair")
    assert page.locator(".tdm-question").text_content() == "Which one would you hang on a wall?"
    for _ in range(2):
        page.locator("[data-choice]:not([aria-disabled])").first.wait_for()
        page.get_by_role("button", name="Left is better").click()
        page.locator(".tdm-hint", has_text="broken on purpose").wait_for()
    number(page, "Pair 3 of")
    page.get_by_role("group", name="Better in quality:").get_by_label("the same").check()
    unlocked(page)
    page.get_by_role("button", name="Right is better").click()
    number(page, "Pair 4 of")
    page.get_by_role("button", name="Skip this pair").click()
    page.locator(".tdm-hint", has_text="skipped").wait_for()
    page.reload()
    start(page)
    number(page, "Pair 4 of")
    assert page.get_by_role("button", name="End the study").count() == 0
    page.get_by_role("button", name="Leave the study").click()
    page.get_by_role("button", name="Leave", exact=True).click()
    page.locator(".tdm-study[data-state=withdrawn]").wait_for()
    status = fresh.control()
    assert (status["status"]["votes"], status["criteria"]) == (3, [{}, {}, {"quality": "tie"}])


def test_no_vote_before_the_minimum_view(fresh, open_page):
    fresh.control(pairs=3, rules={"min_view_ms": 60_000})
    page = open_page(fresh.url)
    start(page)
    page.keyboard.press("ArrowLeft")
    page.locator("[data-choice=left]").click(force=True)
    assert page.locator("[data-choice][aria-disabled]").count() == 4
    assert fresh.control()["status"]["votes"] == 0


NUMBERS = PAINTED_NUMBERS.replace(".tdm-layer[data-id]", "#tdm-study .tdm-layer[data-id]")


def judged(fresh, open_page, kind):
    """The Results tab of a study that was closed after one vote."""
    fresh.control(pairs=3, kind=kind)
    page = open_page(fresh.url)
    start(page)
    unlocked(page)
    page.keyboard.press("ArrowLeft")
    number(page, "Pair 2 of 3")
    fresh.control("/close")
    page.get_by_role("tab", name="Results").click()
    return page


@pytest.mark.parametrize("kind", ["image", "video"])
def test_a_pair_of_a_closed_study_opens_with_its_sides_told_apart(fresh, open_page, kind):
    page = judged(fresh, open_page, kind)
    page.locator(".tdm-judged .tdm-look").first.click()
    page.locator(".tdm-closer[open] .tdm-viewer[data-painted]").wait_for()
    shown = """() => ["teacher", "student"].map((id) => {
      const canvas = document.querySelector(`.tdm-closer .tdm-layer[data-id=${id}] canvas`);
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return [0, 1].map((channel) => data.reduce((sum, value, i) => sum + (i % 4 === channel ? value : 0), 0));
    })"""
    # The fakes draw the student violet (red above green), the teacher blue; by single pixels not everywhere.
    (teacher_red, teacher_green), (student_red, student_green) = page.evaluate(shown)
    assert student_red > student_green and teacher_red < teacher_green
    assert page.locator(".tdm-closer .tdm-transport").is_visible() == (kind == "video")


def test_a_pair_of_a_closed_study_that_does_not_arrive_can_be_asked_for_again(fresh, open_page):
    page = judged(fresh, open_page, "image")
    page.locator(".tdm-judged .tdm-look").first.wait_for()
    page.route("**/study/pairs/*", lambda route: route.fulfill(status=429))
    page.locator(".tdm-judged .tdm-look").first.click()
    sides = page.locator(".tdm-closer[open]").get_by_text("It did not arrive")
    sides.nth(1).wait_for()
    page.unroute("**/study/pairs/*")
    for _ in range(2):
        page.locator(".tdm-closer[open]").get_by_role("button", name="Try again").first.click()
    page.locator(".tdm-closer[open] .tdm-viewer[data-painted]").wait_for()


def test_a_visitor_watches_both_clips_on_one_clock_and_votes_after_a_whole_loop(fresh, open_page):
    fresh.control(pairs=3, kind="video", rules={"min_view_ms": 100})
    page = open_page(fresh.url)
    page.get_by_role("tab", name="Blind study").click()
    page.get_by_role("heading", name="Two clips, one prompt").wait_for()
    start(page)
    assert page.locator("[data-choice][aria-disabled]").count() == 4  # 9 frames at 8 a second are not over yet
    watch = f"""() => new Promise((done) => {{ const seen = [], start = performance.now();
      (function look() {{ seen.push(({NUMBERS})());
        if (performance.now() - start > 2500) done(seen); else requestAnimationFrame(look) }})() }})"""
    seen = page.evaluate(watch)
    assert all(len(both) == 2 and both[0] == both[1] for both in seen)
    assert len({left for left, _ in seen}) > 4
    unlocked(page)
    page.keyboard.press("Home")
    assert page.evaluate(NUMBERS) == [0, 0]
    page.keyboard.press(".")
    assert page.evaluate(NUMBERS) == [1, 1]
    tints = """() => [...document.querySelectorAll('#tdm-study .tdm-layer[data-id] > .tdm-canvas')].map((canvas) => {
      const [red, , blue] = canvas.getContext('2d').getImageData(120, 16, 1, 1).data;
      return red > blue ? 'student' : 'teacher' })"""
    assert page.evaluate(tints) == [fresh.control()["trials"][-1][side] for side in ("left_arm", "right_arm")]
    page.keyboard.press("ArrowLeft")
    number(page, "Pair 2 of 3")
    assert fresh.control()["status"]["votes"] == 1
    assert page.evaluate("document.querySelector('.tdm-study').contains(document.activeElement)")


def test_progress_is_shown_until_there_are_enough_pairs(fresh, open_page):
    fresh.control(pairs=1)
    page = open_page(fresh.url)
    page.get_by_role("tab", name="Blind study").click()
    page.locator(".tdm-count", has_text="1 of 2").wait_for()
    fresh.control(pairs=3, grow=True)
    page.get_by_role("button", name="Start").wait_for()


def test_what_another_visitor_has_closed_is_followed(fresh, open_page):
    page = open_page(fresh.url)
    start(page)
    unlocked(page)
    fresh.control("/close")
    page.keyboard.press("ArrowRight")
    page.locator(".tdm-study[data-state=closed]").wait_for()


def test_the_vote_buttons_are_large_enough_for_a_thumb(fresh, open_page):
    page = open_page(fresh.url, width=390, height=844)
    start(page)
    for button in page.locator("[data-choice]").all():
        box = button.bounding_box()
        assert min(box["width"], box["height"]) >= 44


def test_on_a_phone_both_pictures_are_whole_and_called_by_their_place(fresh, open_page):
    page = open_page(fresh.url, width=390, height=844)
    start(page)
    unlocked(page)
    top, bottom = (page.locator(f"#tdm-study .tdm-layer[data-id={side}]").bounding_box() for side in ("left", "right"))
    assert top["y"] + top["height"] <= bottom["y"]
    page.get_by_role("button", name="Top is better").click()
    number(page, "Pair 2 of 3")
    page.set_viewport_size({"width": 1280, "height": 860})
    page.get_by_role("button", name="Left is better").wait_for()
