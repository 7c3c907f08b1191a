"""The quiz in a browser and over its routes."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tdm_core.study.quiz import Quiz, QuizRules
from tdm_core.ui.quiz_routes import PREFIX, quiz_routes
from tests.studies import FakePairs


def open_quiz(page):
    page.get_by_role("tab", name="Quiz").click()


@pytest.fixture
def quiz_page(studio, open_page):
    studio.control(quiz_pairs=3)
    page = open_page(studio.url)
    open_quiz(page)
    page.locator("#tdm-quiz").get_by_role("button", name="Start").click()
    return page


def test_a_visitor_answers_by_click_and_key_and_reads_the_score(studio, quiz_page):
    page = quiz_page
    told = []
    page.on("response", lambda response: told.append(response) if "/quiz" in response.url else None)
    for number, answer in ((1, "ArrowUp"), (2, "click"), (3, "ArrowDown")):
        page.locator(".tdm-quiz-number", has_text=f"Pair {number} of 3").wait_for()
        assert "student" not in page.locator(".tdm-quiz-question").inner_html().lower()
        if answer == "click":
            page.locator("[data-place=bottom]").click()
        else:
            page.keyboard.press(answer)
    page.locator(".tdm-quiz[data-state=end]").wait_for()
    rows = page.locator(".tdm-quiz-answers li")
    assert [row.locator("p").text_content() for row in rows.all()] == ["prompt 2", "prompt 0", "prompt 1"]
    captions = [row.locator("figcaption").all_text_contents() for row in rows.all()]
    picked = [next(i for i, text in enumerate(each) if "your pick" in text) for each in captions]
    assert picked == [0, 1, 1]
    students = sum("Student" in each[place] for each, place in zip(captions, picked, strict=True))
    assert page.locator(".tdm-quiz-score").text_content() == f"You picked the student in {students} of 3"
    assert studio.control()["status"]["votes"] == 0
    page.get_by_role("button", name="Once more").click()
    page.locator(".tdm-quiz-number", has_text="Pair 1 of 3").wait_for()


def test_the_picture_called_the_student_is_the_student(quiz_page):
    page = quiz_page
    for number in (1, 2, 3):
        page.locator(".tdm-quiz-number", has_text=f"Pair {number} of 3").wait_for()
        page.locator("[data-place=top]").click()
    page.locator(".tdm-quiz[data-state=end]").wait_for()
    # The fakes draw the student violet (red above green), the teacher blue.
    reddish = """() => [...document.querySelectorAll('.tdm-quiz-answers figure')].map((figure) => {
      const [red, green] = figure.querySelector('canvas').getContext('2d').getImageData(3, 61, 1, 1).data;
      return [figure.querySelector('figcaption').textContent.startsWith('Student'), red > green]; })"""
    told = page.evaluate(reddish)
    assert len(told) == 6
    assert all(is_student == is_violet for is_student, is_violet in told)


def test_a_quiz_that_is_still_drawn_says_so_and_then_opens(studio, open_page):
    studio.control(quiz_pairs=1)
    page = open_page(studio.url)
    open_quiz(page)
    page.locator(".tdm-quiz-count", has_text="of 3").wait_for()
    studio.control(quiz_pairs=3)
    page.locator("#tdm-quiz").get_by_role("button", name="Start").wait_for()


@pytest.fixture
def client():
    quiz = Quiz(QuizRules(preset="p", prompts=("prompt 0", "prompt 1")), FakePairs(2))
    return TestClient(Starlette(routes=quiz_routes(quiz)), base_url="http://127.0.0.1")


def test_answers_are_told_when_all_are_given_and_not_before(client):
    assert client.get(PREFIX).json()["total"] == 2
    assert client.post(f"{PREFIX}/answers", json={"choices": ["top"]}).status_code == 400
    answers = client.post(f"{PREFIX}/answers", json={"choices": ["top", "bottom"]}).json()["answers"]
    assert [each["prompt"] for each in answers] == ["prompt 0", "prompt 1"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"\xff", b'{"choices": 3}', b'{"choices": [{}, []]}', b'{"choices": null}', b"[" * 4000]
)
def test_nonsense_is_refused(client, body):
    answer = client.post(f"{PREFIX}/answers", content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize("number", ["0", "3", "999999999999999999999"])
def test_questions_that_do_not_exist_are_unknown(client, number):
    assert client.get(f"{PREFIX}/media/{number}").status_code == 404
