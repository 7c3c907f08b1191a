from pathlib import Path

import pytest

from tdm_core.errors import ConfigError, RequestError, UnknownTrialError
from tdm_core.generation.presets import load_presets
from tdm_core.study.quiz import Quiz, QuizRules, read_quiz
from tests.studies import FakePairs

SHIPPED = Path(__file__).parents[2] / "assets" / "quizzes"
ORDER = [3, 0, 4, 1, 2]


@pytest.fixture
def pairs():
    return FakePairs(5)


@pytest.fixture
def quiz(pairs):
    return Quiz(QuizRules(preset="p", prompts=tuple(f"prompt {index}" for index in ORDER)), pairs)


def student_on_top(body):
    return body.startswith(b"student")


def test_questions_come_in_the_order_of_the_file_and_tell_nothing_of_the_arms(quiz):
    status = quiz.status()
    assert status["prompts"] == tuple(f"prompt {index}" for index in ORDER)
    assert (status["pairs"], status["total"]) == (5, 5)
    assert not {"student", "teacher", "pair-"} & {word for word in str(status).split()}


def test_answers_tell_where_the_student_was_shown(quiz):
    on_top = [student_on_top(quiz.media(number)) for number in range(1, 6)]
    graded = quiz.grade(["top"] * 5)
    assert [each.student == "top" for each in graded] == on_top
    assert {each.chosen for each in graded} == {"top"}
    assert [each.prompt for each in graded] == [f"prompt {index}" for index in ORDER]


def test_the_places_differ_between_pairs_and_stay_on_a_reload():
    pairs = FakePairs(20)
    quiz = Quiz(QuizRules(preset="p", prompts=tuple(pair.prompt for pair in pairs.made)), pairs)
    places = [[student_on_top(quiz.media(number)) for number in range(1, 21)] for _ in range(2)]
    assert places[0] == places[1]
    assert 4 <= sum(places[0]) <= 16


def test_a_growing_bank_shows_the_questions_up_to_the_first_gap(quiz, pairs):
    pairs.made = [pair for pair in pairs.made if pair.prompt != "prompt 4"]
    assert quiz.status()["pairs"] == 2
    quiz.media(2)
    with pytest.raises(UnknownTrialError):
        quiz.media(3)
    with pytest.raises(RequestError):
        quiz.grade(["top"] * 5)


@pytest.mark.parametrize("choices", [[], ["top"] * 4, ["top"] * 6, ["top"] * 4 + ["left"], [None] * 5])
def test_answers_of_another_form_are_refused(quiz, choices):
    with pytest.raises(RequestError, match="5 answers"):
        quiz.grade(choices)


def test_the_shipped_quizzes_are_on_presets_that_exist_and_have_five_pairs():
    presets = load_presets()
    for path in SHIPPED.glob("*.toml"):
        [name] = [preset for preset in presets if read_quiz(SHIPPED, preset) and f'"{preset}"' in path.read_text()]
        assert len(read_quiz(SHIPPED, name).prompts) == 5
    assert read_quiz(SHIPPED, "sdxl") is None


def test_two_quizzes_on_one_preset_are_refused(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.toml").write_text('preset = "p"\nprompts = ["x"]')
    with pytest.raises(ConfigError, match="keep one"):
        read_quiz(tmp_path, "p")


def test_the_mini_quiz_asks_what_the_mini_knows_and_the_study_does_not_ask():
    from tdm_core.scenes import grammar

    prompts = read_quiz(SHIPPED, "mini-sd3").prompts
    asked = (SHIPPED.parent / "prompts" / "study.txt").read_text().splitlines()
    for prompt in prompts:
        assert grammar.unknown_words(prompt) == []
        assert prompt not in asked
