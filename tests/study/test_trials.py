import pytest

from tdm_core.study import Choice, Trial
from tdm_core.study.trials import is_id, new_id

TRIAL = Trial(
    id="t",
    rater_id="r",
    position=0,
    pair_id="p",
    prompt="a cat",
    left_arm="teacher",
    right_arm="student",
    media_token="m",
    issued_at_ms=0,
    expires_at_ms=1,
)


@pytest.mark.parametrize(
    "choice,arm", [(Choice.LEFT, "teacher"), (Choice.RIGHT, "student"), (Choice.TIE, None), (Choice.BOTH_BAD, None)]
)
def test_a_choice_means_the_arm_that_lay_there(choice, arm):
    assert TRIAL.preferred(choice) == arm


def test_ids_are_new_and_have_their_form():
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(is_id(text) for text in ids)


@pytest.mark.parametrize("text", ["", "A" * 32, "0" * 31, "0" * 33, "0" * 32 + "\n", "\ud800" * 32, "' OR 1=1 --"])
def test_other_text_is_no_id(text):
    assert not is_id(text)
